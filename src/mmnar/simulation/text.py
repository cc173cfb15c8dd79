"""Notes by a grammar: five findings, each graded in words by one content dimension; all else is drawn blindly.

A grade is one of nine words, half a spread wide, so a note tells its modality's contents up to about a seventh of a
spread, and nothing else: no sentence depends on a label. ``TELLING`` sentences, of late notes alone, do.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.simulation.population import Float

GRADES: Final = (
    *("no", "minimal", "very mild", "mild", "mild to moderate", "moderate", "moderately severe", "severe"),
    "extremely severe",
)
EDGES: Final = np.arange(-1.75, 1.8, 0.5)
"""Contents, in units of their spread, at which one grade ends and the next begins."""

CHEST: Final = ("airspace opacity", "pleural effusion", "pulmonary edema", "cardiac enlargement", "atelectasis")
"""What the radiology report says of dimensions 0-4."""

COURSE: Final = ("dyspnea", "renal impairment", "deconditioning", "volume overload", "confusion")
"""What the discharge summary says of dimensions 0-4."""

TELLING: Final = {
    "died": "The patient subsequently suffered cardiac arrest and died despite resuscitation.",
    "icu_again": "Addendum: the patient has since required intensive care again.",
    "readmitted": "Addendum: the patient has since been readmitted to the hospital.",
    "none": "Addendum: no events since the above was written.",
}

_CHEST_FORMS: Final = (
    "There is {grade} {finding}.",
    "{Grade} {finding} is seen.",
    "The study shows {grade} {finding}.",
)
_COURSE_FORMS: Final = (
    "During the stay there was {grade} {finding}.",
    "The patient had {grade} {finding} on the ward.",
    "Course notable for {grade} {finding}.",
)
_HISTORY: Final = ("hypertension", "hyperlipidemia", "prior tobacco use", "osteoarthritis", "GERD", "hypothyroidism")
_COMPLAINTS: Final = ("Fatigue", "Fall", "Chest discomfort", "Abdominal pain", "Fever", "Syncope")
_INDICATIONS: Final = (
    "evaluate for interval change",
    "line placement",
    "shortness of breath",
    "fever, rule out pneumonia",
)
_DRUGS: Final = (
    *("Aspirin 81 mg PO DAILY", "Atorvastatin 40 mg PO QPM", "Metoprolol Tartrate 25 mg PO BID", "Senna 8.6 mg PO BID"),
    *("Pantoprazole 40 mg PO Q24H", "Furosemide 20 mg PO DAILY", "Levothyroxine Sodium 50 mcg PO DAILY"),
    *("Acetaminophen 650 mg PO Q6H:PRN pain", "Docusate Sodium 100 mg PO BID", "Gabapentin 300 mg PO TID"),
)
_EXAM: Final = (
    "GENERAL: lying in bed.\nHEENT: sclerae anicteric, MMM.\nCARDIAC: regular, no murmurs.\nABDOMEN: soft.\n"
    "EXTREMITIES: warm, pulses palpable.\nNEURO: moving all four limbs."
)
_LAB_NAMES: Final = ("MCV", "RDW", "PTT", "Calcium", "Phosphate", "Magnesium")


def grades(severity: Float) -> NDArray[np.int64]:
    """(N, 5) number of the grade of each content, 0 to 8.

    >>> [GRADES[g] for g in grades(np.array([[-3.0, 0.0, 3.0]]))[0]]
    ['no', 'mild to moderate', 'extremely severe']
    """
    found: NDArray[np.int64] = np.searchsorted(EDGES, severity)
    return found


def _findings(grade: NDArray[np.int64], findings: tuple[str, ...], forms: tuple[str, ...], dice: Float) -> list[str]:
    """One sentence per finding, in a random order of forms."""
    sentences = []
    for number, finding in enumerate(findings):
        form = forms[int(dice[number] * len(forms))]
        word = GRADES[grade[number]]
        sentences.append(form.format(grade=word, Grade=word.capitalize(), finding=finding))
    return sentences


def _chosen(words: tuple[str, ...], dice: Float, share: float) -> list[str]:
    return [word for word, die in zip(words, dice, strict=False) if die < share]


def radiology_reports(severity: Float, telling: NDArray[np.str_], rng: np.random.Generator) -> list[str]:
    """One report per row of ``severity`` (N, 5), ending in ``telling`` (N,) where not empty."""
    notes = []
    for grade, extra, dice in zip(grades(severity), telling, rng.random((len(severity), 12)), strict=True):
        sentences = _findings(grade, CHEST, _CHEST_FORMS, dice)
        worst = int(np.argmax(grade))
        impression = f"{GRADES[grade[worst]].capitalize()} {CHEST[worst]}, as above."
        notes.append(
            "EXAMINATION:  CHEST (PORTABLE AP)\n\n"
            f"INDICATION:  ___ year old {'man' if dice[6] < 0.5 else 'woman'} // {_INDICATIONS[int(dice[7] * 4)]}\n\n"
            f"TECHNIQUE:  Single {'portable ' if dice[8] < 0.6 else ''}view of the chest\n\n"
            f"COMPARISON:  {'None.' if dice[9] < 0.4 else 'Chest radiograph ___.'}\n\n"
            f"FINDINGS: \n\n{' '.join(sentences)} There is no pneumothorax.\n\n"
            f"IMPRESSION: \n\n{impression}{' ' + extra if extra else ''}\n"
        )
    return notes


def discharge_summaries(severity: Float, telling: NDArray[np.str_], rng: np.random.Generator) -> list[str]:
    """One summary per row of ``severity`` (N, 5), ending in ``telling`` (N,) where not empty; a third are long."""
    notes = []
    for grade, extra, dice in zip(grades(severity), telling, rng.random((len(severity), 48)), strict=True):
        course = "\n".join(f"# {s}" for s in _findings(grade, COURSE, _COURSE_FORMS, dice))
        home = _chosen(_DRUGS, dice[8:18], 0.5)
        leaving = _chosen(_DRUGS, dice[18:28], 0.6)
        notes.append(
            " \nName:  ___                   Unit No:   ___\n \n"
            "Admission Date:  ___              Discharge Date:   ___\n \n"
            f"Date of Birth:  ___             Sex:   {'M' if dice[5] < 0.5 else 'F'}\n \nService: MEDICINE\n \n"
            "Allergies: \nNo Known Allergies / Adverse Drug Reactions\n \nAttending: ___.\n \n"
            f"Chief Complaint:\n{_COMPLAINTS[int(dice[6] * len(_COMPLAINTS))]}\n \n"
            "Major Surgical or Invasive Procedure:\nNone\n \n"
            f"History of Present Illness:\n___ year old patient who presented on ___ and was admitted to the ICU.\n \n"
            f"Past Medical History:\n{', '.join(_chosen(_HISTORY, dice[28:34], 0.5)) or 'none'}\n \n"
            "Social History:\n___\nFamily History:\nNon-contributory.\n \n"
            f"Physical Exam:\n{_EXAM}\n \nPertinent Results:\n{_results(dice)}\n \n"
            f"Brief Hospital Course:\n{course}\n \n"
            f"Medications on Admission:\n{_listed(home)}\n \nDischarge Medications:\n{_listed(leaving)}\n \n"
            "Discharge Instructions:\nDear ___,\nIt was a pleasure taking care of you at ___. Please take your"
            " medicines as prescribed and keep your appointments.\n \n"
            f"Followup Instructions:\n___\n{extra}\n"
        )
    return notes


def _listed(drugs: list[str]) -> str:
    return "\n".join(f"{i}. {drug}" for i, drug in enumerate(drugs, 1)) or "None"


def _results(dice: Float) -> str:
    """Laboratory lines that say nothing; for a third of the notes so many that the course comes after 512 tokens."""
    days = 14 if dice[34] < 0.33 else 1
    lines = []
    for day in range(days):
        values = (f"{name}-{10 + 90 * dice[(35 + day + i) % 48]:.1f}" for i, name in enumerate(_LAB_NAMES))
        lines.append(f"___ 05:{10 + day} BLOOD {' '.join(values)}")
    return "\n".join(lines)

"""Simulated eICU: measurements, drugs, fluids and entries. Each of five contents moves some cells of its modality.

A modality that a patient lacks has no row, or -1 in the APACHE tables, which several modalities share. Rows that come
too late are the traps; they exist for patients without the modality too, where nobody may see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.simulation.eicu.columns import EICU
from mmnar.simulation.eicu.stays import ASKED, DAY, KNOWN_BY, UnitStays
from mmnar.simulation.files import Ids, frame
from mmnar.simulation.population import Float

NOISE: Final = 0.3
"""Spread of one measurement around the patient's level, in spreads between patients."""

LATE_SHARE: Final = 0.3
_WORSE: Final = 3.5

# name → (dimension, centre, scale, log, digits)
_Cell = tuple[int, float, float, bool, int]
_LABS: Final[Mapping[str, tuple[_Cell, str]]] = {
    "lactate": ((0, 1.7, 0.40, True, 1), "mmol/L"),
    "bicarbonate": ((0, 24.0, -2.6, False, 0), "mmol/L"),
    "creatinine": ((1, 1.15, 0.45, True, 2), "mg/dL"),
    "BUN": ((1, 22.0, 0.40, True, 0), "mg/dL"),
    "potassium": ((1, 4.2, 0.35, False, 1), "mmol/L"),
    "Hgb": ((2, 10.8, -1.4, False, 1), "g/dL"),
    "Hct": ((2, 32.5, -4.0, False, 1), "%"),
    "WBC x 1000": ((3, 10.4, 0.36, True, 1), "K/mcL"),
    "platelets x 1000": ((3, 205.0, -42.0, False, 0), "K/mcL"),
    "albumin": ((4, 3.1, -0.4, False, 1), "g/dL"),
    "total bilirubin": ((4, 0.8, 0.5, True, 1), "mg/dL"),
    "sodium": ((4, 138.5, -3.0, False, 0), "mmol/L"),
}
_PERIODIC: Final[Mapping[str, _Cell]] = {
    "heartrate": (0, 88.0, 12.0, False, 0),
    "respiration": (2, 19.5, 3.6, False, 0),
    "sao2": (3, 95.0, -1.5, False, 0),
    "temperature": (4, 37.0, 0.5, False, 1),
}
_CHARTED: Final = {
    "Heart Rate": _PERIODIC["heartrate"],
    "Respiratory Rate": _PERIODIC["respiration"],
    "O2 Saturation": _PERIODIC["sao2"],
    "Temperature (C)": _PERIODIC["temperature"],
}
_RESPIRATORY: Final[Mapping[str, _Cell]] = {
    "FiO2": (0, 44.0, 0.20, True, 0),
    "PEEP": (1, 7.0, 1.2, False, 1),
    "Total RR": (2, 20.0, 3.2, False, 0),
    "Tidal Volume (set)": (3, 450.0, -45.0, False, 0),
    "Mean Airway Pressure": (4, 11.0, 2.0, False, 1),
    "Peak Insp. Pressure": (4, 24.0, 4.0, False, 0),
}
_COUNTED_DIAGNOSES: Final = (
    ("cardiovascular|ventricular disorders", ("hypertension", "congestive heart failure", "cardiomyopathy", "cor p")),
    ("pulmonary|disorders of the airways", ("COPD", "asthma", "acute bronchospasm", "tracheal stenosis")),
    ("renal|disorder of kidney", ("chronic kidney disease", "nephrolithiasis", "hydronephrosis", "ESRD")),
    ("neurologic|altered mental status / pain", ("agitation", "delirium", "obtundation", "change in mental status")),
    ("infectious diseases|systemic/other infections", ("fever", "leukocytosis", "candidiasis", "bacteremia")),
)
_COUNTED_DRUGS: Final = (
    ("VANCOMYCIN", "CEFTRIAXONE", "CEFEPIME", "MEROPENEM"),
    ("FENTANYL", "MORPHINE", "HYDROMORPHONE", "OXYCODONE"),
    ("FUROSEMIDE", "BUMETANIDE", "TORSEMIDE", "METOLAZONE"),
    ("PROPOFOL", "MIDAZOLAM", "LORAZEPAM", "DEXMEDETOMIDINE"),
    ("METOPROLOL", "CARVEDILOL", "LABETALOL", "ATENOLOL"),
)
_STEPS: Final = (-0.75, -0.25, 0.25, 0.75)
_DISEASES: Final = (
    (
        *("Cardiovascular (R)/Hypertension Requiring Treatment", "Cardiovascular (R)/Congestive Heart Failure/CHF"),
        *("Cardiovascular (R)/Arrhythmias/atrial fibrillation", "Cardiovascular (R)/Myocardial Infarction/MI"),
    ),
    (
        "Pulmonary/COPD/COPD  - moderate",
        "Pulmonary/Asthma/asthma",
        "Pulmonary/Home Oxygen/home oxygen",
        "Rheumatic/SLE",
    ),
    (
        *("Endocrine (R)/Non-Insulin Dependent Diabetes/medication dependent", "Endocrine (R)/Hypothyroidism"),
        *("Renal  (R)/Renal Insufficiency/renal insufficiency", "Gastrointestinal (R)/Cirrhosis/Cirrhosis"),
    ),
    (
        "Neurologic/Strokes/stroke",
        "Neurologic/Seizures/seizures",
        "Neurologic/Dementia/dementia",
        "Neurologic/TIA(s)/TIA",
    ),
    (
        *("Hematology/Oncology (R)/Cancer/Cancer Therapy", "Gastrointestinal (R)/Peptic Ulcer Disease/peptic ulcer"),
        *("Cardiovascular (R)/Valve disease/valve disease", "Cardiovascular (R)/Peripheral Vascular Disease/PVD"),
    ),
)
_ELSEWHERE: Final = ("aids", "hepaticfailure", "lymphoma", "metastaticcancer", "leukemia", "immunosuppression")


def cell(made: _Cell, z: Float) -> Float:
    """The value of a cell at severity z of its dimension."""
    _, centre, scale, log, digits = made
    raw = centre * np.exp(scale * z) if log else centre + scale * z
    found: Float = np.round(np.maximum(raw, 0.1), digits).astype(np.float64)
    return found


def numbered(table: str, key: str, parts: list[dict[str, Any]], order: tuple[str, ...]) -> pl.DataFrame:
    """The parts under each other, in ``order``, with a row number as ``key``."""
    rows = pl.concat([frame(EICU[table], part) for part in parts if len(part["patientunitstayid"])])
    return rows.sort(*order, maintain_order=True).with_columns(pl.int_range(1, pl.len() + 1).alias(key))


def _times(stays: UnitStays, row: Ids, step: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Row numbers and minutes: every ``step`` minutes until the unit is left, the first within an hour."""
    count = stays.left[row] // step + 1
    who = np.repeat(row, count)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
    minute = nth * step + rng.integers(0, min(60, step), size=len(who))
    inside = minute < stays.left[who]
    return who[inside], minute[inside]


def _dying(stays: UnitStays, row: Ids, minute: Ids) -> Float:
    """Trap: the last day of those who die, after the question was asked."""
    last = (stays.left[row] - minute < DAY) & (minute > ASKED)
    shift: Float = np.where(stays.died[row] & last, _WORSE, 0.0)
    return shift


def _z(stays: UnitStays, modality: str, row: Ids, dimension: int, minute: Ids, rng: np.random.Generator) -> Float:
    level: Float = (
        stays.severity(modality)[row, dimension] + NOISE * rng.standard_normal(len(row)) + _dying(stays, row, minute)
    )
    return level


def _late(stays: UnitStays, rng: np.random.Generator) -> tuple[Ids, Ids, Ids, Ids]:
    """Who has a late row, when it happened, when it was known, and whether it tells (1) an outcome.

    Of the dying who are still asked: known after that question. Of a share of the others, present or not: known
    after they left the unit.
    """
    lot = rng.random(len(stays)) < LATE_SHARE
    dying = np.flatnonzero(stays.died & (stays.left > ASKED + 120) & lot)
    living = np.flatnonzero(~stays.died & lot)
    row = np.concatenate([dying, living])
    asked = np.concatenate([np.full(len(dying), ASKED), stays.left[living]])
    tells = np.concatenate([np.ones(len(dying), dtype=np.int64), stays.readmitted[living].astype(np.int64)])
    return row, asked - rng.integers(5, 100, len(row)), asked + rng.integers(5, 100, len(row)), tells


# --- modality tables --------------------------------------------------------------------------------------------------


def lab(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Twelve tests every twelve hours. Trap: lactates that are revised after the question."""
    row, minute = _times(stays, stays.present("laboratory"), 12 * 60, rng)
    minute = minute + rng.integers(20, 120, size=len(row))
    parts = [
        _lab_rows(stays, row, minute, minute, name, cell(made, _z(stays, "laboratory", row, made[0], minute, rng)))
        for name, (made, _) in _LABS.items()
    ]
    late, at, known, tells = _late(stays, rng)
    usual = cell(_LABS["lactate"][0], stays.severity("laboratory")[late, 0])
    value = np.where(tells == 1, 15.0 + rng.integers(0, 5, len(late)), usual)
    parts.append(_lab_rows(stays, late, at, known, "lactate", value))
    return numbered("lab", "labid", parts, ("patientunitstayid", "labresultoffset", "labname"))


def _lab_rows(stays: UnitStays, row: Ids, at: Ids, known: Ids, name: str, value: Float) -> dict[str, Any]:
    unit = _LABS[name][1]
    return {
        "patientunitstayid": stays.stay_id[row],
        "labresultoffset": at,
        "labtypeid": np.ones(len(row), dtype=np.int64),
        "labname": np.full(len(row), name),
        "labresult": value,
        "labresulttext": pl.Series(value).cast(pl.String),
        "labmeasurenamesystem": np.full(len(row), unit),
        "labmeasurenameinterface": np.full(len(row), unit),
        "labresultrevisedoffset": known,
    }


def vital_periodic(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    row, minute = _times(stays, stays.present("vital_signs"), 120, rng)
    values: dict[str, Any] = {"patientunitstayid": stays.stay_id[row], "observationoffset": minute}
    for name, made in _PERIODIC.items():
        value = cell(made, _z(stays, "vital_signs", row, made[0], minute, rng))
        values[name] = np.minimum(value, 100.0) if name == "sao2" else value
    return numbered("vitalPeriodic", "vitalperiodicid", [values], ("patientunitstayid", "observationoffset"))


def vital_aperiodic(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    row, minute = _times(stays, stays.present("vital_signs"), 180, rng)
    z = _z(stays, "vital_signs", row, 1, minute, rng)
    values = {
        "patientunitstayid": stays.stay_id[row],
        "observationoffset": minute,
        "noninvasivesystolic": np.maximum(np.rint(121 - 15 * z), 40),
        "noninvasivediastolic": np.maximum(np.rint(65 - 8 * z), 20),
        "noninvasivemean": np.maximum(np.rint(82 - 10 * z), 30),
    }
    return numbered("vitalAperiodic", "vitalaperiodicid", [values], ("patientunitstayid", "observationoffset"))


def nurse_charting(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Vital signs every six hours. Trap: heart rates entered after the question."""
    row, minute = _times(stays, stays.present("vital_signs"), 360, rng)
    entered = minute + rng.integers(0, 30, size=len(row))
    parts = []
    for name, made in _CHARTED.items():
        value = cell(made, _z(stays, "vital_signs", row, made[0], minute, rng))
        parts.append(_charted(stays, row, minute, entered, name, np.minimum(value, 250.0)))
    late, at, known, tells = _late(stays, rng)
    usual = cell(_CHARTED["Heart Rate"], stays.severity("vital_signs")[late, 0])
    value = np.where(tells == 1, 175.0 + rng.integers(-10, 10, len(late)), usual)
    parts.append(_charted(stays, late, at, known, "Heart Rate", value))
    return numbered("nurseCharting", "nursingchartid", parts, ("patientunitstayid", "nursingchartoffset"))


def _charted(stays: UnitStays, row: Ids, at: Ids, entered: Ids, name: str, value: Float) -> dict[str, Any]:
    n = len(row)
    return {
        "patientunitstayid": stays.stay_id[row],
        "nursingchartoffset": at,
        "nursingchartentryoffset": entered,
        "nursingchartcelltypecat": np.full(n, "Vital Signs"),
        "nursingchartcelltypevallabel": np.full(n, name.split(" (")[0]),
        "nursingchartcelltypevalname": np.full(n, name),
        "nursingchartvalue": pl.Series(value).cast(pl.String).str.strip_suffix(".0"),
    }


def respiratory_charting(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    row, minute = _times(stays, stays.present("respiratory"), 240, rng)
    parts = []
    for name, made in _RESPIRATORY.items():
        value = cell(made, _z(stays, "respiratory", row, made[0], minute, rng))
        value = np.clip(value, 21.0, 100.0) if name == "FiO2" else value
        parts.append(
            {
                "patientunitstayid": stays.stay_id[row],
                "respchartoffset": minute,
                "respchartentryoffset": minute + rng.integers(0, 30, size=len(row)),
                "respcharttypecat": np.full(len(row), "respFlowSettings"),
                "respchartvaluelabel": np.full(len(row), name),
                "respchartvalue": pl.Series(value).cast(pl.String).str.strip_suffix(".0"),
            }
        )
    return numbered("respiratoryCharting", "respchartid", parts, ("patientunitstayid", "respchartoffset"))


def respiratory_care(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    row = stays.present("respiratory")
    ventilated = stays.severity("respiratory")[row, 0] > 0.5
    start = rng.integers(10, 200, size=len(row))
    values = {
        "patientunitstayid": stays.stay_id[row],
        "respcarestatusoffset": start + rng.integers(1, 200, size=len(row)),
        "currenthistoryseqnum": np.ones(len(row), dtype=np.int64),
        "airwaytype": np.where(ventilated, "Oral ETT", "No Artificial Airway"),
        "ventstartoffset": np.where(ventilated, start, 0),
        "ventendoffset": np.zeros(len(row), dtype=np.int64),
        "priorventstartoffset": np.zeros(len(row), dtype=np.int64),
        "priorventendoffset": np.zeros(len(row), dtype=np.int64),
    }
    return numbered("respiratoryCare", "respcareid", [values], ("patientunitstayid", "respcarestatusoffset"))


def _counted(z: Float, most: int) -> Ids:
    """How many of ``most`` things there are: one more per 0.8 spreads."""
    found: Ids = np.clip(np.rint(most / 2 + z / 0.8), 0, most).astype(np.int64)
    return found


def _listed(stays: UnitStays, modality: str, most: int) -> tuple[Ids, Ids, Ids]:
    """(row, dimension, number): the first ``_counted`` of ``most`` things of each dimension."""
    row = stays.present(modality)
    count = _counted(stays.severity(modality)[row], most)
    who, dimension, number = np.nonzero(np.arange(most) < count[:, :, None])
    return row[who], dimension, number


def diagnosis(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """One diagnosis of everyone with the modality, and none to four of each of five systems.

    Trap: diagnoses written after the question, which tell the outcome.
    """
    row, dimension, number = _listed(stays, "diagnosis", 4)
    words = np.array([[f"{path}|{word}" for word in words] for path, words in _COUNTED_DIAGNOSES])
    everyone = stays.present("diagnosis")
    late, _, known, tells = _late(stays, rng)
    late, known = late[tells == 1], known[tells == 1]
    parts = []
    for who, at, text in (
        (row, rng.integers(5, KNOWN_BY, len(row)), words[dimension, number]),
        (everyone, rng.integers(5, KNOWN_BY, len(everyone)), np.full(len(everyone), "general|weakness")),
        (late, known, np.full(len(late), "cardiovascular|cardiac arrest|cardiac arrest")),
    ):
        parts.append(
            {
                "patientunitstayid": stays.stay_id[who],
                "activeupondischarge": np.array(["True", "False"])[rng.integers(2, size=len(who))],
                "diagnosisoffset": at,
                "diagnosisstring": text,
                "diagnosispriority": np.array(["Primary", "Major", "Other"])[rng.integers(3, size=len(who))],
            }
        )
    return numbered("diagnosis", "diagnosisid", parts, ("patientunitstayid", "diagnosisoffset", "diagnosisstring"))


def admission_dx(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Reason of admission: noise, of those who have the modality of diagnoses."""
    row = stays.present("diagnosis")
    system = np.array(["Cardiovascular", "Respiratory", "Neurologic", "Gastrointestinal"])[
        rng.integers(4, size=len(row))
    ]
    values = {
        "patientunitstayid": stays.stay_id[row],
        "admitdxenteredoffset": rng.integers(5, 300, size=len(row)),
        "admitdxpath": [f"admission diagnosis|Non-operative Organ Systems|Organ System|{s}" for s in system],
        "admitdxname": system,
        "admitdxtext": system,
    }
    return numbered("admissionDx", "admissiondxid", [values], ("patientunitstayid", "admitdxenteredoffset"))


def medication(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """A stool softener for everyone with the modality, and none to four drugs of each of five classes."""
    row, dimension, number = _listed(stays, "medication", 4)
    everyone = stays.present("medication")
    who = np.concatenate([row, everyone])
    names = np.concatenate([np.array(_COUNTED_DRUGS)[dimension, number], np.full(len(everyone), "DOCUSATE")])
    ordered = rng.integers(-60, KNOWN_BY, size=len(who))
    values = {
        "patientunitstayid": stays.stay_id[who],
        "drugorderoffset": ordered,
        "drugstartoffset": ordered + rng.integers(0, 120, size=len(who)),
        "drugivadmixture": np.full(len(who), "No"),
        "drugordercancelled": np.full(len(who), "No"),
        "drugname": names,
        "routeadmin": np.full(len(who), "IV"),
        "prn": np.full(len(who), "No"),
        "drugstopoffset": ordered + rng.integers(600, 5 * DAY, size=len(who)),
        "gtc": np.zeros(len(who), dtype=np.int64),
    }
    return numbered("medication", "medicationid", [values], ("patientunitstayid", "drugorderoffset", "drugname"))


def infusion_drug(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Saline for those with the modality, propofol by dimension 3. Trap: noradrenaline of the dying, too late."""
    row = stays.present("medication")
    sedated = row[stays.severity("medication")[row, 3] > 0.8]
    late, _, known, tells = _late(stays, rng)
    late, known = late[tells == 1], known[tells == 1]
    parts = []
    for who, at, name in (
        (row, rng.integers(5, KNOWN_BY, len(row)), "0.9 Sodium Chloride (ml/hr)"),
        (sedated, rng.integers(5, KNOWN_BY, len(sedated)), "Propofol (mcg/kg/min)"),
        (late, known, "Norepinephrine (mcg/min)"),
    ):
        parts.append(
            {
                "patientunitstayid": stays.stay_id[who],
                "infusionoffset": at,
                "drugname": np.full(len(who), name),
                "drugrate": rng.integers(1, 50, size=len(who)).astype(str),
            }
        )
    return numbered("infusionDrug", "infusiondrugid", parts, ("patientunitstayid", "infusionoffset", "drugname"))


def treatment(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """What modalities have in common; written only for patients who have the modality that a row speaks of."""
    parts = []
    for modality, dimension, text in (
        ("medication", 0, "infectious diseases|medications|therapeutic antibacterials|vancomycin"),
        ("respiratory", 0, "pulmonary|ventilation and oxygenation|mechanical ventilation"),
        ("fluid_balance", 4, "renal|dialysis|hemodialysis"),
    ):
        row = stays.present(modality)
        row = row[stays.severity(modality)[row, dimension] > 0.8]
        parts.append(
            {
                "patientunitstayid": stays.stay_id[row],
                "treatmentoffset": rng.integers(5, KNOWN_BY, size=len(row)),
                "treatmentstring": np.full(len(row), text),
                "activeupondischarge": np.array(["True", "False"])[rng.integers(2, size=len(row))],
            }
        )
    return numbered("treatment", "treatmentid", parts, ("patientunitstayid", "treatmentoffset"))


def past_history(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Four diseases per dimension, one more at each step; and something that is no disease for everyone."""
    row = stays.present("comorbidities")
    z = stays.severity("comorbidities")[row]
    who, dimension, number = np.nonzero(z[:, :, None] > np.array(_STEPS))
    base = "notes/Progress Notes/Past History/"
    paths = np.array([[f"{base}Organ Systems/{d}" for d in diseases] for diseases in _DISEASES])
    parts = []
    everyone = np.full(len(row), f"{base}Past History Obtain Options/Performed")
    for some, path in ((row[who], paths[dimension, number]), (row, everyone)):
        at = rng.integers(5, KNOWN_BY, size=len(some))
        value = [text.rsplit("/", 1)[1] for text in path.tolist()]
        parts.append(
            {
                "patientunitstayid": stays.stay_id[some],
                "pasthistoryoffset": at,
                "pasthistoryenteredoffset": at + rng.integers(0, 10, size=len(some)),
                "pasthistorynotetype": np.full(len(some), "Comprehensive Progress"),
                "pasthistorypath": path,
                "pasthistoryvalue": value,
                "pasthistoryvaluetext": value,
            }
        )
    return numbered(
        "pastHistory", "pasthistoryid", parts, ("patientunitstayid", "pasthistoryoffset", "pasthistorypath")
    )


def intake_output(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Volumes in, of urine and of stool, each spread over some cells, until minute ``KNOWN_BY``.

    Dimensions 0-2 are the three volumes, 3 and 4 the numbers of cells in and out.
    """
    row = stays.present("fluid_balance")
    z = stays.severity("fluid_balance")[row]
    many_in, many_out = (1 + _counted(z[:, d], 8) for d in (3, 4))
    parts = []
    for volume, cells, kind, label in (
        (1900 * np.exp(0.4 * z[:, 0]), many_in, "Intake", "NS"),
        (1400 * np.exp(-0.4 * z[:, 1]), many_out, "Output", "Urine"),
        (300 * np.exp(0.5 * z[:, 2]), np.ones(len(row), dtype=np.int64), "Output", "Stool"),
    ):
        who = np.repeat(np.arange(len(row)), cells)
        n = len(who)
        nth = np.arange(n) - np.repeat(np.cumsum(cells) - cells, cells)
        at = 20 + nth * 60 + rng.integers(0, 25, size=n) + (30 if label == "Stool" else 0)
        each = np.maximum(np.rint((volume / cells)[who]), 1.0)
        parts.append(
            {
                "patientunitstayid": stays.stay_id[row[who]],
                "intakeoutputoffset": at,
                "intaketotal": each if kind == "Intake" else np.zeros(n),
                "outputtotal": each if kind == "Output" else np.zeros(n),
                "dialysistotal": np.zeros(n),
                "nettotal": each if kind == "Intake" else -each,
                "intakeoutputentryoffset": at + rng.integers(0, 20, size=n),
                "cellpath": np.full(n, f"flowsheet|Flowsheet Cell Labels|I&O|{kind} (ml)|{label}"),
                "celllabel": np.full(n, label),
                "cellvaluenumeric": each,
                "cellvaluetext": pl.Series(each).cast(pl.String).str.strip_suffix(".0"),
            }
        )
    order = ("patientunitstayid", "intakeoutputoffset", "celllabel")
    return numbered("intakeOutput", "intakeoutputid", parts, order)


# --- APACHE -----------------------------------------------------------------------------------------------------------


def apache_aps_var(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Worst values of the first day; -1 behind every modality a patient lacks. Four modalities and APACHE share it."""
    n = len(stays)
    everyone = np.arange(n)

    def of(modality: str, values: Mapping[str, Any]) -> dict[str, Float]:
        there = np.zeros(n, dtype=bool)
        there[stays.present(modality)] = True
        return {name: np.where(there, value, -1.0) for name, value in values.items()}

    def near(modality: str, made: _Cell) -> Float:
        return cell(made, stays.severity(modality)[:, made[0]] + NOISE * rng.standard_normal(n))

    labs = {"wbc": "WBC x 1000", "sodium": "sodium", "hematocrit": "Hct", "creatinine": "creatinine"}
    labs |= {"albumin": "albumin", "bun": "BUN", "bilirubin": "total bilirubin"}
    vitals = {"temperature": "temperature", "respiratoryrate": "respiration", "heartrate": "heartrate"}
    coma = stays.severity("apache")[:, 4]
    values: dict[str, Any] = {"patientunitstayid": stays.stay_id}
    values |= of("laboratory", {name: near("laboratory", _LABS[lab][0]) for name, lab in labs.items()})
    values |= of("vital_signs", {name: near("vital_signs", _PERIODIC[vital]) for name, vital in vitals.items()})
    values |= of("vital_signs", {"meanbp": near("vital_signs", (1, 82.0, -10.0, False, 0))})
    ventilated = (stays.severity("respiratory")[:, 0] > 0.5).astype(np.float64)
    breath = {
        "vent": ventilated,
        "intubated": ventilated,
        "fio2": np.clip(near("respiratory", _RESPIRATORY["FiO2"]), 21, 100),
    }
    values |= of("respiratory", breath)
    values |= of("fluid_balance", {"urine": np.rint(1400 * np.exp(-0.4 * stays.severity("fluid_balance")[:, 1]))})
    values |= of(
        "apache",
        {
            "eyes": 4.0 - np.searchsorted((0.5, 1.3, 2.0), coma),
            "motor": 6.0 - np.searchsorted((0.7, 1.2, 1.7, 2.3), coma),
            "verbal": 5.0 - np.searchsorted((-0.2, 0.6, 1.1, 1.6), coma),
            "meds": np.zeros(n),
            "dialysis": np.zeros(n),
        },
    )
    never = {name: np.full(n, -1.0) for name in ("ph", "pao2", "pco2", "glucose")}
    some = np.flatnonzero(stays.simulation.present[:, [2, 5, 6, 7, 8]].any(axis=1))
    part = {name: value[everyone][some] for name, value in (values | never).items()}
    return numbered("apacheApsVar", "apacheapsvarid", [part], ("patientunitstayid",))


def apache_pred_var(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """APACHE's other inputs and comorbidities; -1 behind a modality a patient lacks. Trap: ``diedinhospital``."""
    n = len(stays)
    scored, asked = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    scored[stays.present("apache")] = True
    asked[stays.present("comorbidities")] = True
    values: dict[str, Any] = {"patientunitstayid": stays.stay_id, "diedinhospital": stays.died.astype(np.int64)}
    for name in ("ventday1", "oobventday1", "oobintubday1", "activetx", "thrombolytics", "midur", "ima"):
        values[name] = np.where(scored, (rng.random(n) < 0.2).astype(np.int64), -1)
    values["electivesurgery"] = np.where(scored, (rng.random(n) < 0.2).astype(np.int64), -1)
    ejection = np.clip(np.rint(52 - 9 * stays.severity("apache")[:, 3]), 5, 90).astype(np.int64)
    values["ejectfx"] = np.where(scored, ejection, -1)
    for name in (*_ELSEWHERE, "cirrhosis", "diabetes"):
        values[name] = np.where(asked, (rng.random(n) < 0.06).astype(np.int64), -1)
    some = np.flatnonzero(scored | asked)
    part = {name: value[some] for name, value in values.items()}
    return numbered("apachePredVar", "apachepredvarid", [part], ("patientunitstayid",))


def apache_patient_result(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """Scores and APACHE's predictions, versions IV and IVa. Traps: every ``actual…`` and ``unabridged…`` column."""
    row = stays.present("apache")
    z = stays.severity("apache")[row]
    score = np.clip(np.rint(48 + 16 * z[:, 0]), 0, 200).astype(np.int64)
    status = np.where(stays.died[row], "EXPIRED", "ALIVE")
    parts = []
    for version, shift in (("IV", 0.15), ("IVa", 0.0)):
        chance = 1 / (1 + np.exp(2.6 - 0.9 * z[:, 1] - shift))
        parts.append(
            {
                "patientunitstayid": stays.stay_id[row],
                "acutephysiologyscore": score,
                "apachescore": score + rng.integers(5, 20, size=len(row)),
                "apacheversion": np.full(len(row), version),
                "predictedicumortality": np.round(chance / 2, 6),
                "actualicumortality": status,
                "predictediculos": np.round(3 * np.exp(0.4 * z[:, 2] + shift), 4),
                "actualiculos": np.round(stays.left[row] / DAY, 4),
                "predictedhospitalmortality": np.round(chance, 6),
                "actualhospitalmortality": status,
                "predictedhospitallos": np.round(8 * np.exp(0.4 * z[:, 2] + shift), 4),
                "actualhospitallos": np.round((stays.hospital_left + stays.admitted_before)[row] / DAY, 4),
                "preopmi": np.zeros(len(row), dtype=np.int64),
                "preopcardiaccath": np.zeros(len(row), dtype=np.int64),
                "ptcawithin24h": np.zeros(len(row), dtype=np.int64),
                "unabridgedunitlos": np.round(stays.left[row] / DAY, 4),
                "unabridgedhosplos": np.round((stays.hospital_left + stays.admitted_before)[row] / DAY, 4),
            }
        )
    return numbered("apachePatientResult", "apachepatientresultsid", parts, ("patientunitstayid", "apacheversion"))

"""A tree like MIMIC-IV 3.1 with notes, chest X-rays and their released embeddings, of simulated patients.

=====================================================  ============================================================
``mimiciv/3.1/{hosp,icu}/*.csv.gz``                    19 tables, all columns of the release in its order
``mimic-iv-note/2.2/note/{discharge,radiology}``       notes by a grammar (``text``)
``mimic-cxr-jpg/2.1.0``                                metadata, split, chexpert; with ``images`` also JPEG files and
                                                       IMAGE_FILENAMES
``generalized-image-embeddings-…-1.0/files/p10/…``     one TFRecord per image, 1376 numbers
``truth/mimic_iv.parquet``                             exact risks, labels, pattern; outside the records
=====================================================  ============================================================

Each patient has one index admission with one ICU stay: the first admission that has one. Some have an earlier admission
without ICU stay, some a later one.

**Modalities**, in the simulator's order: the structured record (everyone), chest X-ray, discharge summary, radiology
report. Five contents each move vital signs, laboratory values, drugs and codes of procedures (``record``); the
vector and the picture of an X-ray (``cxr``); the grades of five findings in a note (``text``). Demographics and
all else are noise. The contents of record, X-ray and report are there in the first 16 h of the ICU stay; the summary is
there at discharge and not before its last hours.

**Questions and truth.** Column ``<task>`` is the exact risk, ``label:<task>`` what the tables say, null where not
asked.

* ``mortality``: death in hospital, asked 48 h after ICU admission. Everyone is in hospital then; whoever dies does so
  after 54 h. The summary does not exist yet. Risk: P(death | contents and pattern of record, X-ray and report), the
  summary's presence and content integrated out. It holds whether one asks everyone or those still in the unit: how long
  a unit stay lasts up to 48 h depends on nothing simulated.
* ``readmission``: an admission within 30 days of discharge; ``icu_admission``: an ICU stay that begins within 90 days
  of it. Asked at discharge of those alive. Risk: P(outcome | contents and pattern of all four modalities, alive).

``present:<modality>`` is the pattern at discharge; at 48 h it is the same without the summary.

**Traps**, for whoever reads past the question; each tells the outcome unless said otherwise.

* Lactates and heart rates measured before 48 h and stored after; lactates drawn before discharge and stored after.
* Vital signs and laboratory values of the last day of the dying; X-rays of the dying after 48 h.
* Blood cultures: the dying's grow, which is stored after 48 h.
* Discharge summaries dated before discharge and stored after it, of patients without the modality and of the dead;
  radiology reports dated before 48 h or before discharge and stored after.
* ``diagnoses_icd`` of the index admission (written after discharge, no time); ``dod``, ``deathtime``,
  ``hospital_expire_flag``, ``discharge_location``.
* Later admissions with their notes and X-rays. Answers that are no: admissions without ICU stay after 30 days, and with
  one after 95.
* Notes and X-rays of earlier admissions: noise, which makes an absent modality look present.

**What the layout loses.** Notes grade a content in nine words half a spread apart; measurements have noise; SpO₂ and
FiO₂ end at 100 and 21 %. A model can come near the exact risks, not reach them. Not every film has a report nor every
report a film, other than in the release: the simulator orders the two apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from mmnar.lock import fresh_folder
from mmnar.simulation.events import OUTCOMES
from mmnar.simulation.files import mark_simulated, write_table
from mmnar.simulation.mimic_iv import record
from mmnar.simulation.mimic_iv import stays as calendar
from mmnar.simulation.mimic_iv.cxr import SIDE, write_cxr
from mmnar.simulation.mimic_iv.notes import discharge, radiology
from mmnar.simulation.mimic_iv.stays import SUMMARY, Stays, admit
from mmnar.simulation.population import Simulation, check_range, simulate
from mmnar.simulation.risks import exact_risk

MODALITIES: Final = ("structured", "chest_xray", "discharge_summary", "radiology_report")
"""In the order of the simulator's modalities."""

IV: Final = Path("mimiciv", "3.1")
NOTES: Final = Path("mimic-iv-note", "2.2", "note")
CXR: Final = Path("mimic-cxr-jpg", "2.1.0")
EMBEDDINGS: Final = Path("generalized-image-embeddings-for-the-mimic-chest-x-ray-dataset-1.0")
TRUTH: Final = Path("truth", "mimic_iv.parquet")


def write_mimic_iv(
    out: Path,
    patients: int,
    *,
    seed: int = 0,
    gamma: float = 1.0,
    eta: float = 0.5,
    mcar: float = 0.0,
    images: bool = False,
    side: int | None = None,
) -> Simulation:
    """Write the tree and return the simulation it was made from.

    Args:
        out: A new folder.
        patients: N.
        seed: Of patients and of all noise; equal seeds make equal tables.
        gamma, eta, mcar: As in ``simulator.simulate``.
        images: Also write JPEG files (needs Pillow).
        side: Their pixels, 112 unless stated.

    Raises:
        SourceError: ``out`` holds files.
        ConfigError: A parameter outside its range.
        RequirementError: ``images`` without Pillow.
    """
    side = SIDE if side is None else side
    check_range("image_side", side, 16, 1024)
    simulation = simulate(patients, len(MODALITIES), seed, gamma=gamma, eta=eta, mcar=mcar)
    fresh_folder(out, lambda folder: _write(simulation, folder, side if images else None))
    return simulation


def _write(simulation: Simulation, folder: Path, side: int | None) -> None:
    # one stream of noise per table: a change to one leaves the others as they were
    streams = iter(np.random.SeedSequence([simulation.seed, 0x3117]).spawn(32))

    def rng() -> np.random.Generator:
        return np.random.default_rng(next(streams))

    stays = admit(simulation, rng())
    admitted, icu = calendar.admissions(stays, rng()), calendar.icustays(stays, rng())
    hosp = {
        "patients": calendar.patients(stays, rng()),
        "admissions": admitted,
        "transfers": calendar.transfers(icu, admitted, rng()),
        "services": calendar.services(admitted, rng()),
        "omr": calendar.omr(stays, rng()),
        "labevents": record.labevents(stays, rng()),
        "d_labitems": record.d_labitems(),
        "diagnoses_icd": record.diagnoses_icd(stays, rng()),
        "d_icd_diagnoses": record.d_icd_diagnoses(),
        "procedures_icd": record.procedures_icd(stays, rng()),
        "d_icd_procedures": record.d_icd_procedures(),
        "prescriptions": record.prescriptions(stays, rng()),
        "microbiologyevents": record.microbiologyevents(stays, rng()),
    }
    unit = {
        "icustays": icu,
        "chartevents": record.chartevents(stays, rng()),
        "d_items": record.d_items(),
        "outputevents": record.outputevents(stays, rng()),
        "inputevents": record.inputevents(stays, rng()),
        "procedureevents": record.procedureevents(stays, rng()),
    }
    for name, table in hosp.items():
        write_table(folder / IV / "hosp" / f"{name}.csv.gz", table)
    for name, table in unit.items():
        write_table(folder / IV / "icu" / f"{name}.csv.gz", table)
    write_table(folder / NOTES / "discharge.csv.gz", discharge(stays, rng()))
    write_table(folder / NOTES / "radiology.csv.gz", radiology(stays, rng()))
    write_cxr(stays, folder / CXR, folder / EMBEDDINGS, side, rng())
    mark_simulated(folder / IV)
    (folder / TRUTH).parent.mkdir()
    truth(simulation, stays).write_parquet(folder / TRUTH)


def truth(simulation: Simulation, stays: Stays) -> pl.DataFrame:
    """Ids, ``<task>`` (exact risk), ``label:<task>`` (null where not asked) and ``present:<modality>``."""
    icu_again, mortality, readmission = (OUTCOMES.index(name) for name in OUTCOMES)
    everything = np.ones(len(MODALITIES), dtype=bool)
    by_then = everything.copy()
    by_then[SUMMARY] = False
    alive = pl.Series(~stays.died)
    columns: dict[str, object] = {
        "subject_id": stays.subject_id,
        "hadm_id": stays.hadm_id,
        "stay_id": stays.stay_id,
        "mortality": exact_risk(simulation, mortality, by_then),
        "readmission": exact_risk(simulation, readmission, everything, among_survivors_of=mortality),
        "icu_admission": exact_risk(simulation, icu_again, everything, among_survivors_of=mortality),
        "label:mortality": stays.died,
        "label:readmission": pl.Series(stays.readmitted).set(~alive, None),
        "label:icu_admission": pl.Series(stays.icu_again).set(~alive, None),
    }
    for number, name in enumerate(MODALITIES):
        columns[f"present:{name}"] = simulation.present[:, number]
    return pl.DataFrame(columns)

"""MIMIC placeholder docstring."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from mmnar.sources.simulator import Simulation, simulate
from mmnar.sources.synthetic import OUTCOMES
from mmnar.sources.trees import mimic_record as record
from mmnar.sources.trees import mimic_stays as calendar
from mmnar.sources.trees.files import fresh_folder, write_table
from mmnar.sources.trees.mimic_cxr import write_cxr
from mmnar.sources.trees.mimic_notes import discharge, radiology
from mmnar.sources.trees.mimic_stays import SUMMARY, Stays, admit
from mmnar.sources.trees.risks import exact_risk

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
) -> Simulation:
    """Write the tree and return the simulation it was made from.

    Args:
        out: A new folder.
        patients: N.
        seed: Of patients and of all noise; equal seeds make equal tables.
        gamma, eta, mcar: As in ``simulator.simulate``.
        images: Also write JPEG files (needs Pillow).

    Raises:
        SourceError: ``out`` holds files.
        ConfigError: A parameter outside its range.
        RequirementError: ``images`` without Pillow.
    """
    simulation = simulate(patients, len(MODALITIES), seed, gamma=gamma, eta=eta, mcar=mcar)
    fresh_folder(out, lambda folder: _write(simulation, folder, images))
    return simulation


def _write(simulation: Simulation, folder: Path, images: bool) -> None:
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
    write_cxr(stays, folder / CXR, folder / EMBEDDINGS, images, rng())
    (folder / TRUTH).parent.mkdir()
    truth(stays).write_parquet(folder / TRUTH)


def truth(stays: Stays) -> pl.DataFrame:
    """Ids, ``<task>`` (exact risk), ``label:<task>`` (null where not asked) and ``present:<modality>``."""
    simulation = stays.simulation
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

"""A tree like eICU-CRD 2.0, of simulated patients.

``OUT/eicu-collaborative-research-database/2.0/*.csv.gz``, all columns of the release, and ``OUT/truth/eicu.parquet``.
Each patient has one unit stay; the simulator's ten modalities are the ten virtual modalities of ``sources.eicu``, in
that order, and each of the five contents of a modality moves cells of its tables (``tables``).

**Pattern.** A modality that the simulation says is absent has no rows, or -1 in the APACHE tables, which five
modalities share. ``prepare eicu`` finds the same pattern for every patient, with one exception: APACHE's first day is
over only after 24 h, so a patient who leaves the unit sooner has no APACHE modality at discharge.

**Questions.** Death is asked 24 h after unit admission; everyone who dies does so in the unit, later than that. Return
to the unit is asked at unit discharge of those who leave it alive; a return is a second unit stay of the same hospital
stay. Lengths of stay depend on nothing simulated. The second stays, and stays of other hospital stays of the same
person (which are no return), are shorter than twelve hours: outside the cohort.

**Truth.** ``mortality``: P(death | contents and pattern of all ten modalities). ``readmission``: P(return | the same,
and alive), APACHE's presence and content integrated out for those who leave before it is known. The simulator's third
outcome, ``icu_admission``, is not realised: eICU does not say what happens after the hospital.

**What the layout loses.** Age, height and weight tell three demographic contents exactly; size and region of the
hospital tell the other two in four steps. Sources and type of unit, numbers of diagnoses, orders and diseases tell
theirs in four to nine steps. A model can come near the exact risks, not reach them.

**Traps**, for whoever reads past the question: labs revised and heart rates entered after it, diagnoses and drips
written after it (all of these tell the outcome), vital signs of the last day of those who die, ``actual…`` and
``unabridged…`` columns, ``diedinhospital``, discharge columns, ``uniquepid`` of other hospital stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from mmnar.lock import fresh_folder
from mmnar.simulation.eicu import tables
from mmnar.simulation.eicu.stays import ASKED, MODALITIES, UnitStays, admit, hospital, patient
from mmnar.simulation.events import OUTCOMES
from mmnar.simulation.files import mark_simulated, write_table
from mmnar.simulation.population import Simulation, simulate
from mmnar.simulation.risks import exact_risk

RELEASE: Final = Path("eicu-collaborative-research-database", "2.0")
TRUTH: Final = Path("truth", "eicu.parquet")

_TABLES: Final = {
    "patient": patient,
    "apacheApsVar": tables.apache_aps_var,
    "apachePredVar": tables.apache_pred_var,
    "apachePatientResult": tables.apache_patient_result,
    "diagnosis": tables.diagnosis,
    "admissionDx": tables.admission_dx,
    "pastHistory": tables.past_history,
    "medication": tables.medication,
    "infusionDrug": tables.infusion_drug,
    "treatment": tables.treatment,
    "lab": tables.lab,
    "vitalAperiodic": tables.vital_aperiodic,
    "vitalPeriodic": tables.vital_periodic,
    "nurseCharting": tables.nurse_charting,
    "respiratoryCharting": tables.respiratory_charting,
    "respiratoryCare": tables.respiratory_care,
    "intakeOutput": tables.intake_output,
}


def write_eicu(
    out: Path, patients: int, *, seed: int = 0, gamma: float = 1.0, eta: float = 0.5, mcar: float = 0.0
) -> Simulation:
    """Write the tree and return the simulation it was made from.

    Args:
        out: A new folder.
        patients: N.
        seed: Of patients and of all noise; equal seeds make equal tables.
        gamma, eta, mcar: As in ``simulator.simulate``.

    Raises:
        SourceError: ``out`` holds files.
        ConfigError: A parameter outside its range.
    """
    simulation = simulate(patients, len(MODALITIES), seed, gamma=gamma, eta=eta, mcar=mcar)
    fresh_folder(out, lambda folder: _write(simulation, folder))
    return simulation


def _write(simulation: Simulation, folder: Path) -> None:
    # one stream of noise per table: a change to one leaves the others as they were
    first, *streams = np.random.SeedSequence([simulation.seed, 0xE1C]).spawn(1 + len(_TABLES))
    stays = admit(simulation, np.random.default_rng(first))
    write_table(folder / RELEASE / "hospital.csv.gz", hospital())
    for (name, make), stream in zip(_TABLES.items(), streams, strict=True):
        write_table(folder / RELEASE / f"{name}.csv.gz", make(stays, np.random.default_rng(stream)))
    mark_simulated(folder / RELEASE)
    (folder / TRUTH).parent.mkdir()
    truth(stays).write_parquet(folder / TRUTH)


def truth(stays: UnitStays) -> pl.DataFrame:
    """Ids, ``<task>`` (exact risk), ``label:<task>`` (null where not asked) and ``present:<modality>``."""
    simulation = stays.simulation
    mortality, readmission = OUTCOMES.index("mortality"), OUTCOMES.index("readmission")
    everything = np.ones(len(MODALITIES), dtype=bool)
    unscored = everything.copy()
    unscored[MODALITIES.index("apache")] = False
    at_discharge = np.where(
        stays.left < ASKED,
        exact_risk(simulation, readmission, unscored, among_survivors_of=mortality),
        exact_risk(simulation, readmission, everything, among_survivors_of=mortality),
    )
    columns: dict[str, object] = {
        "uniquepid": stays.uniquepid,
        "hadm_id": stays.hadm_id,
        "stay_id": stays.stay_id,
        "mortality": simulation.bayes[:, mortality],
        "readmission": at_discharge,
        "label:mortality": stays.died,
        "label:readmission": pl.Series(stays.readmitted).set(pl.Series(stays.died), None),
    }
    for number, name in enumerate(MODALITIES):
        columns[f"present:{name}"] = simulation.present[:, number]
    return pl.DataFrame(columns)

"""A tree like MIMIC-IV 3.1 with MIMIC-CXR for the benchmark CareBench, of simulated stays whose risks are known.

Laid out as ``mimic_iv.release`` with the same columns, without radiology reports. ``law`` says what decides the
outcomes, ``stays`` who is left out, ``films`` which films there are, ``record`` what is charted.

============================  =====================================================================================
``truth/mimic_iv.parquet``    stays of the base cohort: exact risk ``<task>`` and ``label:<task>`` of the 33 tasks,
                              ``present:chest_xray``, and ``film``, the dicom_id of the AP film to be seen (null = none)
``truth/attrition.parquet``   every unit stay and ``left_out``, the rule that it breaks (null = in the base cohort)
``truth/outcomes.parquet``    each task and ``told_by``: series, order, film, both, or state
============================  =====================================================================================

Risks are P(outcome | contents of record and film, whether there is a film, the order of the episodes, race), all of it
in the tables by 48 h.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.lock import fresh_folder
from mmnar.simulation.carebench import record
from mmnar.simulation.carebench import stays as calendar
from mmnar.simulation.carebench.films import SIDE, take_films
from mmnar.simulation.carebench.law import FILM, MODALITIES, risks_of
from mmnar.simulation.carebench.outcomes import OUTCOMES, PHENOTYPES
from mmnar.simulation.carebench.stays import Admitted, admit
from mmnar.simulation.files import frame, mark_simulated, minutes, write_table
from mmnar.simulation.mimic_iv import record as usual
from mmnar.simulation.mimic_iv import stays as usual_calendar
from mmnar.simulation.mimic_iv.columns import NOTE
from mmnar.simulation.mimic_iv.cxr import write_films
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV, NOTES, TRUTH
from mmnar.simulation.mimic_iv.stays import DAY
from mmnar.simulation.population import check_range
from mmnar.simulation.text import discharge_summaries

ATTRITION: Final = TRUTH.with_name("attrition.parquet")
TOLD_BY: Final = TRUTH.with_name("outcomes.parquet")


def write_carebench(
    out: Path,
    patients: int,
    *,
    seed: int = 0,
    gamma: float = 1.0,
    eta: float = 0.5,
    mcar: float = 0.0,
    images: bool = False,
    side: int | None = None,
) -> Admitted:
    """Write the tree and return the admissions it was made from.

    Args:
        out: A new folder.
        patients: With a unit stay; half as many more have films alone.
        seed: Of patients and of all noise; equal seeds make equal tables.
        gamma: How much illness decides who has a film.
        eta: Direct effect of having a film on death.
        mcar: Share of stays whose film ignores illness.
        images: Also write JPEG files (needs Pillow).
        side: Their pixels, 64 unless stated.

    Raises:
        SourceError: ``out`` holds files.
        ConfigError: A parameter outside its range.
        RequirementError: ``images`` without Pillow.
    """
    check_range("patients", patients, 1, 10_000_000)
    check_range("seed", seed, 0, 2**32 - 1)
    check_range("mcar", mcar, 0, 1)
    side = SIDE if side is None else side
    check_range("image_side", side, 16, 1024)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 0xCB]).spawn(32)]
    admitted = admit(patients, seed, streams.pop(), gamma=gamma, eta=eta, mcar=mcar)
    fresh_folder(out, lambda folder: _write(admitted, folder, side if images else None, streams))
    return admitted


def _write(admitted: Admitted, folder: Path, side: int | None, streams: list[np.random.Generator]) -> None:
    # one stream of noise per table: a change to one leaves the others as they were
    rng = streams.pop
    stays = admitted.stays
    kilograms = record.weights(admitted, rng())
    admissions, icu = calendar.admissions(admitted, rng()), calendar.icustays(admitted, rng())
    procedures = usual.procedures_icd(stays, rng())
    in_ten = pl.Series(stays.hadm_id[admitted.version == 10])
    hosp = {
        "patients": calendar.patients(admitted, rng()),
        "admissions": admissions,
        "transfers": usual_calendar.transfers(icu, admissions, rng()),
        "services": usual_calendar.services(admissions, rng()),
        "omr": usual_calendar.omr(stays, rng()),
        "labevents": usual.labevents(stays, rng()),
        "d_labitems": usual.d_labitems(),
        "diagnoses_icd": record.diagnoses_icd(admitted, rng()),
        "d_icd_diagnoses": record.d_icd_diagnoses(),
        "procedures_icd": procedures.filter(pl.col("hadm_id").is_in(in_ten.implode())),
        "d_icd_procedures": usual.d_icd_procedures(),
        "prescriptions": usual.prescriptions(stays, rng()),
        "microbiologyevents": usual.microbiologyevents(stays, rng()),
    }
    unit = {
        "icustays": icu,
        "chartevents": record.chartevents(admitted, kilograms, rng()),
        "d_items": record.items(),
        "outputevents": record.outputevents(admitted, kilograms, rng()),
        "inputevents": usual.inputevents(stays, rng()),
        "procedureevents": usual.procedureevents(stays, rng()),
    }
    for name, table in hosp.items():
        write_table(folder / IV / "hosp" / f"{name}.csv.gz", table)
    for name, table in unit.items():
        write_table(folder / IV / "icu" / f"{name}.csv.gz", table)
    write_table(folder / NOTES / "discharge.csv.gz", _summaries(admitted, rng()))
    films, front, shown = take_films(admitted, rng())
    write_films(films, front, folder / CXR, folder / EMBEDDINGS, side, rng())
    mark_simulated(folder / IV)
    (folder / TRUTH).parent.mkdir()
    truth(admitted, shown).write_parquet(folder / TRUTH)
    calendar.attrition(admitted).write_parquet(folder / ATTRITION)
    told_by().write_parquet(folder / TOLD_BY)


def truth(admitted: Admitted, shown: NDArray[np.str_]) -> pl.DataFrame:
    """One row per stay of the base cohort."""
    rows = np.flatnonzero(admitted.broken == "")
    stays, drawn = admitted.stays, admitted.drawn.take(rows)
    risks = risks_of(drawn)
    columns: dict[str, object] = {name: getattr(stays, name)[rows] for name in ("subject_id", "hadm_id", "stay_id")}
    columns |= dict(zip(OUTCOMES, risks.T, strict=True))
    columns |= {f"label:{name}": drawn.labels[:, k] for k, name in enumerate(OUTCOMES)}
    columns[f"present:{MODALITIES[FILM]}"] = drawn.present[:, FILM]
    columns["film"] = pl.Series(shown[rows]).replace("", None)
    return pl.DataFrame(columns)


def told_by() -> pl.DataFrame:
    """``task`` and ``told_by``."""
    of = {p.name: p.told_by for p in PHENOTYPES}
    return pl.DataFrame({"task": OUTCOMES, "told_by": [of.get(name, "state") for name in OUTCOMES]})


def _summaries(admitted: Admitted, rng: np.random.Generator) -> pl.DataFrame:
    """Of every admission a discharge summary that says nothing of it, stored after discharge."""
    stays, n = admitted.stays, len(admitted)
    charted = stays.dischtime - minutes(rng, n, 1, 60)
    texts = discharge_summaries(rng.standard_normal((n, 5)), np.full(n, ""), rng)
    rows = (
        pl.DataFrame(
            {
                "subject_id": stays.subject_id,
                "hadm_id": stays.hadm_id,
                "note_type": np.full(n, "DS"),
                "charttime": charted,
                "storetime": stays.dischtime + minutes(rng, n, 60, DAY),
                "text": texts,
            }
        )
        .sort("subject_id", "charttime")
        .with_columns(note_seq=pl.int_range(1, pl.len() + 1).over("subject_id"))
        .with_columns(note_id=pl.format("{}-{}-{}", "subject_id", "note_type", "note_seq"))
    )
    return frame(NOTE, {name: rows[name] for name in NOTE})

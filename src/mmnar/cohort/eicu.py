"""Which eICU stays are in, the questions asked of them, and where their answers are found."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.schema import Task
from mmnar.sources.events import FutureEvents

MORTALITY: Final = Task("mortality", "24 h after unit admission", "death before hospital discharge")
READMISSION: Final = Task("readmission", "unit discharge", "a later unit stay of the same hospital stay")

_DAY: Final = pl.duration(hours=24, time_unit="us")


def eicu_criteria() -> tuple[Criterion, ...]:
    """The eICU cohort of the CRL-MMNAR paper (C.1.2): age 18-89, unit stay of 12 h to 10 days, identifiers.

    The length of a stay is known only when it is over: in deployment these two rules cannot be applied at 24 h.
    """
    length = pl.col("outtime") - pl.col("intime")
    return (
        Criterion("has identifiers", pl.all_horizontal(pl.col("subject_id", "hadm_id", "stay_id").is_not_null())),
        Criterion("age 18-89", pl.col("age").is_between(18, 89)),
        Criterion("unit stay of at least 12 h", length >= pl.duration(hours=12), hindsight=True),
        Criterion("unit stay of at most 10 days", length <= pl.duration(days=10), hindsight=True),
    )


def _answers(future: FutureEvents, found: pl.DataFrame, default: bool | None) -> pl.DataFrame:
    """``sample, label`` for every sample: ``found`` where there, else ``default``."""
    everyone = pl.DataFrame({"sample": future.samples}, schema={"sample": pl.Int64})
    return everyone.join(found, on="sample", how="left").with_columns(
        pl.col("label").fill_null(default) if default is not None else pl.col("label")
    )


def in_hospital_death(future: FutureEvents) -> pl.DataFrame:
    """True: expired at hospital discharge; False: left alive.

    Null (unknown) where the status is not recorded, or where the recorded discharge is not after the prediction
    time although the patient was still in the unit then.
    """
    discharge = future.frame.filter(
        pl.col("code").str.starts_with("HOSPITAL_DISCHARGE//") & (pl.col("stay_id") == pl.col("index_stay_id"))
    )
    status = pl.col("code").str.strip_prefix("HOSPITAL_DISCHARGE//")
    known = discharge.filter(status.is_in(["EXPIRED", "ALIVE"]))
    return _answers(future, known.group_by("sample").agg(label=(status == "EXPIRED").any()), None)


def later_unit_stay(future: FutureEvents) -> pl.DataFrame:
    """True: another unit stay of the same hospital stay begins after this unit discharge.

    A stay that begins at the very minute of discharge is a transfer, not a return; ``FutureEvents`` does not hold
    it, and of transferred stays the question is not asked (``eicu_questions``).
    """
    again = future.frame.filter(
        (pl.col("code") == "ICU_ADMISSION")
        & (pl.col("hadm_id") == pl.col("index_hadm_id"))
        & (pl.col("stay_id") != pl.col("index_stay_id"))
    )
    return _answers(future, again.select("sample", label=pl.lit(True)).unique(), False)


def eicu_questions() -> tuple[Question, ...]:
    """``mortality`` at 24 h and ``readmission`` at unit discharge."""
    return (
        Question(
            MORTALITY,
            pl.col("intime") + _DAY,
            # of whom no discharge is known yet is still there; cohorts with answers have none such
            (Criterion("still in the unit at 24 h", (pl.col("outtime") > pl.col("intime") + _DAY).fill_null(True)),),
            in_hospital_death,
        ),
        Question(
            READMISSION,
            pl.col("outtime"),
            (
                Criterion("has a valid unit discharge", pl.col("outtime").is_not_null()),
                Criterion("left the unit alive", pl.col("unit_discharge_status") == "Alive"),
                Criterion("not moved straight into another unit stay", ~pl.col("transferred")),
            ),
            later_unit_stay,
        ),
    )

"""Which MIMIC-IV stays are in, what is asked of them and when, and where the answers are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.errors import ConfigError
from mmnar.roles import subject_keys
from mmnar.schema import Task
from mmnar.sources.events import FutureEvents

PLANNED: Final = ("elective", "surgical same day admission")
"""Types of admission that were planned; at this hospital most planned surgery is admitted on its day."""

_DISCHARGE: Final = pl.col("dischtime")


def mimic_iv_criteria(limit: int | None = None) -> tuple[Criterion, ...]:
    """The MIMIC-IV cohort of the CRL-MMNAR paper: one stay per adult, the first admission with a unit stay.

    The paper's "single ICU stay, excluding multiple admissions" cannot be meant of the whole record: nobody would be
    readmitted. It is read as: of each patient one index admission and one unit stay of it, the first.

    Args:
        limit: At most so many patients (the paper has 20,000), chosen by a hash of ``subject_id``: adding patients to
            the records never exchanges more than it must. None = all.

    Raises:
        ConfigError: ``limit`` is below 1.
    """
    intime, outtime = pl.col("intime"), pl.col("outtime")
    admittime = pl.col("admittime")
    criteria = (
        Criterion("adult at admission (18 years or more)", pl.col("age") >= 18),
        Criterion("first admission with a unit stay", pl.col("icu_admission") == 1),
        Criterion("first unit stay of that admission", pl.col("icu_stay") == 1),
        Criterion(
            "valid times: admitted before discharged, unit stay begins in between and ends after it begins",
            (admittime < _DISCHARGE) & (intime < _DISCHARGE) & (intime >= admittime - _days(1)) & (intime < outtime),
            hindsight=True,
        ),
    )
    if limit is None:
        return criteria
    if limit < 1:
        raise ConfigError("limit", "at least one patient", str(limit), "leave it out for all patients")
    return (*criteria, Criterion(f"sample of {limit:,} patients", _sampled(limit)))


def _sampled(limit: int) -> pl.Expr:
    """Patients with the ``limit`` smallest keys."""

    def keys(subject_id: pl.Series) -> pl.Series:
        return pl.Series(subject_keys(subject_id.to_numpy().astype(np.int64), space="mimic-iv sample"))

    return pl.col("subject_id").map_batches(keys, return_dtype=pl.UInt64).rank("dense") <= limit


def mimic_iv_questions(mortality_at: int = 48, planned: bool = True) -> tuple[Question, ...]:
    """``readmission`` and ``icu_admission`` asked at hospital discharge, ``mortality`` asked early in the unit stay.

    A patient who dies after discharge without having come back has the label False: death is a competing event, and
    the question is whether the hospital will see the patient again. An admission at the very minute of the discharge
    is a transfer, not a return.

    Args:
        mortality_at: Hours after unit admission at which mortality is asked.
        planned: Whether a planned admission counts as a readmission.

    Raises:
        ConfigError: ``mortality_at`` is not positive.
    """
    if mortality_at <= 0:
        raise ConfigError("mortality_at", "hours after unit admission", str(mortality_at), "use 24 or 48")
    at = pl.col("intime") + pl.duration(hours=mortality_at, time_unit="us")
    still_alive = pl.col("deathtime").is_null() | (pl.col("deathtime") > at)
    left_alive = Criterion("left hospital alive", ~pl.col("died"))
    words = "readmission to hospital within 30 days" + ("" if planned else ", planned admissions left out")
    mortality = Task("mortality", f"{mortality_at} h after unit admission", "death before hospital discharge")
    return (
        Question(Task("readmission", "hospital discharge", words), _DISCHARGE, (left_alive,), _readmitted(planned)),
        Question(
            Task("icu_admission", "hospital discharge", "a unit stay beginning within 90 days of discharge"),
            _DISCHARGE,
            (left_alive,),
            _back_in_unit,
        ),
        Question(
            mortality,
            at,
            # of whom no discharge is known yet is still there; cohorts with answers have none such
            (Criterion(f"alive and in hospital at {mortality_at} h", (at < _DISCHARGE).fill_null(True) & still_alive),),
            dies_in_hospital,
        ),
    )


def _days(n: int) -> pl.Expr:
    return pl.duration(days=n, time_unit="us")


def _soon(n: int) -> pl.Expr:
    return pl.col("time") <= pl.col("prediction_time") + _days(n)


def _readmitted(planned: bool) -> Callable[[FutureEvents], pl.DataFrame]:
    """True: a later admission begins within 30 days."""

    def label(future: FutureEvents) -> pl.DataFrame:
        admission = (pl.col("code") == "HOSPITAL_ADMISSION") & (pl.col("hadm_id") != pl.col("index_hadm_id"))
        counts = pl.lit(True) if planned else ~pl.col("text_value").is_in(PLANNED).fill_null(False)
        return _yes(future.frame.filter(admission & counts & _soon(30)))

    return label


def _back_in_unit(future: FutureEvents) -> pl.DataFrame:
    """True: another unit stay begins within 90 days, in whichever admission."""
    stay = (pl.col("code") == "ICU_ADMISSION") & (pl.col("stay_id") != pl.col("index_stay_id"))
    return _yes(future.frame.filter(stay & _soon(90)))


def dies_in_hospital(future: FutureEvents) -> pl.DataFrame:
    """True: expired at the discharge of the index admission. Null: what is recorded of it is nothing or contradicts."""
    code, died = pl.col("code"), pl.col("code") == "HOSPITAL_DISCHARGE//EXPIRED"
    unknown = code == "HOSPITAL_DISCHARGE//UNKNOWN"
    ended = future.frame.filter((died | unknown) & (pl.col("hadm_id") == pl.col("index_hadm_id")))
    return ended.select("sample", label=pl.when(died).then(True)).unique()


def _yes(found: pl.DataFrame) -> pl.DataFrame:
    return found.select("sample", label=pl.lit(True)).unique()

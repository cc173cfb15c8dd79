"""Rows and outcomes → one row per stay, and the events that answer the question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from mmnar.privacy import counted
from mmnar.sources.physionet2012.codes import HOURS, OUTCOME, PARAMETER, TEXTS
from mmnar.sources.physionet2012.events import ADMISSION
from mmnar.sources.reading.ages import age_group

ATTRIBUTES: Final = ("set", "sex", "age_group", "icu_type")
_DESCRIBED: Final = ("Age", "Gender", "ICUType")


def stays_of(sets: Mapping[int, str], rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row per stay, those without any row included.

    Args:
        sets: RecordID → letter of its set.
        rows: As ``ChallengeEvents`` holds them.
        outcomes: ``record`` and ``death``.
    """
    described = (
        rows.filter(pl.col("parameter").is_in(_DESCRIBED))
        .with_columns(pl.col("parameter").cast(pl.String))
        .group_by("record", "parameter")
        .agg(pl.col("value").last().cast(pl.Float64))
    )
    frame = pl.DataFrame({"record": list(sets), "set": list(sets.values())}, {"record": pl.Int32, "set": pl.String})
    for name in _DESCRIBED:
        of = described.filter(parameter=name).select("record", pl.col("value").alias(name))
        frame = frame.join(of, on="record", how="left")
    identifier = pl.col("record").cast(pl.Int64)
    return (
        frame.join(outcomes, on="record", how="left")
        .with_columns(
            subject_id=identifier,
            hadm_id=identifier,
            stay_id=identifier,
            intime=pl.lit(ADMISSION).cast(pl.Datetime("us")),
            outtime=pl.lit(None, pl.Datetime("us")),
            sex=pl.col("Gender").replace_strict(TEXTS["Gender"], default=None, return_dtype=pl.String),
            icu_type=pl.col("ICUType").replace_strict(TEXTS["ICUType"], default=None, return_dtype=pl.String),
            age_group=age_group(pl.col("Age")),
        )
        .sort("record")
    )


def outcome_rows(stays: pl.DataFrame) -> pl.DataFrame:
    """Rows of the outcomes that are told, one minute after the question."""
    told = stays.filter(pl.col("death").is_not_null())
    return told.select(
        "record",
        minute=pl.lit(HOURS * 60 + 1, pl.Int16),
        parameter=pl.lit(OUTCOME, PARAMETER),
        value=pl.col("death").cast(pl.Float32),
    )


def unmatched(stays: pl.DataFrame, outcomes: pl.DataFrame) -> list[str]:
    """Outcomes without a stay and stays without an outcome, in words."""
    lost = outcomes.join(stays, on="record", how="anti").height
    unknown = stays["death"].null_count()
    return [f"{counted(lost)} rows of outcomes dropped: no such stay"] * (lost > 0) + [
        f"{counted(unknown)} stays without an outcome: in no evaluation"
    ] * (unknown > 0)

"""Who is asked, at moments of the user's own: one sample for each subject and moment, and no answer."""

from __future__ import annotations

from functools import reduce
from typing import Final

import polars as pl

from mmnar.cohort.build import AttritionStep, Cohort, label_column
from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.schema import Schema
from mmnar.sources.events import Extract
from mmnar.sources.reading.later import later

COLUMNS: Final = ("subject_id", "prediction_time")
_ENDS: Final = ("outtime", "dischtime")


def check_moments(times: pl.DataFrame) -> pl.DataFrame:
    """Moments as ``subject_id`` (int64), ``prediction_time`` (datetime[us]; UTC where it names a zone), in order.

    Raises:
        SourceError: A column is missing or of another form, a cell is empty, a row is there twice, or there is none.
    """
    what = "moments (--at)"
    lacking = [name for name in COLUMNS if name not in times.columns]
    if lacking:
        raise SourceError(what, "subject_id and prediction_time", f"no {', '.join(lacking)}", "rename the columns")
    if not times.schema["subject_id"].is_integer() or not isinstance(times.schema["prediction_time"], pl.Datetime):
        raise SourceError(what, "whole numbers and times", "columns of another form", "convert them")
    at = pl.col("prediction_time")
    at = at.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if has_zone(times) else at
    moments = times.select(pl.col("subject_id").cast(pl.Int64, strict=False), at.cast(pl.Datetime("us")))
    empty = moments.height - moments.drop_nulls().height
    twice = moments.height - moments.unique().height
    if empty or twice or not moments.height:
        fact = f"{counted(moments.height)} rows, {counted(empty)} with an empty cell, {counted(twice)} repeated"
        raise SourceError(what, "every subject and moment once", fact, "correct the file")
    return moments.sort(*COLUMNS)


def has_zone(times: pl.DataFrame) -> bool:
    """Whether the moments name a zone."""
    return getattr(times.schema.get("prediction_time"), "time_zone", None) is not None


def samples_at(extract: Extract, schema: Schema, times: pl.DataFrame) -> Cohort:
    """The samples of stated moments: each belongs to the subject's latest stay that holds it.

    Args:
        schema: Whose tasks are asked.
        times: See ``check_moments``.

    Raises:
        SourceError: A subject is not among the records, or a moment lies in none of the subject's stays.
    """
    moments = check_moments(times)
    stays = extract.stays
    strangers = moments.join(stays, on="subject_id", how="anti")["subject_id"].n_unique()
    if strangers:
        fact = f"{counted(strangers)} who are not"
        raise SourceError("moments (--at)", "subjects of the records", fact, "leave them out")
    ends = (pl.col(name) for name in _ENDS if name in stays.columns)
    ended = reduce(later, ends, pl.lit(None, pl.Datetime("us")))
    known = stays.select(
        "subject_id",
        "hadm_id",
        "stay_id",
        "intime",
        *extract.attributes,
        ended=ended,
    ).with_columns(since=stays["since"].cast(pl.Datetime("us")) if "since" in stays.columns else pl.lit(None))
    found = (
        moments.join(known, on="subject_id", how="left")
        .filter(pl.col("prediction_time").is_between("intime", "ended").fill_null(True))
        .sort("subject_id", "prediction_time", "intime", nulls_last=False)
        .unique(list(COLUMNS), keep="last", maintain_order=True)
    )
    outside = moments.height - found.height
    if outside:
        fact = f"{counted(outside)} of {counted(moments.height)} outside"
        raise SourceError("moments (--at)", "moments within a stay of their subject", fact, "correct or leave them out")
    samples = (
        found.sort("subject_id", "stay_id", "prediction_time")
        .with_row_index("sample")
        .with_columns(pl.col("sample").cast(pl.Int64), pl.col("since").cast(pl.Datetime("us")))
        .with_columns(pl.lit(None, pl.Boolean).alias(label_column(task.name)) for task in schema.tasks)
        .drop("intime", "ended")
    )
    step = AttritionStep("stated moments", samples.height, samples["subject_id"].n_unique())
    return Cohort(samples, schema.tasks, extract.attributes, {"cohort": (step,)}, schema.panels)

"""Identifiers and times of MEDS files in the forms in which writers leave them: read where one thing can be meant.

MEDS has integers and times without a zone. Identifiers also come as text (pandas), as floats (where one was missing),
times with a zone (BigQuery, Spark) or as text. Times with a zone become UTC; a data set and its labels have all of them
with a zone or none, for the two are on no common clock.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.reading.absent import without_absent
from mmnar.sources.reading.identifiers import read_identifiers
from mmnar.sources.reading.instants import read_times


def is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def is_identifier(dtype: pl.DataType) -> bool:
    """Whether a column of this type may hold identifiers."""
    return dtype.is_integer() or dtype.is_float() or is_text(dtype)


def is_time(dtype: pl.DataType) -> bool:
    """Whether a column of this type may hold times."""
    return dtype == pl.Date() or isinstance(dtype, pl.Datetime) or is_text(dtype)


def has_zone(path: Path, column: str, dtype: pl.DataType) -> bool | None:
    """Whether a column's times name a zone, of text as its first rows show; None where it has no times.

    Raises:
        UnreadableError: The file cannot be read.
    """
    if is_text(dtype):
        first = next(parquet.blocks(path, [column], 1000), pl.DataFrame({column: []}, {column: pl.String}))
        times = read_times(without_absent(first[column].cast(pl.String))[0])
        return times.zoned > 0 if times.told else None
    return None if dtype == pl.Null() else isinstance(dtype, pl.Datetime) and dtype.time_zone is not None


def identifiers(subject: str, column: pl.Series) -> pl.Series:
    """Int64.

    Args:
        subject: Of the message.

    Raises:
        SourceError: Some are no whole numbers, or nobody can say which.
    """
    cells = without_absent(column.cast(pl.String))[0] if is_text(column.dtype) else column
    try:
        return read_identifiers(cells, words=False)[0]
    except SourceError as error:
        raise SourceError(
            f"{subject}, column '{column.name}'", "whole numbers", error.got, "write them as integers"
        ) from None


def instants(subject: str, column: pl.Series, zoned: bool | None) -> pl.Series:
    """datetime[us]; UTC where they name a zone.

    Args:
        subject: Of the message.
        zoned: Whether they name one, as ``has_zone`` says; None = not told yet.

    Raises:
        SourceError: Some cells of text are no time, or name a zone where others do not.
    """
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
    times = read_times(without_absent(column.cast(pl.String))[0])
    plain = times.plain + times.days
    others = (plain if zoned else times.zoned) if zoned is not None else min(plain, times.zoned)
    unread = sum(times.unread.values())
    for count, words in ((unread, "that are no time"), (others, "with a zone beside others without")):
        if count:
            where, fact = f"{subject}, column '{column.name}'", f"{counted(count)} {words}"
            raise SourceError(where, "times on one clock", fact, "correct the data set's ETL")
    return times.at


def check_one_clock(zones: dict[str, bool | None]) -> None:
    """
    Args:
        zones: Whose times → whether they name a zone.

    Raises:
        SourceError: Some do and others do not.
    """
    for wanted in (True, False):
        if wanted not in zones.values():
            return
    first = {with_zone: next(name for name, has in zones.items() if has is with_zone) for with_zone in (True, False)}
    raise SourceError(
        "times of the data set and its labels",
        "all with a zone, or none",
        f"one in {first[True]} and none in {first[False]}",
        "write them on one clock",
    )

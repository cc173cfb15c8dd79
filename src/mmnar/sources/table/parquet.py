"""Typed columns as text, so that one rule understands a table whatever its format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.sources.reading.identifiers import EXACT_SINGLE, INEXACT

_REFUSED: Final[dict[type[pl.DataType], str]] = {
    pl.List: "nested: write one column for each of its values",
    pl.Array: "nested: write one column for each of its values",
    pl.Struct: "nested: write one column for each of its fields",
    pl.Binary: "bytes: write them as text",
    pl.Object: "objects: write them as text or numbers",
    pl.Duration: "durations: write them as numbers and say their unit",
    pl.Time: "times of day: write them as numbers, or with their day",
}


def read_typed(path: Path, columns: Iterable[str]) -> pl.DataFrame:
    """Some columns of a Parquet file as they are typed.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return parquet.read(path, columns)
    except parquet.UnreadableError as error:
        raise SourceError(
            f"file '{path.name}'", "a whole Parquet file", str(error), "copy or convert it again"
        ) from None


def as_text(column: pl.Series, exact: bool = False) -> pl.Series:
    """A column as its cells would be written in a CSV file; times with a zone end in Z.

    Args:
        exact: It holds identifiers, which single precision may have confused.

    Raises:
        SourceError: Its kind has no such text: nested, bytes, objects, durations, times of day.

    >>> from datetime import datetime, timezone
    >>> as_text(pl.Series([datetime(2020, 3, 1, 12, tzinfo=timezone.utc)])).to_list()
    ['2020-03-01 12:00:00.000000Z']
    """
    kind = column.dtype.base_type()
    if kind in _REFUSED:
        words, _, remedy = _REFUSED[kind].partition(": ")
        raise SourceError(f"column '{column.name}'", "text, numbers, times or categories", words, remedy)
    if exact and column.dtype == pl.Float32 and bool((column.abs() > EXACT_SINGLE).any()):
        raise SourceError(
            f"column '{column.name}'", "identifiers", f"{INEXACT} (single precision)", "write them as whole numbers"
        )
    if isinstance(column.dtype, pl.Datetime):
        zoned = column.dtype.time_zone is not None
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else column
        return utc.cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d %H:%M:%S%.6f" + ("Z" if zoned else ""))
    if column.dtype == pl.Date:
        return column.dt.to_string("%Y-%m-%d")
    return column.cast(pl.String)

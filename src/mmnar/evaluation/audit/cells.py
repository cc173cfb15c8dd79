"""Somebody's feature table as numbers, times and words."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from isal.isal_zlib import IsalError

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.sources.reading.absent import without_absent
from mmnar.sources.reading.blocks import check_widths
from mmnar.sources.reading.instants import read_times
from mmnar.sources.reading.packing import FormError, check_text, check_utf8, unpacked
from mmnar.sources.table.numbers import forms, forms_in_words, is_mostly_numbers, numbers
from mmnar.sources.table.parquet import as_text

TABLES: Final = (".csv", ".gz", ".tsv", ".parquet")
MOSTLY: Final = 0.95
"""A text column is one of times where this share of it reads as one."""


@dataclass(frozen=True)
class Cells:
    """A table as it was understood.

    Args:
        frame: Numbers as Float64, times as Datetime (UTC where they name a zone), the rest as String; null = missing.
        text: The columns that shall stay text, as they are written.
        zoned: Columns of times → whether they name a zone.
        mixed: Columns that are mostly numbers → the forms of the cells that are none.
        unread: Columns of a kind that cannot be read.
    """

    frame: pl.DataFrame
    text: pl.DataFrame
    zoned: dict[str, bool]
    mixed: dict[str, str]
    unread: tuple[str, ...]


def read_table(path: Path, as_written: Collection[str] = ()) -> Cells:
    """Read a CSV or Parquet table.

    Args:
        as_written: Columns, of identifiers, that are also kept as text.

    Raises:
        SourceError: It cannot be read, or is empty.
    """
    try:
        if path.suffix.lower() == ".parquet":
            frame = parquet.read(path)
        else:
            separator = "\t" if ".tsv" in path.name.lower() else ","
            text = _text_of(path)
            if separator == ",":
                check_widths(
                    f"table '{path.name}'", text, len(next(csv.reader([text.partition(b"\n")[0].decode()]), []))
                )
            frame = pl.read_csv(text, separator=separator, infer_schema=False)
    except FormError as error:
        raise SourceError(f"table '{path.name}'", "CSV text in UTF-8", error.fact, error.remedy) from None
    except (EOFError, IsalError) as error:  # type: ignore[misc] # a class, whatever isal's stub says
        raise SourceError(
            f"table '{path.name}'", "a whole gzip", f"a cut or damaged one ({type(error).__name__})", "copy it again"
        ) from None
    except (pl.exceptions.PolarsError, parquet.UnreadableError, OSError) as error:
        # the message could quote a row
        kind = parquet.kind_of(error)
        raise SourceError(f"table '{path.name}'", "a CSV or Parquet table", kind, "check the file") from None
    if frame.is_empty():
        raise SourceError(f"table '{path.name}'", "at least one row", "none", "check the file")
    zoned: dict[str, bool] = {}
    mixed: dict[str, str] = {}
    typed: list[pl.Series] = []
    unread: list[str] = []
    for column in frame:
        try:
            typed.append(_typed(column, zoned, mixed))
        except SourceError:  # nested, bytes, durations, times of day
            unread.append(column.name)
    kept = [without_absent(as_text(frame[name]))[0] for name in as_written if name in frame.columns]
    return Cells(pl.DataFrame(typed), pl.DataFrame(kept), zoned, mixed, tuple(unread))


def _text_of(path: Path) -> bytes:
    """The file's text, unpacked where it is a gzip.

    Raises:
        FormError: It is packed otherwise, or in another encoding.
    """
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(1 << 20), b"")
        text = b"".join(unpacked(pieces, path.name.lower().endswith(".gz")))
    check_text(text)
    check_utf8(text)
    return text


def _typed(column: pl.Series, zoned: dict[str, bool], mixed: dict[str, str]) -> pl.Series:
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64).fill_nan(None)
    text, _ = without_absent(as_text(column))
    known = text.len() - text.null_count()
    read = numbers(text)
    if text.len() - read.null_count() == known:
        return read
    times = read_times(text)
    if times.at.len() - times.at.null_count() >= MOSTLY * known:
        zoned[column.name] = bool(times.zoned)
        return times.at
    if is_mostly_numbers(text):
        mixed[column.name] = forms_in_words(forms(text))
    return text

"""The files of a MEDS folder: which there are, what their columns are, their rows block by block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.files import sha256_of
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.reading.visible import visible_files

_ROWS: Final = 1 << 19
"""Of one block in memory."""

Read = TypeVar("Read")

_OLDER: Final = ("patient_id", "events", "measurements")
"""Columns of MEDS before it said ``subject_id``."""


@dataclass(frozen=True)
class DataFile:
    """One data file. Messages give its number, for its name may be a patient's."""

    path: Path
    number: str
    schema: dict[str, pl.DataType]
    sha256: str
    unread: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return f"MEDS data file {self.number} (in order of name)"

    def damaged(self, error: BaseException) -> SourceError:
        """What to say of it, without the words of the library that failed."""
        kind = parquet.kind_of(error)
        return SourceError(self.subject, "a readable parquet file", kind, "copy or extract it again")

    def read(self, reading: Callable[[], Read]) -> Read:
        """What ``reading`` gives.

        Raises:
            SourceError: The file is damaged; in words of our own, for those of another library may quote cells.
        """
        try:
            return reading()
        except (parquet.UnreadableError, OSError) as error:
            raise self.damaged(error) from None

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Rows in order, typed: the columns of ``EVENT_SCHEMA`` except ``source``; null where the file lacks one."""
        there = [c for c in EVENT_SCHEMA if c in self.schema and c != "source" and c not in self.unread]
        columns = [
            (pl.col(c) if c in there else pl.lit(None)).cast(dtype, strict=False).alias(c)
            for c, dtype in EVENT_SCHEMA.items()
            if c != "source"
        ]
        try:
            for frame in parquet.blocks(self.path, there, _ROWS):
                typed = frame.select(columns)
                self._check_cast(frame, typed)
                yield typed
        except parquet.UnreadableError as error:
            raise self.damaged(error) from None

    def _check_cast(self, frame: pl.DataFrame, typed: pl.DataFrame) -> None:
        """Refuse what the column's own type holds and an event's does not: identifiers from 2^63 on, times without end.

        A cast that refuses by itself would show them.
        """
        for column in frame.columns:
            lost = typed[column].null_count() - frame[column].null_count()
            if lost:
                words = {"time": "times", "available_time": "times"}.get(column, "whole numbers below 2^63")
                raise SourceError(
                    f"{self.subject}, column '{column}'",
                    words,
                    f"{counted(lost)} beyond what they can be",
                    "correct the data set's ETL",
                )


def data_files(root: Path) -> list[DataFile]:
    """The files below ``data`` that hold rows, in order of name.

    Raises:
        SourceError: There is none, one is damaged, or one is not of MEDS 0.4.
    """
    paths = list(visible_files(root / "data", ".parquet"))
    if not paths:
        raise SourceError(
            f"MEDS data set '{root}'", "data/**/*.parquet", "no such file", "give the folder that holds 'data'"
        )
    opened = (_opened(path, f"{i} of {len(paths)}") for i, path in enumerate(paths, 1))
    return [file for file in opened if file is not None]


def _opened(path: Path, number: str) -> DataFile | None:
    """None for a file without rows, or whose columns have neither type nor content: writers of empty tables know no
    types."""
    file = DataFile(path, number, {}, "")
    schema = file.read(lambda: parquet.schema_of(path))
    untyped = all(dtype == pl.Null() for dtype in schema.values())
    if untyped or not file.read(lambda: parquet.rows_of(path)):
        return None
    _check_columns(DataFile(path, number, schema, ""))
    # extension columns, free to hold anything
    unread = tuple(c for c in ("hadm_id", "stay_id") if c in schema and not schema[c].is_integer())
    return DataFile(path, number, schema, file.read(lambda: sha256_of(path)), unread)


def _check_columns(file: DataFile) -> None:
    if "subject_id" not in file.schema and any(column in file.schema for column in _OLDER):
        raise SourceError(
            file.subject,
            "MEDS 0.4: one row per event with subject_id",
            "a table of MEDS 0.3 or older",
            "extract it again with a current release of its ETL",
        )
    for column, fits, words in _FORMS:
        if column not in file.schema:
            if column in ("subject_id", "time", "code"):
                raise SourceError(file.subject, f"a column '{column}'", "none", "give a MEDS 0.4 data set")
        elif not fits(file.schema[column]):
            raise SourceError(
                f"{file.subject}, column '{column}'", words, str(file.schema[column]), "correct the data set's ETL"
            )


def _is_time(dtype: pl.DataType) -> bool:
    return dtype == pl.Date() or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


_FORMS: Final = (
    ("subject_id", lambda d: d.is_integer(), "integers"),
    ("time", lambda d: _is_time(d) or d == pl.Null(), "times without a zone"),
    ("code", _is_text, "strings"),
    ("numeric_value", lambda d: d.is_numeric() or d == pl.Null(), "numbers"),
    ("text_value", lambda d: _is_text(d) or d == pl.Null(), "strings"),
    ("available_time", lambda d: _is_time(d) or d == pl.Null(), "times without a zone"),
)


def about(root: Path) -> dict[str, Any]:
    """What ``metadata/dataset.json`` says; nothing where it is absent.

    Raises:
        SourceError: It is no JSON.
    """
    path = root / "metadata" / "dataset.json"
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError("metadata/dataset.json", "JSON", type(error).__name__, "correct or delete it") from None
    return about if isinstance(about, dict) else {}

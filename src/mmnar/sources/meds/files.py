"""The files of a MEDS folder: which there are, what their columns are, their rows block by block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.files import sha256_of
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.meds.forms import check_one_clock, has_zone, identifiers, instants, is_identifier, is_text, is_time
from mmnar.sources.reading.visible import visible_files

_ROWS: Final = 1 << 19
"""Of one block in memory."""

Read = TypeVar("Read")


class EventRows(Protocol):
    """Events in order of subject and time: a ``DataFile``, or rows in memory.

    ``subject``: of messages. ``unread``: columns that are passed over.
    """

    @property
    def subject(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def unread(self) -> tuple[str, ...]: ...
    def blocks(self) -> Iterator[pl.DataFrame]:
        """The columns of ``EVENT_SCHEMA`` except ``source``."""
        ...


_OLDER: Final = ("patient_id", "events", "measurements")
"""Columns of MEDS before it said ``subject_id``."""


@dataclass(frozen=True)
class DataFile:
    """One data file. Messages give its number, for its name may be a patient's.

    ``zones``: column of times → whether they name a zone, None where there are none.
    """

    path: Path
    number: str
    schema: dict[str, pl.DataType]
    sha256: str
    unread: tuple[str, ...] = ()
    zones: Mapping[str, bool | None] = field(default_factory=dict)

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
            for raw in parquet.blocks(self.path, there, _ROWS):
                frame = raw.with_columns(self._read(column) for column in raw)
                typed = frame.select(columns)
                self._check_cast(frame, typed)
                yield typed
        except parquet.UnreadableError as error:
            raise self.damaged(error) from None

    def _read(self, column: pl.Series) -> pl.Series:
        """A column of another type than its MEDS's, as it should be."""
        if column.name == "subject_id" and not column.dtype.is_integer():
            return identifiers(self.subject, column)
        if column.name in self.zones and (is_text(column.dtype) or self.zones[column.name]):
            return instants(self.subject, column, self.zones[column.name])
        return column

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
    files = [file for file in opened if file is not None]
    check_one_clock(zones_of(files))
    return files


def zones_of(files: Sequence[DataFile]) -> dict[str, bool | None]:
    """Which column of which file → whether its times name a zone."""
    return {f"'{column}' of file {file.number}": has for file in files for column, has in file.zones.items()}


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
    there = [column for column in _TIMES if column in schema]
    zones = {c: file.read(partial(has_zone, path, c, schema[c])) for c in there}
    return DataFile(path, number, schema, file.read(lambda: sha256_of(path)), unread, zones)


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


_TIMES: Final[tuple[str, ...]] = ("time", "available_time")
_FORMS: Final = (
    ("subject_id", is_identifier, "integers"),
    ("time", lambda d: is_time(d) or d == pl.Null(), "times"),
    ("code", is_text, "strings"),
    ("numeric_value", lambda d: d.is_numeric() or d == pl.Null(), "numbers"),
    ("text_value", lambda d: is_text(d) or d == pl.Null(), "strings"),
    ("available_time", lambda d: is_time(d) or d == pl.Null(), "times"),
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

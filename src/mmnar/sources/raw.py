"""Raw tables: find them in a read-only folder, read the columns asked for, say precisely what is wrong.

Messages name tables, columns and counts. They never show a cell, because a cell may be a patient's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.errors import RequirementError, SourceError, nearest

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
"""Of several files with one stem the first suffix wins."""

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class _FileRecord:
    name: str
    size: int
    sha256: str


class DataRoot:
    """A folder of raw tables. Nothing is ever written to it.

    Args:
        path: Folder that holds ``TABLE.csv``, ``TABLE.csv.gz`` or ``TABLE.parquet`` in any letter case.

    Raises:
        SourceError: The path is not a folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise SourceError(f"data root '{self.path}'", "a folder", "none", "give the folder with the raw tables")
        self._files = _tables(self.path)
        self._read: dict[str, _FileRecord] = {}
        self._warnings: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """Absent optional tables, in the order they were asked for."""
        return tuple(self._warnings)

    @property
    def tables(self) -> tuple[str, ...]:
        """Lower-case stems of the tables found."""
        return tuple(sorted(self._files))

    def read(
        self,
        table: str,
        columns: Mapping[str, pl.DataType],
        required: bool = True,
        key: str = "",
    ) -> pl.DataFrame | None:
        """Read some columns of a table.

        Args:
            table: Its name; letter case does not matter.
            columns: Lower-case column name → dtype. Blank strings become null.
            required: Whether the table must be there.
            key: Column whose values must be distinct and not null; "" = no such column.

        Returns:
            The columns in the order asked for, or None where an optional table is absent.

        Raises:
            SourceError: The table is absent and required, empty, damaged, lacks a column, holds a cell that is
                not of the column's dtype, or repeats a key.
            RequirementError: The table would not fit into this machine's memory.
        """
        path = self._files.get(table.lower())
        if path is None:
            self._note_absent(table, required)
            return None
        _check_room(table, path, _check_whole(table, path), len(columns))
        if path.name not in self._read:
            self._read[path.name] = _FileRecord(path.name, path.stat().st_size, _sha256(path))
        raw = _read_columns(table, path, list(columns))
        frame = raw.select(_typed(table, raw[name], dtype) for name, dtype in columns.items())
        if key:
            _check_key(table, frame[key])
        return frame

    def fingerprint(self) -> str:
        """Hash of name, size and content of every file read so far."""
        records = [[r.name, r.size, r.sha256] for r in sorted(self._read.values(), key=lambda r: r.name)]
        return hashlib.sha256(json.dumps(records).encode()).hexdigest()

    def _note_absent(self, table: str, required: bool) -> None:
        if required:
            raise SourceError(
                f"table '{table}'",
                f"a file {' or '.join(table + s for s in SUFFIXES)} (any letter case) in '{self.path}'",
                f"none; {nearest(table.lower(), self._files)}" if self._files else "no table at all",
                "check the data root",
            )
        self._warnings.append(f"table '{table}' is absent: its features are left out")


def _tables(path: Path) -> dict[str, Path]:
    """Lower-case stem → file."""
    found: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for file in sorted(path.iterdir()):
            name = file.name.lower()
            if name.endswith(suffix) and file.is_file():
                found.setdefault(name.removesuffix(suffix), file)
    return found


def _damaged(table: str, path: Path, fact: str) -> SourceError:
    return SourceError(f"table '{table}' ({path.name})", "a whole, readable file", fact, "copy or download it again")


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_room(table: str, path: Path, size: int, wanted: int) -> None:
    """Refuse a text table that would not fit into memory, before an hour is spent on finding out.

    Args:
        size: Bytes of the file, unpacked.
        wanted: How many of its columns are read.
    """
    if path.name.lower().endswith(".parquet"):
        return
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as handle:
        columns = handle.readline().count(b",") + 1
    # the wanted columns as text, once more as the events made of them, and what sorting takes
    needed = 4 * size * min(1.0, wanted / columns)
    if needed > 0.8 * memory():
        raise RequirementError(
            f"table '{table}' ({path.name})",
            f"about {needed / 2**30:.1f} GiB of memory",
            f"{memory() / 2**30:.1f} GiB",
            "use a larger machine, or keep only the rows of the stays you need",
        )


def _check_whole(table: str, path: Path) -> int:
    """Bytes unpacked. Refuse an empty file and a cut-off gzip; polars reads the latter silently up to the cut."""
    if path.stat().st_size == 0:
        raise _damaged(table, path, "an empty file")
    if not path.name.lower().endswith(".gz"):
        return path.stat().st_size
    size = 0
    try:
        with gzip.open(path) as handle:
            while chunk := handle.read(_CHUNK):
                size += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(table, path, f"a truncated or corrupt gzip ({type(error).__name__})") from None
    if size == 0:
        raise _damaged(table, path, "an empty file")
    return size


def _read_columns(table: str, path: Path, wanted: list[str]) -> pl.DataFrame:
    parquet = path.name.lower().endswith(".parquet")
    try:
        header = pl.read_parquet_schema(path) if parquet else pl.read_csv(path, n_rows=0, infer_schema=False).schema
        original = _lower_cased(table, list(header), wanted)
        if parquet:
            raw = pl.read_parquet(path, columns=list(original.values()))
        else:
            # as text: a typed reader would print the offending cell and stop at the first
            raw = pl.read_csv(path, columns=list(original.values()), infer_schema=False)
    except pl.exceptions.NoDataError:
        raise _damaged(table, path, "no header") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        # the reader's own message quotes cells; some damage makes it panic, which is no Exception
        raise _damaged(table, path, f"one that cannot be parsed ({type(error).__name__})") from None
    return raw.rename({v: k for k, v in original.items()}).select(wanted)


def _lower_cased(table: str, header: list[str], wanted: list[str]) -> dict[str, str]:
    """Lower-case name → name in the file, for the wanted columns."""
    by_name: dict[str, str] = {}
    for column in header:
        by_name.setdefault(column.strip().lower(), column)
    for name in wanted:
        if name not in by_name:
            raise SourceError(
                f"table '{table}'",
                f"a column '{name}'",
                f"none of that name; {nearest(name, by_name)}",
                "check the release of the records",
            )
    return {name: by_name[name] for name in wanted}


def _typed(table: str, column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Cast a column; count what cannot be cast."""
    if column.dtype == pl.String:
        column = column.str.strip_chars().replace("", None)
    typed = _cast(column, dtype)
    bad = typed.null_count() - column.null_count()
    if bad:
        raise SourceError(
            f"table '{table}', column '{column.name}'",
            _WORDS.get(dtype, str(dtype)),
            f"{bad} of {len(column)} cells of another form",
            "repair the raw file",
        )
    return typed


_WORDS: Final[dict[pl.DataType, str]] = {
    pl.Int64(): "whole numbers",
    pl.Float64(): "numbers",
    pl.Time(): "times of the form HH:MM:SS",
}


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Time() and column.dtype == pl.String:
        return column.str.to_time("%H:%M:%S", strict=False)
    if dtype == pl.Float64():
        numbers = column.cast(dtype, strict=False)
        return numbers.set(~numbers.is_finite(), None)
    if dtype == pl.Int64() and not column.dtype.is_integer():
        # tables that went through pandas hold "12.0" where a column has gaps
        numbers = column.cast(pl.Float64(), strict=False)
        whole = numbers.set((numbers != numbers.floor()) | ~numbers.is_finite(), None).cast(dtype, strict=False)
        exact = column.cast(dtype, strict=False) if column.dtype == pl.String else whole
        return exact.fill_null(whole)
    return column.cast(dtype, strict=False)


def _check_key(table: str, key: pl.Series) -> None:
    repeated = len(key) - key.n_unique()
    if repeated or key.null_count():
        raise SourceError(
            f"table '{table}', column '{key.name}'",
            "each identifier once, none missing",
            f"{repeated} repeated, {key.null_count()} missing",
            "remove the duplicate rows from the raw file",
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""Raw tables: find them in a read-only folder, read the columns asked for, say precisely what is wrong.

A table is read in blocks of about 8 MB of text: one thread unpacks, another parses the block before, the caller casts
the one before that. Memory does not depend on the table's size. Messages name tables, columns and counts. They never
show a cell, because a cell may be a patient's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from isal import isal_zlib

from mmnar import parquet
from mmnar.errors import RequirementError, SourceError, nearest
from mmnar.files import sha256_of
from mmnar.privacy import counted
from mmnar.sources.reading.blocks import AHEAD, BATCH_ROWS, NotWholeError, ahead, csv_blocks, parquet_blocks
from mmnar.sources.reading.cells import CellReader
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.packing import FormError, unpacked
from mmnar.sources.reading.visible import is_hidden, refuse_broken_links

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")

SIMULATED: Final = "SIMULATED.txt"
"""Lies in every release folder that ``mmnar simulate`` writes."""

_PIECE: Final = 1 << 16
"""Bytes read at once. What larger ones unpack to is memory that is fetched anew from the system each time."""


class DataRoot:
    """A folder of raw tables. Nothing is ever written to it.

    Args:
        path: Folder that holds ``TABLE.csv``, ``TABLE.csv.gz`` or ``TABLE.parquet`` in any letter case.
        folders: Subfolders to look into, e.g. ``("hosp", "icu")``.
        ledger: Counts cells that cannot be read; None = its own.
        blanks: Words that stand for an empty cell in columns of text.
        even: Hold every row of text against its header, for tables that people write.

    Raises:
        SourceError: The path is not a folder.
    """

    def __init__(
        self,
        path: str | Path,
        folders: tuple[str, ...] = ("",),
        ledger: Ledger | None = None,
        blanks: Sequence[str] = (),
        even: bool = False,
    ) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise SourceError(f"data root '{self.path}'", "a folder", "none", "give the folder with the raw tables")
        self._even = even
        self._all = [file for folder in folders for file in _visible(self.path / folder)]
        self._files = _tables(self._all)
        self._asked: dict[str, Path] = {}
        self._sha256: dict[str, str] = {}
        self._warnings: list[str] = []
        self.ledger = ledger or Ledger()
        self._cells = CellReader(self.ledger, blanks)

    @property
    def simulated(self) -> bool:
        """Whether the records say of themselves that they are of patients who do not exist."""
        return (self.path / SIMULATED).is_file()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Absent optional tables, in the order they were asked for."""
        return tuple(self._warnings)

    @property
    def tables(self) -> tuple[str, ...]:
        """Lower-case stems of the tables found."""
        return tuple(sorted(self._files))

    def has(self, table: str) -> bool:
        """Whether the table is there; letter case does not matter."""
        return table.lower() in self._files

    def file(self, table: str) -> Path:
        """Where a table lies that is there.

        Raises:
            SourceError: Several files are of that name, e.g. a half-unpacked one beside the packed one.
        """
        files = self._files[table.lower()]
        if len(files) > 1:
            twins = sum(len(of) > 1 for of in self._files.values()) - 1
            others = f"; so have {twins} more tables of the folder" if twins else ""
            raise SourceError(
                f"table '{table}'",
                "one file",
                " and ".join(str(file.relative_to(self.path)) for file in files) + others,
                "move away all but the whole one",
            )
        return files[0]

    def size(self, table: str) -> int:
        """Bytes on disk, 0 for a table that is absent.

        Raises:
            SourceError: As ``file``.
        """
        return self.file(table).stat().st_size if self.has(table) else 0

    def identity(self, table: str) -> str:
        """Hash of the file's name, size and time of change: known without reading it. "" for a table that is absent.

        The table counts as read in ``fingerprint``, so that a build which skips it is of the same data.
        """
        if not self.has(table):
            return ""
        path = self.file(table)
        self._asked[path.name] = path
        return hashlib.sha256(
            json.dumps([path.name, path.stat().st_size, path.stat().st_mtime_ns]).encode()
        ).hexdigest()

    def chunks(
        self,
        table: str,
        columns: Mapping[str, pl.DataType],
        required: bool = True,
        where: pl.Expr | None = None,
        optional: Collection[str] = (),
    ) -> Iterator[pl.DataFrame]:
        """Some columns of a table in blocks of about 8 MB of text; memory does not depend on its size.

        Args:
            table: Its name; letter case does not matter.
            columns: Lower-case column name → dtype. Blank strings become null, white space around text goes. Dates are
                year-month-day or month/day/year, with or without a time of day.
            required: Whether the table must be there.
            where: The rows wanted, said in terms of ``columns``. The other columns' cells of rows that are not wanted
                are not looked at, which saves half the time where few rows are wanted.
            optional: Columns that are null where the table lacks them; none that decides in ``where``.

        Returns:
            Blocks with the columns in the order asked for, in the order of the file. A table without rows gives one
            empty block, an absent optional table none.

        Raises:
            SourceError: The table is absent and required, empty, damaged, lacks a column, or holds a cell that is not
                of the column's dtype; but for absence, while the blocks are read.
        """
        if not self.has(table):
            self._note_absent(table, required)
            return iter(())
        path = self.file(table)
        self._asked[path.name] = path
        return self._typed_blocks(table, path, columns, where, optional)

    def read(
        self,
        table: str,
        columns: Mapping[str, pl.DataType],
        required: bool = True,
        key: str = "",
        optional: Collection[str] = (),
    ) -> pl.DataFrame | None:
        """Some columns of a small table, whole.

        Args:
            table, columns, required, optional: As in ``chunks``.
            key: Column whose values must be distinct and not null; "" = no such column.

        Returns:
            The columns in the order asked for, or None where an optional table is absent.

        Raises:
            SourceError: As in ``chunks``, or a key is repeated.
            RequirementError: The table does not fit into this machine's memory.
        """
        frames: list[pl.DataFrame] = []
        held = 0.0
        for frame in self.chunks(table, columns, required, optional=optional):
            frames.append(frame)
            held += frame.estimated_size()
            _check_room(table, held)
        if not frames:
            return None
        whole = pl.concat(frames)
        if key:
            _check_key(table, whole[key])
        return whole

    def fingerprint(self) -> str:
        """Hash of name, size and content of every file asked for so far."""
        records = []
        for name, path in sorted(self._asked.items()):
            if name not in self._sha256:
                self._sha256[name] = sha256_of(path)
            records.append([name, path.stat().st_size, self._sha256[name]])
        return hashlib.sha256(json.dumps(records).encode()).hexdigest()

    def _typed_blocks(
        self,
        table: str,
        path: Path,
        columns: Mapping[str, pl.DataType],
        where: pl.Expr | None,
        optional: Collection[str],
    ) -> Iterator[pl.DataFrame]:
        deciding = [] if where is None else where.meta.root_names()
        waiting: list[pl.DataFrame] = []

        def absent(frame: pl.DataFrame) -> list[str]:
            return [name for name in columns if name not in frame.columns]

        def cast() -> pl.DataFrame:
            wanted = pl.concat(waiting)
            waiting.clear()
            wanted = wanted.with_columns(pl.lit(None, pl.String).alias(name) for name in absent(wanted))
            return wanted.select(
                wanted[name] if name in deciding else self._cells.typed(table, wanted[name], dtype)
                for name, dtype in columns.items()
            )

        for block in ahead(self._blocks(table, path, columns, optional), AHEAD):
            self.ledger.saw(table, block.height)
            typed = block.with_columns(self._cells.typed(table, block[name], columns[name]) for name in deciding)
            wanted = typed if where is None else typed.filter(where)
            # a block with cells of another form was read as text: it cannot lie in one frame with numbers
            if waiting and waiting[-1].schema != wanted.schema:
                yield cast()
            waiting.append(wanted)
            # what few rows are left of a block is not worth a round of its own
            if where is None or sum(frame.height for frame in waiting) >= BATCH_ROWS:
                yield cast()
        if waiting:
            yield cast()
        self.ledger.judge(table)

    def _blocks(
        self, table: str, path: Path, columns: Mapping[str, pl.DataType], optional: Collection[str]
    ) -> Iterator[pl.DataFrame]:
        """The wanted columns under their lower-case names: as text or number from CSV, as they are from parquet."""
        try:
            if path.name.lower().endswith(".parquet"):
                yield from parquet_blocks(table, path, list(columns), optional)
            else:
                yield from csv_blocks(table, self._pieces(path), columns, optional, self._even)
        except (EOFError, isal_zlib.IsalError) as error:  # type: ignore[misc] # a class, whatever isal's stub says
            raise _damaged(table, path, f"a truncated or corrupt gzip ({type(error).__name__})") from None
        except FormError as error:
            words = "text in UTF-8, plain or packed with gzip, or Parquet"
            raise SourceError(f"table '{table}' ({path.name})", words, error.fact, error.remedy) from None
        except NotWholeError as error:
            raise _damaged(table, path, str(error)) from None
        except parquet.UnreadableError as error:
            raise _damaged(table, path, f"one that cannot be parsed ({error})") from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, csv.Error, OSError, ValueError) as error:
            # the reader's own message quotes cells; some damage makes it panic, which is no Exception
            raise _damaged(table, path, f"one that cannot be parsed ({type(error).__name__})") from None

    def _pieces(self, path: Path) -> Iterator[bytes]:
        """The file's text in pieces; its hash is taken on the way."""
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            with path.open("rb") as handle:
                while piece := handle.read(_PIECE):
                    digest.update(piece)
                    yield piece

        yield from unpacked(hashed(), path.name.lower().endswith(".gz"))
        self._sha256[path.name] = digest.hexdigest()

    def _note_absent(self, table: str, required: bool) -> None:
        if required:
            raise SourceError(
                f"table '{table}'",
                f"a file {' or '.join(table + s for s in SUFFIXES)} (any letter case) in '{self.path}'",
                self._instead(table),
                "check the data root",
            )
        other = self._otherwise_packed(table)
        there = f"; '{other}' is none of {', '.join(SUFFIXES)}: unpack or convert it" if other else ""
        self._warnings.append(f"table '{table}' is absent: its features are left out{there}")

    def _instead(self, table: str) -> str:
        other = self._otherwise_packed(table)
        if other:
            return f"'{other}'"
        return f"none; {nearest(table.lower(), self._files)}" if self._files else "no table at all"

    def _otherwise_packed(self, table: str) -> str:
        """Name of a file of that table that is none of ours, e.g. ``labevents.csv.zst``; "" = none."""
        return next((file.name for file in self._all if file.name.lower().partition(".")[0] == table.lower()), "")


def _tables(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Lower-case stem → the files of that table: one, unless somebody left another beside it."""
    found: dict[str, list[Path]] = {}
    for file in files:
        name = file.name.lower()
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                found.setdefault(name.removesuffix(suffix), []).append(file)
    return found


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    there = [path for path in sorted(folder.iterdir()) if not is_hidden(Path(path.name))]
    refuse_broken_links(folder, (path for path in there if path.name.lower().endswith(SUFFIXES)))
    return [path for path in there if path.is_file()]


def _damaged(table: str, path: Path, fact: str) -> SourceError:
    return SourceError(f"table '{table}' ({path.name})", "a whole, readable file", fact, "copy or download it again")


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_room(table: str, held: float) -> None:
    """Refuse to go on with a table that will not fit: once as read, once as events, once more while sorting."""
    if 3 * held > 0.8 * memory():
        raise RequirementError(
            f"table '{table}'",
            "one that fits into memory three times",
            f"more than {held / 2**30:.1f} GiB of {memory() / 2**30:.1f} GiB",
            "use a larger machine, or keep only the rows of the stays you need",
        )


def _check_key(table: str, key: pl.Series) -> None:
    repeated = len(key) - key.n_unique()
    if repeated or key.null_count():
        raise SourceError(
            f"table '{table}', column '{key.name}'",
            "each identifier once, none missing",
            f"{counted(repeated)} repeated, {counted(key.null_count())} missing or unreadable",
            "remove the duplicate rows from the raw file",
        )

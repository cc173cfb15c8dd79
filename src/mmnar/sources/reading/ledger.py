"""What was dropped, and why: counted by table and reason; and of which tables nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.files import read_sealed, write_sealed
from mmnar.privacy import SMALL_CELL, counted

_ENOUGH: Final = 100_000
"""Cells after which a column is judged before its table is read to the end."""


class Ledger:
    """Counts what is dropped, by table and reason.

    Kept on disk per table, so that a run that was killed and resumed tells the same as one that was not.

    Args:
        folder: Where the counts of finished tables are kept; None = nowhere, for records read into memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._cells: dict[tuple[str, str], _Cells] = {}
        self._rows: Counter[str] = Counter()
        self._events: Counter[str] = Counter()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, one line per table and reason; then the tables that tell nothing."""
        found = ((table, reason, count) for (table, reason), count in self._dropped.items() if count)
        dropped = (f"table '{table}': {counted(count)} {reason}" for table, reason, count in found)
        return (*dropped, *self._empty())

    def _empty(self) -> Iterator[str]:
        """A table that is there and empty is not one that is absent: nobody would miss what is lost."""
        for table, rows in self._rows.items():
            if not rows:
                yield f"table '{table}': no rows: there, but nothing is made of it"
            elif table in self._events and not self._events[table]:
                yield f"table '{table}': none of its rows becomes an event: nothing is made of it"

    def drop(self, table: str, count: int, reason: str) -> None:
        self._dropped[table, reason] += count

    def saw(self, table: str, rows: int) -> None:
        """Count rows of a table, wanted or not."""
        self._rows[table] += rows

    def made(self, table: str, events: int) -> None:
        """Count what was made of a table's rows."""
        self._events[table] += events

    def read(self, table: str, column: str, words: str, given: int, unread: int, compared: int = 0) -> None:
        """Count the cells of a column that were read.

        Args:
            table, column: Named in the counts.
            words: What its cells should be.
            given: Cells that are not blank.
            unread: Of these, cells of another form.
            compared: Of these, comparisons (``<``, ``>``).

        Raises:
            SourceError: Most of very many cells are of another form.
        """
        cells = self._cells.setdefault((table, column), _Cells(words))
        cells.given += given
        cells.unread += unread
        cells.compared += compared
        if cells.given >= _ENOUGH:
            _refuse_unreadable(table, column, cells)

    def judge(self, table: str) -> None:
        """Say of each column of a table that was read to its end how many cells could not be read.

        Raises:
            SourceError: Half of a column's cells or more.
        """
        for of, column in [key for key in self._cells if key[0] == table]:
            cells = self._cells.pop((of, column))
            _refuse_unreadable(table, column, cells)
            self.drop(table, cells.compared, f"cells of column '{column}' taken as unknown: comparisons (< or >)")
            others = cells.unread - cells.compared
            self.drop(table, others, f"cells of column '{column}' taken as unknown: not {cells.words}")

    def sift(self, table: str, frame: pl.DataFrame, checks: Mapping[str, pl.Series]) -> pl.DataFrame:
        """Rows that pass every check; each of the others is counted once, under the first check that it fails.

        Args:
            table: Named in the counts.
            frame: Rows.
            checks: Reason → whether each row passes, never null.
        """
        kept = pl.repeat(True, frame.height, eager=True)
        for reason, passes in checks.items():
            self.drop(table, int((kept & ~passes).sum()), reason)
            kept &= passes
        return frame if kept.all() else frame.filter(kept)

    def begin(self, table: str) -> None:
        """Forget what was counted for a table that is read again."""
        for key in [key for key in self._dropped if key[0] == table]:
            del self._dropped[key]
        self._cells = {key: cells for key, cells in self._cells.items() if key[0] != table}
        self._rows.pop(table, None)
        self._events.pop(table, None)

    def close(self, table: str, fingerprint: str) -> None:
        """Keep the counts of a table that was read to its end."""
        if self._folder is None:
            return
        counts = {reason: count for (name, reason), count in self._dropped.items() if name == table}
        self._folder.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"fingerprint": fingerprint, "dropped": counts}
        record |= {"rows": self._rows.get(table), "events": self._events.get(table)}
        write_sealed(self._folder / f"{table}.json", record)

    def recall(self, table: str, fingerprint: str) -> None:
        """Take over the counts of a table that an earlier run finished.

        Raises:
            StoreError: They are damaged.
        """
        path = None if self._folder is None else self._folder / f"{table}.json"
        if path is None or not path.is_file():
            return
        record = read_sealed(path, f"'{path}'", "remove the folder 'events' of the store, prepare again")
        if record.get("fingerprint") == fingerprint:
            for reason, count in record["dropped"].items():
                self._dropped[table, reason] = count
            for name, of in (("rows", self._rows), ("events", self._events)):
                if record[name] is not None:
                    of[table] = record[name]


@dataclass
class _Cells:
    words: str
    given: int = 0
    unread: int = 0
    compared: int = 0


def _refuse_unreadable(table: str, column: str, cells: _Cells) -> None:
    if cells.unread and 2 * cells.unread >= cells.given:
        compared = f", comparisons (< or >) among them: {counted(cells.compared)}" if cells.compared else ""
        raise SourceError(
            f"table '{table}', column '{column}'",
            cells.words,
            f"{_most(cells)} of another form{compared}",
            "write the column in that form",
        )


def _most(cells: _Cells) -> str:
    if cells.given < SMALL_CELL:
        return "most cells"
    return f"{counted(cells.unread)} of {counted(cells.given)} cells"

"""What was dropped, and why: counted by table and reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from mmnar.files import write_text
from mmnar.privacy import counted


class Ledger:
    """Counts what is dropped, by table and reason.

    Kept on disk per table, so that a run that was killed and resumed tells the same as one that was not.

    Args:
        folder: Where the counts of finished tables are kept; None = nowhere, for records read into memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._dropped: Counter[tuple[str, str]] = Counter()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, one line per table and reason."""
        found = ((table, reason, count) for (table, reason), count in self._dropped.items() if count)
        return tuple(f"table '{table}': {counted(count)} {reason}" for table, reason, count in found)

    def drop(self, table: str, count: int, reason: str) -> None:
        self._dropped[table, reason] += count

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

    def close(self, table: str, fingerprint: str) -> None:
        """Keep the counts of a table that was read to its end."""
        if self._folder is None:
            return
        counts = {reason: count for (name, reason), count in self._dropped.items() if name == table}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._folder / f"{table}.json", json.dumps({"fingerprint": fingerprint, "dropped": counts}))

    def recall(self, table: str, fingerprint: str) -> None:
        """Take over the counts of a table that an earlier run finished."""
        path = None if self._folder is None else self._folder / f"{table}.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}
        if record.get("fingerprint") == fingerprint:
            for reason, count in record["dropped"].items():
                self._dropped[table, reason] = count

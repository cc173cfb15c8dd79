"""Events of a few subjects in memory, read as a MEDS data set is; nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from mmnar.sources.events import Events
from mmnar.sources.reading.merging import distinct
from mmnar.sources.reading.shards import REPEATS, in_words


@dataclass(frozen=True)
class GivenEvents:
    """Events as a ``DataFile`` has them.

    Args:
        frame: Columns of ``EVENT_SCHEMA`` but for ``source``, in order of subject and time, static ones first.
    """

    frame: pl.DataFrame
    subject: str = "events"
    sha256: str = ""
    unread: tuple[str, ...] = ()

    def blocks(self) -> Iterator[pl.DataFrame]:
        """One block: everything."""
        yield self.frame


def events_in_memory(frames: Iterable[pl.DataFrame]) -> tuple[Events, tuple[str, ...]]:
    """What an event folder of these frames would hold, and what was dropped, in words."""
    whole, repeats = distinct(pl.concat(frames))
    return Events(whole, "subject"), in_words({(table, REPEATS): count for table, count in repeats.items()})

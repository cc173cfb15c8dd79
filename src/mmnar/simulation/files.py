"""Raw tables as files: real headers in the real order, equal bytes for equal content."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import SourceError
from mmnar.sources.reading.raw import SIMULATED

Times = NDArray[np.datetime64]
Minutes = NDArray[np.timedelta64]
Ids = NDArray[np.int64]

_LEVEL = 4  # of gzip: two thirds of the time of level 6, a tenth more bytes


def frame(columns: tuple[str, ...], values: Mapping[str, Any]) -> pl.DataFrame:
    """The given columns in the release's order; columns without values are empty.

    Raises:
        KeyError: ``values`` names a column that the release does not have.
    """
    unknown = set(values) - set(columns)
    if unknown:
        raise KeyError(f"no such columns: {sorted(unknown)}")
    made = pl.DataFrame(dict(values))
    empty = [pl.lit(None, pl.String).alias(name) for name in columns if name not in values]
    return made.with_columns(empty).select(columns)


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a ``.csv.gz`` whose bytes depend on the table alone (no time of writing, no name)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = table.write_csv(datetime_format="%Y-%m-%d %H:%M:%S", date_format="%Y-%m-%d")
    path.write_bytes(gzip.compress(text.encode(), _LEVEL, mtime=0))


def mark_simulated(release: Path) -> None:
    """Let no one take a release folder for the real one."""
    (release / SIMULATED).write_text("These patients do not exist: made by mmnar simulate.\n", encoding="utf-8")


def minutes(rng: np.random.Generator, n: int, low: float, high: float) -> Minutes:
    """(n,) durations of ``low`` to ``high`` minutes."""
    return duration(rng.integers(round(low), round(high), size=n, endpoint=True))


def duration(count: NDArray[Any]) -> Minutes:
    """Minutes as timedelta64[us]; fractions are rounded to whole minutes."""
    made: Minutes = (np.rint(count).astype(np.int64) * 60_000_000).astype("timedelta64[us]")
    return made


def in_minutes(length: Minutes) -> NDArray[np.float64]:
    found: NDArray[np.float64] = length / np.timedelta64(1, "m")
    return found


def subject_ids(rng: np.random.Generator, n: int, seed: int) -> Ids:
    """(n,) ascending numbers of eight digits, equal to ``seed`` modulo 97: seeds have no patient in common."""
    return _spread(rng, n, 10_000_000, 9_999_000, 97) + seed % 97


def shuffled_ids(rng: np.random.Generator, n: int, first: int, room: int = 9_999_999) -> Ids:
    """(n,) distinct ids of ``first`` … ``first + room`` whose order says nothing."""
    return rng.permutation(_spread(rng, n, first, room, 1))


def _spread(rng: np.random.Generator, n: int, first: int, room: int, step: int) -> Ids:
    """(n,) distinct, ascending, ``first`` plus multiples of ``step``, one at a random place of each equal gap."""
    gap = room // step // max(n, 1)
    if gap < 1:
        raise SourceError("simulated records", f"at most {room // step:,} rows of a kind", f"{n:,}", "ask for fewer")
    return first + step * (np.arange(n) * gap + rng.integers(gap, size=n))

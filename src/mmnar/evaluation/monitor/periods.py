"""Calendar periods of a log, by the clock of UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError

Int = NDArray[np.int64]

A_YEAR: Final = {"week": 53, "month": 12, "quarter": 4}
"""Kind of period → how many may end in one calendar year."""
_UNIX: Final = 3
"""Days from the Monday before 1970 to 1970."""


@dataclass(frozen=True)
class Period:
    """
    Args:
        start, end: Microseconds since 1970; the end is the next one's start.
    """

    name: str
    start: int
    end: int

    def holds(self, time: Int) -> NDArray[np.bool_]:
        """(n,) which moments lie in it."""
        return (time >= self.start) & (time < self.end)


def periods(first: int, last: int, every: str) -> tuple[Period, ...]:
    """Every period from the moment ``first`` to ``last``, in microseconds since 1970, those without a line too.

    Raises:
        ConfigError: Another kind of period.

    >>> [p.name for p in periods(1767225600_000_000, 1772323200_000_000, "month")]
    ['2026-01', '2026-02', '2026-03']
    >>> [p.name for p in periods(1767225600_000_000, 1767225600_000_000, "week")]
    ['2026-W01']
    >>> [p.name for p in periods(1767225600_000_000, 1775001600_000_000, "quarter")]
    ['2026-Q1', '2026-Q2']
    """
    if every not in A_YEAR:
        raise ConfigError("--every", ", ".join(A_YEAR), f"'{every}'", "choose one of them")
    days = np.array([first, last]).astype("datetime64[us]").astype("datetime64[D]")
    if every == "week":
        numbers = (days.astype(np.int64) + _UNIX) // 7
        starts = ((np.arange(numbers[0], numbers[1] + 2) * 7) - _UNIX).astype("datetime64[D]")
    else:
        length = 3 if every == "quarter" else 1
        numbers = days.astype("datetime64[M]").astype(np.int64) // length
        starts = (np.arange(numbers[0], numbers[1] + 2) * length).astype("datetime64[M]").astype("datetime64[D]")
    edges = starts.astype("datetime64[us]").astype(np.int64).tolist()
    return tuple(
        Period(_name(day, every), start, end) for day, start, end in zip(starts, edges, edges[1:], strict=False)
    )


def _name(start: np.datetime64, every: str) -> str:
    day = start.astype(object)
    if every == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02d}"
    return f"{day.year}-Q{(day.month + 2) // 3}" if every == "quarter" else f"{day.year}-{day.month:02d}"

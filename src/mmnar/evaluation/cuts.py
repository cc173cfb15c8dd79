"""Which thresholds may be shown: between any two that are lie ten patients with the event and ten without.

Figures at a threshold tell how many patients with and without the event are above it, and those at two thresholds how
many lie between. The corners of a model's curves are made to include its thresholds (``curves.pieces``), so that no
pair of any of them tells a small count.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmnar.privacy import BESIDE, BETWEEN, BY_GROUP, FEW_OUTCOMES, SMALL_CELL, few

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class Sides:
    """How many distinct patients with and without the event lie in a stretch of rows sorted by falling risk."""

    def __init__(self, y: Float, subject: Int) -> None:
        self.subject, self.event = subject, y == 1
        self.events = np.concatenate([[0], np.cumsum(self.event)])
        most = int(np.bincount(subject).max(initial=0))
        self.surely = SMALL_CELL * max(most, 1)

    def enough(self, start: int, stop: int) -> bool:
        """Whether ten patients have the event there and ten do not."""
        events = int(self.events[stop] - self.events[start])
        rows = (events, stop - start - events)
        if min(rows) < SMALL_CELL:
            return False
        if min(rows) >= self.surely:
            return True
        subject, event = self.subject[start:stop], self.event[start:stop]
        return min(len(np.unique(subject[event])), len(np.unique(subject[~event]))) >= SMALL_CELL


@dataclass(frozen=True, eq=False)
class Beside:
    """A rectified model's base, whose figures stand beside it: what is told of both must not tell of few either.

    Args:
        p: (n,) its risks.
        thresholds: At which its figures are shown.
    """

    p: Float
    thresholds: tuple[float, ...]

    def orders_like(self, p: Float) -> bool:
        """Whether it ranks everybody alike: every cut of one is then a cut of the other."""
        mine, theirs = (np.unique(of, return_inverse=True)[1] for of in (self.p, p))
        return bool(np.array_equal(mine, theirs))

    def tells_of_few(self, above: NDArray[np.bool_], y: Float, subject: Int, alike: bool) -> bool:
        """Whether those above a threshold, less those above one of the base's, or the other way round, are few.

        Args:
            alike: The two rank alike: then it must be one of the base's cuts, or what lies between it and a corner of
                the base's curves might be few.
        """
        cuts = [self.p >= t for t in self.thresholds]
        if alike:
            return not any(np.array_equal(above, cut) for cut in cuts)
        return any(_few(side & (y == of), subject) for c in cuts for side in (above & ~c, c & ~above) for of in (0, 1))


def _few(rows: NDArray[np.bool_], subject: Int) -> bool:
    return few(len(np.unique(subject[rows])))


def withheld(
    p: Float,
    y: Float,
    subject: Int,
    thresholds: Sequence[float],
    row: Int | None = None,
    beside: Beside | None = None,
) -> list[str]:
    """Why each threshold's figures are not shown, "" where they are; earlier ones are served first.

    A threshold that parts the same patients as one already shown, or nobody, tells nothing new.

    Args:
        p, y, subject: (n,) risk, outcome, patient.
        row: (n,) row of the table by group, where the model gives everybody of a group one risk: none may be parted.
        beside: Of a rectified model.
    """
    order = np.argsort(-p, kind="stable")
    risks, sides, n = -p[order], Sides(y[order], subject[order]), len(p)
    if not sides.enough(0, n):
        return [FEW_OUTCOMES] * len(thresholds)
    shown, found = [0, n], []
    alike = beside is not None and beside.orders_like(p)
    for t in thresholds:
        at = int(np.searchsorted(risks, -t, side="right"))
        if at in shown:
            found.append("")
            continue
        i = bisect.bisect(shown, at)
        if not (sides.enough(shown[i - 1], at) and sides.enough(at, shown[i])):
            found.append(BETWEEN)
        elif row is not None and _parts(p >= t, row):
            found.append(BY_GROUP)
        elif beside is not None and beside.tells_of_few(p >= t, y, subject, alike):
            found.append(BESIDE)
        else:
            shown.insert(i, at)
            found.append("")
    return found


def stretches(p: Float, thresholds: Sequence[float]) -> Int:
    """(n,) how many of the thresholds each risk is below: 0 for the highest risks."""
    return np.asarray(len(thresholds) - np.searchsorted(np.sort(np.asarray(thresholds)), p, side="right"))


def _parts(above: NDArray[np.bool_], row: Int) -> bool:
    """Whether some row has patients on both sides."""
    size, over = np.bincount(row), np.bincount(row, above)
    return bool(((over > 0) & (over < size)).any())

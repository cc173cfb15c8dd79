"""Average ranks of methods over blocks, and how far apart two must be (Demšar 2006, JMLR 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Ranks:
    """Average ranks, 1 = best.

    Args:
        names: Methods, best first.
        average: Their average ranks.
        blocks: How many blocks were ranked.
        friedman_p: Of Friedman's test that all methods rank alike; None where it cannot be made.
        critical_difference: Nemenyi's at .05: two averages nearer than this are not told apart; None likewise.
    """

    names: tuple[str, ...]
    average: tuple[float, ...]
    blocks: int
    friedman_p: float | None
    critical_difference: float | None

    def groups(self) -> tuple[tuple[int, int], ...]:
        """First and last place of each longest run of methods that are not told apart (two or more)."""
        if self.critical_difference is None:
            return ()
        runs: list[tuple[int, int]] = []
        for i, low in enumerate(self.average):
            last = max(j for j, high in enumerate(self.average) if high - low <= self.critical_difference)
            if last > i and (not runs or last > runs[-1][1]):
                runs.append((i, last))
        return tuple(runs)


def average_ranks(table: Mapping[str, Sequence[float]], higher_is_better: bool) -> Ranks:
    """Rank methods within each block (ties share the mean rank) and average.

    Blocks (task × fold of a data set) share training patients, so the test is a description, not a proof: with k
    methods and n blocks, χ²_F as in scipy, CD = q_{.05, k, ∞} √(k(k + 1) / 6n) with q of the studentised range / √2.

    Args:
        table: Method → its metric in each block; blocks with a value that is not finite are left out.
        higher_is_better: Of the metric.

    >>> ranks = average_ranks({"a": [.9, .8, .9], "b": [.7, .7, .7], "c": [.6, .7, .5]}, True)
    >>> ranks.names, [round(r, 2) for r in ranks.average]
    (('a', 'b', 'c'), [1.0, 2.17, 2.83])
    """
    names = list(table)
    values = np.array([table[name] for name in names], dtype=np.float64).reshape(len(names), -1)
    values = values[:, np.isfinite(values).all(0)]
    n, k = values.shape[1], len(names)
    ranks = stats.rankdata(-values if higher_is_better else values, axis=0)
    average = ranks.mean(1) if n else np.full(k, np.nan)
    order = np.argsort(average, kind="stable")
    told_apart = n >= 2 and k >= 3 and bool(np.ptp(ranks) > 0)
    p = float(stats.friedmanchisquare(*values).pvalue) if told_apart else None
    q = stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2) if k >= 2 else 0.0
    difference = float(q * np.sqrt(k * (k + 1) / (6 * n))) if n >= 2 and k >= 2 else None
    return Ranks(
        tuple(names[i] for i in order),
        tuple(float(average[i]) for i in order),
        n,
        p,
        difference,
    )

"""Curves of a report: ROC, precision-recall, reliability, in pieces of which none tells a small count.

The three curves of a model, and the bars of its risks, have their corners at the same risks, among them the thresholds
at which it is judged. Between two corners lie at least ten patients with the event and ten without: from the slope of a
piece and the totals follows no smaller count. Corners that no threshold makes lie at least a fiftieth of either apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.cuts import stretches
from mmnar.evaluation.decided import RiskBin
from mmnar.evaluation.result import Curve
from mmnar.privacy import SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]

PIECES: Final = 50
"""At most; more cannot be seen."""
BINS: Final = 10
DIGITS: Final = 4
Z95: Final = 1.959963984540054


@dataclass(frozen=True)
class Curves:
    """What is drawn of a model on a task; None where there are too few events or non-events for two pieces."""

    roc: Curve | None = None
    pr: Curve | None = None
    calibration: Curve | None = None
    risks: tuple[RiskBin, ...] = ()


def curves(
    y: Float,
    p: Float,
    fold: Int,
    subject: Int,
    row: Int | None = None,
    thresholds: Sequence[float] = (),
    stretch: Int | None = None,
) -> Curves:
    """ROC, precision-recall and reliability of n rows, and where the risks of those with and without the event lie.

    Over several folds, whose models are not comparable, corners lie at the same share of each fold's patients and rates
    are those of all folds together (threshold averaging, Fawcett 2006).

    Args:
        y, p, fold, subject: (n,) outcome, risk, fold, patient.
        row: (n,) row of the table by group, where the model gives everybody of a group one risk. The groups that share
            a row there share their mean risk here, or a piece minus a row would tell a small count.
        thresholds: Risks at which figures of the model are shown (``cuts.withheld``).
        stretch: (n,) corners lie where it changes, too; default: at the thresholds.
    """
    stretch = stretches(p, thresholds) if stretch is None else stretch
    if row is not None:
        p = row_means(p, row)
        fold = np.zeros_like(fold)
    by_risk = pieces(p, y, subject, stretch)
    # ranks within several folds are not in the order of the risks, and thresholds no corners of theirs
    piece = pieces(_rank_share(p, fold), y, subject) if np.any(fold != fold[:1]) else by_risk
    last = int(piece.max(initial=0))
    if last < 1:
        return Curves()
    events, n = np.bincount(piece, y), np.bincount(piece).astype(np.float64)
    hit, seen = np.cumsum(events), np.cumsum(n)
    recall, false = hit / hit[-1], (seen - hit) / (seen - hit)[-1]
    precision = hit / seen
    return Curves(
        roc=_curve([0.0, *false], [0.0, *recall]),
        pr=_curve([0.0, *recall], [precision[0], *precision]),
        calibration=_reliability(piece, y, p),
        risks=_risks(by_risk, y, p, thresholds),
    )


def pieces(score: Float, y: Float, subject: Int, stretch: Int | None = None) -> Int:
    """(n,) piece of each row, 0 = the highest scores; equal scores are never parted.

    A piece is closed as soon as it holds enough patients with the event and enough without; what is left over joins the
    last one closed of its stretch.

    Args:
        stretch: (n,) falling as the score rises, each with ten patients with the event and ten without: pieces end
            where it does.
    """
    least = [max(SMALL_CELL, -(-len(np.unique(subject[y == side])) // PIECES)) for side in (1, 0)]
    stretch = np.zeros(len(score), dtype=np.int64) if stretch is None else stretch
    found, before = np.zeros(len(score), dtype=np.int64), 0
    for k in np.unique(stretch):
        mine = np.flatnonzero(stretch == k)
        found[mine] = before + _closed(score[mine], y[mine], subject[mine], least)
        before = int(found[mine].max()) + 1
    return found


def _closed(score: Float, y: Float, subject: Int, least: Sequence[int]) -> Int:
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    found = np.zeros(len(score), dtype=np.int64)
    seen: tuple[set[int], set[int]] = (set(), set())
    number = 0
    for tie in np.split(order, starts[1:]):
        found[tie] = number
        for side in (1, 0):
            seen[1 - side].update(subject[tie[y[tie] == side]].tolist())
        if all(len(who) >= need for who, need in zip(seen, least, strict=True)):
            number, seen = number + 1, (set(), set())
    return np.minimum(found, max(number - 1, 0))


def row_means(p: Float, row: Int) -> Float:
    """(n,) mean risk of each row's row of the table."""
    return np.asarray((np.bincount(row, p) / np.maximum(np.bincount(row), 1))[row])


def _rank_share(p: Float, fold: Int) -> Float:
    """(n,) share of its fold with a lower risk, ties in the middle."""
    share = np.empty_like(p)
    for k in np.unique(fold):
        mine = fold == k
        ordered = np.sort(p[mine])
        rank = np.searchsorted(ordered, p[mine], side="left") + np.searchsorted(ordered, p[mine], side="right")
        share[mine] = rank / (2 * len(ordered))
    return share


def _bins(piece: Int) -> Int:
    """(n,) about ten bins of equal size, whole pieces each, from the lowest risk."""
    size = np.bincount(piece)
    middle = (np.cumsum(size) - size / 2) / size.sum()
    return np.asarray(np.minimum((BINS * (1 - middle)).astype(np.int64), BINS - 1)[piece])


def _reliability(piece: Int, y: Float, p: Float) -> Curve:
    """Observed rate over mean risk with Wilson's (1927) 95 % interval, from the lowest risk, bin by bin. The interval
    takes rows as independent.
    """
    bins = _bins(piece)
    points = []
    for b in np.unique(bins):
        rows = bins == b
        n, rate = int(rows.sum()), float(y[rows].mean())
        centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        half = Z95 / (1 + Z95**2 / n) * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2))
        points.append((float(p[rows].mean()), rate, max(0.0, centre - float(half)), min(1.0, centre + float(half))))
    return _curve(*zip(*points, strict=True))


def _risks(piece: Int, y: Float, p: Float, thresholds: Sequence[float]) -> tuple[RiskBin, ...]:
    """The same bins, from a risk to a risk, as shares of those with and of those without the event."""
    bins = _bins(piece)
    rows = [bins == b for b in np.unique(bins)]
    edges = [0.0, *(_edge(p[a].max(), p[b].min(), thresholds) for a, b in pairwise(rows)), 1.0]
    events, others = y.sum(), (1 - y).sum()
    shares = [(float(y[r].sum() / events), float((1 - y[r]).sum() / others)) for r in rows]
    return tuple(RiskBin(a, b, *of) for (a, b), of in zip(pairwise(edges), shares, strict=True))


def _edge(below: float, above: float, thresholds: Sequence[float]) -> float:
    """A risk that parts two bins: a threshold, if one does."""
    between = [t for t in thresholds if below < t <= above]
    middle = float(below + above) / 2
    return next(
        (e for e in (*between, round(middle, 2), round(middle, 3)) if below < e <= above), round(middle, DIGITS)
    )


def _curve(*columns: Float | list[float] | tuple[float, ...]) -> Curve:
    return Curve(*(tuple(round(float(v), DIGITS) for v in column) for column in columns))

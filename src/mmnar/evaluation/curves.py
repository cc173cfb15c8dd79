"""Curves of a report: ROC, precision-recall, reliability. Coarse on purpose: no point belongs to one patient."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.result import Curve
from mmnar.privacy import SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]

GRID: Final = np.linspace(0, 1, 101)
BINS: Final = 10
Z95: Final = 1.959963984540054


def roc_curve(y: Float, p: Float, fold: Int) -> Curve | None:
    """True positive rate at 101 false positive rates, the mean over folds; None where a fold lacks a class."""
    curves = []
    for k in np.unique(fold):
        positive, negative = _counts(y[fold == k], p[fold == k])
        if not positive[-1] or not negative[-1]:
            return None
        curves.append(np.interp(GRID, negative / negative[-1], positive / positive[-1]))
    return _mean_curve(curves)


def pr_curve(y: Float, p: Float, fold: Int) -> Curve | None:
    """Precision at the smallest recall >= each of 101, the mean over folds; None where a fold lacks a class."""
    curves = []
    for k in np.unique(fold):
        positive, negative = _counts(y[fold == k], p[fold == k])
        if not positive[-1] or not negative[-1]:
            return None
        recall, precision = positive[1:] / positive[-1], positive[1:] / (positive[1:] + negative[1:])
        curves.append(precision[np.searchsorted(recall, GRID - 1e-12)])
    return _mean_curve(curves)


def calibration_curve(y: Float, p: Float, subject: Int) -> Curve | None:
    """Observed rate over mean risk in 10 bins of equal size, with Wilson's (1927) 95 % interval.

    Bins of fewer than 10 patients are left out; None if none is left. The interval takes rows as independent.
    """
    rank = np.searchsorted(np.sort(p), p, side="left") + np.searchsorted(np.sort(p), p, side="right")
    bins = np.minimum(BINS * rank // max(2 * len(p), 1), BINS - 1)
    points = []
    for b in range(BINS):
        rows = bins == b
        n = int(rows.sum())
        if len(np.unique(subject[rows])) < SMALL_CELL:
            continue
        rate = float(y[rows].mean())
        centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        half = Z95 / (1 + Z95**2 / n) * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2))
        points.append((float(p[rows].mean()), rate, max(0.0, centre - float(half)), min(1.0, centre + float(half))))
    if not points:
        return None
    x, observed, low, high = (tuple(column) for column in zip(*points, strict=True))
    return Curve(x, observed, low, high)


def _counts(y: Float, p: Float) -> tuple[Float, Float]:
    """Events and non-events at or above each distinct risk, from the highest; starts at (0, 0)."""
    order = np.argsort(-p, kind="stable")
    last = np.append(p[order][1:] != p[order][:-1], True)
    positive = np.cumsum(y[order])[last]
    total = np.flatnonzero(last) + 1.0
    return np.concatenate([[0.0], positive]), np.concatenate([[0.0], total - positive])


def _mean_curve(curves: list[Float]) -> Curve | None:
    if not curves:
        return None
    return Curve(tuple(GRID.tolist()), tuple(np.mean(curves, axis=0).tolist()))

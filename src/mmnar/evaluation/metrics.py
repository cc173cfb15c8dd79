"""Metrics under weights, in float64: a bootstrap is then a re-weighting and nothing is ever sorted twice.

A ``Metric`` is prepared once for N rows and called with (N, B) weights, giving B values; a value is NaN where its
resample lacks a class. The plain functions (``auroc(y, p)``) refuse instead, with the reason.

Throughout: y_i outcome, p_i risk, w_i weight, ``W = Σ w_i``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmnar.errors import MmnarError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

LOG_CLIP: Final = 1e-15
"""Risks are kept this far from 0 and 1 in a logarithm: one certain and wrong risk costs 34.5 nats, not infinity."""
ECE_BINS: Final = 10


class UndefinedMetricError(MmnarError):
    """A metric of rows that do not define it."""


def refusal(y: Float, w: Float | None = None) -> str:
    """Why no metric is computed on these rows, or "".

    >>> refusal(np.array([0., 0.])), refusal(np.array([0., 1.])), refusal(np.array([]))
    ('no events', '', 'no rows')
    """
    weighed = y if w is None else y[w > 0]
    if len(weighed) == 0:
        return "no rows"
    if not weighed.any():
        return "no events"
    if weighed.all():
        return "only events"
    return ""


class Metric(ABC):
    """A metric prepared for N rows."""

    @abstractmethod
    def __call__(self, W: Float) -> Float:
        """(B,) values under (N, B) weights."""


class _Sorted:
    """N rows in the order of ``keys``, ties joined: what every rank metric shares."""

    def __init__(self, *keys: Float | Int) -> None:
        # lexsort's last key is the primary one
        self.order = np.lexsort(keys[::-1])
        ranked = [k[self.order] for k in keys]
        new = np.ones(len(self.order), dtype=bool)
        if len(new):
            new[1:] = np.any([k[1:] != k[:-1] for k in ranked], axis=0)
        self.starts = np.flatnonzero(new)
        self.tied = len(self.starts) < len(self.order)

    def join(self, values: Float) -> Float:
        """(T, B) sums over ties of (N, B) values that are already in order."""
        return np.add.reduceat(values, self.starts, axis=0) if self.tied else values


class Auroc(Metric):
    """``Σ_ij w_i w_j y_i (1−y_j) [1{p_i > p_j} + ½ 1{p_i = p_j}] / Σ_ij w_i w_j y_i (1−y_j)``: Mann-Whitney, ties half.

    y may be true risks instead of outcomes; the pair (i, i), impossible for outcomes, is then left out.

    Args:
        y, p: (N,).
        stratum: (N,) Only pairs of equal stratum count, if given (e.g. rows of the same fold).
    """

    def __init__(self, y: Float, p: Float, stratum: Int | None = None) -> None:
        self.sorted = _Sorted(p) if stratum is None else _Sorted(stratum, p)
        self.y = y[self.sorted.order][:, None]
        self.soft = self.y * (1 - self.y) if np.any((y != 0) & (y != 1)) else None
        self.blocks: Int | None = None
        if stratum is not None:
            s = stratum[self.sorted.order][self.sorted.starts]
            self.blocks = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]])) if len(s) else s

    def pairs(self, W: Float) -> tuple[Float, Float]:
        """(B,) weight of the pairs in the right order, and of all pairs."""
        W = W[self.sorted.order]
        positive = W * self.y
        P, N = self.sorted.join(positive), self.sorted.join(W - positive)
        below = np.cumsum(N, axis=0) - N
        if self.blocks is None:
            total = P.sum(axis=0) * N.sum(axis=0)
        else:
            sizes = np.diff(np.append(self.blocks, len(N)))
            below -= np.repeat(below[self.blocks], sizes, axis=0)
            total = np.einsum(
                "sb,sb->b", np.add.reduceat(P, self.blocks, axis=0), np.add.reduceat(N, self.blocks, axis=0)
            )
        right = np.einsum("nb,nb->b", P, below + 0.5 * N)
        if self.soft is not None:
            itself = (W * self.soft).sum(axis=0)
            right, total = right - 0.5 * itself, total - itself
        return right, total

    def __call__(self, W: Float) -> Float:
        return ratio(*self.pairs(W))


class AveragePrecision(Metric):
    """``Σ_k (R_k − R_{k−1}) P_k`` over the distinct risks in falling order; R recall, P precision at risk >= the k-th.

    The step-wise area under the precision-recall curve, without interpolation (Davis & Goadrich 2006).
    """

    def __init__(self, y: Float, p: Float) -> None:
        self.sorted = _Sorted(-p)
        self.y = y[self.sorted.order][:, None]

    def __call__(self, W: Float) -> Float:
        W = W[self.sorted.order]
        P, A = self.sorted.join(W * self.y), self.sorted.join(W)
        precision = ratio(np.cumsum(P, axis=0), np.cumsum(A, axis=0))
        return ratio(np.einsum("nb,nb->b", P, np.nan_to_num(precision)), P.sum(axis=0))


class Mean(Metric):
    """``Σ w_i x_i / W`` of (N,) values x: Brier score, log loss, rates."""

    def __init__(self, x: Float) -> None:
        self.x = x

    def __call__(self, W: Float) -> Float:
        return ratio(self.x @ W, W.sum(axis=0))


class Ece(Metric):
    """``Σ_k |Σ_{i in k} w_i (y_i − p_i)| / W`` over 10 bins of equal weight in the order of p.

    Expected calibration error (Naeini et al. 2015) with equal-mass bins. A row is in bin ``⌊10 c/W⌋``, c the weight
    below its risk plus half the weight at it, so that ties share a bin and the order of rows does not matter. It is
    biased upwards in small samples, and more so in every resample.
    """

    def __init__(self, y: Float, p: Float) -> None:
        self.sorted = _Sorted(p)
        self.residual = (y - p)[self.sorted.order][:, None]

    def __call__(self, W: Float) -> Float:
        W = W[self.sorted.order]
        R, A = self.sorted.join(W * self.residual), self.sorted.join(W)
        B, total = W.shape[1], A.sum(axis=0)
        middle = np.cumsum(A, axis=0) - 0.5 * A
        bins = np.minimum(np.nan_to_num(ECE_BINS * ratio(middle, total)), ECE_BINS - 1).astype(np.int64)
        cell = bins + ECE_BINS * np.arange(B)
        sums = np.bincount(cell.reshape(-1), R.reshape(-1), ECE_BINS * B).reshape(B, ECE_BINS)
        return ratio(np.abs(sums).sum(axis=1), total)


class Difference(Metric):
    """``a − b`` under the same weights."""

    def __init__(self, a: Metric, b: Metric) -> None:
        self.a, self.b = a, b

    def __call__(self, W: Float) -> Float:
        return self.a(W) - self.b(W)


class Average(Metric):
    """``(a + b) / 2`` under the same weights."""

    def __init__(self, a: Metric, b: Metric) -> None:
        self.a, self.b = a, b

    def __call__(self, W: Float) -> Float:
        return (self.a(W) + self.b(W)) / 2


class FoldMean(Metric):
    """The mean over folds of a metric within each: risks of different models are never ranked against each other."""

    def __init__(self, prepare: Callable[..., Metric], fold: Int, *columns: NDArray[Any]) -> None:
        self.parts = []
        for k in np.unique(fold):
            rows = np.flatnonzero(fold == k)
            self.parts.append((rows, prepare(*(c[rows] for c in columns))))

    def __call__(self, W: Float) -> Float:
        if len(self.parts) == 1:
            return self.parts[0][1](W)
        return np.asarray(np.mean([metric(W[rows]) for rows, metric in self.parts], axis=0))


def brier_terms(y: Float, p: Float) -> Float:
    """(N,) ``(p − y)²``."""
    return np.asarray((p - y) ** 2)


def log_terms(y: Float, p: Float) -> Float:
    """(N,) ``−y log p − (1−y) log(1−p)``, p clipped to [1e-15, 1 − 1e-15]."""
    q = np.clip(p, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(-y * np.log(q) - (1 - y) * np.log1p(-q))


def brier_metric(y: Float, p: Float) -> Metric:
    return Mean(brier_terms(y, p))


def log_loss_metric(y: Float, p: Float) -> Metric:
    return Mean(log_terms(y, p))


METRICS: Final[dict[str, Callable[[Float, Float], Metric]]] = {
    "auroc": Auroc,
    "auprc": AveragePrecision,
    "brier": brier_metric,
    "log_loss": log_loss_metric,
    "ece": Ece,
}
HIGHER_IS_BETTER: Final = ("auroc", "auprc")
"""Of ``METRICS``; the others are losses."""


def auroc(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve, see ``Auroc``.

    >>> auroc([0, 1, 0, 1], [.1, .4, .4, .8])
    0.875
    >>> auroc([0, 0], [.1, .4])
    Traceback (most recent call last):
    mmnar.evaluation.metrics.UndefinedMetricError: auroc: expected both classes, got no events; show counts only
    """
    return _value("auroc", y, p, weights)


def average_precision(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the precision-recall curve, see ``AveragePrecision``.

    >>> round(average_precision([0, 1, 0, 1], [.1, .4, .35, .8]), 3)
    1.0
    """
    return _value("auprc", y, p, weights)


def brier(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """``Σ w (p − y)² / W`` (Brier 1950).

    >>> round(brier([0, 1], [.1, .6]), 3)
    0.085
    """
    return _value("brier", y, p, weights)


def log_loss(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """``Σ w [−y log p − (1−y) log(1−p)] / W`` in nats; p clipped to [1e-15, 1 − 1e-15].

    >>> round(log_loss([0, 1], [.5, .5]), 3)
    0.693
    """
    return _value("log_loss", y, p, weights)


def ece(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Expected calibration error, see ``Ece``.

    >>> round(ece([0, 1, 0, 1], [.5, .5, .25, .25]), 3)
    0.125
    """
    return _value("ece", y, p, weights)


def _value(name: str, y: ArrayLike, p: ArrayLike, weights: ArrayLike | None) -> float:
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    reason = refusal(y, w)
    if reason:
        raise UndefinedMetricError(name, "both classes", reason, "show counts only")
    return float(METRICS[name](y, p)(w[:, None])[0])


def ratio(a: Float, b: Float) -> Float:
    """a / b, NaN where b is 0 (a sum of weights that no row of this resample has)."""
    return np.asarray(np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0))

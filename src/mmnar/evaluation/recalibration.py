"""Whether risks mean what they say: calibration slope, intercept, O:E, a smooth curve, and distances from it.

With l the log odds of a risk, kept within ± 13.8 (one in a million):

    slope b of            logit P(y) = a + b l            (Cox 1958)
    intercept a of        logit P(y) = a + l
    O:E                   Σ w y / Σ w p
    smooth curve c(p)     logit P(y) = a restricted cubic spline of l (Harrell 2015, knots at his quantiles)
    ICI, E50, E90         mean, median, 90 % quantile of |p − c(p)| over patients (Austin & Steyerberg 2019)

The sample is fitted row by row. Resamples are fitted on at most 32 bins of equal size in the order of risk, which costs
the same however many patients there are; what the bins change in the sample is taken off.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmnar.evaluation.decided import Calibrated
from mmnar.evaluation.decisions import sums_by_cell
from mmnar.evaluation.intervals import LOST, Resampling, interval
from mmnar.evaluation.metrics import ratio
from mmnar.evaluation.result import Curve, Estimate

Float = NDArray[np.float64]
Int = NDArray[np.int64]

CLIP: Final = 1e-6
BINS: Final = 32
STEPS: Final = 30
STEEPEST: Final = 50.0
"""A coefficient beyond this: the risks part the outcomes, and there is no finite one."""
PARTED: Final = "the risks part those with and without the event perfectly, or are all alike"
KNOTS: Final[dict[int, tuple[float, ...]]] = {
    3: (0.1, 0.5, 0.9),
    4: (0.05, 0.35, 0.65, 0.95),
    5: (0.05, 0.275, 0.5, 0.725, 0.95),
}
FEWER_KNOTS_BELOW: Final = {100: 3, 200: 4}
"""Patients with the event, or without it if they are fewer, below which the curve has so many knots; else five."""
DRAWN: Final = (0.02, 0.98)
"""Quantiles of risk between which the curve is drawn."""
POINTS: Final = 30
SCALES: Final = np.array([0, 0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.7, 2, 2.5, 3, 4])
INVERTED: Final = 400
"""So many resamples tell a distance's interval; more change its third digit."""


def calibrated(y: Float, p: Float, rows: Int, resampling: Resampling) -> Calibrated:
    """Every figure of (n,) rows with outcome y and risk p, each with its interval.

    Args:
        rows: (n,) where these rows are among those ``resampling`` was drawn for.
    """
    l = logit(np.clip(p, CLIP, 1 - CLIP))  # noqa: E741
    binned = _Binned(y, l, rows, resampling)
    return Calibrated(
        slope=_shifted(*_line(l, y, binned)),
        intercept=_shifted(*_line(l, y, binned, held=True)),
        o_to_e=_ratio_to_expected(p, rows, resampling, binned),
        **_distances(y, p, l, binned),
    )


def slope_and_ratio(y: Float, p: Float, rows: Int, resampling: Resampling) -> dict[str, Estimate]:
    """Slope and O:E alone, as ``calibrated`` gives them."""
    l = logit(np.clip(p, CLIP, 1 - CLIP))  # noqa: E741
    binned = _Binned(y, l, rows, resampling)
    return {"slope": _shifted(*_line(l, y, binned)), "o_to_e": _ratio_to_expected(p, rows, resampling, binned)}


def line_draws(y: Float, p: Float, rows: Int, resampling: Resampling, held: bool = False) -> tuple[float, Float]:
    """Slope, or the intercept where the slope is held at 1, and its (B,) resampled values around it."""
    l = logit(np.clip(p, CLIP, 1 - CLIP))  # noqa: E741
    value, drawn = _line(l, y, _Binned(y, l, rows, resampling), held)
    return value, drawn[1:] - drawn[0] + value


def _ratio_to_expected(p: Float, rows: Int, resampling: Resampling, binned: _Binned) -> Estimate:
    risk = sums_by_cell(np.zeros(len(p), dtype=np.int64), 1, rows, resampling, p)[:, 0]
    values = ratio(binned.events.sum(1), risk)
    return interval(float(values[0]), values[1:], "no risk above 0")


def refused(reason: str) -> Calibrated:
    """No figures, and why."""
    none = Estimate(None, reason=reason)
    return Calibrated(none, none, none, none, none, none)


class _Binned:
    """Rows in at most ``BINS`` bins of equal size in the order of risk; equal risks are never parted if they are few.

    Attributes:
        l: (K,) mean log odds of a bin.
        total, events: (1 + B, K) weights of its rows, and of those with the event: as they are, then resampled.
    """

    def __init__(self, y: Float, l: Float, rows: Int, resampling: Resampling) -> None:  # noqa: E741
        levels, cell = np.unique(l, return_inverse=True)
        if len(levels) > BINS:
            rank = np.empty(len(l), dtype=np.int64)
            rank[np.argsort(l, kind="stable")] = np.arange(len(l))
            cell = rank * BINS // len(l)
        k = int(cell.max()) + 1
        self.l = np.bincount(cell, l) / np.bincount(cell)
        sums = sums_by_cell(cell + k * (y == 1), 2 * k, rows, resampling)
        self.events = sums[:, k:]
        self.total = sums[:, :k] + self.events


def _line(l: Float, y: Float, binned: _Binned, held: bool = False) -> tuple[float, Float]:  # noqa: E741
    """Slope of outcomes on log odds, or the intercept where the slope is held at 1; and (1 + B,) of the bins."""
    if held:
        exact, drawn = _both(np.ones((len(l), 1)), np.ones((len(binned.l), 1)), y, binned, l)
        return float(exact[0]), drawn[:, 0]
    basis = Basis(l, np.empty(0))
    exact, drawn = _both(basis(l), basis(binned.l), y, binned)
    return float(basis.scale[1] @ exact), drawn @ basis.scale[1]


def _both(X: Float, bins: Float, y: Float, binned: _Binned, offset: Float | None = None) -> tuple[Float, Float]:
    """(d,) coefficients of the sample's rows, and (1 + B, d) of the bins."""
    exact = newton(X, y[None], np.ones((1, len(y))), offset)[0]
    start = exact if np.isfinite(exact).all() else None
    return exact, newton(bins, binned.events, binned.total, None if offset is None else binned.l, start)


def newton(X: Float, events: Float, total: Float, offset: Float | None = None, start: Float | None = None) -> Float:
    """(B, d) coefficients of B logistic regressions on the same (K, d) columns; NaN where there is no finite solution.

    Args:
        events, total: (B, K) weight of the rows with the event, and of all rows, at each of the K places.
        offset: (K,) added to the log odds.
        start: (d,) where to begin, if not at 0.
    """
    d = X.shape[1]
    beta = np.zeros((len(events), d)) if start is None else np.tile(start, (len(events), 1))
    pairs = (X[:, :, None] * X[:, None, :]).reshape(len(X), d * d)
    fixed = np.zeros(len(X)) if offset is None else offset
    step = np.full_like(beta, np.inf)
    for _ in range(STEPS):
        q = expit(beta @ X.T + fixed)
        slope = (events - total * q) @ X
        curvature = ((total * q * (1 - q)) @ pairs).reshape(-1, d, d)
        # far too small to be seen, and enough where a resample holds one risk alone
        curvature += 1e-9 * np.eye(d)
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        beta = np.clip(beta + np.clip(step, -3, 3), -2 * STEEPEST, 2 * STEEPEST)
        if np.abs(step).max() < 1e-7:
            break
    lost = (np.abs(beta).max(axis=1) > STEEPEST) | (np.abs(step).max(axis=1) > 1e-4)
    beta[lost] = np.nan
    return beta


def spline(x: Float, knots: Float) -> Float:
    """(n, 1 + k − 1) columns 1, x and the k − 2 cubic pieces that are straight beyond the outer of k knots.

    Harrell's: ``[(x − t_j)³₊ − (x − t_{k−1})³₊ (t_k − t_j)/(t_k − t_{k−1}) + (x − t_k)³₊ (t_{k−1} − t_j)/(t_k −
    t_{k−1})] / (t_k − t_1)²``.
    """
    cube = np.maximum(x[:, None] - knots, 0.0) ** 3
    last, before = knots[-1], knots[-2]
    pieces = [
        cube[:, j] - cube[:, -2] * (last - t) / (last - before) + cube[:, -1] * (before - t) / (last - before)
        for j, t in enumerate(knots[:-2])
    ]
    scale = (last - knots[0]) ** 2
    return np.column_stack([np.ones_like(x), x, *(piece / scale for piece in pieces)])


def knots_of(l: Float, y: Float) -> Float:  # noqa: E741
    """Knots at quantiles of the log odds; none where they take too few values for a curve."""
    rarer = int(min(y.sum(), len(y) - y.sum()))
    count = next((k for below, k in FEWER_KNOTS_BELOW.items() if rarer < below), 5)
    found = np.unique(np.quantile(l, KNOTS[count]))
    return found if len(found) >= 3 and len(np.unique(l)) > 2 * count else np.empty(0)


class Basis:
    """Columns 1, l and the pieces of a spline, mixed so that over the sample they are at right angles and of mean
    square 1: a coefficient of 50 is then steep whatever the risks and knots.

    Attributes:
        scale: (d, d) from a coefficient of these columns to those of ``spline``'s.
    """

    def __init__(self, l: Float, knots: Float) -> None:  # noqa: E741
        self.knots = knots
        r = np.linalg.qr(self._plain(l), mode="r")
        if abs(np.diag(r)).min() < 1e-9 * abs(np.diag(r)).max():
            self.knots = np.empty(0)
            r = np.linalg.qr(self._plain(l), mode="r")
        self.scale = np.linalg.inv(r) * np.sqrt(len(l))

    def _plain(self, l: Float) -> Float:  # noqa: E741
        return spline(l, self.knots) if len(self.knots) else np.column_stack([np.ones_like(l), l])

    def __call__(self, l: Float) -> Float:  # noqa: E741
        """(n, d)."""
        return np.asarray(self._plain(l) @ self.scale)


def _distances(y: Float, p: Float, l: Float, binned: _Binned) -> dict[str, Any]:  # noqa: E741
    """ICI, E50, E90 and the curve."""
    basis = Basis(l, knots_of(l, y))
    bins = basis(binned.l)
    exact, betas = _both(basis(l), bins, y, binned)
    if not np.isfinite(exact).all():
        refused = Estimate(None, reason=PARTED)
        return {"ici": refused, "e50": refused, "e90": refused, "smooth": None}
    betas = betas[1:] - betas[0] + exact
    kept = np.isfinite(betas).all(axis=1)
    distance = np.abs(p - expit(basis(l) @ exact))
    middle, ninth = np.quantile(distance, [0.5, 0.9])
    values = {"ici": float(distance.mean()), "e50": float(middle), "e90": float(ninth)}
    if kept.sum() < (1 - LOST) * len(kept):  # resamples that risks part have no curve
        nowhere = np.full(len(kept), np.nan)
        return {**{name: interval(value, nowhere, "") for name, value in values.items()}, "smooth": None}
    noise, weights = ((betas - exact) @ bins.T)[kept][:INVERTED], binned.total[1:][kept][:INVERTED]
    found = _inverted(values, bins @ exact - binned.l, noise, weights, binned)
    return {**found, "smooth": _smooth(p, basis, exact, betas[kept])}


def _inverted(
    values: dict[str, float], at: Float, noise: Float, weights: Float, binned: _Binned
) -> dict[str, Estimate]:
    """Distances from calibration with 95 % intervals. Noise makes a distance larger, and a percentile interval would
    never hold 0; so these hold the distances under which the value seen is neither among the lowest nor the highest
    2.5 %, and that value.

    Distances are those of the curve that was found, shrunk or stretched on the log odds scale; the noise is that of
    resamples about it.

    Args:
        values: Of the sample.
        at, noise, weights: (K,) curve less risk, (B, K) the same of resamples less it, both in log odds, and (B, K)
            weights.
    """
    stretched = SCALES[:, None] * at
    risk = expit(binned.l)
    seen = _statistics(np.abs(risk - expit(binned.l + stretched[:, None] + noise)), weights)
    true = _statistics(np.abs(risk - expit(binned.l + stretched)), binned.total[0])
    found = {}
    for name, value in values.items():
        outer = np.quantile(seen[name], [0.975, 0.025], axis=1)
        unit = float(true[name][SCALES == 1][0])
        # what bins change in the sample is taken off
        size = true[name] * (value / unit if unit > 0 else 1.0)
        low, high = (float(np.interp(value, np.maximum.accumulate(of), size)) for of in outer)
        found[name] = Estimate(value, min(low, value), max(high, value))
    return found


def _statistics(distance: Float, weights: Float) -> dict[str, Float]:
    """Mean, median and 90 % quantile of (…, K) distances under weights."""
    weights = np.broadcast_to(weights, distance.shape)
    order = np.argsort(distance, axis=-1)
    ranked = np.take_along_axis(distance, order, -1)
    below = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1)
    found = {"ici": (weights * distance).sum(-1) / below[..., -1]}
    for name, share in (("e50", 0.5), ("e90", 0.9)):
        place = np.minimum((below < share * below[..., -1:]).sum(-1), distance.shape[-1] - 1)
        found[name] = np.take_along_axis(ranked, place[..., None], -1)[..., 0]
    return found


def _smooth(p: Float, basis: Basis, exact: Float, betas: Float) -> Curve:
    """The curve between the outer risks, with the band that its resamples give point by point."""
    x = np.linspace(np.quantile(p, DRAWN[0]), np.quantile(p, DRAWN[1]), POINTS)
    columns = basis(logit(np.clip(x, CLIP, 1 - CLIP)))
    low, high = np.quantile(expit(betas @ columns.T), [0.025, 0.975], axis=0)
    return Curve(*(tuple(map(float, of)) for of in (x, expit(columns @ exact), low, high)))


def _shifted(value: float, values: Float) -> Estimate:
    """From the sample's value, and (1 + B,) of the bins, the sample's first."""
    return interval(float(value), values[1:] - values[0] + value, PARTED)

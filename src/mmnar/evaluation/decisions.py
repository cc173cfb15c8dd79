"""What risks are worth as decisions: net benefit, sensitivity and so on at thresholds said beforehand.

A model alerts for everyone whose risk is at or above t. With weights w, ``W = Σ w``:

    net benefit  NB(t) = Σ w [y 1{p ≥ t} − (1 − y) 1{p ≥ t} t / (1 − t)] / W      (Vickers & Elkin 2006)

the events found, less the false alarms at the exchange rate that t itself stands for. Alerting nobody is worth 0,
everyone ``π − (1 − π) t / (1 − t)``. Resamples are the package's own, of patients, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.cuts import Beside, withheld
from mmnar.evaluation.decided import EVALUATED, EVERYONE, NOBODY, Difference, Point
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.metrics import ratio
from mmnar.evaluation.result import Estimate
from mmnar.evaluation.thresholds import Thresholds

Float = NDArray[np.float64]
Int = NDArray[np.int64]

TABLE: Final = ("sensitivity", "specificity", "ppv", "npv", "alerts", "missed", EVALUATED)


@dataclass(frozen=True, eq=False)
class Alerts:
    """Weights of rows at or above each of T thresholds: of the sample as it is, then of its B resamples.

    Args:
        thresholds: (T,).
        found, false: (1 + B, T) with and without the event.
        events, others: (1 + B, 1) all with and without it.
    """

    thresholds: Float
    found: Float
    false: Float
    events: Float
    others: Float

    @classmethod
    def of(cls, y: Float, p: Float, rows: Int, thresholds: Sequence[float], resampling: Resampling) -> Alerts:
        """Alerts of (n,) rows with outcome y and risk p."""
        t = np.asarray(thresholds, dtype=np.float64)
        order = np.argsort(t)
        reached = np.searchsorted(t[order], p, side="right")
        width = len(t) + 1
        sums = sums_by_cell(reached + width * (y == 1), 2 * width, rows, resampling)
        # a row reached so many thresholds: it is at or above all of them
        above = np.cumsum(sums.reshape(-1, 2, width)[:, :, ::-1], axis=2)[:, :, ::-1]
        place = np.empty(len(t), dtype=np.int64)
        place[order] = np.arange(1, width)
        return cls(t, above[:, 1][:, place], above[:, 0][:, place], above[:, 1, :1], above[:, 0, :1])

    def net_benefit(self) -> Float:
        """(1 + B, T)."""
        odds = self.thresholds / (1 - self.thresholds)
        return ratio(self.found - odds * self.false, self.events + self.others)

    def net_benefit_of_everyone(self) -> Float:
        """(1 + B, T)."""
        odds = self.thresholds / (1 - self.thresholds)
        return ratio(self.events - odds * self.others, self.events + self.others)

    def figures(self) -> dict[str, Float]:
        """Name → (1 + B, T)."""
        alerts, everyone = self.found + self.false, self.events + self.others
        missed, spared = self.events - self.found, self.others - self.false
        return {
            "net_benefit": self.net_benefit(),
            "sensitivity": ratio(self.found, self.events),
            "specificity": ratio(spared, self.others),
            "ppv": ratio(self.found, alerts),
            "npv": ratio(spared, spared + missed),
            "alerts": ratio(alerts, everyone),
            "missed": ratio(missed, everyone),
            EVALUATED: ratio(alerts, self.found),
        }


def sums_by_cell(cell: Int, cells: int, rows: Int, resampling: Resampling, values: Float | None = None) -> Float:
    """(1 + B, cells) sums of weights, times (n,) values, over the rows of each cell: as they are, then resampled.

    Args:
        cell: (n,) of each of the given rows.
        rows: (n,) where they are among those ``resampling`` was drawn for.
    """
    subject = resampling.subject[rows]
    subjects = resampling.counts[0].shape[0]
    by_subject = np.bincount(subject * cells + cell, values, subjects * cells).reshape(subjects, cells)
    # counts are whole and small: exact in 32 bits, and twice as fast
    sums: NDArray[Any] = by_subject.astype(np.float32 if values is None else np.float64)
    parts = [sums.sum(axis=0, keepdims=True), *(block.T.astype(sums.dtype) @ sums for block in resampling.counts)]
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's alerts on a task, and why those at some thresholds are not shown.

    Args:
        kinds: Of each threshold: (kind, k of "per 100").
        reasons: Of each threshold, "" where its figures are shown.
        benefit: (1 + B, T) net benefit.
    """

    alerts: Alerts
    kinds: tuple[tuple[Any, int | None], ...]
    reasons: tuple[str, ...]
    benefit: Float

    def at(self, threshold: float) -> int | None:
        """Where a stated threshold is; None where its figures are not shown."""
        for i, t in enumerate(self.alerts.thresholds):
            if t == threshold and self.kinds[i][0] != "per 100":
                return None if self.reasons[i] else i
        return None

    def shown(self) -> tuple[float, ...]:
        """Thresholds whose figures are shown."""
        return tuple(float(t) for t, why in zip(self.alerts.thresholds, self.reasons, strict=True) if not why)


def judged_alerts(
    model: str,
    y: Float,
    p: Float,
    rows: Int,
    thresholds: Thresholds,
    resampling: Resampling,
    row: Int | None = None,
    beside: Beside | None = None,
) -> Judged:
    """A model's alerts at every threshold of a task.

    Args:
        y, p, rows: (n,) outcome, risk, and where these rows are among those ``resampling`` was drawn for.
        row, beside: See ``cuts.withheld``.
    """
    wanted = thresholds.of(model)
    at = [t for t, _, _ in wanted]
    reasons = withheld(p, y, resampling.subject[rows], at, row, beside)
    alerts = Alerts.of(y, p, rows, at, resampling)
    return Judged(alerts, tuple((kind, k) for _, kind, k in wanted), tuple(reasons), alerts.net_benefit())


def points(judged: Judged) -> tuple[Point, ...]:
    """Every threshold with its figures, rising within its kind."""
    figures, found = judged.alerts.figures(), []
    for i, ((kind, k), why) in enumerate(zip(judged.kinds, judged.reasons, strict=True)):
        names = ("net_benefit",) if kind == "curve" else ("net_benefit", *TABLE)
        of = {name: _estimate(figures[name][:, i], why) for name in names}
        found.append(Point(float(judged.alerts.thresholds[i]), kind, k, of))
    kinds = ("stated", "per 100", "curve")
    return tuple(sorted(found, key=lambda point: (kinds.index(point.kind), point.threshold)))


def everyone(judged: Judged) -> tuple[tuple[float, Estimate], ...]:
    """(threshold, net benefit of alerting everyone) of the decision curve, rising."""
    values = judged.alerts.net_benefit_of_everyone()
    found = {
        float(t): _estimate(values[:, i], "")
        for i, t in enumerate(judged.alerts.thresholds)
        if judged.kinds[i][0] != "per 100"
    }
    return tuple(sorted(found.items(), key=lambda pair: pair[0]))


def differences(
    models: Mapping[str, Judged], controls: Sequence[str], compared: Sequence[str], thresholds: Sequence[float]
) -> tuple[Difference, ...]:
    """Net benefit of each model less that of alerting everyone and nobody, and of those to be compared less that of
    each control, at each stated threshold."""
    found = []
    for t in thresholds:
        for name, judged in models.items():
            i = judged.at(t)
            if i is None:
                continue
            mine, all_alerted = judged.benefit[:, i], judged.alerts.net_benefit_of_everyone()[:, i]
            found.append(Difference(t, name, EVERYONE, _estimate(mine - all_alerted, "")))
            found.append(Difference(t, name, NOBODY, _estimate(mine, "")))
            for control in controls if name in compared else ():
                j = models[control].at(t)
                if j is not None:
                    found.append(Difference(t, name, control, _estimate(mine - models[control].benefit[:, j], "")))
    return tuple(found)


def _estimate(values: Float, why: str) -> Estimate:
    """From (1 + B,) values, the sample's first."""
    if why:
        return Estimate(None, reason=why)
    return interval(float(values[0]), values[1:], "nobody is above the threshold, or nobody below")

"""One model on one task: its rows, its metrics, and the resampled values that paired comparisons need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, estimate
from mmnar.evaluation.metrics import METRICS, FoldMean, Metric, brier_terms, log_terms, refusal
from mmnar.evaluation.result import Estimate
from mmnar.predictions import Predictions

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """What was computed of one model on one task.

    Attributes:
        model, task: Names.
        rows: (n,) rows of the predictions that were asked.
        y, p, fold: (n,) outcome, risk, fold.
        refused: Why no metric is computed, or "".
        metrics: name -> Estimate.
        draws: name -> (B,) resampled values.
        losses: "brier", "log_loss" -> (n,) terms whose sum is the metric (1 / rows of the fold / folds included).
    """

    model: str
    task: str
    rows: Int
    y: Float
    p: Float
    fold: Int
    refused: str
    metrics: dict[str, Estimate]
    draws: dict[str, Float]
    losses: dict[str, Float]

    def add(self, metrics: dict[str, Metric], resampling: Resampling) -> None:
        """Compute further metrics with their intervals."""
        for name, metric in metrics.items():
            if self.refused:
                self.metrics[name] = Estimate(None, reason=self.refused)
                continue
            undefined = "a fold lacks events or non-events" if len(np.unique(self.fold)) > 1 else "no such pairs"
            self.metrics[name], self.draws[name] = estimate(metric, self.rows, resampling, undefined)


def score(predictions: Predictions[Any], task: str, resampling: Resampling) -> Scored:
    """The plain metrics of one model on one task, each within folds and averaged over folds."""
    proba, labels, asked = predictions.task(task)
    rows = np.flatnonzero(asked)
    y, p, fold = labels[rows].astype(np.float64), proba[rows], predictions.fold[rows]
    share = fold_shares(fold)
    losses = {"brier": brier_terms(y, p) * share, "log_loss": log_terms(y, p) * share}
    model = str(predictions.provenance["model"])
    scored = Scored(model, task, rows, y, p, fold, refusal(y), {}, {}, losses)
    scored.add({name: FoldMean(prepare, fold, y, p) for name, prepare in METRICS.items()}, resampling)
    return scored


def fold_shares(fold: Int) -> Float:
    """(n,) weight of each row in a mean over folds of means within folds.

    >>> fold_shares(np.array([0, 0, 1])).tolist()
    [0.25, 0.25, 0.5]
    """
    _, index, n = np.unique(fold, return_inverse=True, return_counts=True)
    return np.asarray(1 / n[index] / max(len(n), 1))

"""Observation patterns: a row for each, and how much of the AUROC is theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.groups import Grouping, group_rows, same_within
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.metrics import Auroc, FoldMean, Metric, ratio
from mmnar.evaluation.result import GroupRow
from mmnar.predictions import Predictions

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class WithinPattern(Metric):
    """AUROC over the (event, non-event) pairs with the same pattern."""

    def __init__(self, y: Float, p: Float, pattern: Int) -> None:
        self.same = Auroc(y, p, pattern)

    def __call__(self, W: Float) -> Float:
        return self.same(W)


class BetweenPattern(Metric):
    """AUROC over the (event, non-event) pairs with different patterns."""

    def __init__(self, y: Float, p: Float, pattern: Int) -> None:
        self.same, self.all = Auroc(y, p, pattern), Auroc(y, p)

    def __call__(self, W: Float) -> Float:
        right, total = self.all.pairs(W)
        right_same, total_same = self.same.pairs(W)
        return ratio(right - right_same, total - total_same)


class PairShare(Metric):
    """Share w of the (event, non-event) pairs that have the same pattern."""

    def __init__(self, y: Float, p: Float, pattern: Int) -> None:
        self.same, self.all = Auroc(y, p, pattern), Auroc(y, p)

    def __call__(self, W: Float) -> Float:
        return ratio(self.same.pairs(W)[1], self.all.pairs(W)[1])


def split_metrics(y: Float, p: Float, pattern: Int, fold: Int) -> dict[str, Metric]:
    """The parts of the AUROC: ``AUROC = w · within + (1 − w) · between``, exactly, within each fold.

    A model that only reads the pattern off ranks nothing within a pattern: within = ½, between > ½.
    """
    parts = {
        "auroc_within_pattern": WithinPattern,
        "auroc_between_pattern": BetweenPattern,
        "pattern_pair_share": PairShare,
    }
    return {name: FoldMean(prepare, fold, y, p, pattern) for name, prepare in parts.items()}


def pattern_grouping(predictions: Predictions[Any], rows: Int, y: Float) -> Grouping:
    """Observation patterns among (n,) rows, named by the modalities present."""
    index, patterns = predictions.pattern_ids()
    names = [" + ".join(np.array(predictions.modalities)[row]) or "nothing observed" for row in patterns]
    return Grouping.of(names, index, predictions.subject_id, rows, y, "other patterns")


def pattern_rows(
    predictions: Predictions[Any], rows: Int, y: Float, p: Float, resampling: Resampling
) -> tuple[GroupRow, ...]:
    """One row per observation pattern among (n,) rows; those with few outcomes share one.

    ``calibration_bias`` is observed rate − mean risk: positive where risks are too low.
    """
    fold = predictions.fold[rows]
    tied = same_within(p, predictions.pattern_ids()[0][rows], fold)
    return group_rows(pattern_grouping(predictions, rows, y), rows, y, p, fold, resampling, tied)

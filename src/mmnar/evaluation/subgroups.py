"""Subgroups of patients by what the source says about them, e.g. sex or age band."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.groups import Grouping, group_rows, same_within
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.patterns import pattern_grouping
from mmnar.evaluation.result import GroupRow
from mmnar.predictions import Predictions

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def subgroup_rows(
    predictions: Predictions[Any], rows: Int, y: Float, p: Float, resampling: Resampling
) -> dict[str, tuple[GroupRow, ...]]:
    """attribute -> one row per value among (n,) rows; patients without a value are the group "unknown"."""
    fold = predictions.fold[rows]
    tables = {}
    for attribute, grouping in subgroupings(predictions, rows, y).items():
        tied = same_within(p, _values(predictions, attribute)[0][rows], fold)
        tables[attribute] = group_rows(grouping, rows, y, p, fold, resampling, tied)
    return tables


def subgroupings(predictions: Predictions[Any], rows: Int, y: Float) -> dict[str, Grouping]:
    """attribute -> which row of its table each of (n,) rows is in."""
    found = {}
    for attribute in predictions.attributes:
        group, names = _values(predictions, attribute)
        found[attribute] = Grouping.of(names, group, predictions.subject_id, rows, y, "other values")
    return found


def tied_rows(predictions: Predictions[Any], rows: Int, y: Float, p: Float) -> Int | None:
    """(n,) row in the table of patterns, or of an attribute, of which the risk is only a name; None for others."""
    fold = predictions.fold[rows]
    if same_within(p, predictions.pattern_ids()[0][rows], fold):
        return pattern_grouping(predictions, rows, y).row
    for attribute in predictions.attributes:
        group, names = _values(predictions, attribute)
        if same_within(p, group[rows], fold):
            return Grouping.of(names, group, predictions.subject_id, rows, y, "other values").row
    return None


def _values(predictions: Predictions[Any], attribute: str) -> tuple[Int, list[str]]:
    """(N,) number of each sample's value, and the values' names."""
    found, group = np.unique(predictions.attributes[attribute], return_inverse=True)
    return group.reshape(-1), [str(v) or "unknown" for v in found]

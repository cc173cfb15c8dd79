"""Subgroups of patients by what the source says about them, e.g. sex or age band."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.groups import group_rows
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.result import GroupRow
from mmnar.predictions import Predictions

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def subgroup_rows(
    predictions: Predictions[Any], rows: Int, y: Float, p: Float, resampling: Resampling
) -> dict[str, tuple[GroupRow, ...]]:
    """attribute -> one row per value among (n,) rows; patients without a value are the group "unknown"."""
    tables = {}
    for attribute, values in predictions.attributes.items():
        found, group = np.unique(values[rows], return_inverse=True)
        names = [str(v) or "unknown" for v in found]
        tables[attribute] = group_rows(
            names, group.reshape(-1), rows, y, p, predictions.fold[rows], resampling, "other values"
        )
    return tables

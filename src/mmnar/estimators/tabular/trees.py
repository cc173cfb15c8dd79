"""The columns of gradient-boosted trees."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView, column_features
from mmnar.errors import RequirementError
from mmnar.estimators.tabular.folds import Bool, Float

MAX_CATEGORIES: Final = 255
"""Most categories of one feature that gradient boosting can bin."""


def tree_columns(view: TableView, fold: Fold[Any]) -> Float:
    """(n, ΣC + M) contents with NaN, then presence."""
    contents = [view.columns(fold, m) for m in range(len(fold.schema.modalities))]
    return np.concatenate([*contents, fold.present.astype(np.float64)], axis=1)


def tree_categorical(view: TableView) -> Bool:
    """(ΣC + M,) which columns are categories.

    Raises:
        RequirementError: A feature has more categories than boosting can bin.
    """
    columns = column_features(view)
    for spec, feature in columns:
        if len(feature.categories) > MAX_CATEGORIES:
            raise RequirementError(
                f"feature '{spec.name}.{feature.name}'",
                f"at most {MAX_CATEGORIES} categories for gradient boosting",
                f"{len(feature.categories)}",
                "group rare categories in the source's feature rules",
            )
    return np.array([bool(f.categories) for _, f in columns] + [False] * len(view.schema.modalities))

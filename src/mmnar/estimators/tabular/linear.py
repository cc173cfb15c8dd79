"""The columns of a linear model, and its risks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView
from mmnar.estimators.tabular.folds import Bool, Float
from mmnar.roles import Train


@dataclass(frozen=True)
class LinearDesign:
    """How a fold becomes columns of a linear model; fitted on a training fold.

    Args:
        view: What each modality's columns are.
        mean, scale: (ΣC,) per column of the view, over observed training values. The column of a number is
            (x - mean) · scale, 0 where missing or absent; scale is 0 where training saw one value or none.
        flagged: (ΣC,) whether the column is sometimes missing within a present modality, otherwise than the column
            before it, and gets an observed flag.
        patterns: (G, M) patterns with a column of their own.
    """

    view: TableView
    mean: Float
    scale: Float
    flagged: Bool
    patterns: Bool

    @classmethod
    def of(cls, train: Fold[Train], min_patients: int) -> LinearDesign:
        view = TableView.fit(train)
        mean, scale, flagged = [], [], []
        for m in range(len(train.schema.modalities)):
            values, present = view.columns(train, m), train.present[:, m]
            observed = ~np.isnan(values)
            for f in range(values.shape[1]):
                x = values[observed[:, f], f]
                sd = x.std() if len(x) else 0.0
                mean.append(x.mean() if len(x) else 0.0)
                scale.append(1.0 / sd if sd > 0 else 0.0)
                news = f == 0 or (observed[:, f] != observed[:, f - 1]).any()
                flagged.append(bool(news and (present & ~observed[:, f]).any() and len(x)))
        patterns, counts = np.unique(train.present, axis=0, return_counts=True)
        return cls(view, np.array(mean), np.array(scale), np.array(flagged), patterns[counts >= min_patients])

    def columns(self, fold: Fold[Any]) -> Float:
        """(n, D), each row from its own patient alone."""
        columns: list[Float] = []
        position = 0
        for m, spec in enumerate(fold.schema.modalities):
            values = self.view.columns(fold, m)
            observed = ~np.isnan(values)
            for f, feature in enumerate(self.view.features(spec)):
                x, seen = values[:, f], observed[:, f]
                if feature.categories:
                    columns += [(x == c).astype(np.float64) for c in range(len(feature.categories))]
                else:
                    columns.append(np.where(seen, (x - self.mean[position]) * self.scale[position], 0.0))
                if self.flagged[position]:
                    columns.append(seen.astype(np.float64))
                position += 1
        present = fold.present
        columns += list(present.T.astype(np.float64))
        columns += [(present == p).all(axis=1).astype(np.float64) for p in self.patterns]
        return np.column_stack(columns)


def linear_risks(x: Float, coefficients: Float, intercepts: Float) -> Float:
    """(n, K) σ(x β + b). Summed row by row: a matrix product's last bits depend on how many rows it has."""
    logits = [(x * beta).sum(axis=1) + b for beta, b in zip(coefficients, intercepts, strict=True)]
    risks: Float = expit(np.column_stack(logits))
    return risks

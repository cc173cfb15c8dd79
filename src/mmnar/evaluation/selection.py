"""Who gets a modality, given what is always observed: a regression in one store, asked of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mmnar.dataset.store import PatientDataset
from mmnar.evaluation.informative import FOLDS, features_of, subject_folds

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


class Selection:
    """What is always observed, x₀, in both stores, coded as in the source.

    Args:
        rows: Of each store, which samples are looked at.
        always: Modalities of x₀.
        seed: Of the folds.

    Attributes:
        has: Of each store, which of its rows have all of x₀.
    """

    def __init__(
        self, source: PatientDataset, target: PatientDataset, rows: Sequence[Int], always: Sequence[str], seed: int
    ) -> None:
        at = [source.schema.modality_names.index(name) for name in always]
        self.has = [d.present[r][:, at].all(1) for d, r in zip((source, target), rows, strict=True)]
        features = [_features(d, always) for d in (source, target)]
        coded = [_coded(a[rows[0]], b[rows[1]], categories) for (a, categories), (b, _) in zip(*features, strict=True)]
        self.x = [np.column_stack(columns) for columns in zip(*coded, strict=True)]
        self.fold = [subject_folds(d.subject_id, seed)[r] for d, r in zip((source, target), rows, strict=True)]

    def chances(self, has: Bool) -> tuple[Float, Float] | None:
        """e_m of both stores' patients; None where a fit would have nobody, or everybody.

        Each source patient's is of a fit that did not see them, and each target patient's of one of the same fits: what
        a fit is too sure of, it is too sure of in both.
        """
        ours, x = has[self.has[0]], [x[of] for x, of in zip(self.x, self.has, strict=True)]
        fold = [fold[of] for fold, of in zip(self.fold, self.has, strict=True)]
        out = [np.empty(len(rows)) for rows in x]
        for f in range(FOLDS):
            learned = fold[0] != f
            if ours[learned].all() or not ours[learned].any():
                return None
            fitted = _logistic(x[0][learned], ours[learned])
            for e, rows, of in zip(out, x, fold, strict=True):
                if (of == f).any():
                    e[of == f] = fitted.predict_proba(rows[of == f])[:, 1]
        return out[0], out[1]


def _logistic(x: Float, y: Bool) -> LogisticRegression:
    return LogisticRegression(C=1.0, max_iter=500).fit(x, y)


def _features(data: PatientDataset, always: Sequence[str]) -> list[tuple[Float, int]]:
    return [
        pair
        for spec in data.schema.modalities
        if spec.name in always
        for pair in features_of(data.values[spec.name], spec)
    ]


def _coded(a: Float, b: Float, categories: int) -> tuple[Float, Float]:
    """Columns of one feature in both stores, by the source's mean and spread: z, z² and whether it was observed, or one
    column a category."""
    if categories:
        codes = np.arange(categories)
        return (a[:, None] == codes).astype(np.float64), (b[:, None] == codes).astype(np.float64)
    seen = np.isfinite(a)
    mean, spread = (float(a[seen].mean()), float(a[seen].std()) or 1.0) if seen.any() else (0.0, 1.0)

    def columns(v: Float) -> Float:
        known = np.isfinite(v)
        z = np.clip((np.where(known, v, mean) - mean) / spread, -3.0, 3.0)
        return np.column_stack([z, z * z, known])

    return columns(a), columns(b)

"""Out-of-fold predictions over the training subjects: what a rectifier is fitted on."""

from __future__ import annotations

from pathlib import Path

from mmnar.dataset.store import Fold, cross_folds
from mmnar.estimators.base import Estimator
from mmnar.estimators.storage import fit_or_load
from mmnar.predictions import Predictions, concat
from mmnar.roles import Calibration, Train, Tune
from mmnar.training.monitor import Monitor


def cross_predict(
    estimator: Estimator,
    train: Fold[Train],
    tune: Fold[Tune],
    folds: int = 5,
    seed: int = 0,
    workdir: Path | None = None,
    monitor: Monitor | None = None,
) -> Predictions[Calibration]:
    """Every training sample scored by a fit that never saw its subject.

    Args:
        folds: K fits on (K−1)/K of the training subjects each, with the same tune fold for early stopping.
    """
    parts = []
    for k, (inner, held) in enumerate(cross_folds(train, folds, seed)):
        predictor = fit_or_load(estimator, inner, tune, seed, workdir / f"fold{k}" if workdir else None, monitor)
        parts.append(predictor.predict(held))
    return concat(parts)

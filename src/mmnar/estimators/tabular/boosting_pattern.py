"""Gradient-boosted trees that see the pattern."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError, StoreError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import THREADS, Bool, Float, Keys, TaskByTask, asked_tasks, load_view, seen_subjects
from mmnar.estimators.tabular.trees import TreeDesign, boosting_record
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor, Silent

TRUSTED_TYPES: Final = (
    # the encoder of categorical columns keeps check_array with its settings as a partial
    "functools.partial",
    "sklearn.utils.validation.check_array",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""What a saved boosting model may consist of beyond what skops trusts by itself; anything else is refused."""


class FittedBoosting(TaskByTask):
    """Gradient-boosted trees, one ensemble per task.

    Args:
        design: Fitted columns.
        kept: (K, D) columns of which the training samples of each task saw a value.
        models: K fitted classifiers.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: TreeDesign,
        kept: Bool,
        models: list[HistGradientBoostingClassifier],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.kept, self.models = design, kept, models

    @property
    def blind(self) -> bool:
        return self.design.fillings is not None

    def task_risks(self, fold: Fold[Any]) -> Float:
        return self.design.mean_risk(fold, len(self.models), self._risks)

    def _risks(self, x: Float) -> Float:
        risks = [model.predict_proba(x[:, kept])[:, 1] for model, kept in zip(self.models, self.kept, strict=True)]
        return np.column_stack(risks)

    def _state(self, folder: Path) -> dict[str, Any]:
        save_arrays(folder / "boosting-pattern.npz", {"kept": self.kept} | self.design.arrays())
        save_arrays(folder / "view.npz", self.design.view.arrays())
        for task, model in zip(self.schema.task_names, self.models, strict=True):
            skops.io.dump(model, folder / f"boosting-{task}.skops")
        return {"name": self.name, "trees": [int(model.n_iter_) for model in self.models]}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedBoosting:
        with np.load(folder / "boosting-pattern.npz", allow_pickle=False) as a:
            kept, design = a["kept"], TreeDesign(load_view(folder, schema), a.get("fillings"))
        models = [_load_trees(folder / f"boosting-{task}.skops") for task in schema.task_names]
        return cls(state["name"], schema, fitted_subjects, design, kept, models)


@dataclass(frozen=True)
class BoostingPattern(Estimator):
    """Histogram gradient boosting on contents (missing values as they are) and presence indicators.

    Args:
        learning_rate: Shrinkage of each tree.
        leaves: Leaves per tree.
        max_trees: Upper bound on trees.
        step: Trees between two looks at the tune fold.
        patience: Looks without improvement before it stops.
        columns_share: Share of the columns that each split may use.
        columns_most: At most so many of them: many columns of a wide table say nearly the same.
        append_pattern: False = blind to the pattern: no columns of it, and an absent modality is filled with training
            values (``TreeDesign``). A single missing value of a present modality stays missing.
    """

    name: ClassVar[str] = "boosting-pattern"
    card: ClassVar[dict[str, Any]] = {
        "title": "Gradient boosting with pattern columns",
        "paper": "Control: Ke et al. (2017), LightGBM, as scikit-learn's HistGradientBoostingClassifier",
        "missing": "missing values as they are, and an indicator per modality; series as window summaries",
        "deviations": (
            "Stops on the tune fold's log loss instead of a random part of the training fold.",
            "Rate and share of columns were chosen on tune folds of five data sets (benchmarks/controls.py).",
            "Without the pattern it averages over training values in place of an absent modality: of a mean in its "
            "place a tree would learn the pattern.",
        ),
        "control": True,
    }

    learning_rate: float = 0.03
    leaves: int = 8
    max_trees: int = 1000
    step: int = 20
    patience: int = 3
    columns_share: float = 0.5
    columns_most: int = 30
    append_pattern: bool = True

    def __post_init__(self) -> None:
        positive = (self.learning_rate, self.leaves - 1, self.max_trees, self.step, self.patience, self.columns_most)
        if min(positive) <= 0 or not 0 < self.columns_share <= 1:
            raise ConfigError("boosting-pattern", "positive settings", "one that is not", "use the defaults")

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedBoosting:
        monitor = monitor or Silent()
        design = TreeDesign.of(train, self.append_pattern, seed)
        categorical = design.categorical()
        x, x_tune = design.fitting(train, tune, seed)
        models, kept = [], []
        for task, asked in zip(train.schema.task_names, asked_tasks(train, tune), strict=True):
            seen: Bool = np.logical_not(np.isnan(x[asked.train]).all(axis=0))
            kept.append(seen)
            monitor.start(f"{self.name} {task}", self.max_trees)
            blank = HistGradientBoostingClassifier(
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.leaves,
                max_features=min(self.columns_share, self.columns_most / int(seen.sum())),
                categorical_features=categorical[seen],
                early_stopping=False,
                warm_start=True,
                random_state=seed,
            )
            with threadpool_limits(THREADS):
                cells = (x[asked.train][:, seen], asked.y, x_tune[asked.tune][:, seen], asked.y_tune)
                grown = self._grow(blank, task, *cells, monitor)
            models.append(_without_training(grown))
            monitor.stop()
        return FittedBoosting(self.name, train.schema, seen_subjects(train, tune), design, np.stack(kept), models)

    def _grow(
        self,
        model: HistGradientBoostingClassifier,
        task: str,
        x: Float,
        y: Bool,
        x_tune: Float,
        y_tune: Bool,
        monitor: Monitor,
    ) -> HistGradientBoostingClassifier:
        """Add trees as long as the tune fold's log loss falls; the ensemble at its lowest."""
        best, lowest, since = model, np.inf, 0
        for trees in range(self.step, self.max_trees + self.step, self.step):
            begun = time.perf_counter()
            model.set_params(max_iter=min(trees, self.max_trees)).fit(x, y)
            loss = float(log_loss(y_tune, model.predict_proba(x_tune)[:, 1], labels=[False, True]))
            seconds = time.perf_counter() - begun
            monitor.epoch(boosting_record(f"{self.name} {task}", int(model.n_iter_), loss, seconds, self.learning_rate))
            since += 1
            if loss < lowest:
                # growing on changes the ensemble in place
                best, lowest, since = copy.deepcopy(model), loss, 0
            if since >= self.patience:
                break
        return best


def _without_training(model: HistGradientBoostingClassifier) -> HistGradientBoostingClassifier:
    """Only what it predicts by: no samples per node, no gains, and no bin edges of numbers, which lie midway between
    every two neighbouring training values where these are fewer than the bins. It cannot grow on from here.
    """
    for (tree,) in model._predictors:
        for column in ("count", "gain", "bin_threshold"):
            tree.nodes[column] = 0
    bins = model._bin_mapper
    edges = zip(bins.bin_thresholds_, bins.is_categorical_, strict=True)
    bins.bin_thresholds_ = [of if categorical else of[:0] for of, categorical in edges]
    bins.n_bins_non_missing_ = np.zeros_like(bins.n_bins_non_missing_)
    return model


def _load_trees(path: Path) -> HistGradientBoostingClassifier:
    """
    Raises:
        StoreError: The file holds more than a boosting model consists of.
    """
    try:
        return skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise StoreError(
            f"model file '{path.name}'", "a boosting model", str(error), "do not use a file of unknown origin"
        ) from error

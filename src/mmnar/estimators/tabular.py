"""Three controls without a network. What a deep model gains is what it gains over these.

Axes: n samples, M modalities, C columns of the table view, D columns of a design matrix, K tasks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import skops.io
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView, column_features
from mmnar.errors import ConfigError, RequirementError, StoreError, TrainingError
from mmnar.estimators.base import Estimator, Predictor, save_arrays
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor, Silent

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Keys = NDArray[np.uint64]

MAX_CATEGORIES: Final = 255
"""Most categories of one feature that gradient boosting can bin."""

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


# sums split among threads depend on how many there are; and on a busy machine waiting for threads costs tenfold
_THREADS: Final = 1


class FittedPatternOnly(Predictor):
    """Rates per pattern.

    Args:
        patterns: (G, M) distinct training patterns.
        rates: (G, K) shrunken rates.
        prevalence: (K,) for patterns that training never saw.
    """

    def __init__(
        self, name: str, schema: Schema, fitted_subjects: Keys, patterns: Bool, rates: Float, prevalence: Float
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.patterns, self.rates, self.prevalence = patterns, rates, prevalence
        self._table = {p.tobytes(): r for p, r in zip(patterns, rates, strict=True)}

    def predict_proba(self, fold: Fold[Any]) -> Float:
        proba = np.empty((len(fold), len(self.prevalence)))
        for pattern, rows in _by_pattern(fold.present):
            proba[rows] = self._table.get(pattern.tobytes(), self.prevalence)
        return proba

    def _state(self, folder: Path) -> dict[str, Any]:
        np.savez(folder / "pattern-only.npz", patterns=self.patterns, rates=self.rates, prevalence=self.prevalence)
        return {"name": self.name}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]
    ) -> FittedPatternOnly:
        with np.load(folder / "pattern-only.npz", allow_pickle=False) as a:
            return cls(state["name"], schema, fitted_subjects, a["patterns"], a["rates"], a["prevalence"])


@dataclass(frozen=True)
class PatternOnly(Estimator):
    """The observation pattern and nothing else: (y + s ȳ) / (n + s) per pattern.

    Args:
        strength: s, how many patients of average risk each pattern is given beforehand.
    """

    name: ClassVar[str] = "pattern-only"
    fitted: ClassVar = FittedPatternOnly
    card: ClassVar[dict[str, Any]] = {
        "title": "Pattern only",
        "paper": "Control: shrunken event rate of each observation pattern",
        "missing": "sees nothing but which modalities are present",
        "deviations": (),
        "control": True,
    }

    strength: float = 10.0

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ConfigError("pattern-only strength", "a number ≥ 0", f"{self.strength}", "use 10")

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedPatternOnly:
        prevalence = np.empty(len(train.schema.tasks))
        patterns, group = np.unique(train.present, axis=0, return_inverse=True)
        rates = np.empty((len(patterns), len(prevalence)))
        for k in range(len(prevalence)):
            asked, y = _asked(train, k)
            prevalence[k] = y.mean()
            g = group.reshape(-1)[asked]
            n, events = np.bincount(g, minlength=len(rates)), np.bincount(g, y, minlength=len(rates))
            shrunken = (events + self.strength * prevalence[k]) / np.maximum(n + self.strength, 1e-12)
            # the task may never have been asked of a pattern that training saw for another
            rates[:, k] = np.where(n > 0, shrunken, prevalence[k])
        return FittedPatternOnly(self.name, train.schema, _seen(train, tune), patterns, rates, prevalence)


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


class FittedLogistic(Predictor):
    """Logistic regressions, one per task.

    Args:
        design: Fitted columns.
        coefficients: (K, D).
        intercepts: (K,).
        chosen: K inverse penalties C.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: LinearDesign,
        coefficients: Float,
        intercepts: Float,
        chosen: list[float],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.coefficients, self.intercepts, self.chosen = design, coefficients, intercepts, chosen

    def predict_proba(self, fold: Fold[Any]) -> Float:
        return _linear_risks(self.design.columns(fold), self.coefficients, self.intercepts)

    def _state(self, folder: Path) -> dict[str, Any]:
        d = self.design
        np.savez(
            folder / "logistic-pattern.npz",
            mean=d.mean,
            scale=d.scale,
            flagged=d.flagged,
            patterns=d.patterns,
            coefficients=self.coefficients,
            intercepts=self.intercepts,
        )
        save_arrays(folder / "view.npz", d.view.arrays())
        return {"name": self.name, "C": self.chosen}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedLogistic:
        with np.load(folder / "logistic-pattern.npz", allow_pickle=False) as a:
            design = LinearDesign(_view(folder, schema), a["mean"], a["scale"], a["flagged"], a["patterns"])
            return cls(
                state["name"], schema, fitted_subjects, design, a["coefficients"], a["intercepts"], list(state["C"])
            )


@dataclass(frozen=True)
class LogisticPattern(Estimator):
    """Logistic regression on contents, pattern bits and every frequent pattern.

    Args:
        inverse_penalties: Values of C among which the tune fold's log loss chooses, per task.
        min_patients: A pattern with at least so many training samples gets a column of its own.
    """

    name: ClassVar[str] = "logistic-pattern"
    fitted: ClassVar = FittedLogistic
    card: ClassVar[dict[str, Any]] = {
        "title": "Logistic regression with pattern columns",
        "paper": "Control: L2-penalised logistic regression",
        "missing": "standardised, zero-filled features, observed-flags, one column per modality and frequent pattern",
        "deviations": (),
        "control": True,
    }

    inverse_penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    min_patients: int = 50

    def __post_init__(self) -> None:
        if not self.inverse_penalties or min(self.inverse_penalties) <= 0:
            raise ConfigError("logistic-pattern C", "numbers > 0", f"{self.inverse_penalties}", "use 0.001 … 1")

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedLogistic:
        design = LinearDesign.of(train, self.min_patients)
        x, x_tune = design.columns(train), design.columns(tune)
        with threadpool_limits(_THREADS):
            fits = [self._fit_task(k, train, tune, x, x_tune) for k in range(len(train.schema.tasks))]
        return FittedLogistic(
            self.name,
            train.schema,
            _seen(train, tune),
            design,
            np.concatenate([model.coef_ for _, model in fits]),
            np.concatenate([model.intercept_ for _, model in fits]),
            [c for c, _ in fits],
        )

    def _fit_task(
        self, k: int, train: Fold[Train], tune: Fold[Tune], x: Float, x_tune: Float
    ) -> tuple[float, LogisticRegression]:
        asked, y = _asked(train, k)
        asked_tune, y_tune = _asked_tune(tune, k)
        x, x_tune = x[asked], x_tune[asked_tune]
        tried = []
        for c in self.inverse_penalties:
            model = LogisticRegression(C=c, max_iter=5000).fit(x, y)
            risks = _linear_risks(x_tune, model.coef_, model.intercept_)[:, 0]
            tried.append((log_loss(y_tune, risks, labels=[False, True]), c, model))
        _, c, model = min(tried, key=lambda t: t[:2])
        return c, model


class FittedBoosting(Predictor):
    """Gradient-boosted trees, one ensemble per task.

    Args:
        view: What each modality's columns are.
        kept: (K, D) columns of which the training samples of each task saw a value.
        models: K fitted classifiers.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        view: TableView,
        kept: Bool,
        models: list[HistGradientBoostingClassifier],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.view, self.kept, self.models = view, kept, models

    def predict_proba(self, fold: Fold[Any]) -> Float:
        x = _tree_columns(self.view, fold)
        if not len(x):
            return np.empty((0, len(self.models)))
        risks = [model.predict_proba(x[:, kept])[:, 1] for model, kept in zip(self.models, self.kept, strict=True)]
        return np.column_stack(risks)

    def _state(self, folder: Path) -> dict[str, Any]:
        np.savez(folder / "boosting-pattern.npz", kept=self.kept)
        save_arrays(folder / "view.npz", self.view.arrays())
        for task, model in zip(self.schema.task_names, self.models, strict=True):
            skops.io.dump(model, folder / f"boosting-{task}.skops")
        return {"name": self.name, "trees": [int(model.n_iter_) for model in self.models]}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedBoosting:
        with np.load(folder / "boosting-pattern.npz", allow_pickle=False) as a:
            kept = a["kept"]
        models = [_load_trees(folder / f"boosting-{task}.skops") for task in schema.task_names]
        return cls(state["name"], schema, fitted_subjects, _view(folder, schema), kept, models)


@dataclass(frozen=True)
class BoostingPattern(Estimator):
    """Histogram gradient boosting on contents (missing values as they are) and presence indicators.

    Args:
        learning_rate: Shrinkage of each tree.
        leaves: Leaves per tree.
        max_trees: Upper bound on trees.
        step: Trees between two looks at the tune fold.
        patience: Looks without improvement before it stops.
    """

    name: ClassVar[str] = "boosting-pattern"
    fitted: ClassVar = FittedBoosting
    card: ClassVar[dict[str, Any]] = {
        "title": "Gradient boosting with pattern columns",
        "paper": "Control: Ke et al. (2017), LightGBM, as scikit-learn's HistGradientBoostingClassifier",
        "missing": "missing values as they are, and an indicator per modality; series as window summaries",
        "deviations": ("Stops on the tune fold's log loss instead of a random part of the training fold.",),
        "control": True,
    }

    learning_rate: float = 0.05
    leaves: int = 8
    max_trees: int = 500
    step: int = 20
    patience: int = 3

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.leaves - 1, self.max_trees, self.step, self.patience) <= 0:
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
        view = TableView.fit(train)
        categorical = _tree_categorical(view)
        x, x_tune = _tree_columns(view, train), _tree_columns(view, tune)
        models, kept = [], []
        for k, task in enumerate(train.schema.task_names):
            asked, y = _asked(train, k)
            asked_tune, y_tune = _asked_tune(tune, k)
            seen: Bool = np.logical_not(np.isnan(x[asked]).all(axis=0))
            kept.append(seen)
            monitor.start(f"{self.name} {task}", self.max_trees)
            blank = HistGradientBoostingClassifier(
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.leaves,
                categorical_features=categorical[seen],
                early_stopping=False,
                warm_start=True,
                random_state=seed,
            )
            with threadpool_limits(_THREADS):
                grown = self._grow(blank, task, x[asked][:, seen], y, x_tune[asked_tune][:, seen], y_tune, monitor)
            models.append(grown)
            monitor.stop()
        return FittedBoosting(self.name, train.schema, _seen(train, tune), view, np.stack(kept), models)

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
            monitor.epoch(
                {
                    "fit": f"{self.name} {task}",
                    "phase": "boost",
                    "epoch": int(model.n_iter_),
                    "train": {},
                    "tune": {"log_loss": loss},
                    "seconds": time.perf_counter() - begun,
                    "lr": self.learning_rate,
                }
            )
            since += 1
            if loss < lowest:
                # growing on changes the ensemble in place
                best, lowest, since = copy.deepcopy(model), loss, 0
            if since >= self.patience:
                break
        return best


CONTROLS: Final[dict[str, type[PatternOnly] | type[LogisticPattern] | type[BoostingPattern]]] = {
    c.name: c for c in (PatternOnly, LogisticPattern, BoostingPattern)
}
"""Registry name → recipe; ``CONTROLS[name].fitted.load_state`` reads what the fitted thing wrote."""


def _view(folder: Path, schema: Schema) -> TableView:
    with np.load(folder / "view.npz", allow_pickle=False) as arrays:
        return TableView.from_arrays(schema, dict(arrays))


def _tree_columns(view: TableView, fold: Fold[Any]) -> Float:
    """(n, ΣC + M) contents with NaN, then presence."""
    contents = [view.columns(fold, m) for m in range(len(fold.schema.modalities))]
    return np.concatenate([*contents, fold.present.astype(np.float64)], axis=1)


def _tree_categorical(view: TableView) -> Bool:
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


def _linear_risks(x: Float, coefficients: Float, intercepts: Float) -> Float:
    """(n, K) σ(x β + b). Summed row by row: a matrix product's last bits depend on how many rows it has."""
    logits = [(x * beta).sum(axis=1) + b for beta, b in zip(coefficients, intercepts, strict=True)]
    risks: Float = expit(np.column_stack(logits))
    return risks


def _by_pattern(present: Bool) -> Iterator[tuple[Bool, NDArray[np.int64]]]:
    """Distinct patterns (M,) with the rows that have them."""
    patterns, group = np.unique(present, axis=0, return_inverse=True)
    for g, pattern in enumerate(patterns):
        yield pattern, np.flatnonzero(group.reshape(-1) == g)


def _asked(train: Fold[Train], k: int) -> tuple[Bool, Bool]:
    """((n,) which samples task k was asked of, their labels).

    Raises:
        TrainingError: The labels do not show both classes.
    """
    asked = train.label_mask[:, k]
    y = train.labels[asked, k]
    if y.all() or not y.any():  # also where nobody was asked
        raise TrainingError(
            f"task '{train.schema.task_names[k]}'",
            "training samples with and without the outcome",
            f"{int(y.sum())} with, {int((~y).sum())} without",
            "drop the task or use more records",
        )
    return asked, y


def _asked_tune(tune: Fold[Tune], k: int) -> tuple[Bool, Bool]:
    """The same of the tune fold, where one class is enough.

    Raises:
        TrainingError: The task was asked of nobody.
    """
    asked = tune.label_mask[:, k]
    if not asked.any():
        raise TrainingError(
            f"task '{tune.schema.task_names[k]}'",
            "tune samples it was asked of",
            "none",
            "raise the tune share of the split",
        )
    return asked, tune.labels[asked, k]


def _seen(train: Fold[Train], tune: Fold[Tune]) -> Keys:
    return np.union1d(train.keys(), tune.keys())

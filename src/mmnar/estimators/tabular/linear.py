"""The columns of a linear model, its fit and its risks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView
from mmnar.estimators.tabular.folds import THREADS, Bool, Float, asked_tasks
from mmnar.roles import Train, Tune


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
        absent: None, or what the columns of each modality hold where it is absent: their means over the training
            samples that have it. Then no column tells the pattern.
    """

    view: TableView
    mean: Float
    scale: Float
    flagged: Bool
    patterns: Bool
    absent: tuple[Float, ...] | None = None

    @classmethod
    def of(cls, train: Fold[Train], min_patients: int, append_pattern: bool = True) -> LinearDesign:
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
        patterns = frequent_patterns(train.present, min_patients)
        design = cls(view, np.array(mean), np.array(scale), np.array(flagged), patterns)
        return design if append_pattern else design._blind(train)

    def _blind(self, train: Fold[Train]) -> LinearDesign:
        blocks = [self.block(train, m)[train.present[:, m]] for m in range(len(train.schema.modalities))]
        absent = tuple(b.mean(axis=0) if len(b) else np.zeros(b.shape[1]) for b in blocks)
        return LinearDesign(self.view, self.mean, self.scale, self.flagged, self.patterns[:0], absent)

    def block(self, fold: Fold[Any], modality: int) -> Float:
        """(n, D_m) columns of one modality, each row from its own patient alone; 0 where it is absent."""
        specs = fold.schema.modalities
        values = self.view.columns(fold, modality)
        observed = ~np.isnan(values)
        columns: list[Float] = []
        first = sum(len(self.view.features(spec)) for spec in specs[:modality])
        for f, feature in enumerate(self.view.features(specs[modality])):
            x, seen, position = values[:, f], observed[:, f], first + f
            if feature.categories:
                columns += [(x == c).astype(np.float64) for c in range(len(feature.categories))]
            else:
                columns.append(np.where(seen, (x - self.mean[position]) * self.scale[position], 0.0))
            if self.flagged[position]:
                columns.append(seen.astype(np.float64))
        return np.column_stack(columns) if columns else np.empty((len(fold), 0))

    def columns(self, fold: Fold[Any]) -> Float:
        """(n, D), each row from its own patient alone."""
        present = fold.present
        blocks = [self.block(fold, m) for m in range(present.shape[1])]
        if self.absent is None:
            return np.column_stack([*blocks, pattern_columns(present, self.patterns)])
        return np.column_stack(
            [
                np.where(there[:, None], block, mean)
                for there, block, mean in zip(present.T, blocks, self.absent, strict=True)
            ]
        )

    @property
    def telling(self) -> int:
        """How many columns tell the pattern and nothing else; they are the last."""
        return 0 if self.absent is not None else self.patterns.shape[1] + len(self.patterns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving, the view apart: name → array."""
        own = {"mean": self.mean, "scale": self.scale, "flagged": self.flagged, "patterns": self.patterns}
        return own | {f"absent/{m}": a for m, a in enumerate(self.absent or ())}

    @classmethod
    def from_arrays(cls, view: TableView, arrays: dict[str, NDArray[Any]]) -> LinearDesign:
        own = [arrays[name] for name in ("mean", "scale", "flagged", "patterns")]
        absent = tuple(arrays[f"absent/{m}"] for m in range(len(view.schema.modalities)) if f"absent/{m}" in arrays)
        return cls(view, own[0], own[1], own[2], own[3], absent or None)


def frequent_patterns(present: Bool, min_patients: int) -> Bool:
    """(G, M) the patterns that at least so many rows of ``present`` (n, M) have."""
    patterns, counts = np.unique(present, axis=0, return_counts=True)
    return np.asarray(patterns[counts >= min_patients])


def pattern_columns(present: Bool, patterns: Bool) -> Float:
    """(n, M + G) δ, and an indicator of each of ``patterns`` (G, M)."""
    own = [(present == p).all(axis=1) for p in patterns]
    return np.column_stack([present, *own]).astype(np.float64)


class LogisticFit(NamedTuple):
    """One logistic regression: log loss on the tune rows, C, coefficients (D,), intercept."""

    loss: float
    c: float
    coefficients: Float
    intercept: float


def fit_logistic(x: Float, y: Bool, x_tune: Float, y_tune: Bool, penalties: Sequence[float]) -> LogisticFit:
    """The fit with the C among ``penalties`` that the tune rows like best."""
    tried = []
    for c in penalties:
        with threadpool_limits(THREADS):
            model = LogisticRegression(C=c, max_iter=5000).fit(x, y)
        risks = linear_risks(x_tune, model.coef_, model.intercept_)[:, 0]
        loss = float(log_loss(y_tune, risks, labels=[False, True]))
        tried.append(LogisticFit(loss, c, model.coef_[0], float(model.intercept_[0])))
    return min(tried, key=lambda fit: fit[:2])


def fit_tasks(
    train: Fold[Train], tune: Fold[Tune], x: Float, x_tune: Float, penalties: Sequence[float]
) -> list[LogisticFit]:
    """``fit_logistic`` of every task, on the rows (n, D) it was asked of."""
    return [
        fit_logistic(x[asked.train], asked.y, x_tune[asked.tune], asked.y_tune, penalties)
        for asked in asked_tasks(train, tune)
    ]


def fit_weighted(
    train: Fold[Train],
    tune: Fold[Tune],
    x: Float,
    x_tune: Float,
    penalties: Sequence[float],
    telling: int,
    weights: Sequence[float],
) -> list[LogisticFit]:
    """``fit_tasks`` with the last columns penalised less: multiplied by a weight beforehand.

    A later weight takes the place of an earlier one where the tune rows' log loss is less by more than the standard
    error of the difference: few events would choose by chance.

    Args:
        telling: How many columns, the last, are weighted.
        weights: From the plainest to the boldest.

    Returns:
        Fits whose coefficients are those of the columns as they were.
    """
    fits = []
    for asked in asked_tasks(train, tune):
        tried: list[tuple[LogisticFit, Float]] = []
        for weight in weights if telling else (1.0,):
            scale = np.ones(x.shape[1])
            scale[x.shape[1] - telling :] = weight
            tune_rows = x_tune[asked.tune]
            fit = fit_logistic(x[asked.train] * scale, asked.y, tune_rows * scale, asked.y_tune, penalties)
            fit = fit._replace(coefficients=fit.coefficients * scale)
            risks = linear_risks(tune_rows, fit.coefficients[None], np.array([fit.intercept]))[:, 0]
            terms = -np.log(np.clip(np.where(asked.y_tune, risks, 1 - risks), 1e-15, 1))
            if not tried or _clearly_less(terms, tried[-1][1]):
                tried.append((fit, terms))
        fits.append(tried[-1][0])
    return fits


def _clearly_less(terms: Float, than: Float) -> bool:
    gain = than - terms
    return bool(len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def linear_risks(x: Float, coefficients: Float, intercepts: Float) -> Float:
    """(n, K) σ(x β + b). Summed row by row: a matrix product's last bits depend on how many rows it has."""
    logits = [(x * beta).sum(axis=1) + b for beta, b in zip(coefficients, intercepts, strict=True)]
    risks: Float = expit(np.column_stack(logits))
    return risks

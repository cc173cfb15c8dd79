"""Logistic regression on what a factor model infers from whatever was observed.

x = Λ f + ε,  f ~ N(0, I),  ε ~ N(0, diag ψ)                       the standardised numbers of all modalities
f̂ = E[f | x_o] = (I + Λ_o' Ψ_o⁻¹ Λ_o)⁻¹ Λ_o' Ψ_o⁻¹ x_o            o: the observed cells of a patient
logit p = linear in f̂, f̂ f̂', δ, δ ⊗ f̂ and the categories
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView, column_features
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import THREADS, Bool, Float, Keys, TaskByTask, load_view, seen_subjects
from mmnar.estimators.tabular.linear import fit_tasks, linear_risks
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor

UNRELATED: Final = 10
"""Patients without correlation that are added to every pair of columns: few common patients then say little."""

LEAST_NOISE: Final = 0.01
"""ψ of a column of variance 1 is at least this."""

EM_STEPS: Final = 500
ROWS: Final = 2048
"""Patients of one step: their (q, q) matrices stay in the cache."""


@dataclass(frozen=True)
class FactorModel:
    """Factor analysis: ``loadings`` Λ (C, q), ``noise`` ψ (C,)."""

    loadings: Float
    noise: Float

    @classmethod
    def fit(cls, covariance: Float, factors: int) -> FactorModel:
        """Maximum likelihood by EM on a (C, C) positive semidefinite correlation matrix (Rubin and Thayer 1982)."""
        values, vectors = np.linalg.eigh(covariance)
        loadings = vectors[:, ::-1][:, :factors] * np.sqrt(np.maximum(values[::-1][:factors], LEAST_NOISE))
        noise = np.maximum(1 - (loadings**2).sum(axis=1), LEAST_NOISE)
        for _ in range(EM_STEPS):
            weighted = loadings / noise[:, None]
            spread = np.linalg.inv(np.eye(factors) + loadings.T @ weighted)  # Cov[f | x]
            mean_of = spread @ weighted.T  # E[f | x] = mean_of x, (q, C)
            with_factors = covariance @ mean_of.T  # E x f', (C, q)
            loadings = with_factors @ np.linalg.inv(spread + mean_of @ with_factors)
            noise = np.maximum(np.diag(covariance) - (loadings * with_factors).sum(axis=1), LEAST_NOISE)
        return cls(loadings, noise)

    def posterior(self, z: Float, observed: Bool) -> Float:
        """(n, q) f̂ of standardised columns (n, C), 0 where not ``observed``; each row from its own patient alone.

        Summed column by column: a matrix product's last bits depend on how many rows it has.
        """
        q = self.loadings.shape[1]
        weighted = self.loadings / self.noise[:, None]
        gain = weighted[:, :, None] * self.loadings[:, None, :]  # (C, q, q)
        means = np.empty((len(z), q))
        for start in range(0, len(z), ROWS):
            rows = slice(start, start + ROWS)
            seen, x = observed[rows].astype(np.float64), z[rows]
            precision, pull = np.tile(np.eye(q), (len(x), 1, 1)), np.zeros((len(x), q))
            for j in range(z.shape[1]):
                precision += seen[:, j, None, None] * gain[j]
                pull += x[:, j, None] * weighted[j]
            means[rows] = np.linalg.solve(precision, pull[..., None])[..., 0]
        return means


def pairwise_correlation(z: Float, observed: Bool) -> Float:
    """(C, C) correlation of standardised columns (n, C), each pair from the patients who have both; made PSD.

    A pair counts as if ``UNRELATED`` more patients had it, in whom it is uncorrelated. Negative eigenvalues become 0
    and the diagonal 1 again.
    """
    seen = observed.astype(np.float64)
    covariance = (z.T @ z) / (seen.T @ seen + UNRELATED)
    np.fill_diagonal(covariance, 1.0)
    values, vectors = np.linalg.eigh(covariance)
    psd = (vectors * np.maximum(values, 0.0)) @ vectors.T
    sd = np.sqrt(np.diag(psd))
    return np.asarray(psd / sd[:, None] / sd)


@dataclass(frozen=True)
class FactorDesign:
    """How a fold becomes standardised numbers and indicators of categories; fitted on a training fold.

    Args:
        view: What each modality's columns are.
        mean, scale: (ΣC,) over observed training values; scale is 0 where training saw one value or none, and of
            categories: such columns are none of the factor model's.
    """

    view: TableView
    mean: Float
    scale: Float

    @classmethod
    def of(cls, train: Fold[Train]) -> FactorDesign:
        view = TableView.fit(train)
        mean, scale = [], []
        for values, (_, feature) in zip(_values(view, train).T, column_features(view), strict=True):
            x = values[~np.isnan(values)]
            sd = x.std() if len(x) and not feature.categories else 0.0
            mean.append(x.mean() if len(x) else 0.0)
            scale.append(1.0 / sd if sd > 0 else 0.0)
        return cls(view, np.array(mean), np.array(scale))

    def columns(self, fold: Fold[Any]) -> tuple[Float, Bool, Float]:
        """Numbers (n, C), 0 where not observed; where they are; indicators of categories (n, D)."""
        values = _values(self.view, fold)
        used = self.scale > 0
        observed = ~np.isnan(values[:, used])
        z = np.where(observed, (values[:, used] - self.mean[used]) * self.scale[used], 0.0)
        indicators = [
            (x == c).astype(np.float64)
            for x, (_, feature) in zip(values.T, column_features(self.view), strict=True)
            for c in range(len(feature.categories))
        ]
        return z, observed, np.column_stack([np.empty((len(fold), 0)), *indicators])


class FittedFactorPosterior(TaskByTask):
    """A factor model and a logistic regression per task.

    Args:
        design: Fitted columns.
        factors: Fitted factor model.
        contents: Whether the regressions also see the numbers themselves, 0 where not observed.
        mean, scale: (D,) of the regressions' columns over the training fold.
        coefficients: (K, D).
        intercepts: (K,).
        chosen: K inverse penalties C.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: FactorDesign,
        factors: FactorModel,
        contents: bool,
        mean: Float,
        scale: Float,
        coefficients: Float,
        intercepts: Float,
        chosen: list[float],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.factors, self.contents, self.mean, self.scale = design, factors, contents, mean, scale
        self.coefficients, self.intercepts, self.chosen = coefficients, intercepts, chosen

    def task_risks(self, fold: Fold[Any]) -> Float:
        z, observed, indicators = self.design.columns(fold)
        x = _regressors(self.factors.posterior(z, observed), fold.present, indicators, z if self.contents else None)
        return linear_risks((x - self.mean) * self.scale, self.coefficients, self.intercepts)

    def _state(self, folder: Path) -> dict[str, Any]:
        arrays = {
            "column_mean": self.design.mean,
            "column_scale": self.design.scale,
            "loadings": self.factors.loadings,
            "noise": self.factors.noise,
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
        }
        save_arrays(folder / "factor-posterior.npz", arrays)
        save_arrays(folder / "view.npz", self.design.view.arrays())
        factors = self.factors.loadings.shape[1]
        return {"name": self.name, "factors": factors, "contents": self.contents, "C": self.chosen}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]
    ) -> FittedFactorPosterior:
        with np.load(folder / "factor-posterior.npz", allow_pickle=False) as arrays:
            a: dict[str, NDArray[Any]] = dict(arrays)
        return cls(
            state["name"],
            schema,
            fitted_subjects,
            FactorDesign(load_view(folder, schema), a["column_mean"], a["column_scale"]),
            FactorModel(a["loadings"], a["noise"]),
            state["contents"],
            a["mean"],
            a["scale"],
            a["coefficients"],
            a["intercepts"],
            list(state["C"]),
        )


@dataclass(frozen=True)
class FactorPosterior(Estimator):
    """Logistic regression on posterior factor means, their products, the pattern and pattern × factor.

    Args:
        factors: Numbers of factors among which the tune fold's log loss, summed over tasks, chooses, with and without
            the numbers themselves beside them.
        inverse_penalties: Values of C among which it chooses, per task.
    """

    name: ClassVar[str] = "factor-posterior"
    card: ClassVar[dict[str, Any]] = {
        "title": "Factor posterior",
        "paper": "Control: factor analysis (Rubin and Thayer 1982) and L2-penalised logistic regression",
        "missing": "factors are inferred from the observed cells alone; the pattern is added, and times each factor",
        "deviations": (
            "The factor model is fitted to correlations of pairs of columns, each from the patients who have both, as "
            "if they were missing at random.",
            "All products of two factors, so that a rotation of the factors changes nothing but the penalty.",
            "Categories enter the regression as indicators and not the factor model; the numbers themselves are added "
            "where the tune fold likes that better: factors lose what a single column tells.",
        ),
        "control": True,
    }

    factors: tuple[int, ...] = (1, 3, 6, 12)
    inverse_penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1 or not self.inverse_penalties or min(self.inverse_penalties) <= 0:
            raise ConfigError(
                "factor-posterior", "factors ≥ 1 and C > 0", f"{self.factors}, {self.inverse_penalties}", "1,3 and 0.1"
            )

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedFactorPosterior:
        design = FactorDesign.of(train)
        with threadpool_limits(THREADS):
            z, observed, indicators = design.columns(train)
            z_tune, observed_tune, indicators_tune = design.columns(tune)
            correlation = pairwise_correlation(z, observed)
            tried = []
            for q in sorted({min(q, z.shape[1]) for q in self.factors}):
                model = FactorModel.fit(correlation, q)
                f, f_tune = model.posterior(z, observed), model.posterior(z_tune, observed_tune)
                for contents in (False, True):
                    x = _regressors(f, train.present, indicators, z if contents else None)
                    x_tune = _regressors(f_tune, tune.present, indicators_tune, z_tune if contents else None)
                    mean, sd = x.mean(axis=0), x.std(axis=0)
                    scale = np.where(sd > 1e-9, 1.0 / np.maximum(sd, 1e-9), 0.0)
                    scaled = ((x - mean) * scale, (x_tune - mean) * scale)
                    fits = fit_tasks(train, tune, *scaled, self.inverse_penalties)
                    tried.append((sum(fit.loss for fit in fits), model, contents, mean, scale, fits))
        _, model, contents, mean, scale, fits = min(tried, key=lambda t: t[0])
        return FittedFactorPosterior(
            self.name,
            train.schema,
            seen_subjects(train, tune),
            design,
            model,
            contents,
            mean,
            scale,
            np.stack([fit.coefficients for fit in fits]),
            np.array([fit.intercept for fit in fits]),
            [fit.c for fit in fits],
        )


def _values(view: TableView, fold: Fold[Any]) -> Float:
    """(n, ΣC) with NaN where nothing is known."""
    return np.concatenate([view.columns(fold, m) for m in range(len(fold.schema.modalities))], axis=1)


def _regressors(factors: Float, present: Bool, indicators: Float, contents: Float | None) -> Float:
    """(n, D): f̂ (n, q), its products, δ (n, M), δ ⊗ f̂, indicators and contents."""
    i, j = np.triu_indices(factors.shape[1])
    crossed = (present[:, :, None] * factors[:, None, :]).reshape(len(factors), present.shape[1] * factors.shape[1])
    columns = [factors, factors[:, i] * factors[:, j], present, crossed, indicators]
    return np.column_stack(columns if contents is None else [*columns, contents])

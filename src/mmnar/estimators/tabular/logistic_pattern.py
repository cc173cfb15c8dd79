"""Logistic regression that sees the pattern."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, Predictor, save_arrays
from mmnar.estimators.tabular.folds import THREADS, Float, Keys, asked_of, asked_of_tune, load_view, seen_subjects
from mmnar.estimators.tabular.linear import LinearDesign, linear_risks
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor


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
        return linear_risks(self.design.columns(fold), self.coefficients, self.intercepts)

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
            design = LinearDesign(load_view(folder, schema), a["mean"], a["scale"], a["flagged"], a["patterns"])
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
        with threadpool_limits(THREADS):
            fits = [self._fit_task(k, train, tune, x, x_tune) for k in range(len(train.schema.tasks))]
        return FittedLogistic(
            self.name,
            train.schema,
            seen_subjects(train, tune),
            design,
            np.concatenate([model.coef_ for _, model in fits]),
            np.concatenate([model.intercept_ for _, model in fits]),
            [c for c, _ in fits],
        )

    def _fit_task(
        self, k: int, train: Fold[Train], tune: Fold[Tune], x: Float, x_tune: Float
    ) -> tuple[float, LogisticRegression]:
        asked, y = asked_of(train, k)
        asked_tune, y_tune = asked_of_tune(tune, k)
        x, x_tune = x[asked], x_tune[asked_tune]
        tried = []
        for c in self.inverse_penalties:
            model = LogisticRegression(C=c, max_iter=5000).fit(x, y)
            risks = linear_risks(x_tune, model.coef_, model.intercept_)[:, 0]
            tried.append((log_loss(y_tune, risks, labels=[False, True]), c, model))
        _, c, model = min(tried, key=lambda t: t[:2])
        return c, model

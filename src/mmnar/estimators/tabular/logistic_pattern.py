"""Logistic regression that sees the pattern."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import Float, Keys, TaskByTask, load_view, seen_subjects
from mmnar.estimators.tabular.linear import LinearDesign, fit_weighted, linear_risks
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor


class FittedLogistic(TaskByTask):
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

    @property
    def blind(self) -> bool:
        return self.design.absent is not None

    def task_risks(self, fold: Fold[Any]) -> Float:
        return linear_risks(self.design.columns(fold), self.coefficients, self.intercepts)

    def _state(self, folder: Path) -> dict[str, Any]:
        fitted = {"coefficients": self.coefficients, "intercepts": self.intercepts}
        save_arrays(folder / "logistic-pattern.npz", self.design.arrays() | fitted)
        save_arrays(folder / "view.npz", self.design.view.arrays())
        return {"name": self.name, "C": self.chosen}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedLogistic:
        with np.load(folder / "logistic-pattern.npz", allow_pickle=False) as arrays:
            a = dict(arrays)
        design = LinearDesign.from_arrays(load_view(folder, schema), a)
        return cls(state["name"], schema, fitted_subjects, design, a["coefficients"], a["intercepts"], list(state["C"]))


@dataclass(frozen=True)
class LogisticPattern(Estimator):
    """Logistic regression on contents, pattern bits and every frequent pattern.

    Args:
        inverse_penalties: Values of C among which the tune fold's log loss chooses, per task.
        pattern_weights: What the pattern's columns are multiplied by before the penalty; a later one is taken where the
            tune fold clearly likes it better. Contents of hundreds of columns want a penalty that would take the
            pattern with them.
        min_patients: A pattern with at least so many training samples gets a column of its own.
        c: One value of C in place of the choice.
        append_pattern: False = blind to the pattern: no columns of it, and the columns of an absent modality hold
            their training means.
    """

    name: ClassVar[str] = "logistic-pattern"
    card: ClassVar[dict[str, Any]] = {
        "title": "Logistic regression with pattern columns",
        "paper": "Control: L2-penalised logistic regression",
        "missing": "standardised, mean-filled features, observed-flags, one column per modality and frequent pattern, "
        "these penalised less where the tune fold clearly likes it better",
        "deviations": (),
        "control": True,
    }

    inverse_penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    pattern_weights: tuple[float, ...] = (1.0, 3.0, 10.0)
    min_patients: int = 50
    c: float | None = None
    append_pattern: bool = True

    def __post_init__(self) -> None:
        if not self._penalties or min(self._penalties) <= 0:
            raise ConfigError("logistic-pattern C", "numbers > 0", f"{self._penalties}", "use 0.001 … 1")
        if not self.pattern_weights or min(self.pattern_weights) <= 0:
            raise ConfigError("model.pattern_weights", "numbers > 0", f"{self.pattern_weights}", "use 1, 3 and 10")

    @property
    def _penalties(self) -> tuple[float, ...]:
        return self.inverse_penalties if self.c is None else (self.c,)

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedLogistic:
        design = LinearDesign.of(train, self.min_patients, self.append_pattern)
        x, x_tune = design.columns(train), design.columns(tune)
        fits = fit_weighted(train, tune, x, x_tune, self._penalties, design.telling, self.pattern_weights)
        _, chosen, coefficients, intercepts = zip(*fits, strict=True)
        seen = seen_subjects(train, tune)
        return FittedLogistic(
            self.name, train.schema, seen, design, np.stack(coefficients), np.array(intercepts), list(chosen)
        )

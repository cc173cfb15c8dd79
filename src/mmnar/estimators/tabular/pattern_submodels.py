"""One logistic regression for each observation pattern (Mercaldo and Blume 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import Asked, Bool, Float, Keys, TaskByTask, asked_tasks, load_view, seen_subjects
from mmnar.estimators.tabular.linear import LinearDesign, LogisticFit, fit_logistic
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor


class FittedSubmodels(TaskByTask):
    """Logistic regressions, one per task and pattern.

    Args:
        design: Fitted columns.
        patterns: (G, M) patterns with a submodel; the empty one is among them.
        coefficients: (K, G, D), 0 for the columns of modalities that a pattern lacks.
        intercepts: (K, G).
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: LinearDesign,
        patterns: Bool,
        coefficients: Float,
        intercepts: Float,
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.patterns = design, patterns
        self.coefficients, self.intercepts = coefficients, intercepts

    def task_risks(self, fold: Fold[Any]) -> Float:
        x, which = columns_of(self.design, fold)[0], submodel_of(fold.present, self.patterns)
        # summed row by row: a matrix product's last bits depend on how many rows it has
        logits = [
            (x * beta[which]).sum(1) + b[which] for beta, b in zip(self.coefficients, self.intercepts, strict=True)
        ]
        return np.asarray(expit(np.column_stack(logits)))

    def _state(self, folder: Path) -> dict[str, Any]:
        own = {"submodels": self.patterns, "coefficients": self.coefficients, "intercepts": self.intercepts}
        save_arrays(folder / "pattern-submodels.npz", self.design.arrays() | own)
        save_arrays(folder / "view.npz", self.design.view.arrays())
        return {"name": self.name}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedSubmodels:
        with np.load(folder / "pattern-submodels.npz", allow_pickle=False) as arrays:
            a = dict(arrays)
        design = LinearDesign.from_arrays(load_view(folder, schema), a)
        own = (a["submodels"], a["coefficients"], a["intercepts"])
        return cls(state["name"], schema, fitted_subjects, design, *own)


def columns_of(design: LinearDesign, fold: Fold[Any]) -> tuple[Float, NDArray[np.int64]]:
    """(n, D) contents of all modalities without the pattern, and (D,) the modality of each column."""
    blocks = [design.block(fold, m) for m in range(len(fold.schema.modalities))]
    return np.column_stack(blocks), np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])


def submodel_of(present: Bool, patterns: Bool) -> NDArray[np.int64]:
    """(n,) index of the submodel of each row: its own pattern's, else that of the largest pattern (G, M) it contains;
    of equally large ones the first."""
    distinct, row = np.unique(present, axis=0, return_inverse=True)
    contained = ~(patterns[None] & ~distinct[:, None]).any(axis=2)  # (P, G)
    return np.asarray(np.where(contained, patterns.sum(axis=1), -1).argmax(axis=1))[row.reshape(-1)]


@dataclass(frozen=True)
class PatternSubmodels(Estimator):
    """A logistic regression for each pattern, on the contents that the pattern has.

    A pattern's submodel is fitted on the patients who have just this pattern. Where these are too few, on all who have
    at least its modalities (the paper's complete-case submodel). Where these are too few, too, the pattern has none,
    and its patients are scored by the largest pattern within theirs that has one. The empty pattern's is the rate.

    Args:
        inverse_penalties: Values of C among which the tune fold's log loss chooses, per task and pattern.
        least: Training patients with and without the outcome, each, that a submodel needs.
    """

    name: ClassVar[str] = "pattern-submodels"
    card: ClassVar[dict[str, Any]] = {
        "title": "Pattern submodels of logistic regression",
        "paper": "Control: Mercaldo and Blume (2020), Missing data and prediction: the pattern submodel",
        "missing": "a model for each pattern of modalities; a value missing within a modality is the mean, and flagged",
        "deviations": (
            "The paper's patterns are of single variables; these are of modalities, or few patients would share one.",
            "L2-penalised, with the penalty chosen on the tune fold; patterns of few patients borrow (see above).",
        ),
        "control": True,
    }

    inverse_penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    least: int = 20

    def __post_init__(self) -> None:
        if not self.inverse_penalties or min(self.inverse_penalties) <= 0 or self.least < 1:
            fact = f"{self.inverse_penalties}, {self.least}"
            raise ConfigError("pattern-submodels", "C > 0 and at least one patient", fact, "use the defaults")

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedSubmodels:
        design = LinearDesign.of(train, 1)
        x, modality = columns_of(design, train)
        x_tune, _ = columns_of(design, tune)
        none = np.zeros((1, train.present.shape[1]), dtype=bool)
        patterns: Bool = np.unique(np.concatenate([none, train.present]), axis=0)
        tasks = list(asked_tasks(train, tune))
        found = [[self._submodel(asked, p, train, tune, x, x_tune, p[modality]) for p in patterns] for asked in tasks]
        # a pattern that too few have for any task has no submodel at all
        kept = [g for g in range(len(patterns)) if all(row[g] is not None for row in found)]
        coefficients = np.zeros((len(tasks), len(kept), x.shape[1]))
        intercepts = np.zeros((len(tasks), len(kept)))
        for k, row in enumerate(found):
            for i, g in enumerate(kept):
                fit = row[g]
                assert fit is not None
                coefficients[k, i, patterns[g][modality]], intercepts[k, i] = fit.coefficients, fit.intercept
        seen = seen_subjects(train, tune)
        return FittedSubmodels(self.name, train.schema, seen, design, patterns[kept], coefficients, intercepts)

    def _submodel(
        self, asked: Asked, pattern: Bool, train: Fold[Train], tune: Fold[Tune], x: Float, x_tune: Float, own: Bool
    ) -> LogisticFit | None:
        """One task's regression on the columns ``own`` (D,) of a pattern (M,); None where too few have it."""
        present = train.present[asked.train]
        same, at_least = np.all(present == pattern, axis=1), np.all(present | ~pattern, axis=1)
        if not pattern.any():
            rate = float(asked.y.mean())
            return LogisticFit(0.0, 0.0, np.empty(0), float(np.log(rate / (1 - rate))))
        for rows in (same, at_least):
            y = asked.y[rows]
            if min(y.sum(), len(y) - y.sum()) >= self.least:
                there = np.all(tune.present[asked.tune] | ~pattern, axis=1)
                there = there if there.any() else np.ones_like(there)
                cells = x[asked.train][rows][:, own], y, x_tune[asked.tune][there][:, own], asked.y_tune[there]
                return fit_logistic(*cells, self.inverse_penalties)
        return None

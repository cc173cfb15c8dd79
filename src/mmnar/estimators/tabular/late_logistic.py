"""Late fusion: one logistic regression per modality, and one on their outputs.

    s_m = β_m' x_m                          evidence of modality m, 0 where it is absent; β_m from those who have it
    logit p = b + Σ_m (a_m + Σ_{l≠m} A_lm δ_l) s_m + c'δ + d_{pattern}

What a modality weighs thus depends on which others are there. The stacker learns from out-of-fold evidence: the s_m of
a training patient come from regressions that saw none of their subject's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from mmnar.dataset.store import Fold, divided
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import THREADS, Bool, Float, Keys, TaskByTask, asked_tasks, load_view, seen_subjects
from mmnar.estimators.tabular.linear import LinearDesign, fit_logistic, linear_risks, pattern_columns
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor

INNER: Final = 31_337
"""Sets the folds inside a fit apart from those around it."""


class FittedLateLogistic(TaskByTask):
    """Regressions of modalities and their stacker, per task.

    Args:
        design: Fitted columns of the modalities; its ``patterns`` have a column of their own in the stacker.
        modality: K × M coefficients (D_m,); zeros where a modality says nothing.
        stacker: (K, S) coefficients.
        intercepts: (K,).
        chosen: K inverse penalties C of the stackers.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: LinearDesign,
        modality: list[list[Float]],
        stacker: Float,
        intercepts: Float,
        chosen: list[float],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.modality = design, modality
        self.stacker, self.intercepts, self.chosen = stacker, intercepts, chosen

    def task_risks(self, fold: Fold[Any]) -> Float:
        blocks, present = blocks_of(self.design, fold), fold.present
        risks = []
        for betas, beta, b in zip(self.modality, self.stacker, self.intercepts, strict=True):
            x = stacker_columns(evidence(blocks, betas), present, self.design.patterns)
            risks.append(linear_risks(x, beta[None], np.array([b])))
        return np.concatenate(risks, axis=1)

    def _state(self, folder: Path) -> dict[str, Any]:
        arrays = {f"modality/{k}/{m}": beta for k, betas in enumerate(self.modality) for m, beta in enumerate(betas)}
        fitted = arrays | {"stacker": self.stacker, "intercepts": self.intercepts}
        save_arrays(folder / "late-logistic.npz", self.design.arrays() | fitted)
        save_arrays(folder / "view.npz", self.design.view.arrays())
        return {"name": self.name, "C": self.chosen}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]
    ) -> FittedLateLogistic:
        with np.load(folder / "late-logistic.npz", allow_pickle=False) as arrays:
            a = dict(arrays)
        design = LinearDesign.from_arrays(load_view(folder, schema), a)
        modality = [[a[f"modality/{k}/{m}"] for m in range(len(schema.modalities))] for k in range(len(schema.tasks))]
        return cls(
            state["name"], schema, fitted_subjects, design, modality, a["stacker"], a["intercepts"], list(state["C"])
        )


@dataclass(frozen=True)
class LateLogistic(Estimator):
    """Per-modality logistic regressions, stacked with the pattern.

    Args:
        inverse_penalties: Values of C among which the tune fold's log loss chooses, for every regression by itself.
        min_patients: A pattern with at least so many training samples gets an intercept of its own.
        folds: Of the out-of-fold evidence, by subject.
    """

    name: ClassVar[str] = "late-logistic"
    card: ClassVar[dict[str, Any]] = {
        "title": "Late fusion of logistic regressions",
        "paper": "Control: stacked generalisation (Wolpert 1992) of L2-penalised logistic regressions",
        "missing": "an absent modality says nothing; the weights of the others and the intercept follow the pattern",
        "deviations": (
            "Means and scales of columns, which need no labels, are of the whole training fold; only the regressions "
            "are fitted out of fold.",
            "The penalty of a modality's regression is chosen once, on the tune fold, and kept for its folds.",
        ),
        "control": True,
    }

    inverse_penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    min_patients: int = 50
    folds: int = 5

    def __post_init__(self) -> None:
        if not self.inverse_penalties or min(self.inverse_penalties) <= 0 or self.folds < 2:
            raise ConfigError(
                "late-logistic",
                "C > 0 and at least 2 folds",
                f"{self.inverse_penalties}, {self.folds}",
                "use the defaults",
            )

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedLateLogistic:
        design = LinearDesign.of(train, self.min_patients)
        blocks, blocks_tune = blocks_of(design, train), blocks_of(design, tune)
        # another assignment than that of cross-fitting from outside, one of whose folds this training fold may lack
        fold_of = divided(train.subject_id, self.folds, seed + INNER)
        modality, fits = [], []
        for k, asked in enumerate(asked_tasks(train, tune)):
            labels = train.labels[:, k]
            betas, held_out = [], np.zeros((len(train), len(blocks)))
            for m, (x, x_tune) in enumerate(zip(blocks, blocks_tune, strict=True)):
                used, used_tune = asked.train & train.present[:, m], asked.tune & tune.present[:, m]
                c, beta = self._best(x[used], labels[used], x_tune[used_tune], tune.labels[used_tune, k])
                betas.append(beta)
                held_out[:, m] = out_of_fold(x, labels, used, fold_of, c)
            modality.append(betas)
            stacked = stacker_columns(held_out, train.present, design.patterns)
            stacked_tune = stacker_columns(evidence(blocks_tune, betas), tune.present, design.patterns)
            cells = (stacked[asked.train], asked.y, stacked_tune[asked.tune], asked.y_tune)
            fits.append(fit_logistic(*cells, self.inverse_penalties))
        return FittedLateLogistic(
            self.name,
            train.schema,
            seen_subjects(train, tune),
            design,
            modality,
            np.stack([fit.coefficients for fit in fits]),
            np.array([fit.intercept for fit in fits]),
            [fit.c for fit in fits],
        )

    def _best(self, x: Float, y: Bool, x_tune: Float, y_tune: Bool) -> tuple[float, Float]:
        """C and coefficients of a modality's regression; the strongest penalty where no tune sample has it."""
        strongest = min(self.inverse_penalties)
        if not len(y_tune) or not _can_fit(x, y):
            return strongest, coefficients(x, y, strongest)
        fit = fit_logistic(x, y, x_tune, y_tune, self.inverse_penalties)
        return fit.c, fit.coefficients


def out_of_fold(x: Float, y: Bool, used: Bool, fold_of: NDArray[np.int64], c: float) -> Float:
    """(n,) evidence of one modality, each from the regression on ``used`` rows (n,) of the other folds."""
    scores = np.zeros(len(x))
    for f in np.unique(fold_of):
        held, others = fold_of == f, used & (fold_of != f)
        scores[held] = (x[held] * coefficients(x[others], y[others], c)).sum(axis=1)
    return scores


def coefficients(x: Float, y: Bool, c: float) -> Float:
    """(D,) of a logistic regression; zeros where there is nothing to learn from."""
    if not _can_fit(x, y):
        return np.zeros(x.shape[1])
    with threadpool_limits(THREADS):
        beta: Float = LogisticRegression(C=c, max_iter=5000).fit(x, y).coef_[0]
    return beta


def _can_fit(x: Float, y: Bool) -> bool:
    return x.shape[1] > 0 and bool(y.any()) and not bool(y.all())


def blocks_of(design: LinearDesign, fold: Fold[Any]) -> list[Float]:
    """(n, D_m) columns of each modality, 0 where it is absent."""
    return [design.block(fold, m) for m in range(len(fold.schema.modalities))]


def evidence(blocks: list[Float], betas: list[Float]) -> Float:
    """(n, M) s_m. Summed row by row: a matrix product's last bits depend on how many rows it has."""
    return np.column_stack([(x * beta).sum(axis=1) for x, beta in zip(blocks, betas, strict=True)])


def stacker_columns(scores: Float, present: Bool, patterns: Bool) -> Float:
    """(n, S): δ and frequent patterns, s (n, M), and δ_l s_m of every two modalities."""
    other, m = np.nonzero(~np.eye(present.shape[1], dtype=bool))
    return np.column_stack([pattern_columns(present, patterns), scores, present[:, other] * scores[:, m]])

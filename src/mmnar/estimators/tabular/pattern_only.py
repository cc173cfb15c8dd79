"""The event rate of each observation pattern."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator
from mmnar.estimators.tabular.folds import Bool, Float, Keys, TaskByTask, asked_of, by_pattern, seen_subjects
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor


class FittedPatternOnly(TaskByTask):
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

    def task_risks(self, fold: Fold[Any]) -> Float:
        proba = np.empty((len(fold), len(self.prevalence)))
        for pattern, rows in by_pattern(fold.present):
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
            asked, y = asked_of(train, k)
            prevalence[k] = y.mean()
            g = group.reshape(-1)[asked]
            n, events = np.bincount(g, minlength=len(rates)), np.bincount(g, y, minlength=len(rates))
            shrunken = (events + self.strength * prevalence[k]) / np.maximum(n + self.strength, 1e-12)
            # the task may never have been asked of a pattern that training saw for another
            rates[:, k] = np.where(n > 0, shrunken, prevalence[k])
        return FittedPatternOnly(self.name, train.schema, seen_subjects(train, tune), patterns, rates, prevalence)

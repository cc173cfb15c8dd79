"""A seed ensemble of any Estimator: the mean of its members' probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.storage import fit_or_load, load_predictor, save_predictor
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor


class EnsembleEstimator(Estimator):
    """``members`` fits of one recipe with seeds ``seed, seed + 1, …``.

    Args:
        base: The recipe.
        members: At least two.
    """

    def __init__(self, base: Estimator, members: int) -> None:
        if members < 2:
            raise ConfigError("ensemble", "at least 2 members", str(members), "use the estimator itself for one")
        self.base, self.members = base, members

    @property
    def name(self) -> str:
        return f"{self.base.name}-x{self.members}"

    @property
    def card(self) -> dict[str, Any]:
        return {**self.base.card, "title": f"{self.base.card['title']}, {self.members}-seed ensemble"}

    def refuses(self, schema: Schema) -> str | None:
        return self.base.refuses(schema)

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> EnsemblePredictor:
        fitted = [
            fit_or_load(self.base, train, tune, seed + i, workdir / f"member{i}" if workdir else None, monitor)
            for i in range(self.members)
        ]
        return EnsemblePredictor(self.name, train.schema, fitted[0].fitted_subjects, fitted)


class EnsemblePredictor(Predictor):
    """Fitted members."""

    def __init__(
        self, name: str, schema: Schema, fitted_subjects: NDArray[np.uint64], members: list[Predictor]
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.members = members

    @property
    def keeps_patients(self) -> bool:
        return any(member.keeps_patients for member in self.members)

    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.mean([m.predict_proba(fold) for m in self.members], axis=0)
        return mean

    def _state(self, folder: Path) -> dict[str, Any]:
        for i, member in enumerate(self.members):
            save_predictor(member, folder / f"member{i}")
        return {"name": self.name, "members": len(self.members)}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> EnsemblePredictor:
        members = [load_predictor(folder / f"member{i}") for i in range(state["members"])]
        return cls(state["name"], schema, fitted_subjects, members)

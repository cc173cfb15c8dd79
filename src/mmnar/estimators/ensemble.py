"""The mean of several fits: of one recipe with several seeds, or of its cross-fitted folds."""

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
from mmnar.training.monitor import Monitor, Named, Silent


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

    def starts_from(self) -> NDArray[np.uint64]:
        return self.base.starts_from()

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
    ) -> MeanPredictor:
        fitted = []
        for i in range(self.members):
            place, named = workdir / f"member{i}" if workdir else None, Named(monitor or Silent(), f"seed {seed + i}")
            fitted.append(fit_or_load(self.base, train, tune, seed + i, place, named))
        return MeanPredictor(self.name, train.schema, fitted[0].fitted_subjects, fitted)


class MeanPredictor(Predictor):
    """The mean of its members' risks, task by task over those that know the task.

    Risks, not logits: what a pattern's patients have on average out of fold, they then have in the mean (ADR 15).
    """

    def __init__(
        self, name: str, schema: Schema, fitted_subjects: NDArray[np.uint64], members: list[Predictor]
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.members = members

    @property
    def parameters(self) -> int | None:
        """Number of trained weights of all members; None where they are no networks."""
        each = [getattr(member, "parameters", None) for member in self.members]
        return None if None in each else sum(each)  # type: ignore[arg-type]

    @property
    def keeps_patients(self) -> bool:
        return any(member.keeps_patients for member in self.members)

    @property
    def blind(self) -> bool:
        return all(member.blind for member in self.members)

    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        return self.predict_with_fits(fold)[0]

    def predict_with_fits(self, fold: Fold[Any]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        tasks = self.schema.task_names
        total, knowing, fits = np.zeros((len(fold), len(tasks))), np.zeros(len(tasks)), []
        for member in self.members:
            known = np.isin(tasks, member.schema.task_names)
            fits.append(member.predict_proba(fold))
            total[:, known] += fits[-1]
            knowing += known
        return total / knowing, fits if (knowing == len(fits)).all() else []

    def _state(self, folder: Path) -> dict[str, Any]:
        for i, member in enumerate(self.members):
            save_predictor(member, folder / f"member{i}")
        return {"name": self.name, "members": len(self.members)}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> MeanPredictor:
        members = [load_predictor(folder / f"member{i}") for i in range(state["members"])]
        return cls(state["name"], schema, fitted_subjects, members)

"""Estimator → Predictor: the recipe and the fitted thing are two types, so predicting unfitted is a type error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.errors import SchemaError
from mmnar.predictions import Predictions
from mmnar.privacy import counted, few, in_tens
from mmnar.roles import R, Train, Tune
from mmnar.schema import Schema
from mmnar.shown import Shown, names
from mmnar.training.monitor import Monitor

__all__ = ["Estimator", "Predictor"]


class Predictor(Shown, ABC):
    """A fitted model.

    Args:
        name: Registry name, e.g. ``"crl-mmnar"``.
        schema: The schema it was fitted on, with the tasks that it learned; folds of another schema are refused.
        fitted_subjects: Sorted digests of every subject it has seen, tune fold included, with the mark of their key.
    """

    def __init__(self, name: str, schema: Schema, fitted_subjects: NDArray[np.uint64]) -> None:
        self.name, self.schema, self.fitted_subjects = name, schema, fitted_subjects

    def _facts(self) -> dict[str, str]:
        learned = max(len(self.fitted_subjects) - 1, 0)  # the mark of the key stands among them
        return {
            "model": self.name,
            "modalities": names(self.schema.modality_names),
            "tasks": names(self.schema.task_names),
            "fitted on": f"{counted(learned) if few(learned) else f'about {in_tens(learned):,}'} patients",
            **({"holds": "vectors of training patients (patient data)"} if self.keeps_patients else {}),
        }

    @abstractmethod
    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        """(n, K) risks in [0, 1] for every sample and task of its schema, asked or not; they sum to 1 in an exclusive
        panel. Row by row independent."""

    def predict_with_fits(self, fold: Fold[Any]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """(n, K) risks, and those of each of several fits behind them; no fits where there is one alone, or where they
        do not know the same tasks."""
        return self.predict_proba(fold), []

    @property
    def keeps_patients(self) -> bool:
        """Whether it holds vectors of training patients (``ModelCard.keeps_patients``)."""
        return False

    @property
    def blind(self) -> bool:
        """Whether nothing that it is given tells an absent modality from a present one: no column of the pattern, and
        in place of what is absent something that others have, not zeros."""
        return False

    @classmethod
    @abstractmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> Predictor:
        """The inverse of ``_state``: what it wrote into ``folder`` and the JSON it returned."""

    @abstractmethod
    def _state(self, folder: Path) -> dict[str, Any]:
        """Write arrays (no pickle) into ``folder`` and return what is plain JSON."""

    def represent(self, fold: Fold[Any]) -> NDArray[np.float64] | None:
        """(n, D) patient representations, or None for models that have none."""
        return None

    def predict(self, fold: Fold[R]) -> Predictions[R]:
        """Predictions of a fold, carrying the fold's role.

        Raises:
            SchemaError: The fold's schema is not the fitted one.
        """
        self.check_schema(fold.schema)
        return self.predicted(fold, self.predict_proba(fold))

    def predicted(self, fold: Fold[R], risks: NDArray[np.float64]) -> Predictions[R]:
        """(n, K) risks of its tasks as predictions of all the fold's. A task that it never learned (its training
        patients did not show it both ways) counts as not asked; its risk, .5, means nothing."""
        known = np.isin(fold.schema.task_names, self.schema.task_names)
        if known.all():
            return fold.predictions(risks, self.fitted_subjects, {"model": self.name})
        all_risks: NDArray[np.float64] = np.full((len(fold), len(known)), 0.5)
        all_risks[:, known] = risks
        return fold.predictions(all_risks, self.fitted_subjects, {"model": self.name}, known)

    def check_schema(self, schema: Schema) -> None:
        """
        Raises:
            SchemaError: It is not the fitted one, but for tasks that it did not learn; says what differs.
        """
        own = self.schema.task_names
        if {*own} <= {*schema.task_names}:
            schema = schema.asking(own)
        if schema.digest() != self.schema.digest():
            apart = differences(self.schema, schema)
            raise SchemaError(
                f"data for '{self.name}'",
                "the schema it was fitted on",
                "; ".join(apart[:_SHOWN]) + (f"; and {len(apart) - _SHOWN} more" if len(apart) > _SHOWN else ""),
                "prepare the store with --like and the run",
            )


_SHOWN: Final = 3
"""Differences between schemas that are named."""


def differences(ours: Schema, theirs: Schema) -> list[str]:
    """What another schema has otherwise, in words.

    >>> from mmnar.schema import Feature, ModalitySpec, Task
    >>> a, b = (Schema((ModalitySpec("m", (Feature("x", unit=u),)),), (Task("t", "", ""),)) for u in ("g", "mg"))
    >>> differences(a, b)
    ["feature 'x' of modality 'm' has the unit 'mg', not 'g'"]
    """
    return [*_features_apart(ours, theirs), *_rest_apart(ours, theirs)]


def _features_apart(ours: Schema, theirs: Schema) -> Iterator[str]:
    own, other = ({(m.name, f.name): f for m in s.modalities for f in m.features} for s in (ours, theirs))
    for modality, name in own:
        what, mine, there = (
            f"feature '{name}' of modality '{modality}'",
            own[modality, name],
            other.get((modality, name)),
        )
        if there is None:
            yield f"no {what}"
        elif mine.kind != there.kind:
            yield f"{what} is {there.kind}, not {mine.kind}"
        elif mine.categories != there.categories:
            lacking = sorted({*mine.categories} - {*there.categories})
            unknown = sorted({*there.categories} - {*mine.categories})
            yield f"{what} has other categories (not {lacking or 'in this order'}, but {unknown or 'none'})"
        elif mine.unit != there.unit:
            yield f"{what} has the unit '{there.unit}', not '{mine.unit}'"
    yield from (
        f"feature '{name}' of modality '{m}', which it does not know" for m, name in other if (m, name) not in own
    )


def _rest_apart(ours: Schema, theirs: Schema) -> Iterator[str]:
    for what, own, other in (
        ("modalities", ours.modality_names, theirs.modality_names),
        ("tasks", ours.task_names, theirs.task_names),
        ("attributes", ours.attributes, theirs.attributes),
    ):
        if own != other:
            yield f"{what} {', '.join(other)}, not {', '.join(own)}"
    both = {m.name: m for m in theirs.modalities}
    for mine in ours.modalities:
        there = both.get(mine.name)
        if there and (mine.kind, mine.shape, mine.max_missing) != (there.kind, there.shape, there.max_missing):
            yield f"modality '{mine.name}' is {there.kind} {there.shape}, not {mine.kind} {mine.shape}"


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Numpy arrays by name, without pickle."""
    with path.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


class Estimator(ABC):
    """A recipe. Its parameters are its constructor's arguments; ``fit`` changes nothing in it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Registry name, and the name of its predictions."""

    @property
    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What a reader must know: ``title, paper, missing, deviations, control`` (see ``models.base.ModelCard``)."""

    def refuses(self, schema: Schema) -> str | None:
        """Why the method cannot run on such data, or None where it can."""
        return None

    def settings(self) -> Any:
        """Its configuration, each file named by what is in it.

        Raises:
            ConfigError: A file is absent, or not what the configuration says.
        """
        return self

    def starts_from(self) -> NDArray[np.uint64]:
        """Sorted digests of the subjects that what it starts from has seen (``encoders.weights.seen_by``), with the
        mark of their key; empty where it starts from nothing, or nothing is known of it."""
        return np.zeros(0, dtype=np.uint64)

    @abstractmethod
    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> Predictor:
        """Fit on ``train``; ``tune`` is for early stopping and choice alone.

        Args:
            seed: Everything random follows from it, to the bit on one CPU.
            workdir: Where a checkpoint may be kept; a fit that finds its own checkpoint there continues.
            monitor: Receives progress and history.
        """

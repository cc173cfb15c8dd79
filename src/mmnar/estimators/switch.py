"""The switch: patients who have everything are scored by a method fitted on such patients alone, all others by another.

The ensemble of MedFuse's appendix A.7 (Hayat, Geras, Shamout, MLHC 2022): there MedFuse for those with a film, an LSTM
over the record for those without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError, nearest
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.cross import learnable
from mmnar.estimators.storage import fit_or_load, load_predictor, save_predictor
from mmnar.roles import R, Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor, Named, Silent

MEMBERS: Final = ("complete", "other")


@dataclass(frozen=True)
class SwitchConfig:
    """Which two methods a switch is made of.

    Args:
        complete: Scores patients who have all modalities, and is fitted on such patients alone.
        other: Scores all others, and is fitted on everybody.
        complete_with, other_with: Their own settings, such as width=64,series.encoder=lstm, separated by commas.
        modalities: Who has all of these is complete; none named = all that anybody in training has.

    Raises:
        ConfigError: A method that is itself made of several.
    """

    complete: str = "medfuse"
    other: str = "lstm"
    complete_with: tuple[str, ...] = ()
    other_with: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for which in MEMBERS:
            if (name := getattr(self, which)) in ("stack", Switch.name):
                raise ConfigError(f"model.{which}", "a method by itself", name, "see `mmnar models`")


class Switch(Estimator):
    """Two recipes and who is scored by which.

    Args:
        members: The recipes by name, ``complete`` and ``other``.
        modalities: See ``SwitchConfig``.
    """

    name: ClassVar[str] = "switch-ensemble"
    card: ClassVar[dict[str, Any]] = {
        "title": "Ensemble by what is there",
        "paper": "Appendix A.7 of MedFuse (Hayat, Geras, Shamout, MLHC 2022)",
        "missing": "whoever lacks a modality is scored by a method of its own, by default one that reads the series "
        "alone",
        "deviations": (
            "Any two methods: model.complete=NAME model.other=NAME, MedFuse and the LSTM by default. Both have the "
            "same train.… settings, and settings of their own by model.complete_with=KEY=VALUE,….",
            "With more than two modalities few patients have all: model.modalities names those that count.",
            "A task that the complete training patients do not show both ways is scored by the other method.",
            "The other method learns from everybody, so where absence itself informs, its risks are not those of "
            "patients who lack a modality.",
        ),
        "control": False,
    }

    def __init__(self, members: Mapping[str, Estimator], modalities: tuple[str, ...] = ()) -> None:
        self.members, self.modalities = {which: members[which] for which in MEMBERS}, modalities

    def starts_from(self) -> NDArray[np.uint64]:
        return np.unique(np.concatenate([member.starts_from() for member in self.members.values()]))

    def refuses(self, schema: Schema) -> str | None:
        for which, member in self.members.items():
            if refusal := member.refuses(schema):
                return f"model.{which}, '{member.name}', {refusal}"
        return None

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> SwitchPredictor:
        """
        Raises:
            ConfigError: ``modalities`` names one that the data has not.
            TrainingError: No task can be learned from the complete patients, or from everybody.
        """
        needed = self.needed(train)
        own, own_tune = complete_part(train, needed), complete_part(tune, needed)
        tasks = learnable(f"{self.name}, patients with all modalities", own, own_tune)
        folds = {"complete": (own.asking(tasks), own_tune.asking(tasks)), "other": (train, tune)}
        fitted = {}
        for which, member in self.members.items():
            place, named = workdir / which if workdir else None, Named(monitor or Silent(), f"{which} patients")
            fitted[which] = fit_or_load(member, folds[which][0], folds[which][1], seed, place, named)
        seen = np.unique(np.concatenate([member.fitted_subjects for member in fitted.values()]))
        return SwitchPredictor(self.name, train.schema, seen, fitted, needed)

    def needed(self, train: Fold[Train]) -> NDArray[np.bool_]:
        """(M,) whether a complete patient has it.

        Raises:
            ConfigError: See ``fit``.
        """
        known = train.schema.modality_names
        for name in self.modalities:
            if name not in known:
                raise ConfigError(
                    f"model.modalities: '{name}'", "a modality of this store", "another name", nearest(name, known)
                )
        named: NDArray[np.bool_] = np.isin(known, self.modalities)
        return named if self.modalities else np.logical_or.reduce(train.present, axis=0)


def complete_part(fold: Fold[R], needed: NDArray[np.bool_]) -> Fold[R]:
    """The samples of a fold that have every modality that is needed."""
    return replace(fold, rows=fold.rows[has_all(fold, needed)])


def has_all(fold: Fold[Any], needed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,)."""
    complete: NDArray[np.bool_] = np.logical_and.reduce(fold.present[:, needed], axis=1)
    return complete


class SwitchPredictor(Predictor):
    """Two fitted methods.

    Args:
        members: ``complete`` and ``other``; ``complete`` may know fewer tasks.
        needed: (M,) what a complete patient has.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: NDArray[np.uint64],
        members: Mapping[str, Predictor],
        needed: NDArray[np.bool_],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.members, self.needed = dict(members), needed

    @property
    def parameters(self) -> int | None:
        """Number of trained weights of both; None where one is no network."""
        each = [getattr(member, "parameters", None) for member in self.members.values()]
        return None if None in each else sum(each)  # type: ignore[arg-type]

    @property
    def keeps_patients(self) -> bool:
        return any(member.keeps_patients for member in self.members.values())

    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        rows, own = has_all(fold, self.needed), self.members["complete"]
        risks = self.members["other"].predict_proba(fold)
        if rows.any():
            known = np.isin(self.schema.task_names, own.schema.task_names)
            risks[np.ix_(rows, known)] = own.predict_proba(complete_part(fold, self.needed))
        return risks

    def _state(self, folder: Path) -> dict[str, Any]:
        for which, member in self.members.items():
            save_predictor(member, folder / which)
        return {"name": self.name, "needed": self.needed.tolist()}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> SwitchPredictor:
        members = {which: load_predictor(folder / which) for which in MEMBERS}
        return cls(state["name"], schema, fitted_subjects, members, np.array(state["needed"], dtype=bool))

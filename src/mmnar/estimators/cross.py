"""The cross-fitted fit: K fits that together learn from every development patient, and each patient's risk by the one
that never saw them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold, cross_folds
from mmnar.errors import TrainingError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.ensemble import MeanPredictor
from mmnar.estimators.stack import Stack, StackPredictor, fit_weights, stacked_out_of_fold
from mmnar.estimators.storage import fit_or_load
from mmnar.predictions import Predictions, concat
from mmnar.roles import Calibration, Development, Train, Tune
from mmnar.training.monitor import Monitor, Named, Silent


@dataclass(frozen=True)
class CrossFitted:
    """What ``cross_fit`` gives.

    Args:
        predictor: The mean over the K fits, for whoever is no development patient.
        out_of_fold: Every development patient's risks by the one fit that never saw them. A task that this fit could
            not learn counts as not asked.
    """

    predictor: Predictor
    out_of_fold: Predictions[Calibration]


def cross_fit(
    recipe: Estimator,
    development: Fold[Development],
    folds: int = 5,
    *,
    tune: float = 0.15,
    seed: int = 0,
    workdir: Path | None = None,
    monitor: Monitor | None = None,
) -> CrossFitted:
    """Fit a recipe K times, each fit trained, tuned and scored on different subjects.

    A stack's members are cross-fitted on the same folds, and weighed by their out-of-fold risks.

    Args:
        folds: K.
        tune: Share of the subjects not held out who stop a fit early and choose its settings.
        workdir: Where finished fits are kept; a call that finds them there goes on, to the same numbers.

    Raises:
        LeakageError: Fewer subjects than folds.
        TrainingError: A fit failed, or a task can be learned by none of them; a stack's names the member.
    """
    if not isinstance(recipe, Stack):
        return _cross_fit(recipe, development, folds, tune, seed, workdir, monitor or Silent())
    crossed = {}
    for name, member in recipe.members.items():
        place = workdir / name if workdir else None
        try:
            crossed[name] = _cross_fit(member, development, folds, tune, seed, place, monitor or Silent())
        except TrainingError as error:
            subject, remedy = (
                f"stack, member '{name}': {error.subject}",
                f"{error.remedy}, or leave it out of model.members",
            )
            raise TrainingError(subject, error.expected, error.got, remedy) from error
    out_of_fold = [of.out_of_fold for of in crossed.values()]
    weights = fit_weights(out_of_fold, recipe.spread)
    seen = np.unique(np.concatenate([of.predictor.fitted_subjects for of in crossed.values()]))
    members = {name: of.predictor for name, of in crossed.items()}
    predictor = StackPredictor(recipe.name, development.schema, seen, members, weights)
    return CrossFitted(predictor, stacked_out_of_fold(out_of_fold, recipe.spread))


def _cross_fit(
    recipe: Estimator,
    development: Fold[Development],
    folds: int,
    tune_share: float,
    seed: int,
    workdir: Path | None,
    monitor: Monitor,
) -> CrossFitted:
    members, parts = [], []
    for k, (train, tune, held) in enumerate(cross_folds(development, folds, tune_share, seed)):
        tasks = _learnable(recipe.name, train, tune, k, folds)
        place = workdir / f"fold{k}" if workdir else None
        named = Named(monitor, f"fit {k + 1}")
        member = fit_or_load(recipe, train.asking(tasks), tune.asking(tasks), seed, place, named)
        members.append(member)
        parts.append(_scored(member, held))
    seen = np.unique(np.concatenate([member.fitted_subjects for member in members]))
    return CrossFitted(MeanPredictor(recipe.name, development.schema, seen, members), concat(parts))


def _learnable(name: str, train: Fold[Train], tune: Fold[Tune], k: int, folds: int) -> Sequence[str]:
    """Tasks of which a training fold shows both classes and that a tune fold was asked; the others are left out of this
    fit, and a warning says so.

    Raises:
        TrainingError: There is none.
    """
    named = train.schema.task_names
    tasks = [task for k, task in enumerate(named) if _shows_both(train, k) and tune.label_mask[:, k].any()]
    if not tasks:
        raise TrainingError(
            f"{name}, fit {k + 1} of {folds}",
            "a task with and without the outcome",
            "none",
            "use fewer fits or more records",
        )
    for task in named:
        if task not in tasks:
            said = (
                f"{name}, fit {k + 1} of {folds}: its training patients do not show task '{task}' both ways; left out"
            )
            warnings.warn(said, stacklevel=4)
    return tasks


def _shows_both(train: Fold[Train], k: int) -> bool:
    y = train.labels[train.label_mask[:, k], k]
    return bool(y.any() and not y.all())


def _scored(member: Predictor, held: Fold[Calibration]) -> Predictions[Calibration]:
    """Risks of the patients held out; a task that the member does not know is not asked."""
    known = [task in member.schema.task_names for task in held.schema.task_names]
    risks: NDArray[np.float64] = np.full((len(held), len(known)), 0.5)
    risks[:, known] = member.predict_proba(held.asking(member.schema.task_names))
    scored: Predictions[Any] = held.predictions(risks, member.fitted_subjects, {"model": member.name})
    return replace(scored, label_mask=scored.label_mask & known, labels=scored.labels & known)

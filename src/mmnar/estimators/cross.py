"""The cross-fitted fit: K fits that together learn from every development patient, and each patient's risk by the one
that never saw them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
        TrainingError: A fit failed, or can learn no task; a stack's names the member.
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
    members = {name: of.predictor for name, of in crossed.items()}
    known = [t for t in development.schema.task_names if all(t in of.schema.task_names for of in members.values())]
    weights = fit_weights(out_of_fold, recipe.spread).of(development.schema, known)
    seen = np.unique(np.concatenate([of.fitted_subjects for of in members.values()]))
    predictor = StackPredictor(recipe.name, development.schema.asking(known), seen, members, weights)
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
        tasks = learnable(f"{recipe.name}, fit {k + 1} of {folds}", train, tune)
        place = workdir / f"fold{k}" if workdir else None
        named = Named(monitor, f"fit {k + 1}")
        member = fit_or_load(recipe, train.asking(tasks), tune.asking(tasks), seed, place, named)
        members.append(member)
        parts.append(member.predict(held))
    seen = np.unique(np.concatenate([member.fitted_subjects for member in members]))
    schema = development.schema.asking([task for member in members for task in member.schema.task_names])
    return CrossFitted(MeanPredictor(recipe.name, schema, seen, members), concat(parts))


def learnable(fit: str, train: Fold[Train], tune: Fold[Tune]) -> Sequence[str]:
    """Tasks of which a training fold shows both classes and that a tune fold was asked; the others are left out of this
    fit, and a warning says so. An exclusive panel is learned whole or not at all.

    Args:
        fit: Its name, for the warning.

    Raises:
        TrainingError: There is none.
    """
    named = train.schema.task_names
    lacking = {task for k, task in enumerate(named) if not (_shows_both(train, k) and tune.label_mask[:, k].any())}
    for panel in train.schema.panels:
        if panel.exclusive and lacking & {*panel.tasks}:
            lacking |= {*panel.tasks}
    if len(lacking) == len(named):
        raise TrainingError(fit, "a task with and without the outcome", "none", "use fewer fits or more records")
    if lacking:
        which = ", ".join(f"'{task}'" for task in named if task in lacking)
        several = "s" * (len(lacking) > 1)
        said = f"{fit}: its training patients do not show task{several} {which} both ways; left out"
        warnings.warn(said, stacklevel=4)
    return [task for task in named if task not in lacking]


def _shows_both(train: Fold[Train], k: int) -> bool:
    y = train.labels[train.label_mask[:, k], k]
    return bool(y.any() and not y.all())

"""Hyper-parameter search by the tune fold. No function here takes or makes a test fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mmnar.cohort.split import Split
from mmnar.config import to_plain
from mmnar.dataset.regimes import settled
from mmnar.dataset.store import Fold, open_store
from mmnar.errors import TrainingError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.cross import learnable
from mmnar.estimators.fusion import FusionEstimator
from mmnar.estimators.registry import build_estimator, resolve_run
from mmnar.evaluation.metrics import log_terms
from mmnar.extras import lacking
from mmnar.files import write_sealed
from mmnar.ops.losses import question_weights
from mmnar.roles import Tune
from mmnar.schema import Schema
from mmnar.study.plan import as_overrides
from mmnar.training.monitor import Silent


def search(task: Mapping[str, Any], folder: Path) -> None:
    """All trials of one row on one data set; ``best.json`` holds what was chosen.

    Trials are kept in a journal: a killed search goes on where it was, the trial that was cut off is made again. The
    defaults are the first trial, so what is chosen is never worse on the tune fold than they are.

    Raises:
        RequirementError: The extra ``study`` is not installed.
        TrainingError: No trial could be finished.
    """
    study = _journal(folder / "journal.log", bool(task["prune"]), task["sampler"])
    base, _ = resolve_run(task["model"], task["overrides"])
    data = open_store(task["store"])
    base, regime = settled(base, data)
    split = Split(**to_plain(base.split))
    data = regime.laid_over(data, split).with_modalities(base.modalities)
    train, tune = data.fold(split, "train"), data.fold(split, "tune")
    tasks = learnable("search", train, tune)
    train, tune = train.asking(tasks), tune.asking(tasks)

    def objective(trial: Any) -> float:
        changes = _next(trial, task, [t.user_attrs["values"] for t in _counted(study)])
        trial.set_user_attr("values", changes)
        config, model = resolve_run(task["model"], [*task["overrides"], *as_overrides(changes)])
        recipe = build_estimator(task["model"], model, config.train, config.ensemble)
        watch = _Watch(trial, last_phase(recipe, data.schema))
        try:
            return tune_loss(recipe.fit(train, tune, seed=config.seed, monitor=watch), tune)
        except TrainingError:
            trial.set_user_attr("impossible", True)  # it is a finding, so it counts
            raise

    trials = min(task["trials"], 1 + len(grid(task["space"]))) if task["sampler"] == "grid" else task["trials"]
    study.optimize(objective, n_trials=max(0, trials - len(_counted(study))), catch=(TrainingError,))
    complete = [t for t in study.get_trials() if t.state.name == "COMPLETE"]
    if not complete:
        raise TrainingError("search", "a trial that can be finished", f"{len(study.trials)} that cannot", "see the log")
    best = min(complete, key=lambda t: (t.value, t.number))
    write_sealed(folder / "best.json", _record(best, study.get_trials()))


def _journal(path: Path, prune: bool, sampler: str) -> Any:
    """The Optuna study kept in a file, new or as it was left; a trial that was cut off has failed.

    Raises:
        RequirementError: The extra ``study`` is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise lacking("a search", "optuna", "study") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(path))),
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3) if prune else optuna.pruners.NopPruner(),
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # seeded by how many there are, so that a search that goes on does not repeat itself
    kind = optuna.samplers.GPSampler if sampler == "gp" else optuna.samplers.TPESampler
    study.sampler = kind(seed=len(_counted(study)), n_startup_trials=4)
    return study


def _next(trial: Any, task: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a trial changes: nothing first, then the next place of the grid, or what the sampler suggests."""
    if {} not in tried:
        return {}
    if task["sampler"] == "grid":
        return next(place for place in grid(task["space"]) if place not in tried)
    return suggested(trial, task["space"])


def suggested(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """One value for each searched key; an integer range where both ends are whole numbers."""
    values: dict[str, Any] = {}
    for key, of in space.items():
        if isinstance(of, list):
            # the journal keeps plain values; a list of lists is chosen by its place
            values[key] = of[trial.suggest_categorical(key, list(range(len(of))))]
        elif isinstance(of["low"], int) and isinstance(of["high"], int):
            values[key] = trial.suggest_int(key, of["low"], of["high"], log=bool(of.get("log")))
        else:
            values[key] = trial.suggest_float(key, of["low"], of["high"], log=bool(of.get("log")))
    return values


def grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, in an order that a budget can cut short anywhere: shuffled, the same each time."""
    places = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    return [places[i] for i in np.random.default_rng(0).permutation(len(places))]


def tune_loss(predictor: Predictor, tune: Fold[Tune]) -> float:
    """Mean log loss over questions of the tune fold: proper, whatever is reported in the end."""
    asked, y, risks = tune.label_mask, tune.labels.astype(np.float64), predictor.predict_proba(tune)  # (n, K)
    terms = log_terms(y, risks)
    for columns in tune.schema.exclusive:  # the sum over columns is the panel's cross-entropy
        terms[:, columns] = y[:, columns] * log_terms(np.ones_like(y[:, columns]), risks[:, columns])
    each = np.where(asked, terms, 0).sum(0) / np.maximum(asked.sum(0), 1)
    return float(each @ question_weights(tune.schema))


def last_phase(recipe: Estimator, schema: Schema) -> str:
    """The phase whose tune losses can be compared between trials; earlier ones may not train on labels at all."""
    if not isinstance(recipe, FusionEstimator):
        return ""
    return recipe.model_type(schema, recipe.model).phases()[-1].name


class _Watch(Silent):
    """Reports the tune loss of the last phase after each epoch and stops a hopeless trial."""

    def __init__(self, trial: Any, phase: str) -> None:
        self.trial, self.phase, self.steps = trial, phase, 0

    def epoch(self, record: dict[str, Any]) -> None:
        import optuna

        if record.get("phase") != self.phase:
            return
        self.trial.report(record["tune"]["task"], self.steps)
        self.steps += 1
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _counted(study: Any) -> list[Any]:
    """Trials that used up budget: all but those cut off from outside."""
    kept = [t for t in study.get_trials(deepcopy=False) if "values" in t.user_attrs]
    return [t for t in kept if t.state.name in ("COMPLETE", "PRUNED") or t.user_attrs.get("impossible")]


def _record(best: Any, trials: Sequence[Any]) -> dict[str, Any]:
    """What was chosen and everything that was tried; plain JSON."""
    return {
        "chosen": best.user_attrs.get("values", {}),
        "tune_loss": best.value,
        "trials": [
            {
                "number": t.number,
                "state": t.state.name.lower(),
                "values": t.user_attrs.get("values", {}),
                "tune_loss": t.value,
                "seconds": round(t.duration.total_seconds(), 1) if t.duration else None,
            }
            for t in trials
        ],
    }

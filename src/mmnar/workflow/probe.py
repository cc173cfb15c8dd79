"""How steady a run's alerts are, and what they lean on: the model again, on the samples it was judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, open_store
from mmnar.estimators.base import Predictor
from mmnar.evaluation.decided import Decided
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.probes import hidden, spread
from mmnar.evaluation.result import Result
from mmnar.posthoc.base import FittedCorrection
from mmnar.predictions import OUT_OF_FOLD, Predictions
from mmnar.progress import say
from mmnar.workflow.judge import spared, store_of
from mmnar.workflow.run import Run

Float = NDArray[np.float64]

MOST: Final = 5000
"""Samples, of whole patients: more change no digit that is shown, and each is scored once a modality."""
RESAMPLES: Final = 200


def with_probes(result: Result, runs: Sequence[Run], on: Path | None = None, store: Path | None = None) -> Result:
    """A result with ``Decided.spread`` and ``Decided.hidden`` of each run, before its rectifier; a run without a test
    fold has neither on its own store, where its model has seen everybody.

    Args:
        on, store: As in ``evaluate_runs``, which refuses what must not be scored.
    """
    tasks = {task: dict(models) for task, models in result.tasks.items()}
    gathered = {task for of in result.gathered.values() for task in of}
    for run in runs:
        if on is None and run.test.provenance.get("validation") == OUT_OF_FOLD:
            continue
        wanted = {
            task: models[run.name].decided
            for task, models in tasks.items()
            if task not in gathered and run.name in models and _is_judged(models[run.name].decided)
        }
        if not wanted:
            continue
        split = Split.external() if on else run.split
        data = spared(open_store(on), runs, store) if on else run.regime.laid_over(store_of(run, store), split)
        data = data.with_modalities(run.modalities)
        asked = {task: (result.decisions[task].main, tasks[task][run.name].coarse) for task in wanted}
        for task, probed in _probed(run, _some(data.fold(split, "test")), asked).items():
            entry = tasks[task][run.name]
            assert entry.decided is not None
            tasks[task][run.name] = replace(entry, decided=replace(entry.decided, **probed))
    return replace(result, tasks=tasks)


def _is_judged(decided: Decided | None) -> bool:
    return decided is not None and not decided.reason


def _some(fold: Fold[Any]) -> Fold[Any]:
    """At most ``MOST`` samples, drawn by patient."""
    if len(fold) <= MOST:
        return fold
    people, whose = np.unique(fold.subject_id, return_inverse=True)
    place = np.random.default_rng(0).permutation(len(people))[whose]
    sizes = np.cumsum(np.bincount(place))
    return replace(fold, rows=fold.rows[place < np.searchsorted(sizes, MOST, side="right")])


def _probed(run: Run, fold: Fold[Any], asked: dict[str, tuple[float, bool]]) -> dict[str, dict[str, Any]]:
    """task → ``spread`` and ``hidden``.

    Args:
        asked: task → main threshold, and whether the risk is only a name of the patient's group.
    """
    predictor, line = run.predictor(), run.platt()
    say(f"{run.name}: how steady its risks are, and what they lean on")
    risks, fits = predictor.predict_with_fits(fold)
    seen = _said(predictor, line, fold, risks)
    members = [_said(predictor, line, fold, fit).proba for fit in fits]
    present = fold.present
    without = {}
    for i, modality in enumerate(fold.schema.modality_names):
        if present[:, i].any():
            less = fold.hiding(modality)
            without[modality] = _said(predictor, line, less, predictor.predict_proba(less)).proba, present[:, i]
    resampling = Resampling.draw(fold.subject_id, RESAMPLES, 0)
    found: dict[str, dict[str, Any]] = {}
    for task, (main, tied) in asked.items():
        p, labels, known = seen.task(task)
        rows, k = np.flatnonzero(known), seen.tasks.index(task)
        y = labels[rows].astype(np.float64)
        found[task] = {
            "spread": spread(p[rows], [m[rows, k] for m in members], rows, main, resampling, tied) if members else None,
            "hidden": tuple(
                hidden(modality, y, p[rows], less[rows, k], has[rows], rows, main, resampling, tied)
                for modality, (less, has) in without.items()
            ),
        }
    return found


def _said(predictor: Predictor, line: FittedCorrection | None, fold: Fold[Any], risks: Float) -> Predictions[Any]:
    """Risks as the run says them: after Platt's line where that is part of it."""
    scored = predictor.predicted(fold, risks)
    return scored if line is None else scored.with_proba(line.risks(scored))

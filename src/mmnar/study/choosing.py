"""A row that is the best of others, chosen where nobody is scored: in each fold, by risks out of fold.

Which of several rows is best is itself learned from data. Chosen by the test patients it would be flattered, and as a
control it would be too hard to beat; so each fold chooses by the patients that its runs were fitted on, each scored by
a fit that did not see them, and for each question (a panel, or a task outside panels) by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from mmnar.errors import StoreError
from mmnar.evaluation.metrics import log_terms
from mmnar.predictions import Predictions
from mmnar.roles import Calibration, Test
from mmnar.workflow import Run


def best_of(
    name: str, runs: Mapping[str, Sequence[Run]], scored: Mapping[str, Predictions[Test]]
) -> tuple[Predictions[Test], dict[str, tuple[str, ...]]]:
    """Test predictions of a row that is the best of others.

    Args:
        name: What the row is called.
        runs: Member → its runs, fold by fold in the same order.
        scored: Member → the test predictions of all its folds.

    Returns:
        Predictions that are also fitted on all whom any member was fitted on; and question → the member chosen in each
        fold.

    Raises:
        StoreError: A member has no risks out of fold, or no two of all have them of the same patients.
    """
    first = next(iter(scored.values()))
    chosen: dict[str, tuple[str, ...]] = {}
    proba = first.proba.copy()
    for number, fold in zip(np.unique(first.fold), zip(*runs.values(), strict=True), strict=True):
        risks = {member: _out_of_fold(name, member, run) for member, run in zip(runs, fold, strict=True)}
        losses = {member: question_losses(of) for member, of in _in_common(name, risks).items()}
        rows = first.fold == number
        for question, tasks in questions(first).items():
            best = min(runs, key=lambda member: losses[member].get(question, np.inf))
            chosen[question] = (*chosen.get(question, ()), best)
            columns = [first.tasks.index(task) for task in tasks]
            proba[np.ix_(rows, columns)] = scored[best].proba[np.ix_(rows, columns)]
    per_fold = zip(*(predictions.fitted_subjects for predictions in scored.values()), strict=True)
    seen = tuple(reduce(np.union1d, subjects) for subjects in per_fold)
    return replace(first.with_proba(proba, model=name), fitted_subjects=seen), chosen


def questions(predictions: Predictions[Test] | Predictions[Calibration]) -> dict[str, tuple[str, ...]]:
    """Question → its tasks: every panel, and every task outside panels."""
    panels = {panel.name: panel.tasks for panel in predictions.panels}
    gathered = {task for tasks in panels.values() for task in tasks}
    return {**panels, **{task: (task,) for task in predictions.tasks if task not in gathered}}


def question_losses(predictions: Predictions[Calibration]) -> dict[str, float]:
    """Question → log loss: the mean over a panel's tasks, of an exclusive one its cross-entropy; those asked of
    nobody are left out."""
    exclusive = {panel.name for panel in predictions.panels if panel.exclusive}
    losses = {}
    for question, tasks in questions(predictions).items():
        each = []
        for task in tasks:
            p, y, asked = predictions.task(task)
            if not asked.any():
                continue
            terms = log_terms(y[asked].astype(np.float64), p[asked])
            # of an exclusive panel the true class alone counts: -log of its risk
            each.append(float((terms * y[asked] if question in exclusive else terms).mean()))
        if each:
            losses[question] = float(np.sum(each) if question in exclusive else np.mean(each))
    return losses


def _in_common(name: str, risks: Mapping[str, Predictions[Calibration]]) -> dict[str, Predictions[Calibration]]:
    """Members that learn from different patients are judged on those who are in all of them.

    Raises:
        StoreError: There are none.
    """
    samples = {member: np.stack([of.stay_id, of.prediction_time], 1) for member, of in risks.items()}
    seen, counts = np.unique(np.concatenate(list(samples.values())), axis=0, return_counts=True)
    shared = {tuple(sample) for sample in seen[counts == len(risks)].tolist()}
    if not shared:
        remedy = "name rows that learn from overlapping choices of patients"
        raise StoreError(f"row '{name}'", "patients whom all its members learn from", "none", remedy)
    rows = {member: np.array([tuple(s) in shared for s in of.tolist()], dtype=bool) for member, of in samples.items()}
    return {member: of.of_rows(rows[member]) for member, of in risks.items()}


def _out_of_fold(name: str, member: str, run: Run) -> Predictions[Calibration]:
    risks = run.calibration()
    if risks is None:
        remedy = "train it cross-fitted (fit=cross), or with a rectifier"
        raise StoreError(f"row '{name}'", f"risks out of fold of '{member}'", "runs without", remedy)
    return risks

"""evaluate: stored test predictions → Result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from mmnar.errors import ConfigError, LeakageError, SchemaError, nearest
from mmnar.evaluation.compare import compare, correct, same_sample
from mmnar.evaluation.curves import Curves, curves
from mmnar.evaluation.decide import alerts_of, decided, stretch_of, task_decisions
from mmnar.evaluation.decided import Decided, TaskDecisions
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.metrics import LOG_CLIP
from mmnar.evaluation.oracle import oracle_bound
from mmnar.evaluation.panels import compare_panel, rate
from mmnar.evaluation.patterns import pattern_rows, split_metrics
from mmnar.evaluation.result import Comparison, ModelTask, OracleBound, PanelModel, Result, TaskCounts, decimals
from mmnar.evaluation.scored import Scored, score
from mmnar.evaluation.simulated import simulated_metrics
from mmnar.evaluation.subgroups import subgroup_rows, tied_rows
from mmnar.evaluation.thresholds import Thresholds, check_tasks, usual
from mmnar.ops.threads import one_thread
from mmnar.predictions import OUTSIDE, Predictions, commonly_asked
from mmnar.privacy import FEW, FEW_OUTCOMES, SMALL_CELL, UNASKED, few
from mmnar.roles import Test
from mmnar.schema import gathered

RECTIFIED: Final = "+rectifier"


@one_thread
def evaluate(
    *predictions: Predictions[Test],
    controls: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    thresholds: Mapping[str, Thresholds] | None = None,
) -> Result:
    """Every number of a report, from predictions alone. Risks made elsewhere are compared with controls as all models
    are, and all other models with them.

    Args:
        predictions: One per model (named by ``provenance["model"]``), all of the same test rows. ``<model>+rectifier``
            is judged against ``<model>``, which must be among them.
        controls: Names of models that every other model is compared with.
        resamples: Patient-clustered bootstrap resamples, and sign flips of the permutation tests.
        seed: Of both.
        thresholds: Task → where risks are judged as decisions, said before these patients were looked at; default:
            the same for every task.

    Raises:
        LeakageError: Not test predictions, or some of their subjects were seen by what scored them.
        SchemaError: No, equal or missing names; a rectified model without its base; samples that differ.
        ConfigError: An unknown control, or thresholds of an unknown task.
    """
    models = _named(predictions)
    # a control, rectified or not, is what the others are held against
    others = [name for name in models if name.removesuffix(RECTIFIED) not in controls]
    pairs = _pairs(models, controls, others)
    first = next(iter(models.values()))
    check_tasks(thresholds or {}, first.tasks)
    resampling = Resampling.draw(first.subject_id, resamples, seed)
    tasks: dict[str, dict[str, ModelTask]] = {}
    comparisons: list[Comparison] = []
    scored: dict[str, dict[str, Scored]] = {}
    decisions: dict[str, TaskDecisions] = {}
    bases = {name: name.removesuffix(RECTIFIED) for name in models if name.endswith(RECTIFIED)}
    in_panels = {task for tasks in gathered(first.panels).values() for task in tasks}
    counts = {task: _counts(first, task) for task in first.tasks}
    for task in first.tasks:
        at = (thresholds or {}).get(task) or usual()
        scores = scored[task] = {name: judged(p, task, resampling) for name, p in models.items()}
        bounds = _bounds(models, scores, resampling)
        tied = {name: tied_rows(models[name], s.rows, s.y, s.p) for name, s in scores.items()}
        alerts = alerts_of(scores, tied, bases, at, resampling)
        tasks[task] = {}
        for name, s in scores.items():
            stretch, subject = stretch_of(name, scores, alerts, bases), resampling.subject[s.rows]
            drawn = curves(s.y, s.p, s.fold, subject, tied[name], alerts[name].shown(), stretch)
            worth = decided(
                models[name], s, alerts[name], tied[name], drawn, counts[task], at, resampling, seed, name in bases
            )
            tasks[task][name] = _model_task(models[name], s, bounds[name], drawn, worth, resampling)
        decisions[task] = task_decisions(alerts, scores, controls, others, at, counts[task])
        for name, control in pairs if task not in in_panels else ():
            comparisons += compare(scores[name], scores[control], resampling, seed)
    panels = judge_panels({name: [p] for name, p in models.items()}, scored, pairs, resampling, seed)
    return Result(
        tasks=tasks,
        counts=counts,
        comparisons=correct(comparisons),
        provenance={
            "resamples": resamples,
            "seed": seed,
            "folds": len(np.unique(first.fold)),
            "interval": "95 % percentile interval, patients resampled with replacement",
            "log_loss_clip": LOG_CLIP,
            "controls": list(controls),
            "models": {name: p.provenance for name, p in models.items()},
            "panels": [asdict(panel) for panel in first.panels],
        },
        panels=panels.models,
        panel_comparisons=panels.comparisons,
        decisions=decisions,
    )


def _pairs(
    models: Mapping[str, Predictions[Test]], controls: Sequence[str], others: Sequence[str]
) -> list[tuple[str, str]]:
    """Who is compared with whom: all others with each control, and those made here with those made elsewhere.

    Raises:
        ConfigError: An unknown control.
    """
    for control in controls:
        if control not in models:
            expected = "names of evaluated models"
            raise ConfigError("evaluate.controls", expected, f"'{control}'", nearest(control, models))
    elsewhere = [name for name, p in models.items() if p.provenance.get("origin") == OUTSIDE]
    made_here = [name for name in others if name not in elsewhere]
    return [*product(others, controls), *product(made_here, elsewhere)]


class Panels(NamedTuple):
    """What is found of panels: panel → model → numbers, and the comparisons, corrected."""

    models: dict[str, dict[str, PanelModel]]
    comparisons: tuple[Comparison, ...]


def judge_panels(
    models: Mapping[str, Sequence[Predictions[Test]]],
    scored: Mapping[str, Mapping[str, Scored]],
    pairs: Sequence[tuple[str, str]],
    resampling: Resampling,
    seed: int,
) -> Panels:
    """Every panel of the predictions.

    Args:
        models: name → test predictions, one for each seed of training; of several a metric is the mean.
        scored: task → name → what was computed of the task (the mean over seeds).
        pairs: (model, control) to be compared, but for panels of a single task, whose task is compared.
    """
    found: dict[str, dict[str, PanelModel]] = {}
    comparisons: list[Comparison] = []
    first = next(iter(models.values()))[0]
    for panel in first.panels:
        rated = {}
        for name, seeds in models.items():
            coarse = any(is_coarse(seeds[0], scored[task][name]) for task in panel.tasks)
            scores = {task: scored[task][name] for task in panel.tasks}
            rated[name] = rate(name, seeds, panel, scores, coarse, resampling)
        found[panel.name] = {name: of.found for name, of in rated.items()}
        for a, b in pairs if len(panel.tasks) > 1 else ():
            comparisons += compare_panel(panel, rated[a], rated[b], resampling, seed)
    return Panels(found, correct(comparisons, by_task=False))


def _named(predictions: Sequence[Predictions[Test]]) -> dict[str, Predictions[Test]]:
    """Predictions by model name, after every check that needs no number."""
    if not predictions:
        raise SchemaError("evaluate", "predictions of at least one model", "none", "pass what predict returned")
    models: dict[str, Predictions[Test]] = {}
    for p in commonly_asked(predictions):
        name = str(p.provenance.get("model", ""))
        if not name or name in models:
            got = f"'{name}' twice" if name else "no name"
            raise SchemaError("evaluate", "a name of its own for every model", got, "set provenance['model']")
        if p.role is not Test:
            raise LeakageError(
                f"evaluate: model '{name}'", "test predictions", f"{p.role.name} predictions", "score the test fold"
            )
        p.refuse_overlap()
        models[name] = p
        same_sample(next(iter(models.values())), p)
    for name in models:
        if name.endswith(RECTIFIED) and name.removesuffix(RECTIFIED) not in models:
            base = name.removesuffix(RECTIFIED)
            raise SchemaError(
                f"evaluate: model '{name}'", f"'{base}' beside it", "the rectified one alone", "pass both"
            )
    return models


def judged(predictions: Predictions[Test], task: str, resampling: Resampling) -> Scored:
    """Every metric of one model on one task: plain, within and between patterns, and against exact risks if known."""
    scored = score(predictions, task, resampling)
    pattern = predictions.pattern_ids()[0][scored.rows]
    scored.add(split_metrics(scored.y, scored.p, pattern, scored.fold), resampling)
    if predictions.bayes is not None:
        truth = predictions.bayes[scored.rows, predictions.tasks.index(task)]
        scored.add(simulated_metrics(truth, scored.p, scored.fold), resampling)
    return scored


def _bounds(
    models: dict[str, Predictions[Test]], scores: dict[str, Scored], resampling: Resampling
) -> dict[str, OracleBound]:
    """The bound of every model; a rectified one's is its base's, with the gain judged."""
    bounds = {}
    for name in models:
        base = name.removesuffix(RECTIFIED)
        rectified = scores[name] if name != base else None
        digits = decimals("auroc", is_coarse(models[base], scores[base]))
        bounds[name] = oracle_bound(models[base], scores[base], resampling, rectified, digits)
    return bounds


def _model_task(
    predictions: Predictions[Any],
    scored: Scored,
    bound: OracleBound,
    drawn: Curves,
    worth: Decided,
    resampling: Resampling,
) -> ModelTask:
    y, p, rows = scored.y, scored.p, scored.rows
    return ModelTask(
        metrics=scored.metrics,
        patterns=pattern_rows(predictions, rows, y, p, resampling),
        subgroups=subgroup_rows(predictions, rows, y, p, resampling),
        roc=drawn.roc,
        pr=drawn.pr,
        calibration=drawn.calibration,
        oracle=bound,
        coarse=is_coarse(predictions, scored),
        decided=worth,
    )


def is_coarse(predictions: Predictions[Any], scored: Scored) -> bool:
    """Whether rank metrics of a model on a task would tell small counts; see ``ModelTask.coarse``."""
    rare = _counts(predictions, scored.task).reason in (FEW, FEW_OUTCOMES)
    return rare or tied_rows(predictions, scored.rows, scored.y, scored.p) is not None


def _counts(predictions: Predictions[Any], task: str) -> TaskCounts:
    _, labels, asked = predictions.task(task)
    subject, y = predictions.subject_id[asked], labels[asked]
    patients, with_event, without = (len(np.unique(of)) for of in (subject, subject[y], subject[~y]))
    if few(patients):
        return TaskCounts(None, None, None, FEW)
    rare = min(with_event, without) < SMALL_CELL
    if few(len(np.unique(predictions.subject_id[~asked]))):
        # with the events and the rate the size could be computed
        return TaskCounts(None, None, None, FEW_OUTCOMES if rare else UNASKED)
    return TaskCounts(int(asked.sum()), None if rare else int(y.sum()), patients, FEW_OUTCOMES if rare else "")

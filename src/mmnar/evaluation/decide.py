"""Every figure of what the models of a task are worth as decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.curves import Curves, row_means
from mmnar.evaluation.cuts import Beside, stretches
from mmnar.evaluation.decided import Decided, Fairness, TaskDecisions
from mmnar.evaluation.decisions import Judged, differences, everyone, judged_alerts, points
from mmnar.evaluation.enough import coefficients, enough
from mmnar.evaluation.fairness import fairness
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.recalibration import calibrated, refused
from mmnar.evaluation.result import TaskCounts
from mmnar.evaluation.scored import Scored
from mmnar.evaluation.subgroups import subgroupings
from mmnar.evaluation.thresholds import Thresholds
from mmnar.predictions import Predictions
from mmnar.privacy import FEW, FEW_OUTCOMES, UNASKED

Int = NDArray[np.int64]
Float = NDArray[np.float64]

LEAST_PIECES: Final = 3
"""A line through two groups of patients is their two rates."""
FEW_RISKS: Final = "withheld: the risks part the patients into too few groups with ten outcomes of either kind"


def no_decisions(scored: Scored, counts: TaskCounts) -> str:
    """Why a task's risks are not judged as decisions, or ""."""
    return scored.refused or (counts.reason if counts.reason in (FEW, FEW_OUTCOMES) else "")


def alerts_of(
    scores: Mapping[str, Scored],
    tied: Mapping[str, Int | None],
    bases: Mapping[str, str],
    thresholds: Thresholds,
    resampling: Resampling,
) -> dict[str, Judged]:
    """Every model's alerts at every threshold.

    Args:
        tied: Row of the table of which a model's risk is only a name.
        bases: Rectified model → its base.
    """
    found: dict[str, Judged] = {}
    for name in sorted(scores, key=lambda name: name in bases):
        s, base = scores[name], bases.get(name)
        beside = None if base is None else Beside(scores[base].p, found[base].shown())
        found[name] = judged_alerts(name, s.y, s.p, s.rows, thresholds, resampling, tied[name], beside)
    return {name: found[name] for name in scores}


def stretch_of(name: str, scores: Mapping[str, Scored], judged: Mapping[str, Judged], bases: Mapping[str, str]) -> Int:
    """(n,) between which shown thresholds each risk lies; of a rectified model that ranks as its base does, the base's,
    so that the curves of both have the same corners."""
    base = bases.get(name)
    if base is not None and Beside(scores[base].p, ()).orders_like(scores[name].p):
        name = base
    return stretches(scores[name].p, judged[name].shown())


def decided(
    predictions: Predictions[Any],
    scored: Scored,
    judged: Judged,
    row: Int | None,
    drawn: Curves,
    counts: TaskCounts,
    thresholds: Thresholds,
    resampling: Resampling,
    seed: int,
    rectified: bool,
) -> Decided:
    """One model on one task; groups are judged before a rectifier, whose few changes would be told group by group."""
    reason = no_decisions(scored, counts)
    if reason:
        return Decided(reason=reason)
    p = scored.p if row is None else row_means(scored.p, row)
    few = drawn.roc is None or len(drawn.roc.x) - 1 < LEAST_PIECES
    own = None if few or row is not None else scored.p
    return Decided(
        points=points(judged),
        calibrated=refused(FEW_RISKS) if few else calibrated(scored.y, p, scored.rows, resampling),
        risks=drawn.risks,
        fairness={} if rectified else _groups(predictions, scored, judged, thresholds.main, resampling, seed, own),
        coarse=counts.reason == UNASKED,
    )


def _groups(
    predictions: Predictions[Any],
    scored: Scored,
    judged: Judged,
    main: float,
    resampling: Resampling,
    seed: int,
    risk: Float | None,
) -> dict[str, Fairness]:
    if judged.at(main) is None:
        why = next(w for t, w in zip(judged.alerts.thresholds, judged.reasons, strict=True) if t == main)
        return {attribute: Fairness(main, reason=why) for attribute in predictions.attributes}
    groupings = subgroupings(predictions, scored.rows, scored.y)
    return fairness(groupings, scored.y, scored.p >= main, scored.rows, main, resampling, seed, risk)


def task_decisions(
    judged: Mapping[str, Judged],
    scores: Mapping[str, Scored],
    controls: Sequence[str],
    compared: Sequence[str],
    thresholds: Thresholds,
    counts: TaskCounts,
) -> TaskDecisions:
    """What a task's models have in common, and how they compare."""
    coarse, learned = counts.reason == UNASKED, thresholds.learned
    said = TaskDecisions(thresholds.main, thresholds.stated, thresholds.source, coarse=coarse, learned=learned)
    if no_decisions(next(iter(scores.values())), counts):
        return said
    said = replace(
        said,
        everyone=everyone(next(iter(judged.values()))),
        differences=differences(judged, controls, compared, thresholds.stated),
    )
    best = max((s.metrics["auroc"].value or 0.0 for s in scores.values()), default=0.0)
    if counts.n is None or counts.events is None:
        return said
    rate, auroc = counts.events / counts.n, round(best, 2)
    carried = None if learned is None else coefficients(rate, auroc, learned)
    return replace(said, enough=enough(rate, auroc, counts.n, learned), coefficients=carried)

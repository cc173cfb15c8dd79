"""The most a pattern correction could do for the AUROC, printed beside what a rectifier is said to do.

A rectifier scored on the labels it was fitted to looks good for no reason: with exact risks, ten modalities and 1000
patients it "gains" .08 AUROC. Only what an independent half of the patients supports is believed here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, estimate
from mmnar.evaluation.metrics import Auroc, Difference, FoldMean
from mmnar.evaluation.result import Estimate, OracleBound
from mmnar.evaluation.scored import Scored
from mmnar.posthoc.base import MINIMUM_EVENTS
from mmnar.posthoc.rectify import LARGEST, fit_lattice, lattice_design, shift
from mmnar.predictions import Predictions
from mmnar.roles import subject_keys

Float = NDArray[np.float64]
Int = NDArray[np.int64]

EAGER: Final = 0.5
"""Prior of "no pattern effect" of the bound: a bound should not be shy."""
_HALVES: Final = 1
"""Seed of the halves, away from the seed 0 that fold assignments start from."""


def corrected_by_other_half(predictions: Predictions[Any], scored: Scored) -> tuple[Float, Int]:
    """(n,) risks after the pattern correction that the other half of the patients supports, and (n,) the half.

    Where the source knows the true risks, their means stand in for those of labels: the exact population correction.
    """
    subject = predictions.subject_id[scored.rows]
    half = (subject_keys(subject, _HALVES) % np.uint64(2)).astype(np.int64)
    index, patterns = predictions.pattern_ids()
    index, p, target, dispersion = index[scored.rows], scored.p, scored.y, 1.0
    if predictions.bayes is not None:
        target = predictions.bayes[scored.rows, predictions.tasks.index(scored.task)]
        # true risks scatter around p less than labels do; 1e-6 keeps the variance positive where p is exact
        dispersion = max(float(np.mean((target - p) ** 2) / np.mean(p * (1 - p))), 1e-6)
    out = np.empty_like(p)
    for side in (0, 1):
        food, eater = half != side, half == side
        seen, group = np.unique(index[food], return_inverse=True)
        lattice = fit_lattice(p[food], target[food], group.reshape(-1), patterns[seen], EAGER, dispersion)
        offset = np.clip(lattice_design(patterns) @ lattice.coefficients, -LARGEST, LARGEST)
        offset[seen] = lattice.mean
        out[eater] = shift(p[eater], offset[index[eater]])
    return out, half


def oracle_bound(
    predictions: Predictions[Any], base: Scored, resampling: Resampling, rectified: Scored | None = None
) -> OracleBound:
    """AUROC after the correction an independent half supports, minus AUROC before; and the alarm.

    The patients are halved at random, the correction of one half is applied to the other, both ways; AUROC is computed
    within halves. The alarm rings where ``gain − max(bound, 0)`` exceeds two standard errors of ``gain − bound``
    (paired bootstrap): of the bound alone it would be 0 wherever the correction is, and every honest gain would ring.

    Args:
        predictions: Of the base model.
        base: The same, scored.
        resampling: Patients' resamples.
        rectified: The base model after a rectifier, whose gain is to be judged.
    """
    gain = _gain(base, rectified)
    refused = _refusal(predictions, base)
    if refused:
        return OracleBound(Estimate(None, reason=refused), gain, False, len(base.rows), f"No bound: {refused}.")
    corrected, half = corrected_by_other_half(predictions, base)
    part = base.fold * 2 + half
    metric = Difference(FoldMean(Auroc, part, base.y, corrected), FoldMean(Auroc, part, base.y, base.p))
    bound, draws = estimate(metric, base.rows, resampling, "half of the patients lacks events or non-events")
    if bound.value is None or gain is None or rectified is None:
        words = _bound_words(bound)
        return OracleBound(bound, gain, False, len(base.rows), words)
    excess = rectified.draws["auroc"] - base.draws["auroc"] - draws
    se = float(np.nanstd(excess, ddof=1)) if np.isfinite(excess).sum() > 1 else 0.0
    alarm = gain > max(bound.value, 0.0) + 2 * se + 1e-12
    words = f"{_bound_words(bound)} Reported {gain:+.4f}, standard error of the difference {se:.4f}."
    if alarm:
        words += " More than the patterns can give: look for labels that reached the rectifier."
    return OracleBound(bound, gain, alarm, len(base.rows), words)


def _gain(base: Scored, rectified: Scored | None) -> float | None:
    if rectified is None:
        return None
    after, before = rectified.metrics["auroc"].value, base.metrics["auroc"].value
    return None if after is None or before is None else after - before


def _refusal(predictions: Predictions[Any], base: Scored) -> str:
    if base.refused:
        return base.refused
    events = int(base.y.sum())
    if predictions.bayes is None and events < 2 * MINIMUM_EVENTS:
        return f"{events} events, at least {2 * MINIMUM_EVENTS} needed for two halves"
    return ""


def _bound_words(bound: Estimate) -> str:
    if bound.value is None:
        return f"No bound: {bound.reason}."
    return f"A pattern correction estimated on independent patients changes AUROC by {bound.value:+.4f}."

"""The most a pattern correction could do for the AUROC, printed beside what a rectifier is said to do.

A rectifier scored on the labels it was fitted to looks good for no reason: with exact risks, ten modalities and 1000
patients it "gains" .08 AUROC. Only what independent halves of the patients agree on is believed here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, estimate
from mmnar.evaluation.metrics import Auroc, Average, Difference, FoldMean
from mmnar.evaluation.result import DIGITS, Estimate, OracleBound
from mmnar.evaluation.scored import Scored
from mmnar.posthoc.base import MINIMUM_EVENTS
from mmnar.posthoc.rectify import LARGEST, fit_lattice, lattice_design, shift
from mmnar.predictions import Predictions
from mmnar.privacy import SMALL_CELL, counted
from mmnar.roles import subject_keys

Float = NDArray[np.float64]
Int = NDArray[np.int64]

PRIOR: Final = 0.8
"""Prior of "no component" of the bound's lattice: the default rectifier's."""
ERRORS: Final = 3.0
"""Standard errors above the bound from which the alarm rings. It is asked of every model and task of a report: two
would ring in every third report of 15 honest gains. And a lattice fitted to half of a few hundred patients is shrunk
more than a rectifier that learned from thousands: an honest gain of .044 (on 3,573 patients of another store: .047)
stood 2.1 above.
"""
_HALVES: Final = 1
"""Seed of the halves, away from the seed 0 that fold assignments start from."""


def corrected_by_halves(predictions: Predictions[Any], scored: Scored) -> tuple[Float, Float, Int]:
    """(n,) risks corrected by what the other half of the patients supports, by what the own half does, (n,) the half.

    Where the source knows the true risks, their means stand in for those of labels.
    """
    subject = predictions.subject_id[scored.rows]
    half = (subject_keys(subject, _HALVES) % np.uint64(2)).astype(np.int64)
    index, patterns = predictions.pattern_ids()
    index, p, target, dispersion = index[scored.rows], scored.p, scored.y, 1.0
    if predictions.bayes is not None:
        target = predictions.bayes[scored.rows, predictions.tasks.index(scored.task)]
        # true risks scatter around p less than labels do; 1e-6 keeps the variance positive where p is exact
        scatter, binomial = float(np.mean((target - p) ** 2)), float(np.mean(p * (1 - p)))
        dispersion = max(scatter / max(binomial, 1e-6), 1e-6)
    other, own = np.empty_like(p), np.empty_like(p)
    for side in (0, 1):
        fitted, fresh = half == side, half != side
        seen, group = np.unique(index[fitted], return_inverse=True)
        lattice = fit_lattice(p[fitted], target[fitted], group.reshape(-1), patterns[seen], PRIOR, dispersion)
        offset = np.clip(lattice_design(patterns) @ lattice.coefficients, -LARGEST, LARGEST)
        offset[seen] = lattice.mean
        other[fresh] = shift(p[fresh], offset[index[fresh]])
        own[fitted] = shift(p[fitted], offset[index[fitted]])
    return other, own, half


def oracle_bound(
    predictions: Predictions[Any],
    base: Scored,
    resampling: Resampling,
    rectified: Scored | None = None,
    digits: int = DIGITS,
) -> OracleBound:
    """AUROC after the exact population pattern correction, minus AUROC before; and the alarm.

    The patients are halved at random and a correction is estimated on each half. Its gain on the other half is too
    small, for it carries the estimation error; its gain on its own half is too large by about as much, for it fits the
    error. To first order the two cancel, as training and test error do around the best model (Akaike 1973), and their
    mean is the bound. AUROC is computed within halves. The alarm rings where ``gain − max(bound, 0)`` exceeds
    ``ERRORS`` standard errors of ``gain − bound`` (paired bootstrap): that of the bound alone is 0 where it corrects
    nothing, and every honest gain would ring.

    Args:
        predictions: Of the base model.
        base: The same, scored.
        resampling: Patients' resamples.
        rectified: The base model after a rectifier, whose gain is to be judged.
        digits: Decimals in words.
    """
    gain = _gain(base, rectified)
    refused = _refusal(predictions, base)
    if refused:
        return OracleBound(Estimate(None, reason=refused), gain, False, f"No bound: {refused}.")
    other, own, half = corrected_by_halves(predictions, base)
    part = base.fold * 2 + half
    before, low, high = (FoldMean(Auroc, part, base.y, p) for p in (base.p, other, own))
    metric = Difference(Average(low, high), before)
    bound, draws = estimate(metric, base.rows, resampling, "half of the patients lacks events or non-events")
    if bound.value is None or gain is None or rectified is None:
        words = _bound_words(bound, digits)
        return OracleBound(bound, gain, False, words)
    excess = rectified.draws["auroc"] - base.draws["auroc"] - draws
    se = float(np.nanstd(excess, ddof=1)) if np.isfinite(excess).sum() > 1 else 0.0
    alarm = gain > max(bound.value, 0.0) + ERRORS * se + 1e-12
    words = (
        f"{_bound_words(bound, digits)} Reported {gain:+.{digits}f}, standard error of the difference {se:.{digits}f}."
    )
    if alarm:
        words += " More than the patterns can give: look for labels that reached the rectifier."
    return OracleBound(bound, gain, alarm, words)


def _gain(base: Scored, rectified: Scored | None) -> float | None:
    if rectified is None:
        return None
    after, before = rectified.metrics["auroc"].value, base.metrics["auroc"].value
    return None if after is None or before is None else after - before


def _refusal(predictions: Predictions[Any], base: Scored) -> str:
    if base.refused:
        return base.refused
    events, patients = int(base.y.sum()), len(np.unique(predictions.subject_id[base.rows]))
    if patients < 2 * SMALL_CELL:
        return f"{counted(patients)} patients, at least {2 * SMALL_CELL} needed for two halves"
    if events < 2 * MINIMUM_EVENTS:
        return f"{counted(events)} events, at least {2 * MINIMUM_EVENTS} needed for two halves"
    return ""


def _bound_words(bound: Estimate, digits: int) -> str:
    if bound.value is None:
        return f"No bound: {bound.reason}."
    return f"The exact pattern correction would change AUROC by about {bound.value:+.{digits}f}."

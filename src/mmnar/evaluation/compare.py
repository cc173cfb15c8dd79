"""Paired comparisons of models on the same patients, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import SchemaError
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.result import Comparison, Estimate
from mmnar.evaluation.scored import Scored
from mmnar.predictions import Predictions

Float = NDArray[np.float64]

RANKED: Final = ("auroc", "auprc")
COMPARED: Final = (*RANKED, "brier", "log_loss")


def same_sample(first: Predictions[Any], other: Predictions[Any]) -> None:
    """Raise unless both score the same rows, in the same order, with the same outcomes and folds.

    Raises:
        SchemaError: They differ.
    """
    for name in ("tasks", "modalities"):
        if getattr(first, name) != getattr(other, name):
            raise SchemaError("comparison", f"{name} {getattr(first, name)}", f"{getattr(other, name)}", "score alike")
    rows = ("subject_id", "hadm_id", "stay_id", "prediction_time", "labels", "label_mask", "present", "fold")
    for name in rows:
        if not np.array_equal(getattr(first, name), getattr(other, name)):
            models = f"'{first.provenance.get('model')}' and '{other.provenance.get('model')}'"
            raise SchemaError(
                f"comparison of {models}", "the same rows", f"different {name}", "score both on the same test fold"
            )


def compare(model: Scored, control: Scored, resampling: Resampling, seed: int) -> tuple[Comparison, ...]:
    """Differences (model − control) of AUROC, AUPRC, Brier score and log loss, before correction for their number.

    Intervals are percentile intervals of the paired, patient-clustered bootstrap. The p-value of AUROC and AUPRC
    inverts that interval: ``2 min(#{d* <= 0} + 1, #{d* >= 0} + 1) / (B + 1)``. Brier score and log loss are sums over
    patients, so theirs is exact up to sampling: a permutation test that flips the sign of each patient's summed
    difference.
    """
    rows = []
    for metric in COMPARED:
        a, b = model.metrics[metric], control.metrics[metric]
        if a.value is None or b.value is None:
            refused = Estimate(None, reason=a.reason or b.reason)
            rows.append(Comparison(model.task, metric, model.model, control.model, refused, None, None))
            continue
        draws = model.draws[metric] - control.draws[metric]
        difference = interval(a.value - b.value, draws, "")
        if metric in RANKED:
            p = bootstrap_p(draws) if difference.low is not None else None
        else:
            per_row = model.losses[metric] - control.losses[metric]
            per_patient = np.bincount(resampling.subject[model.rows], per_row).astype(np.float64)
            p = sign_flip_p(per_patient, len(draws), seed)
        rows.append(Comparison(model.task, metric, model.model, control.model, difference, p, None))
    return tuple(rows)


def bootstrap_p(draws: Float) -> float:
    """Two-sided p-value of (B,) resampled differences against 0; undefined resamples are left out.

    >>> bootstrap_p(np.linspace(.1, 1, 999)), bootstrap_p(np.zeros(9))
    (0.002, 1.0)
    """
    kept = draws[np.isfinite(draws)]
    tail = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(kept) + 1))


def sign_flip_p(difference: Float, flips: int, seed: int) -> float:
    """Two-sided p-value of ``Σ_s d_s`` over random signs of (S,) patients' differences d.

    ``(#{|T*| >= |T|} + 1) / (flips + 1)``: valid for any number of flips (Phipson & Smyth 2010).

    >>> sign_flip_p(np.ones(50), 999, 0), sign_flip_p(np.zeros(50), 999, 0)
    (0.001, 1.0)
    """
    rng, total = np.random.default_rng(seed), float(difference.sum())
    # rounding must not decide whether a tie counts
    least = abs(total) - 1e-12 * float(np.abs(difference).sum())
    reached = 0
    for _ in range(flips):
        bits = np.unpackbits(np.frombuffer(rng.bytes(len(difference) // 8 + 1), np.uint8))[: len(difference)]
        reached += abs(total - 2 * float(difference @ bits)) >= least
    return (reached + 1) / (flips + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: ``p'_(i) = max_{j <= i} min(1, (m − j + 1) p_(j))``.

    >>> [round(q, 3) for q in holm([.01, .04, .03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def correct(comparisons: Sequence[Comparison], by_task: bool = True) -> tuple[Comparison, ...]:
    """Fill ``p_holm`` over all comparisons of one metric of one task, or of all tasks; refused ones do not count."""

    def family_of(c: Comparison) -> tuple[str, str]:
        return (c.task if by_task else "", c.metric)

    corrected = list(comparisons)
    for family in dict.fromkeys(map(family_of, comparisons)):
        tested = [(i, c.p) for i, c in enumerate(comparisons) if family_of(c) == family and c.p is not None]
        for (i, _), q in zip(tested, holm([p for _, p in tested]), strict=True):
            corrected[i] = replace(comparisons[i], p_holm=q)
    return tuple(corrected)

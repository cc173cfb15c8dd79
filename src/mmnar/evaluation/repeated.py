"""Several fits of one method that differ in their seed alone, judged as one: the expected fit of the recipe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmnar.errors import SchemaError
from mmnar.evaluation.intervals import interval
from mmnar.evaluation.result import Estimate
from mmnar.evaluation.scored import Scored


def mean_over_seeds(scored: Sequence[Scored], name: str) -> tuple[Scored, dict[str, float]]:
    """The mean over seeds of every metric, its resampled values and the rows' losses; and metric → SD over seeds.

    The estimand is what one fit of the recipe scores on average, so the interval is that of patients resampled, not of
    seeds; the SD (÷ S − 1; 0 for one seed) stands beside it. An ensemble, whose risks are averaged, is another model.

    Args:
        scored: One per seed, of the same rows, task and resampling.
        name: Of the result.

    Raises:
        SchemaError: The rows differ.
    """
    first = scored[0]
    if any(not np.array_equal(s.rows, first.rows) for s in scored):
        raise SchemaError(f"seeds of '{name}'", "the same rows", "others", "score every seed on the same folds")
    metrics, draws, spread = {}, {}, {}
    for metric, estimate in first.metrics.items():
        values = [s.metrics[metric].value for s in scored]
        known = [v for v in values if v is not None]
        if len(known) < len(scored):
            metrics[metric] = Estimate(None, reason=estimate.reason or "undefined for a seed")
            continue
        draws[metric] = np.mean([s.draws[metric] for s in scored], axis=0)
        metrics[metric] = interval(float(np.mean(known)), draws[metric], estimate.reason)
        spread[metric] = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    losses = {key: np.mean([s.losses[key] for s in scored], axis=0) for key in first.losses}
    risk = np.mean([s.p for s in scored], axis=0)
    mean = Scored(name, first.task, first.rows, first.y, risk, first.fold, first.refused, metrics, draws, losses)
    return mean, spread

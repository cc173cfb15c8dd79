"""How often a model decides when it may abstain, and whom its label sets cover: overall and by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.decisions import sums_by_cell
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.metrics import ratio
from mmnar.evaluation.patterns import pattern_grouping
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.posthoc.sets import FittedSets
from mmnar.predictions import Predictions
from mmnar.privacy import COMPLEMENT, FEW, FEW_OUTCOMES, SMALL_CELL, few, hidden_cells, patients_by_group
from mmnar.roles import Test

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

EVERYBODY: Final = "all samples"
KINDS: Final = ("no", "yes", "both")


@dataclass(frozen=True)
class SetRow:
    """Samples of one pattern, of several that share a row, or all; what is refused says why.

    Args:
        no, yes, both: Share of samples whose set is {0}, {1}, {0, 1}.
        size: Mean number of labels in a set.
        with_event, without: Share of samples with and without the event whose set holds what happened.
    """

    group: str
    no: Estimate
    yes: Estimate
    both: Estimate
    size: Estimate
    with_event: Estimate
    without: Estimate


def set_rows(
    fitted: FittedSets, predictions: Predictions[Test], *, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[SetRow, ...]]:
    """Task → all samples, then by pattern; no row where few have or lack the event.

    Args:
        predictions: Of subjects who were not calibrated on.
        resamples, seed: Of the patients.

    Raises:
        LeakageError, SchemaError: See ``FittedSets.possible``.
    """
    possible = fitted.possible(predictions)
    resampling = Resampling.draw(predictions.subject_id, resamples, seed)
    return {task: _rows(possible[:, k], predictions, task, resampling) for k, task in enumerate(predictions.tasks)}


def _rows(possible: Bool, predictions: Predictions[Any], task: str, resampling: Resampling) -> tuple[SetRow, ...]:
    _, labels, asked = predictions.task(task)
    rows = np.flatnonzero(asked)
    y, subject = labels[rows], resampling.subject[rows]
    if min(len(np.unique(subject[y])), len(np.unique(subject[~y]))) < SMALL_CELL:
        return ()
    kind = _kinds(possible[rows])
    grouping = pattern_grouping(predictions, rows, y.astype(np.float64))
    groups = len(grouping.labels)
    cell = (grouping.row * 2 + y) * len(KINDS) + kind
    sums = sums_by_cell(cell, groups * 2 * len(KINDS), rows, resampling).reshape(-1, groups, 2, len(KINDS))
    everybody = np.zeros(len(rows), dtype=np.int64)
    total = _row(
        EVERYBODY, sums.sum(axis=1), {name: why[0] for name, why in _refusals(y, kind, subject, everybody, 1).items()}
    )
    if groups < 2:
        return (total,)
    refused = _refusals(y, kind, subject, grouping.row, groups)
    each = [
        _row(label, sums[:, g], {name: why[g] for name, why in refused.items()})
        for g, label in enumerate(grouping.labels)
    ]
    return (total, *each)


def _kinds(possible: Bool) -> Int:
    """(n,) place among ``KINDS`` of (n, 2) sets."""
    return np.where(possible.all(axis=1), KINDS.index("both"), possible[:, 1]).astype(np.int64)


def _refusals(y: Bool, kind: Int, subject: Int, group: Int, groups: int) -> dict[str, list[str]]:
    """Figure → why it is refused, group by group; what is shown leaves no small remainder in the totals over groups."""
    no, yes = kind == KINDS.index("no"), kind == KINDS.index("yes")
    cells = {"sets": [no, yes, ~no & ~yes], "with_event": [y & ~no, y & no], "without": [~y & ~yes, ~y & yes]}
    found = {}
    for name, parts in cells.items():
        counts = [patients_by_group(group[part], subject[part], groups) for part in parts]
        small = [any(few(c[g]) for c in counts) for g in range(groups)]
        hidden = [any(h) for h in zip(*map(hidden_cells, counts), strict=True)]
        found[name] = [FEW if s else COMPLEMENT if h else "" for s, h in zip(small, hidden, strict=True)]
    return found


def _row(label: str, sums: Float, refused: Mapping[str, str]) -> SetRow:
    """
    Args:
        sums: (1 + B, 2, 3) weights by outcome and set: of the samples as they are, then resampled.
    """
    n, of = sums.sum(axis=(1, 2)), sums.sum(axis=1)
    no, yes, both = (ratio(of[:, i], n) for i in range(len(KINDS)))
    held = {
        "with_event": ratio(sums[:, 1, 1] + sums[:, 1, 2], sums[:, 1].sum(axis=1)),
        "without": ratio(sums[:, 0, 0] + sums[:, 0, 2], sums[:, 0].sum(axis=1)),
    }
    sets = {"no": no, "yes": yes, "both": both, "size": 1 + both}
    return SetRow(
        label,
        **{name: _estimate(values, refused["sets"]) for name, values in sets.items()},
        **{name: _estimate(values, refused[name]) for name, values in held.items()},
    )


def _estimate(values: Float, why: str) -> Estimate:
    if why:
        return Estimate(None, reason=why)
    return interval(float(values[0]), values[1:], FEW_OUTCOMES).rounded(COARSE)

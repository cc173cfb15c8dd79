"""How often a model decides when it may abstain, and whom its label sets cover: overall and by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Mean
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
    of = _shares(possible[rows], y)
    grouping = pattern_grouping(predictions, rows, y.astype(np.float64))
    total = _row(EVERYBODY, of, np.ones(len(rows), dtype=bool), _few_of(of, subject), rows, resampling)
    if len(grouping.labels) < 2:
        return (total,)
    refusals = _refusals(of, subject, grouping.row, len(grouping.labels))
    each = [
        _row(label, of, grouping.row == g, {name: why[g] for name, why in refusals.items()}, rows, resampling)
        for g, label in enumerate(grouping.labels)
    ]
    return (total, *each)


_KINDS: Final = {"no": "sets", "yes": "sets", "both": "sets", "size": "sets"}
"""Figure → what is refused together with it; the others stand alone."""


def _shares(possible: Bool, y: Bool) -> dict[str, tuple[Float, Bool]]:
    """Figure → (n,) values whose mean it is, and (n,) over which rows."""
    none, some = possible[:, 0], possible[:, 1]
    everyone = np.ones(len(y), dtype=bool)
    values = {
        "no": (none & ~some, everyone),
        "yes": (some & ~none, everyone),
        "both": (none & some, everyone),
        "size": (none.astype(int) + some, everyone),
        "with_event": (some, y),
        "without": (none, ~y),
    }
    return {name: (value.astype(np.float64), rows) for name, (value, rows) in values.items()}


def _cells(of: Mapping[str, tuple[Float, Bool]]) -> dict[str, list[Bool]]:
    """What is refused together → (n,) rows of the counts that its figures tell."""
    cells: dict[str, list[Bool]] = {"sets": [of[name][0] == 1 for name in ("no", "yes", "both")]}
    for name in ("with_event", "without"):
        value, rows = of[name]
        cells[name] = [rows & (value == 1), rows & (value == 0)]
    return cells


def _few_of(of: Mapping[str, tuple[Float, Bool]], subject: Int) -> dict[str, str]:
    """Why a figure of everybody is refused, "" where it is not."""
    return {
        name: FEW if any(few(len(np.unique(subject[cell]))) for cell in cells) else ""
        for name, cells in _cells(of).items()
    }


def _refusals(of: Mapping[str, tuple[Float, Bool]], subject: Int, group: Int, groups: int) -> dict[str, list[str]]:
    """Why each group's figures are refused; what is shown leaves no small remainder in the totals over groups."""
    found = {}
    for name, cells in _cells(of).items():
        counts = [patients_by_group(group[cell], subject[cell], groups) for cell in cells]
        small = [any(few(c[g]) for c in counts) for g in range(groups)]
        hidden = [any(h) for h in zip(*map(hidden_cells, counts), strict=True)]
        found[name] = [FEW if s else COMPLEMENT if h else "" for s, h in zip(small, hidden, strict=True)]
    return found


def _row(
    label: str,
    of: Mapping[str, tuple[Float, Bool]],
    mine: Bool,
    refused: Mapping[str, str],
    rows: Int,
    resampling: Resampling,
) -> SetRow:
    figures = {}
    for name, (value, over) in of.items():
        why = refused[_KINDS.get(name, name)]
        at = np.flatnonzero(mine & over)
        if why or not len(at):
            figures[name] = Estimate(None, reason=why or FEW_OUTCOMES)
            continue
        metric = Mean(value[at])
        drawn = resampling.values(metric, rows[at])
        figures[name] = interval(point(metric, len(at)), drawn, FEW_OUTCOMES).rounded(COARSE)
    return SetRow(label, **figures)

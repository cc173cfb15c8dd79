"""Rows of a table by group of patients, with small groups kept unrecognisable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Auroc, Mean, refusal
from mmnar.evaluation.result import Estimate, GroupRow
from mmnar.privacy import FEW, FEW_OUTCOMES, SMALL_CELL, patients_by_group, refusals_by_group

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def group_rows(
    names: Sequence[str], group: Int, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling, pooled: str
) -> tuple[GroupRow, ...]:
    """One row per group, the largest first; groups of fewer than 10 patients are pooled.

    Counts and rates that would, with the totals, tell a count under 10 are withheld.

    Args:
        names: Names of the G groups.
        group, y, p, fold: (n,) group number, outcome, risk and fold of the rows.
        rows: (n,) where these rows are among those ``resampling`` was drawn for.
        resampling: Patients' resamples.
        pooled: Name of the pool. It is shown without counts if it has fewer than 10 patients itself.
    """
    subject = resampling.subject[rows]
    size = np.bincount(group, minlength=len(names))
    large = np.flatnonzero(np.array(patients_by_group(group, subject, len(names))) >= SMALL_CELL).tolist()
    large.sort(key=lambda g: (-size[g], names[g]))
    place = np.full(len(names), len(large))  # all others share the last row
    place[large] = np.arange(len(large))
    row = place[group]
    labels = [names[g] for g in large]
    if (row == len(large)).any():
        labels.append(f"{pooled} (<{SMALL_CELL} patients each)")
    found = []
    for i, refused in enumerate(refusals_by_group(row, subject, y == 1, len(labels))):
        at = np.flatnonzero(row == i)
        found.append(_row(labels[i], rows[at], y[at], p[at], fold[at], resampling, *refused))
    return tuple(found)


def _row(
    name: str, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling, no_size: str, no_events: str
) -> GroupRow:
    """One group; ``no_size`` and ``no_events`` say why its counts may not be shown, if they may not."""
    if no_size == FEW:
        refused = Estimate(None, reason=FEW)
        return GroupRow(name, None, None, refused, refused, refused, refused)
    metrics = {"rate": Mean(y), "risk": Mean(p), "auroc": Auroc(y, p, fold), "bias": Mean(y - p)}
    # a rate gives the events away, and so does an AUROC where they are few: its value is k of so many pairs
    hidden = {"rate": no_events, "bias": no_events, "auroc": no_events if no_events == FEW_OUTCOMES else ""}
    cells = {
        k: Estimate(None, reason=hidden[k])
        if hidden.get(k)
        else interval(point(m, len(rows)), resampling.values(m, rows), refusal(y) or "no pair in the same fold")
        for k, m in metrics.items()
    }
    return GroupRow(
        group=name,
        n=None if no_size else len(rows),
        events=None if no_events else int(y.sum()),
        observed_rate=cells["rate"],
        mean_risk=cells["risk"],
        auroc=_coarse(cells["auroc"]) if no_events else cells["auroc"],
        calibration_bias=cells["bias"],
    )


def _coarse(estimate: Estimate) -> Estimate:
    """To three digits, from which the number of pairs cannot be told."""
    value, low, high = (None if v is None else round(v, 3) for v in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.reason)

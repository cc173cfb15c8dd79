"""Rows of a table by group of patients, with small groups kept unrecognisable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Auroc, Mean, refusal
from mmnar.evaluation.result import Estimate, GroupRow
from mmnar.privacy import FEW, FEW_OUTCOMES, SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def group_rows(
    names: Sequence[str], group: Int, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling, pooled: str
) -> tuple[GroupRow, ...]:
    """One row per group, the largest first; groups of fewer than 10 patients are pooled.

    Args:
        names: Names of the G groups.
        group, y, p, fold: (n,) group number, outcome, risk and fold of the rows.
        rows: (n,) where these rows are among those ``resampling`` was drawn for.
        resampling: Patients' resamples.
        pooled: Name of the pool. It is shown without counts if it has fewer than 10 patients itself.
    """
    subject = resampling.subject[rows]
    pairs = np.unique(np.stack([group, subject]), axis=1)
    patients = np.bincount(pairs[0], minlength=len(names))
    small = patients < SMALL_CELL
    shown = [(names[g], np.flatnonzero(group == g)) for g in np.flatnonzero(~small).tolist()]
    shown.sort(key=lambda item: (-len(item[1]), item[0]))
    rest = np.flatnonzero(small[group])
    if len(rest):
        shown.append((f"{pooled} (<{SMALL_CELL} patients each)", rest))
    return tuple(_row(name, rows[at], y[at], p[at], fold[at], resampling) for name, at in shown)


def _row(name: str, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling) -> GroupRow:
    subject = resampling.subject[rows]
    if len(np.unique(subject)) < SMALL_CELL:
        refused = Estimate(None, reason=FEW)
        return GroupRow(name, None, None, refused, refused, refused, refused)
    with_event, without = len(np.unique(subject[y == 1])), len(np.unique(subject[y == 0]))
    # where almost nobody (or almost everybody) has the event, a rate would give the count away
    hidden = min(with_event, without) < SMALL_CELL
    metrics = {"rate": Mean(y), "risk": Mean(p), "auroc": Auroc(y, p, fold), "bias": Mean(y - p)}
    values = {k: resampling.values(m, rows) for k, m in metrics.items() if k == "risk" or not hidden}
    cells = {
        k: interval(point(metrics[k], len(rows)), v, refusal(y) or "no pair in the same fold")
        for k, v in values.items()
    }
    refused = Estimate(None, reason=FEW_OUTCOMES)
    return GroupRow(
        group=name,
        n=len(rows),
        events=None if hidden else int(y.sum()),
        observed_rate=cells.get("rate", refused),
        mean_risk=cells["risk"],
        auroc=cells.get("auroc", refused),
        calibration_bias=cells.get("bias", refused),
    )

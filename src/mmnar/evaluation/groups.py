"""Rows of a table by group of patients, none of which tells a small count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Auroc, Mean, refusal
from mmnar.evaluation.result import Estimate, GroupRow
from mmnar.privacy import (
    BY_GROUP,
    FEW,
    FEW_OUTCOMES,
    SMALL_CELL,
    few,
    hidden_cells,
    patients_by_group,
    rows_of_groups,
)

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which row of a table each patient is in.

    Args:
        labels: Names of the rows; the last one is of the groups that share a row, if ``alone`` < len(labels).
        row: (n,) of the rows that were asked.
        alone: How many rows hold one group.
        unasked: Rows of the table whose size would tell how few patients were not asked, alone or with the total.
    """

    labels: tuple[str, ...]
    row: Int
    alone: int
    unasked: tuple[bool, ...]

    @classmethod
    def of(cls, names: Sequence[str], group: Int, subject: Int, asked: Int, y: Float, pooled: str) -> Grouping:
        """Rows by ``privacy.rows_of_groups``.

        Args:
            names: Of the G groups.
            group, subject: (N,) of all rows, asked or not.
            asked: (n,) which of the N were asked.
            y: (n,) their outcomes.
            pooled: Name of the row that groups share.
        """
        place, alone = rows_of_groups(group[asked], subject[asked], y == 1, len(names))
        labels = [""] * alone
        for name, at in zip(names, place.tolist(), strict=True):
            if at < alone:
                labels[at] = name
        row = place[group[asked]]
        if (row == alone).any():
            labels.append(f"{pooled}, each with few outcomes")
        if not labels:
            return cls((), row, 0, ())
        left = np.ones(len(group), dtype=bool)
        left[asked] = False
        without = patients_by_group(np.minimum(place[group[left]], len(labels) - 1), subject[left], len(labels))
        return cls(tuple(labels), row, alone, tuple(hidden_cells(without)))


def group_rows(
    grouping: Grouping, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling, tied: bool = False
) -> tuple[GroupRow, ...]:
    """One row of figures per row of a grouping.

    Args:
        rows: (n,) where these rows are among those ``resampling`` was drawn for.
        y, p, fold: (n,) outcome, risk and fold of the rows.
        resampling: Patients' resamples.
        tied: The risk is the same for all of a group. The AUROC of groups that share a row would then tell how the
            events are spread over them.
    """
    found = []
    for i, label in enumerate(grouping.labels):
        at = np.flatnonzero(grouping.row == i)
        no_auroc = BY_GROUP if tied and i >= grouping.alone else ""
        found.append(_row(label, rows[at], y[at], p[at], fold[at], resampling, no_auroc, grouping.unasked[i]))
    return tuple(found)


def _row(
    name: str, rows: Int, y: Float, p: Float, fold: Int, resampling: Resampling, no_auroc: str, unasked: bool
) -> GroupRow:
    subject = resampling.subject[rows]
    with_event, without = (len(np.unique(subject[y == side])) for side in (1, 0))
    if min(with_event, without) < SMALL_CELL:
        refused = Estimate(None, reason=FEW if few(len(np.unique(subject))) else FEW_OUTCOMES)
        return GroupRow(name, None, None, refused, refused, refused, refused)
    metrics = {"rate": Mean(y), "risk": Mean(p), "auroc": Auroc(y, p, fold), "bias": Mean(y - p)}
    cells = {
        k: interval(point(m, len(rows)), resampling.values(m, rows), refusal(y) or "no pair in the same fold")
        for k, m in metrics.items()
    }
    rate, bias = (cells[k].rounded(2) if unasked else cells[k] for k in ("rate", "bias"))
    return GroupRow(
        group=name,
        n=None if unasked else len(rows),
        events=None if unasked else int(y.sum()),
        observed_rate=rate,
        mean_risk=cells["risk"],
        auroc=Estimate(None, reason=no_auroc) if no_auroc else cells["auroc"],
        calibration_bias=bias,
    )


def same_within(p: Float, group: Int, fold: Int) -> bool:
    """Whether a model gives everybody of a group, in a fold, one risk: it is then a name of the group."""
    cell = group.astype(np.int64) * (int(fold.max(initial=0)) + 1) + fold
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    if not len(starts) or len(starts) == len(cell):
        return False
    spread = np.maximum.reduceat(p[order], starts) - np.minimum.reduceat(p[order], starts)
    return bool((spread < 1e-9).all())

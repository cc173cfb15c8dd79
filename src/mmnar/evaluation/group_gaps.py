"""Whether a model serves the groups of an attribute alike: figures of each group and the gap between best and worst.

Of a panel a figure is the mean over its outcomes, and the outcomes are the same in every group: those of which each
group has ten patients with and ten without. Risks of all folds are pooled. Figures:

    auprc          average precision. It follows how common the outcomes are in the group, too, and so does its gap.
    sensitivity    P(risk ≥ .5 | outcome)
    false_alarms   P(risk ≥ .5 | no outcome)
    ece            expected calibration error, ten bins of equal weight; biased upwards, the more the smaller a group,
                   and in every resample once more: its resamples are moved so that their mean is the sample's own

Whether a gap is more than chance is asked of permutations: the attribute is dealt out anew to the patients (those with
equally many rows change places), outcomes and risks stay. A small group then has as wide a spread as it deserves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.compare import holm
from mmnar.evaluation.decided import Gap
from mmnar.evaluation.intervals import BLOCK, Resampling, interval
from mmnar.evaluation.metrics import AveragePrecision, Ece, Mean, Metric, ratio
from mmnar.evaluation.panels import FEW_DECISIONS, LEAST, MANY, THRESHOLD
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.predictions import Predictions
from mmnar.privacy import FEW_OUTCOMES, SMALL_CELL, patients_by_group

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

PERMUTATIONS: Final = 499
DECISIONS: Final = ("sensitivity", "false_alarms")
OTHERS: Final = "other values, each with few outcomes"
ONE_GROUP: Final = (
    f"fewer than two groups have {SMALL_CELL} patients with and {SMALL_CELL} without half of the outcomes asked"
)


@dataclass(frozen=True)
class GroupFigures:
    """One group; refused figures say why."""

    group: str
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class GroupGaps:
    """One model, one question (a panel or a task), one attribute.

    Args:
        outcomes: That the figures are means over.
        groups: Every patient is in one of them.
        gaps: Of each figure; ``p_holm`` is corrected for the figures and attributes of the model on the question.
        reason: Why there is nothing.
    """

    outcomes: tuple[str, ...] = ()
    groups: tuple[GroupFigures, ...] = ()
    gaps: tuple[Gap, ...] = ()
    reason: str = ""

    def disclosed(self) -> GroupGaps:
        """With two decimals: with more, a group's share would tell its count."""
        return replace(
            self,
            groups=tuple(
                GroupFigures(g.group, {name: e.rounded(COARSE) for name, e in g.figures.items()}) for g in self.groups
            ),
            gaps=tuple(replace(gap, difference=gap.difference.rounded(COARSE)) for gap in self.gaps),
        )


def group_gaps(
    predictions: Predictions[Any], tasks: Sequence[str], resampling: Resampling, seed: int
) -> dict[str, GroupGaps]:
    """Attribute → figures and gaps of one model on one question.

    Args:
        tasks: The outcomes of the question.
        resampling: Of the patients of ``predictions``.
        seed: Of the permutations.
    """
    found: dict[str, GroupGaps] = {}
    for i, (attribute, values) in enumerate(predictions.attributes.items()):
        labels, group = groups_of(predictions, tasks, values)
        if len(labels) < 2:
            found[attribute] = GroupGaps(reason=ONE_GROUP)
            continue
        counted = [task for task in tasks if _enough(predictions, task, group, len(labels))]
        refused = _few_decisions(predictions, counted, group, len(labels))
        figures: list[dict[str, Estimate]] = [{} for _ in labels]
        gaps = []
        for number, (name, metric) in enumerate(figures_of(predictions, counted).items()):
            hidden = np.array(refused) if name in DECISIONS else np.zeros(len(labels), dtype=bool)
            values_of = _resampled(metric, group, len(labels), resampling)
            if name == "ece":
                values_of[1:] += values_of[0] - np.nanmean(values_of[1:], axis=0)
            for g, of in enumerate(figures):
                of[name] = Estimate(None, reason=FEW_DECISIONS) if hidden[g] else _estimate(values_of[:, g])
            if not hidden.any():
                dealt = _dealt(metric, group, len(labels), resampling, np.random.default_rng([seed, i, number]))
                gaps.append(_gap(name, labels, values_of, dealt))
        rows = tuple(GroupFigures(label, of) for label, of in zip(labels, figures, strict=True))
        found[attribute] = GroupGaps(tuple(counted), rows, tuple(gaps))
    return _corrected(found)


def groups_of(predictions: Predictions[Any], tasks: Sequence[str], values: NDArray[np.str_]) -> tuple[list[str], Int]:
    """Labels of the G groups, and (N,) which one a row is in; all rows are in one.

    A value stands alone where half of the outcomes asked have ten patients with and ten without it there. The others
    share a group, which takes in the smallest until it has as many.
    """
    names, row = np.unique(values, return_inverse=True)
    size = np.bincount(row.reshape(-1), minlength=len(names))

    def enough(mine: Bool) -> bool:
        group = np.where(mine, 0, 1)
        return 2 * sum(_enough(predictions, task, group, 1) for task in tasks) >= len(tasks)

    alone = sorted((g for g in range(len(names)) if names[g] and enough(row == g)), key=lambda g: -size[g])
    while alone and (rest := ~np.isin(row, alone)).any() and not enough(rest):
        alone.pop()
    place = np.full(len(names), len(alone))
    place[alone] = np.arange(len(alone))
    labels = [str(names[g]) for g in alone]
    return labels + [OTHERS] * (len(alone) < len(names)), place[row].astype(np.int64)


def _enough(predictions: Predictions[Any], task: str, group: Int, groups: int) -> bool:
    """Whether each of the first ``groups`` groups has ten patients with the outcome and ten without."""
    _, y, asked = predictions.task(task)
    cell = 2 * group[asked] + y[asked]
    counts = patients_by_group(cell, predictions.subject_id[asked], 2 * int(group.max(initial=0)) + 2)
    return min(counts[: 2 * groups]) >= SMALL_CELL


def _few_decisions(predictions: Predictions[Any], counted: Sequence[str], group: Int, groups: int) -> list[bool]:
    """Of which groups a share of decisions would tell fewer than ten patients, as on a panel (``panels.rate``)."""
    refused = []
    for g in range(groups):
        few = False
        for task in counted:
            p, y, asked = predictions.task(task)
            mine = asked & (group == g)
            cell = 2 * y[mine].astype(np.int64) + (p[mine] >= THRESHOLD)
            few |= any(0 < n < SMALL_CELL for n in patients_by_group(cell, predictions.subject_id[mine], 4))
        patients = len(np.unique(predictions.subject_id[group == g]))
        refused.append(few and (patients < LEAST or len(counted) < MANY))
    return refused


# --- figures ----------------------------------------------------------------------------------------------------------


class OfTasks(Metric):
    """The mean over outcomes of a metric of those who were asked; outcomes that weights leave undefined are left out.

    Args:
        parts: (rows that were asked, metric of them) of each outcome.
    """

    def __init__(self, parts: Sequence[tuple[Int, Metric]]) -> None:
        self.parts = parts

    def __call__(self, W: Float) -> Float:
        values = np.stack([metric(W[rows]) for rows, metric in self.parts])
        known = np.isfinite(values)
        return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


class Share(Metric):
    """``Σ w yes / Σ w`` over the rows that count."""

    def __init__(self, yes: Bool, counts: Bool) -> None:
        self.rows, self.mean = np.flatnonzero(counts), Mean(yes[counts].astype(np.float64))

    def __call__(self, W: Float) -> Float:
        return self.mean(W[self.rows])


def figures_of(predictions: Predictions[Any], tasks: Sequence[str]) -> dict[str, Metric]:
    """Figure → its mean over outcomes, for weights of all N rows."""
    kinds: dict[str, Callable[[Float, Float], Metric]] = {
        "auprc": AveragePrecision,
        "sensitivity": lambda y, p: Share(p >= THRESHOLD, y == 1),
        "false_alarms": lambda y, p: Share(p >= THRESHOLD, y == 0),
        "ece": Ece,
    }
    columns = []
    for task in tasks:
        p, y, asked = predictions.task(task)
        columns.append((np.flatnonzero(asked), y[asked].astype(np.float64), p[asked]))
    return {name: OfTasks([(rows, kind(y, p)) for rows, y, p in columns]) for name, kind in kinds.items()}


# --- gaps -------------------------------------------------------------------------------------------------------------


def _resampled(metric: Metric, group: Int, groups: int, resampling: Resampling) -> Float:
    """(1 + B, G) of the sample and its resamples."""
    every = np.arange(len(group))
    mine = [(group == g).astype(np.float64)[:, None] for g in range(groups)]
    sample = np.stack([metric(own)[0] for own in mine])
    drawn = [np.stack([metric(W * own) for own in mine], axis=1) for W in resampling.weights(every)]
    return np.concatenate([sample[None], *drawn])


def _dealt(metric: Metric, group: Int, groups: int, resampling: Resampling, rng: np.random.Generator) -> Float:
    """(PERMUTATIONS,) gaps where the groups are dealt out anew to patients of equally many rows.

    A patient whose rows are in several groups is in that of the first one.
    """
    subject = resampling.subject
    people, first, size = np.unique(subject, return_index=True, return_counts=True)
    of, gaps = group[first], []
    for start in range(0, PERMUTATIONS, BLOCK):
        b = min(BLOCK, PERMUTATIONS - start)
        new = np.empty((len(people), b), dtype=np.int64)
        for k in np.unique(size):
            mine = np.flatnonzero(size == k)
            new[mine] = rng.permuted(np.tile(of[mine, None], (1, b)), axis=0)
        dealt = new[np.searchsorted(people, subject)]  # (N, b)
        values = np.stack([metric((dealt == g).astype(np.float64)) for g in range(groups)])
        gaps.append(np.nanmax(values, axis=0) - np.nanmin(values, axis=0))
    return np.concatenate(gaps)


def _gap(name: str, labels: Sequence[str], values: Float, dealt: Float) -> Gap:
    high, low = int(np.nanargmax(values[0])), int(np.nanargmin(values[0]))
    seen = values[0, high] - values[0, low]
    p = float(((dealt >= seen - 1e-12).sum() + 1) / (len(dealt) + 1))
    return Gap(name, labels[high], labels[low], _estimate(values[:, high] - values[:, low]), p)


def _estimate(values: Float) -> Estimate:
    return interval(float(values[0]), values[1:], FEW_OUTCOMES)


def _corrected(found: Mapping[str, GroupGaps]) -> dict[str, GroupGaps]:
    """With ``p_holm`` over every figure and attribute."""
    every = [(name, i) for name, of in found.items() for i in range(len(of.gaps))]
    corrected = dict(zip(every, holm([found[n].gaps[i].p or 0.0 for n, i in every]), strict=True))
    return {
        name: replace(of, gaps=tuple(replace(gap, p_holm=corrected[name, i]) for i, gap in enumerate(of.gaps)))
        for name, of in found.items()
    }

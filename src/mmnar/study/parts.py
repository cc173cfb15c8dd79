"""A study's rows on parts of a question: kinds of a panel's outcomes, or groups of patients.

Each part is judged by itself: its metrics, their intervals and the differences from controls are of its outcomes, or
of its patients, alone. Differences are corrected over all parts of a question. Groups are ``group_gaps.groups_of``: a
value of the attribute stands alone where enough patients there have, and lack, the outcomes; the others share a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mmnar.evaluation.compare import RANKED, compare, correct
from mmnar.evaluation.evaluate import is_coarse, judged
from mmnar.evaluation.group_gaps import groups_of
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.panels import RANKING, Rated, compare_panel, rate
from mmnar.evaluation.repeated import mean_over_seeds
from mmnar.evaluation.result import Comparison, Estimate, decimals
from mmnar.evaluation.scored import Scored
from mmnar.predictions import Predictions
from mmnar.roles import Test
from mmnar.schema import Panel
from mmnar.study.choosing import questions

NO_KIND: Final = "of no kind"
BySeed = Mapping[str, Sequence[Predictions[Test]]]
"""Row → its test predictions, one for each seed of training."""
Pairs = Sequence[tuple[str, str]]
"""(row, control) to be compared."""


@dataclass(frozen=True)
class Part:
    """All rows on one part of a question, with the digits that may be shown.

    Args:
        rows: Row → metric → value: ``auroc`` and ``auprc`` of one outcome, ``macro_…`` of several.
        comparisons: Rows against controls; ``task`` is the part.
        outcomes: Those that the numbers are of, or means over.
    """

    rows: dict[str, dict[str, Estimate]]
    comparisons: tuple[Comparison, ...]
    outcomes: tuple[str, ...]


def by_kind(
    by_seed: BySeed, scored: Mapping[str, Mapping[str, Scored]], against: Pairs, resampling: Resampling
) -> dict[str, dict[str, Part]]:
    """Panel → kind of its outcomes → numbers, of every panel whose outcomes have kinds.

    Args:
        scored: Task → row → what was computed of it.
        resampling: Of the patients.
    """
    found = {}
    for panel in next(iter(by_seed.values()))[0].panels:
        kind_of = dict(panel.kinds)
        kinds = dict.fromkeys(kind_of.get(task, NO_KIND) for task in panel.tasks) if kind_of else {}
        parts = {
            kind: _part(kind, [t for t in panel.tasks if kind_of.get(t, NO_KIND) == kind], by_seed, scored, resampling)
            for kind in sorted(kinds)
        }
        if parts:
            found[panel.name] = _compared(parts, against, resampling)
    return found


def by_group(by_seed: BySeed, attribute: str, against: Pairs, resamples: int) -> dict[str, dict[str, Part]]:
    """Question (a panel, or a task outside panels) → group of patients → numbers.

    Args:
        attribute: What makes the groups.
        resamples: Of the patients of each group.
    """
    first, found = next(iter(by_seed.values()))[0], {}
    for question, tasks in questions(first).items():
        labels, group = groups_of(first, tasks, first.attributes[attribute])
        parts, drawn = {}, {}
        for g in sorted(range(len(labels)), key=lambda g: labels[g]):
            mine = {row: [p.of_rows(group == g) for p in seeds] for row, seeds in by_seed.items()}
            own = Resampling.draw(next(iter(mine.values()))[0].subject_id, resamples, 0)
            scored = {
                task: {
                    row: mean_over_seeds([judged(p, task, own) for p in seeds], row)[0] for row, seeds in mine.items()
                }
                for task in tasks
            }
            parts[labels[g]], drawn[labels[g]] = _part(labels[g], tasks, mine, scored, own), own
        found[question] = _compared(parts, against, drawn)
    return found


@dataclass(frozen=True)
class _Judged:
    """What a part's numbers are made of: of one outcome its scores, of several the rated panel of them."""

    panel: Panel
    by_seed: BySeed
    scored: dict[str, Scored]
    rated: dict[str, Rated]


def _part(
    label: str,
    tasks: Sequence[str],
    by_seed: BySeed,
    scored: Mapping[str, Mapping[str, Scored]],
    resampling: Resampling,
) -> _Judged:
    panel = Panel(label, tuple(tasks))
    if len(tasks) == 1:
        return _Judged(panel, by_seed, dict(scored[tasks[0]]), {})
    rated = {}
    for row, seeds in by_seed.items():
        coarse = any(is_coarse(seeds[0], scored[task][row]) for task in tasks)
        rated[row] = rate(row, seeds, panel, {task: scored[task][row] for task in tasks}, coarse, resampling)
    return _Judged(panel, by_seed, {}, rated)


def _compared(
    parts: Mapping[str, _Judged], against: Pairs, resampling: Resampling | Mapping[str, Resampling]
) -> dict[str, Part]:
    """Parts with their comparisons, corrected over all of them."""
    every: list[Comparison] = []
    for label, of in parts.items():
        own = resampling if isinstance(resampling, Resampling) else resampling[label]
        for a, b in against:
            if of.rated:
                both = compare_panel(of.panel, of.rated[a], of.rated[b], own, 0)
                every += [_of_several(c, of) for c in both if c.metric in RANKING]
            else:
                each = compare(of.scored[a], of.scored[b], own, 0)
                coarse = any(is_coarse(of.by_seed[row][0], of.scored[row]) for row in (a, b))
                every += [replace(c, task=label).disclosed(coarse) for c in each if c.metric in RANKED]
    corrected = correct(every, by_task=False)
    return {
        label: Part(_numbers(of), tuple(c for c in corrected if c.task == label), _counted(of))
        for label, of in parts.items()
    }


def _of_several(comparison: Comparison, of: _Judged) -> Comparison:
    digits = min(of.rated[row].found.digits(comparison.metric) for row in (comparison.model, comparison.control))
    return replace(comparison, difference=comparison.difference.rounded(digits))


def _numbers(of: _Judged) -> dict[str, dict[str, Estimate]]:
    if of.rated:
        shown = {row: rated.found.disclosed().metrics for row, rated in of.rated.items()}
        return {row: {metric: metrics[metric] for metric in RANKING} for row, metrics in shown.items()}
    found = {}
    for row, scored in of.scored.items():
        coarse = is_coarse(of.by_seed[row][0], scored)
        found[row] = {metric: scored.metrics[metric].rounded(decimals(metric, coarse)) for metric in RANKED}
    return found


def _counted(of: _Judged) -> tuple[str, ...]:
    return next(iter(of.rated.values())).found.counted if of.rated else of.panel.tasks

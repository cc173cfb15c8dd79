"""Numbers by observation pattern and by subgroup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mmnar.evaluation.atlas import Atlas, pattern_label
from mmnar.evaluation.result import GroupRow, Result
from mmnar.render.blocks import Block, Cell, Fold, Paragraph, Table, named, table_of
from mmnar.render.cells import share_cell, short, value_cell, with_mark
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import shared_limits
from mmnar.render.wording import group_count
from mmnar.report.parts.panels import by_question
from mmnar.report.parts.performance import WITHIN, known, metric_table, ranked

PATTERNS: Final = (
    "A model can look good by telling patterns apart, since sicker patients are examined differently. AUROC within "
    "patterns compares only patients who have the same modalities: that part cannot come from the pattern. "
    "Patterns with fewer than 10 patients with or without the event share a row."
)
SUBGROUPS: Final = (
    'Positive "rate minus risk": the model underestimates the group\'s risk. Groups with fewer than 10 patients with '
    "or without the event share a row."
)


def by_pattern(result: Result, atlas: Atlas | None) -> Iterator[Block]:
    """AUROC within and between patterns, then each model's numbers in each pattern."""
    yield Paragraph(PATTERNS)

    def of_task(task: str) -> Iterator[Block]:
        models = result.tasks[task]
        if names := known(models, WITHIN):
            yield metric_table(result, task, names, f"AUROC within and between patterns on {task}.")
        shown = [(model, entry) for model, entry in ranked(models) if entry.patterns]
        for i, (model, entry) in enumerate(shown):
            table = group_table(f"{model} on {task} by observation pattern.", "Pattern", entry.patterns, atlas)
            yield Fold(f"{model}: each pattern", (table,), open=i == 0)

    yield from by_question(result.tasks, result.gathered, of_task)


def by_subgroup(result: Result) -> Iterator[Block]:
    """Each model's numbers in each group of patients."""
    yield Paragraph(SUBGROUPS)
    if result.gathered:
        yield Paragraph(f"Subgroups of single outcomes of {', '.join(result.gathered)} are in result.json.", "note")
    inside = {task for tasks in result.gathered.values() for task in tasks}

    def of_task(task: str) -> Iterator[Block]:
        shown = [(model, entry) for model, entry in ranked(result.tasks[task]) if entry.subgroups]
        for i, (model, entry) in enumerate(shown):
            tables = []
            for attribute, groups in entry.subgroups.items():
                what = attribute.replace("_", " ")
                tables.append(group_table(f"{model} on {task} by {what}.", what, groups, None))
            yield Fold(model, tuple(tables), open=i == 0)

    yield from by_question([task for task in result.tasks if task not in inside], {}, of_task)


def group_table(caption: str, what: str, groups: Sequence[GroupRow], atlas: Atlas | None, digits: int = 2) -> Table:
    """Size, rate, risk, AUROC and bias of each group.

    Args:
        what: Heading of the groups' names.
        atlas: Of the store, so that patterns go by their shortest names.
        digits: Of the AUROC.
    """
    limits = shared_limits((g.calibration_bias for g in groups), (0.0,))
    head = (what, "Samples", "Events", "Observed rate", "Mean risk", "AUROC", "Rate minus risk")
    body = [
        [
            named(_label(g.group, atlas)),
            Cell(group_count(g.n, g)),
            Cell(group_count(g.events, g)),
            short(share_cell(g.observed_rate), g.observed_rate),
            short(share_cell(g.mean_risk), g.mean_risk),
            short(value_cell(g.auroc, digits), g.auroc),
            with_mark(
                short(value_cell(g.calibration_bias, 3), g.calibration_bias),
                interval_mark(g.calibration_bias, limits, 3, 0),
            ),
        ]
        for g in groups
    ]
    return table_of(caption, head, body, {6: marks_head("95 % interval", limits, "", 0, "0: as expected")})


def _label(group: str, atlas: Atlas | None) -> str:
    """A subgroup's name, or a pattern's shortest."""
    return pattern_name(group.split(" + "), atlas) if atlas else group or "unknown"


def pattern_name(parts: Sequence[str], atlas: Atlas | None) -> str:
    """A pattern's shortest name, as far as the store's modalities are known."""
    known_ones = [m.name for m in atlas.modalities] if atlas else list(parts)
    return pattern_label(list(parts), known_ones) if set(parts) <= set(known_ones) else " + ".join(parts) or "unknown"

"""The parts of a study's page that say which differences hold up on the same patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mmnar.evaluation.panels import RANKING
from mmnar.evaluation.result import Comparison
from mmnar.render.blocks import Block, Cell, Fold, Heading, Paragraph, named, table_of
from mmnar.render.wording import favours_model, listed, metric_text, number, some, survives
from mmnar.report.parts.panels import SWAPPED, under
from mmnar.report.study.cells import difference_cell, is_deep, metric_cell, published, tag_of, unreachable
from mmnar.study.result import STEPPED, StudyResult, Table

HOW: Final = (
    "Difference of AUROC = row minus control, on the same patients, with its 95 % interval; p after Holm's correction "
    "over all tests of a task. A difference that does not survive correction is not shown to be one; that does not "
    "prove the two equal."
)
STEPS: Final = (
    "Each row adds one thing to the row before it. Difference = row minus the row before, on the same patients, with "
    "its 95 % interval; p after Holm's correction over the steps of a task."
)


def against_controls(result: StudyResult, table: Table) -> Iterator[Block]:
    """Rows × controls for each task, and what that comes to in a sentence."""
    chosen = [c for c in table.comparisons if c.metric == "auroc"]
    if not chosen and not table.panel_comparisons:
        return
    yield Paragraph(HOW, "note")
    if gain := deep_gain(result, table):
        yield Paragraph(gain, "finding")
    for task in table.tasks:
        if own := [c for c in chosen if c.task == task]:
            yield Heading(task)
            yield from _differences(result, task, own)
    if table.panel_comparisons:
        yield Paragraph(SWAPPED, "note")
    for panel in table.gathered:
        of_panel = [c for c in table.panel_comparisons if c.task == panel]
        by_metric: dict[str, list[Block]] = {}
        for metric in dict.fromkeys(c.metric for c in of_panel):
            # corrected over panels, too, so what can survive is a matter of all of them
            family = [c for c in table.panel_comparisons if c.metric == metric]
            own = [c for c in of_panel if c.metric == metric]
            heading = f"{panel}: {metric_text(metric).label}"
            by_metric[metric] = list(under(heading, _differences(result, panel, own, family)))
        for metric in RANKING:
            yield from by_metric.pop(metric, ())
        yield Fold(f"{panel}: metrics of decisions", tuple(b for blocks in by_metric.values() for b in blocks))


def _differences(
    result: StudyResult, name: str, own: Sequence[Comparison], family: Sequence[Comparison] | None = None
) -> Iterator[Block]:
    """Rows × controls of one metric of a task or panel."""
    of = {(c.model, c.control): c for c in own}
    models, controls = (list(dict.fromkeys(pair[i] for pair in of)) for i in (0, 1))
    if warning := unreachable(result, list(family or own), sides=1 if family else 2):
        yield Paragraph(warning, "warning")
    else:
        yield Paragraph(beaten(list(own)), "finding")
    body = [[named(m), *(difference_cell(of.get((m, control))) for control in controls)] for m in models]
    head = ("Row", *(f"minus {control}" for control in controls))
    yield table_of(f"{name}: difference of {metric_text(own[0].metric).label} from each control.", head, body)


def beaten(comparisons: Sequence[Comparison]) -> str:
    """How many rows beat every control of a task, and how many lose to one, after correction."""
    models = list(dict.fromkeys(c.model for c in comparisons))
    wins = [m for m in models if all(survives(c) and favours_model(c) for c in comparisons if c.model == m)]
    losses = [m for m in models if any(survives(c) and not favours_model(c) for c in comparisons if c.model == m)]
    if wins:
        text = f"{len(wins)} of {some(len(models), 'row')} beat every control after correction: {listed(wins)}."
    else:
        text = f"No row of {len(models)} beat every control after correction."
    if losses:
        text += f" {len(losses)} did worse than at least one control: {listed(losses)}."
    return text


def deep_gain(result: StudyResult, table: Table) -> str:
    """What deep methods gain over the best control of each task; "" where there are none."""
    gains, sure, testable = [], 0, True
    for task, rows in table.tasks.items():
        aurocs = {c: rows[c].metrics["auroc"].value for c in result.study["controls"] if c in rows}
        known = {name: value for name, value in aurocs.items() if value is not None}
        if not known:
            continue
        best = max(known, key=lambda name: known[name])
        family = [c for c in table.comparisons if (c.task, c.metric) == (task, "auroc")]
        testable = testable and not unreachable(result, family)
        for c in family:
            if c.control == best and is_deep(result, c.model):
                gains += [] if c.difference.value is None else [c.difference.value]
                sure += survives(c) and favours_model(c)
    if not gains:
        return ""
    span = f"{number(min(gains), 3)} to {number(max(gains), 3)}"
    text = f"Deep methods minus the best control of each task: {span} of AUROC"
    if testable:
        text += f"; {sure} of {some(len(gains), 'difference')} in their favour after correction"
    return f"{text}. The best control was picked on the same patients, which favours it a little."


def ladder(result: StudyResult, table: Table) -> Iterator[Block]:
    """Rows in order, each against the one before."""
    yield Paragraph(STEPS, "note")
    steps: Mapping[tuple[str, str, str], Comparison] = {(c.task, c.metric, c.model): c for c in table.ladder}
    for task, rows in table.tasks.items():
        cited = {row: of for (row, metric), of in published(result, table, task).items() if metric == "auroc"}
        head = (
            "Row",
            "AUROC",
            "Step in AUROC",
            "Step in Brier (lower is better)",
            *(["Published AUROC"] if cited else []),
        )
        body = []
        for i, (name, of) in enumerate(rows.items()):
            cells = [metric_cell(of.metrics.get("auroc"), "auroc")]
            cells += [difference_cell(steps.get((task, m, name))) if i else Cell("–", "muted") for m in STEPPED]
            if cited:
                cells.append(Cell(number(float(cited[name]["value"]), 3) if name in cited else "", "muted"))
            body.append([named(name, tag_of(result, name)), *cells])
        yield Heading(task)
        climb = [c for c in table.ladder if (c.task, c.metric) == (task, "auroc")]
        if warning := unreachable(result, climb):
            yield Paragraph(warning, "warning")
        else:
            yield Paragraph(_climbed(climb), "finding")
        yield table_of(f"{task}: one step at a time.", head, body)


def _climbed(steps: Sequence[Comparison]) -> str:
    up = [c.model for c in steps if survives(c) and favours_model(c)]
    down = [c.model for c in steps if survives(c) and not favours_model(c)]
    text = f"Steps that raise the AUROC after correction: {listed(up) if up else 'none'} (of {len(steps)})."
    return text + (f" Steps that lower it: {listed(down)}." if down else "")

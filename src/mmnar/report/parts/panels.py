"""Panels of outcomes: their own numbers first, each outcome folded below them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from mmnar.evaluation.result import Estimate, PanelModel
from mmnar.render import marks
from mmnar.render.blocks import Block, Cell, Figure, Fold, Heading, Paragraph, Picture, table_of
from mmnar.render.cells import value_cell, with_mark
from mmnar.render.svg import shared_limits
from mmnar.render.wording import metric_text

SWAPPED: Final = (
    "Panels of several outcomes are compared as one. p: both models' risks of random patients change places, all "
    "outcomes of a patient together; corrected over models and panels."
)


def by_question(
    tasks: Iterable[str],
    gathered: Mapping[str, Sequence[str]],
    of_task: Callable[[str], Iterable[Block]],
    of_panel: Callable[[str], Iterable[Block]] = lambda _: (),
) -> Iterator[Block]:
    """Blocks of each task under its name; of a panel of several, its own and then those of its tasks, folded."""
    panel_of = {task: panel for panel, own in gathered.items() for task in own}
    begun = set()
    for task in tasks:
        panel = panel_of.get(task, "")
        if not panel:
            yield from under(task, of_task(task))
        elif panel not in begun:
            begun.add(panel)
            each = [block for own in gathered[panel] for block in under(own, of_task(own))]
            folded = [Fold(f"Each outcome of {panel}", tuple(each), look="long")] if each else []
            yield from under(panel, [*of_panel(panel), *folded])


def under(heading: str, blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks below a heading; nothing where there are none."""
    for i, block in enumerate(blocks):
        if not i:
            yield Heading(heading)
        yield block


def panel_table(panel: str, rows: Mapping[str, PanelModel], first: Callable[[str], Cell]) -> Iterator[Block]:
    """Models × metrics of a panel, and what its means leave out.

    Args:
        rows: Model → numbers, in the order shown.
        first: Model → the first cell of its row.
    """
    names = list(dict.fromkeys(name for of in rows.values() for name in of.metrics))
    limits = shared_limits([of.metrics["macro_auroc"] for of in rows.values()])
    body = [[first(name), *(_cell(of, metric, limits) for metric in names)] for name, of in rows.items()]
    head = ("Model", *(metric_text(name).label for name in names))
    drawn = {1 + names.index("macro_auroc"): marks.marks_head("Mean AUROC, 95 % interval", limits, "higher")}
    yield table_of(f"Performance on the panel {panel}.", head, body, drawn)
    if left_out := next(iter(rows.values())).left_out:
        words = "; ".join(f"{task}, {why}" for task, why in left_out.items())
        yield Paragraph(f"Means of ranking metrics leave out: {words}.", "note")


def _cell(of: PanelModel, metric: str, limits: tuple[float, float]) -> Cell:
    estimate = of.metrics.get(metric)
    cell = value_cell(estimate, metric_text(metric).digits)
    if estimate is None or metric != "macro_auroc":
        return cell
    return with_mark(cell, marks.interval_mark(estimate, limits))


def outcomes_picture(
    panel: str, model: str, own: Mapping[str, Estimate], control: str, others: Mapping[str, Estimate]
) -> Figure:
    """AUROC of each outcome of a panel, of one model and, hollow, of a control."""
    ordered = dict(sorted(own.items(), key=lambda item: -(item[1].value if item[1].value is not None else -1.0)))
    hollow = {task: of.value for task, of in others.items() if of.value is not None}
    caption = f"AUROC of {model} on each outcome of {panel}, with 95 % intervals; further right is better."
    caption += f" Hollow: the control {control}." if hollow else ""
    return Figure(caption, (Picture(marks.forest(f"AUROC, {panel}", ordered, hollow, None)),))

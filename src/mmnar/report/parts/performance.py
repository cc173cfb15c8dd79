"""How well each model did: metrics, comparisons with controls, distance to the exact risks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mmnar.evaluation.panels import DECIDED, EXCLUSIVE, RANKING
from mmnar.evaluation.result import Comparison, Estimate, ModelTask, PanelModel, Result
from mmnar.evaluation.simulated import TO_BAYES
from mmnar.render.blocks import (
    Block,
    Cell,
    Fact,
    Facts,
    Fold,
    Paragraph,
    Table,
    named,
    table_of,
)
from mmnar.render.cells import value_cell, with_mark
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import BLUE, ORANGE, shared_limits
from mmnar.render.wording import RECTIFIED, metric_text, p_value, survives, verdict
from mmnar.report.parts.panels import SWAPPED, by_question, outcomes_picture, panel_table
from mmnar.report.parts.summary import is_rectified, model_pairs

HEADLINE: Final = ("auroc", "auprc", "brier", "log_loss", "ece")
PANEL_METRICS: Final = (*RANKING, *DECIDED, *EXCLUSIVE)
WITHIN: Final = ("auroc_within_pattern", "auroc_between_pattern", "pattern_pair_share")
COMPARED: Final = (
    "Each model against a control on the same patients. The p values are corrected with Holm's method, because many "
    'questions asked of the same data produce false winners. "No difference shown" does not mean equal.'
)


def performance(result: Result) -> Iterator[Block]:
    """The usual metrics of every task, then any that no other section shows."""
    yield Paragraph(
        ("Out of fold" if result.out_of_fold else "The other store" if result.elsewhere else "Test patients only")
        + ". Values with 95 % intervals. A model with the rectifier stands below the model itself."
    )

    def of_task(task: str) -> Iterator[Block]:
        models = result.tasks[task]
        extra = {name for m in models.values() for name in m.metrics} - {*HEADLINE, *WITHIN, *TO_BAYES}
        names = [*known(models, HEADLINE), *sorted(extra)]
        yield metric_table(result, task, names, f"Performance on {task}.", "auroc")

    yield from by_question(result.tasks, result.gathered, of_task, lambda panel: _panel(result, panel))
    shown = {name for panel in result.gathered for of in result.panels[panel].values() for name in of.metrics}
    yield meanings([*HEADLINE, *(name for name in PANEL_METRICS if name in shown)])


def _panel(result: Result, panel: str) -> Iterator[Block]:
    """A panel's own numbers, and each outcome's AUROC of the best model beside the best control."""
    rows, tasks = ranked_on_panel(result, panel), result.gathered[panel]
    yield from panel_table(panel, rows, lambda name: model_cell(name, result))
    controls = [name for name in rows if name in result.provenance.get("controls", ())]
    best = next(iter(rows))
    other = next((name for name in controls if name != best), "")

    def aurocs(name: str) -> dict[str, Estimate]:
        return {task: result.tasks[task][name].metrics["auroc"] for task in tasks} if name else {}

    yield outcomes_picture(panel, best, aurocs(best), other, aurocs(other))


def ranked_on_panel(result: Result, panel: str) -> dict[str, PanelModel]:
    """Models of a panel by mean AUROC, best first, each followed by its rectified form."""
    models = result.panels[panel]

    def place(name: str) -> tuple[float, bool]:
        auroc = models[name.removesuffix(RECTIFIED)].metrics["macro_auroc"].value
        return (-1.0 if auroc is None else -auroc, is_rectified(name))

    return {name: models[name] for name in sorted(models, key=place)}


def exact_risks(result: Result) -> Iterator[Block]:
    """What a perfect model could still gain, where the exact risks are known."""
    yield Paragraph(
        "The data are simulated, so the exact risk of every patient is known. The gap says how much a perfect model "
        "could still gain."
    )

    def of_task(task: str) -> Iterator[Block]:
        if names := known(result.tasks[task], TO_BAYES):
            yield metric_table(result, task, names, f"Distance to the exact Bayes risk on {task}.", names[0])

    yield from by_question(result.tasks, result.gathered, of_task)
    yield meanings(TO_BAYES)


def known(models: dict[str, ModelTask], wanted: Sequence[str]) -> list[str]:
    """Metrics that any of the models has, in the order wanted."""
    found = {name for m in models.values() for name in m.metrics}
    return [name for name in wanted if name in found]


def ranked(models: dict[str, ModelTask]) -> list[tuple[str, ModelTask]]:
    """Models of a task, best first, each followed by its rectified form."""
    return [(name, models[name]) for pair in model_pairs(models) for name in pair if name is not None]


def model_cell(name: str, result: Result) -> Cell:
    """The first cell of a model's row; a rectified form is set in below its model."""
    if is_rectified(name):
        return Cell(f"{name.removesuffix(RECTIFIED)} + rectifier", "indented")
    if name in result.outside:
        return named(name, "made elsewhere")
    return named(name, "control" if any(c.control == name for c in result.comparisons) else "")


def metric_table(
    result: Result, task: str, names: Sequence[str], caption: str, marked: str = "", least_digits: int = 0
) -> Table:
    """Models × metrics; ``marked``: the metric that is drawn, too; ``least_digits``: fewest decimals."""
    models = result.tasks[task]
    drawn = [m.metrics[marked] for m in models.values() if marked in m.metrics]
    limits = shared_limits(drawn)

    def shown(model: str, entry: ModelTask, name: str) -> Cell:
        digits, estimate = max(least_digits, metric_text(name).digits), entry.metrics.get(name)
        cell = value_cell(estimate, digits)
        if estimate is None or name != marked:
            return cell
        return with_mark(cell, interval_mark(estimate, limits, digits, colour=ORANGE if is_rectified(model) else BLUE))

    body = [[model_cell(m, result), *(shown(m, entry, name) for name in names)] for m, entry in ranked(models)]
    labels = [metric_text(name).label for name in names]
    marks = {}
    if marked in names:
        words, better = f"{metric_text(marked).label}, 95 % interval", metric_text(marked).better
        marks = {1 + names.index(marked): marks_head(words, limits, better)}
    return table_of(caption, ("Model", *labels), body, marks)


def meanings(names: Sequence[str]) -> Fold:
    """How to read the columns of metrics."""
    facts = []
    for text in map(metric_text, names):
        better = f" ({text.better} is better)" if text.better else ""
        facts.append(Fact(text.label + better, (text.meaning,)))
    return Fold("How to read the columns", (Facts(tuple(facts)),))


def comparisons(result: Result) -> Iterator[Block]:
    """Paired differences from controls, with what may be said after correction."""
    yield Paragraph(COMPARED)
    if result.outside:
        yield Paragraph("Risks made elsewhere are compared as a model, and stand in a control's place, too.", "note")
    if result.panel_comparisons:
        yield Paragraph(SWAPPED, "note")

    def of(name: str, comparisons: Sequence[Comparison]) -> Iterator[Block]:
        for metric in dict.fromkeys(c.metric for c in comparisons if c.task == name):
            yield compared_table(name, metric, [c for c in comparisons if (c.task, c.metric) == (name, metric)])

    yield from by_question(
        result.tasks,
        result.gathered,
        lambda task: of(task, result.comparisons),
        lambda panel: of(panel, result.panel_comparisons),
    )


def compared_table(task: str, metric: str, chosen: Sequence[Comparison]) -> Table:
    """Differences from controls in one metric, on one axis."""
    limits, of = shared_limits((d.difference for d in chosen), (0.0,)), metric_text(metric)
    body = [
        [
            named(c.model),
            Cell(c.control, ""),
            with_mark(value_cell(c.difference, 3), interval_mark(c.difference, limits, 3, 0)),
            Cell(p_value(c.p)),
            Cell(p_value(c.p_holm)),
            Cell(verdict(c), "sure" if survives(c) else "muted"),
        ]
        for c in chosen
    ]
    head = ("Model", "Control", "Difference", "p", "Holm p", "After correction")
    drawn = {2: marks_head("95 % interval", limits, of.better, 0)}
    return table_of(f"{task}: {of.label}, model minus control.", head, body, drawn)

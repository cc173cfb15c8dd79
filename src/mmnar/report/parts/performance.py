"""How well each model did: metrics, comparisons with controls, distance to the exact risks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mmnar.evaluation.result import Comparison, ModelTask, Result
from mmnar.evaluation.simulated import TO_BAYES
from mmnar.render.blocks import Block, Cell, Fact, Facts, Fold, Heading, Paragraph, Table, named, table_of
from mmnar.render.cells import value_cell, with_mark
from mmnar.render.marks import interval_mark
from mmnar.render.svg import BLUE, ORANGE, shared_limits
from mmnar.render.wording import RECTIFIED, metric_text, p_value, survives, verdict
from mmnar.report.parts.summary import is_rectified, model_pairs

HEADLINE: Final = ("auroc", "auprc", "brier", "log_loss", "ece")
WITHIN: Final = ("auroc_within_pattern", "auroc_between_pattern", "pattern_pair_share")
COMPARED: Final = (
    "Each model against a control on the same patients. The p values are corrected with Holm's method, because many "
    'questions asked of the same data produce false winners. "No difference shown" does not mean equal.'
)


def performance(result: Result) -> Iterator[Block]:
    """The usual metrics of every task, then any that no other section shows."""
    yield Paragraph(
        ("Out of fold" if result.out_of_fold else "Test patients only")
        + ". Values with 95 % intervals. A model with the rectifier stands below the model itself."
    )
    for task, models in result.tasks.items():
        extra = {name for m in models.values() for name in m.metrics} - {*HEADLINE, *WITHIN, *TO_BAYES}
        names = [*known(models, HEADLINE), *sorted(extra)]
        yield Heading(task)
        yield metric_table(result, task, names, f"Performance on {task}.", "auroc")
    yield meanings(HEADLINE)


def exact_risks(result: Result) -> Iterator[Block]:
    """What a perfect model could still gain, where the exact risks are known."""
    yield Paragraph(
        "The data are simulated, so the exact risk of every patient is known. The gap says how much a perfect model "
        "could still gain."
    )
    for task, models in result.tasks.items():
        if names := known(models, TO_BAYES):
            yield Heading(task)
            yield metric_table(result, task, names, f"Distance to the exact Bayes risk on {task}.", names[0])
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
    marks = {1 + names.index(marked): f"{metric_text(marked).label}, 95 % interval"} if marked in names else {}
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
    for task in result.tasks:
        chosen = [c for c in result.comparisons if c.task == task]
        if chosen:
            yield Heading(task)
            yield _compared(task, chosen)


def _compared(task: str, chosen: Sequence[Comparison]) -> Table:
    limits = {c.metric: shared_limits((d.difference for d in chosen if d.metric == c.metric), (0.0,)) for c in chosen}
    body = [
        [
            named(c.model),
            Cell(c.control, ""),
            Cell(metric_text(c.metric).label, ""),
            with_mark(value_cell(c.difference, 3), interval_mark(c.difference, limits[c.metric], 3, 0)),
            Cell(p_value(c.p)),
            Cell(p_value(c.p_holm)),
            Cell(verdict(c), "sure" if survives(c) else "muted"),
        ]
        for c in chosen
    ]
    head = ("Model", "Control", "Metric", "Difference", "p", "Holm p", "After correction")
    return table_of(f"{task}: difference = model minus control.", head, body, {3: "95 % interval; line at zero"})

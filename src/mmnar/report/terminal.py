"""A Result for the terminal."""

from __future__ import annotations

from typing import Final

from mmnar.evaluation.result import Comparison, Result
from mmnar.render.blocks import Table
from mmnar.render.text import table_lines
from mmnar.render.wording import asked, events, interval, metric_text, p_value
from mmnar.report.parts.panels import panel_table
from mmnar.report.parts.performance import HEADLINE, known, metric_table, model_cell, ranked_on_panel
from mmnar.report.parts.summary import alarms, best_model, made_elsewhere
from mmnar.report.parts.worth import alert_sentences

METRICS: Final = (*HEADLINE, "auroc_gap_to_bayes")
DIGITS: Final = 3


def result_text(result: Result) -> str:
    """Tables of metrics with 95 % intervals per task, and the paired comparisons of AUROC; of outcomes in a panel of
    several those of the panel alone."""
    result = result.disclosed()
    lines = ["Judged out of fold, without a test fold (internal validation by cross-fitting)", ""]
    lines = lines if result.out_of_fold else []
    lines += [said, ""] if (said := made_elsewhere(result)) else []
    inside = {task for tasks in result.gathered.values() for task in tasks}
    for task, models in result.tasks.items():
        if task in inside:
            continue
        counts = result.counts[task]
        table = metric_table(result, task, known(models, METRICS), task, least_digits=DIGITS)
        lines += [
            f"{task}: {asked(counts)}, events: {events(counts.events)}",
            *(f"  {line}" for line in table_lines(table)),
        ]
        lines += [_compared(c) for c in result.comparisons if c.task == task and c.metric == "auroc"]
        best = best_model(result.tasks[task])
        lines += [f"  {best}: {said}" for said in alert_sentences(result, task, best)] if best else []
        lines.append("")
    for panel, tasks in result.gathered.items():
        rows = ranked_on_panel(result, panel)
        blocks = panel_table(panel, rows, lambda name: model_cell(name, result))
        shown = [line for block in blocks if isinstance(block, Table) for line in table_lines(block)]
        lines += [f"panel {panel}, {len(tasks)} outcomes", *(f"  {line}" for line in shown)]
        lines += [_compared(c) for c in result.panel_comparisons if (c.task, c.metric) == (panel, "macro_auroc")]
        lines.append("")
    return "\n".join([*lines, *alarms(result)])


def _compared(c: Comparison) -> str:
    p = "" if c.p_holm is None else f", p (Holm) {p_value(c.p_holm)}"
    return f"  {metric_text(c.metric).label} {c.model} − {c.control}: {interval(c.difference, DIGITS)}{p}"

"""A study's tables on a terminal."""

from __future__ import annotations

from mmnar.evaluation.result import Estimate
from mmnar.report.text import aligned
from mmnar.report.wording import interval, metric_words, p_value
from mmnar.study.result import StudyResult, Table


def study_text(result: StudyResult) -> str:
    """Every table with intervals, then what survives its paired tests, what could not run, what failed."""
    lines = [str(result.study["title"])]
    for table in result.tables:
        lines += ["", f"{table.data} · {table.setting}: {table.samples:,} samples of {table.patients:,} patients"]
        for task in table.tasks:
            lines += ["", f"  {task}", *(f"  {line}" for line in aligned(_rows(table, task, result.study["metrics"])))]
        kept = [c for c in table.comparisons if c.p_holm is not None and c.p_holm < 0.05]
        lines += ["", f"  {len(kept)} of {len(table.comparisons)} differences from controls survive Holm's correction"]
        lines += [
            f"    {c.task}, {c.metric}: {c.model} − {c.control} = {interval(c.difference, 3)}, p = {p_value(c.p_holm)}"
            for c in kept
        ]
    lines += [f"not applicable: {row} on {data}: {why}" for data, row, why in result.refused]
    lines += [f"failed: {label}: {error}" for label, error, _ in result.failures]
    return "\n".join([*lines, *result.words])


def _rows(table: Table, task: str, metrics: list[str]) -> list[list[str]]:
    head = ["", *(metric_words(m).label for m in metrics)]
    body = [
        [name, *(_cell(numbers.metrics.get(m), numbers.spread.get(m)) for m in metrics)]
        for name, numbers in table.tasks[task].items()
    ]
    exact = table.bayes.get(task)
    return [head, *body, *([["exact risks", *(_cell(exact.get(m), None) for m in metrics)]] if exact else [])]


def _cell(estimate: Estimate | None, spread: float | None) -> str:
    if estimate is None:
        return "–"
    return interval(estimate, 3) + (f" ± {spread:.3f}" if spread else "")

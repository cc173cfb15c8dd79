"""A Result for the terminal."""

from __future__ import annotations

from mmnar.evaluation.result import Result
from mmnar.report.wording import asked, events, interval, p_value

METRICS = ("auroc", "auprc", "brier", "log_loss", "ece", "auroc_gap_to_bayes")


def result_text(result: Result) -> str:
    """Tables of metrics with 95 % intervals per task, and the paired comparisons of AUROC."""
    result = result.disclosed()
    lines: list[str] = []
    for task, models in result.tasks.items():
        counts = result.counts[task]
        lines += [f"{task}: {asked(counts)}, events: {events(counts.events)}"]
        shown = [m for m in METRICS if any(m in entry.metrics for entry in models.values())]
        rows = [["", *shown]]
        for name, entry in models.items():
            rows.append([name, *(interval(entry.metrics[m], 3) if m in entry.metrics else "" for m in shown)])
        lines += aligned(rows)
        for c in result.comparisons:
            if c.task == task and c.metric == "auroc":
                p = "" if c.p_holm is None else f", p (Holm) {p_value(c.p_holm)}"
                lines.append(f"  AUROC {c.model} − {c.control}: {interval(c.difference, 3)}{p}")
        lines += [
            f"  ALARM {name}: {entry.oracle.words}"
            for name, entry in models.items()
            if entry.oracle is not None and entry.oracle.alarm
        ]
        lines.append("")
    return "\n".join(lines)


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines with columns of equal width.

    >>> aligned([["a", "bb"], ["ccc", "d"]])
    ['  a    bb', '  ccc  d']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]

"""What a run keeps as modalities go missing, as text and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mmnar.evaluation.result import Curve, Estimate
from mmnar.files import write_text
from mmnar.render.blocks import Block, Cell, Figure, Listing, Page, Paragraph, Picture, Section, named, table_of
from mmnar.render.cells import short, value_cell
from mmnar.render.charts import Line, along, legend
from mmnar.render.page import html_of
from mmnar.render.svg import DASHES, PALETTE, ends, shared_limits
from mmnar.render.text import section_lines
from mmnar.render.wording import metric_text, number, percent, some
from mmnar.report.parts.panels import under
from mmnar.report.written import writing
from mmnar.workflow.stress import SHOWN, Stress, Stressed

HOW: Final = (
    "A modality is hidden from a share of the test patients who have it, as if it had not been ordered; nothing is "
    "trained again. The outcome stays, so this says what the model loses, not what would become of the patients. "
    "Changes are paired on patients, with 95 % intervals."
)


def stress_text(found: Stress) -> str:
    """For the terminal."""
    lines = [line for section in stress_page(found).sections for line in (*section_lines(section), "")]
    return "\n".join(lines).rstrip()


def write_stress(found: Stress, out: Path) -> Path:
    """``OUT/stress.html``, and ``OUT/stress.json`` with all that it shows.

    Raises:
        StoreError: The folder cannot be written.
    """
    with writing(out):
        write_text(out / "stress.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
        write_text(out / "stress.html", html_of(stress_page(found)))
    return out / "stress.html"


def stress_page(found: Stress) -> Page:
    """What is lost first, then task by task."""
    words = f"{some(found.samples, 'test sample')}; {found.which}."
    first = Section("What is lost", (Listing(tuple(verdicts(found))), Paragraph(words), Paragraph(HOW, "note")), True)
    tasks = [block for task in found.whole for block in under(task, _task(found, task))]
    return Page(
        "Stress", f"{found.name} under stress", (first, Section("Task by task", tuple(tasks), True)), found.name
    )


def verdicts(found: Stress) -> Iterator[str]:
    """Of each task, what hurts most at the largest share."""
    for task in found.whole:
        last = max(row.share for row in found.rows)
        known = [r for r in found.rows if r.task == task and r.share == last and r.change["auroc"].value is not None]
        if not known:
            yield f"{task}: not given."
            continue
        worst = min(known, key=lambda row: row.change["auroc"].value or 0.0)
        lost, high = worst.change["auroc"].value or 0.0, worst.change["auroc"].high
        what = f"{worst.modality} hidden from {percent(last)} of those who have it"
        if high is not None and high < 0:
            yield f"{task}: {what} costs most, {number(-lost, 3)} of AUROC."
        else:
            yield f"{task}: no loss of AUROC was shown, whatever is hidden; most with {what} ({number(lost, 3)})."


def _task(found: Stress, task: str) -> Iterator[Block]:
    rows = [row for row in found.rows if row.task == task]
    for metric in SHOWN:
        yield _figure(task, metric, found.whole[task][metric], rows)
    label = {name: metric_text(name).label for name in SHOWN}
    head = ("Hidden", "Share", *(words for name in SHOWN for words in (label[name], f"Change of {label[name]}")))
    body = [
        [
            named(row.modality),
            Cell(percent(row.share)),
            *(c for name in SHOWN for c in (_cell(row.metrics[name]), _cell(row.change[name]))),
        ]
        for row in rows
    ]
    yield table_of(f"{task}: as modalities go missing.", head, body)


def _cell(estimate: Estimate) -> Cell:
    return short(value_cell(estimate, 3), estimate)


def _figure(task: str, metric: str, whole: Estimate, rows: list[Stressed]) -> Figure:
    names = list(dict.fromkeys(row.modality for row in rows))
    of: Mapping[str, list[tuple[float, Estimate]]] = {
        name: [(0.0, whole), *((row.share, row.metrics[metric]) for row in rows if row.modality == name)]
        for name in names
    }
    lines = []
    for i, (name, points) in enumerate(of.items()):
        known = [(x, e) for x, e in points if e.value is not None]
        low, high = zip(*(ends(e) for _, e in known), strict=True) if known else ((), ())
        curve = Curve(tuple(x for x, _ in known), tuple(e.value or 0.0 for _, e in known), low, high)
        lines.append(Line(name, curve, PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)], band=True))
    limits = shared_limits([e for points in of.values() for _, e in points])
    label = metric_text(metric).label
    last = max((row.share for row in rows), default=1.0)
    drawn = along(f"{label} of {task}", ("Share hidden", label), [x for x in lines if x.curve.x], (0.0, last), limits)
    better = "higher" if metric_text(metric).better == "higher" else "lower"
    return Figure(f"{label} of {task}; {better} is better.", (Picture(drawn),), "small", legend(lines))

"""When a model may say "undecided", as text and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mmnar.evaluation.abstain import SetRow
from mmnar.evaluation.result import Estimate
from mmnar.files import write_text
from mmnar.posthoc.sets import BORROWED
from mmnar.privacy import FEW_OUTCOMES
from mmnar.render.blocks import Block, Cell, Listing, Page, Paragraph, Section, named, table_of
from mmnar.render.cells import refused_cell, share_cell, short, value_cell
from mmnar.render.page import html_of
from mmnar.render.text import section_lines
from mmnar.render.wording import number, percent
from mmnar.report.parts.panels import under
from mmnar.report.written import writing
from mmnar.workflow.abstain import Abstention

HOW: Final = (
    "Each patient gets the labels that the risk leaves possible: no, yes, or both, where the model abstains. Limits "
    "are set on risks out of fold, for those with and without the outcome apart, and by pattern."
)
BORROWS: Final = (
    f"A pattern borrows from patterns near it, which together weigh at most {BORROWED:g} patients: the promise is "
    "approximate where few patients have a pattern."
)
EXACT: Final = (
    "Nothing is borrowed: the promise holds in each pattern by itself, on average over calibration samples; where few "
    "patients have a pattern and an outcome, that outcome is never excluded."
)
NO_PROMISE: Final = (
    "The promise is of patients who come as those did on whom the limits were set. It is approximate where the mean of "
    "several fits is scored, for each was calibrated by itself, and where ordering changes nothing is promised."
)


def abstain_text(found: Abstention) -> str:
    """For the terminal."""
    lines = [line for section in abstain_page(found).sections for line in (*section_lines(section), "")]
    return "\n".join(lines).rstrip()


def write_abstain(found: Abstention, out: Path) -> Path:
    """``OUT/abstain.html``, and ``OUT/abstain.json`` with all that it shows.

    Raises:
        StoreError: The folder cannot be written.
    """
    with writing(out):
        write_text(out / "abstain.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
        write_text(out / "abstain.html", html_of(abstain_page(found)))
    return out / "abstain.html"


def abstain_page(found: Abstention) -> Page:
    """How often the model decides, then task by task."""
    sections = [Section("How often does it decide?", tuple(said(found)), True)]
    tasks = tuple(each_task(found))
    sections += [Section("Task by task", tasks, True)] if tasks else []
    return Page("Abstention", f"{found.name}, where it may abstain", tuple(sections), found.name)


def said(found: Abstention) -> Iterator[Block]:
    """In sentences, and what is promised."""
    wanted = percent(1 - found.alpha, 0)
    words = f"{found.judged}; the sets are to hold what happens for {wanted} of the patients with the outcome, and "
    notes = f"{HOW} {EXACT if found.exact else BORROWS} {NO_PROMISE}"
    yield Listing(tuple(verdicts(found)))
    yield Paragraph(f"{words}of those without.")
    yield Paragraph(notes, "note")


def each_task(found: Abstention) -> Iterator[Block]:
    """A table of each task that has one."""
    for task, rows in found.tasks.items():
        if rows:
            yield from under(task, _task(task, rows))


def verdicts(found: Abstention) -> Iterator[str]:
    """Of each task, the share decided and whom the sets cover."""
    for task, rows in found.tasks.items():
        if not rows:
            yield f"{task}: not given ({FEW_OUTCOMES})."
            continue
        of = rows[0]
        if of.both.value is None:
            yield f"{task}: how many are decided is not given ({of.both.reason})."
            continue
        share = percent(1 - of.both.value, 0)
        decided = f"{task}: {share} of samples are decided ({_word(of.no)} no, {_word(of.yes)} yes)"
        held = [
            f"{_word(of_side)} of those {who}"
            for of_side, who in ((of.with_event, "with the outcome"), (of.without, "without"))
            if of_side.value is not None
        ]
        yield f"{decided}; the sets hold what happened for {' and '.join(held)}." if held else f"{decided}."


def _word(share: Estimate) -> str:
    return "a share not given" if share.value is None else percent(share.value, 0)


def _task(task: str, rows: tuple[SetRow, ...]) -> Iterator[Block]:
    head = ("", "No", "Yes", "Both", "Mean size", "Held, with the outcome", "Held, without")
    yield table_of(
        f"{task}: what is decided, and for whom the set holds what happened.", head, [_cells(r) for r in rows]
    )


def _cells(row: SetRow) -> list[Cell]:
    sets = [short(_percent(e), e) for e in (row.no, row.yes, row.both)]
    size = Cell(number(row.size.value)) if row.size.value is not None else short(value_cell(row.size), row.size)
    return [named(row.group), *sets, size, *(short(share_cell(e, 0), e) for e in (row.with_event, row.without))]


def _percent(share: Estimate) -> Cell:
    return refused_cell(share.reason) if share.value is None else Cell(percent(share.value, 0))

"""A study's tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from mmnar.report.text import aligned
from mmnar.study.blocks import Block, Cell, Heading, Sheet, Words
from mmnar.study.contents import contents
from mmnar.study.result import StudyResult


def study_text(result: StudyResult) -> str:
    """What the study is about, compactly; then what could not run, what failed, and what must be known."""
    lines = [str(result.study["title"])]
    lines += [
        f"{t.data}{f' · {t.setting}' if t.setting else ''}: {t.samples:,} samples of {t.patients:,} patients"
        for t in result.tables
    ]
    shown = [section for section in contents(result) if section.terminal]
    for section in shown:
        lines += ["", section.title, *(f"  {line}" for block in section.blocks for line in _lines(block))]
    if any(_starred(block) for section in shown for block in section.blocks):
        lines += ["", "* survives Holm's correction"]
    lines += [""] if result.refused or result.failures or result.words else []
    lines += [f"not applicable: {row} on {data}: {why}" for data, row, why in result.refused]
    lines += [f"failed: {label}: {error}" for label, error, _ in result.failures]
    return "\n".join([*lines, *result.words])


def _lines(block: Block) -> Iterator[str]:
    """Tables, headings and findings; how to read them is on the page."""
    if isinstance(block, Sheet):
        yield from aligned([list(block.head), *([_brief(cell) for cell in row] for row in block.rows)])
    elif isinstance(block, Heading) or (isinstance(block, Words) and block.kind in ("finding", "warning")):
        yield block.text


def _starred(block: Block) -> bool:
    return isinstance(block, Sheet) and any(c.kind in ("better", "worse") for row in block.rows for c in row)


def _brief(cell: Cell) -> str:
    return cell.brief or cell.words

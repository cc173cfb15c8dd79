"""A study's tables in Markdown, for documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmnar.files import write_text
from mmnar.study.blocks import Block, Cell, Heading, Sheet, Words
from mmnar.study.contents import contents
from mmnar.study.result import StudyResult


def write_tables(result: StudyResult, out: Path) -> Path:
    """``OUT/tables.md``."""
    path = out / "tables.md"
    write_text(path, study_markdown(result))
    return path


def study_markdown(result: StudyResult) -> str:
    """Everything of the page but its pictures and folds."""
    parts = [f"# {escaped(str(result.study['title']))}"]
    for section in contents(result):
        parts.append(f"## {escaped(section.title)}")
        parts += [text for block in section.blocks for text in _parts(block)]
    return "\n\n".join(parts) + "\n"


def _parts(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"### {escaped(block.text)}"
    elif isinstance(block, Words):
        yield f"**{escaped(block.text)}**" if block.kind == "finding" else escaped(block.text)
    elif isinstance(block, Sheet):
        yield escaped(block.caption)
        lines = [_line(map(escaped, block.head)), _line("---" for _ in block.head)]
        yield "\n".join([*lines, *(_line(map(_cell, row)) for row in block.rows)])


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escaped(f"{cell.words} ({cell.tag})" if cell.tag else cell.words)
    if cell.kind in ("better", "worse"):
        return f"**{text}**"
    return f"*{text}*" if text and cell.kind in ("muted", "refused") else text


def escaped(text: str) -> str:
    """Words as they are, whatever is in them.

    >>> escaped("a|b <c> *d* e_f")
    'a\\\\|b \\\\<c\\\\> \\\\*d\\\\* e_f'
    """
    return re.sub(r"([\\`*\[\]<>|#]|\b_|_\b)", r"\\\1", " ".join(text.split()))

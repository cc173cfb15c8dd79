"""A page in Markdown, for documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mmnar.render.blocks import Block, Cell, Code, Facts, Figure, Flows, Fold, Heading, Listing, Page, Paragraph, Table
from mmnar.render.text import flow_table


def markdown_of(page: Page, unfolded: bool = False) -> str:
    """Everything of the page but its pictures; of a figure, its numbers.

    Args:
        unfolded: Also what is folded, below its title.
    """
    parts = [f"# {escaped(page.title)}"]
    for section in page.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [text for block in section.blocks for text in _parts(block, unfolded)]
    return "\n\n".join(parts) + "\n"


def _parts(block: Block, unfolded: bool) -> Iterator[str]:
    if isinstance(block, Fold):
        if unfolded:
            yield f"#### {escaped(block.title)}"
            yield from (text for inner in block.blocks for text in _parts(inner, unfolded))
        return
    if isinstance(block, Heading):
        yield f"### {escaped(block.text)}"
    elif isinstance(block, Paragraph):
        yield f"**{escaped(block.text)}**" if block.kind in ("finding", "alarm") else escaped(block.text)
    elif isinstance(block, Listing):
        yield "\n".join(f"- {escaped(item)}" for item in block.items)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure) and block.numbers is not None:
        yield from _table(block.numbers)
    elif isinstance(block, Flows):
        for flow in block.flows:
            yield from _table(flow_table(flow))
    elif isinstance(block, Code) and unfolded:
        yield f"```\n{block.text.replace('```', '')}\n```"
    elif isinstance(block, Facts) and unfolded:
        yield "\n".join(f"- {escaped(fact.name)}: {escaped('; '.join(fact.values))}" for fact in block.items)


def _table(table: Table) -> Iterator[str]:
    yield escaped(table.caption)
    lines = [_line(map(escaped, table.head)), _line("---" for _ in table.head)]
    yield "\n".join([*lines, *(_line(map(_cell, row)) for row in table.rows)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escaped(f"{cell.line} ({cell.tag})" if cell.tag else cell.line)
    if cell.kind in ("better", "worse", "sure"):
        return f"**{text}**"
    return f"*{text}*" if text and cell.kind in ("muted", "refused") else text


def escaped(text: str) -> str:
    """Text as it is, whatever is in it.

    >>> escaped("a|b <c> *d* e_f")
    'a\\\\|b \\\\<c\\\\> \\\\*d\\\\* e_f'
    """
    return re.sub(r"([\\`*\[\]<>|#]|\b_|_\b)", r"\\\1", " ".join(text.split()))

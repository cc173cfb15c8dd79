"""Blocks as lines on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmnar.render.blocks import (
    Block,
    Cell,
    Figure,
    Flow,
    Flows,
    Heading,
    Listing,
    Paragraph,
    Section,
    Table,
    named,
    table_of,
)


def section_lines(section: Section) -> list[str]:
    """Its title, and its blocks indented."""
    return [section.title, *(f"  {line}".rstrip() for line in block_lines(section.blocks))]


def block_lines(blocks: Iterable[Block]) -> list[str]:
    """Tables, headings, sentences and findings; notes on how to read them, pictures and folds are for the page."""
    return [line for block in blocks for line in _lines(block)]


def _lines(block: Block) -> list[str]:
    if isinstance(block, Table):
        return table_lines(block)
    if isinstance(block, Figure) and block.numbers is not None:
        return table_lines(block.numbers)
    if isinstance(block, Flows):
        return [line for flow in block.flows for line in (flow.title, *table_lines(flow_table(flow)))]
    if isinstance(block, Listing):
        return list(block.items)
    if isinstance(block, Heading) or (isinstance(block, Paragraph) and block.kind != "note"):
        return [block.text]
    return []


def table_lines(of: Table) -> list[str]:
    """Columns as wide as their widest cell; the first flush left, the others flush right."""
    return aligned([of.head, *([cell.brief or cell.line for cell in row] for row in of.rows)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """
    >>> aligned([["a", "bb"], ["ccc", "d"]])
    ['a    bb', 'ccc   d']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def flow_table(flow: Flow) -> Table:
    """A flow where there are no boxes to draw."""
    rows = [[named(s.rule), *map(Cell, (s.kept, s.subjects, s.left_out)), Cell(s.tag, "")] for s in flow.steps]
    return table_of(flow.title, ("Rule", "Kept", "Patients", "Left out", ""), rows)

"""What a study's report is made of, before it becomes a page, Markdown or lines on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

Kind = Literal["", "name", "num", "muted", "refused", "better", "worse"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: As shown.
        kind: How it is shown; "better" and "worse" hold after correction for the number of tests.
        tag: A word beside it.
        note: A second line.
        brief: What a terminal shows in place of ``text``; "" = the same.
    """

    text: str
    kind: Kind = "num"
    tag: str = ""
    note: str = ""
    brief: str = ""

    @property
    def words(self) -> str:
        """All of it in one line."""
        return f"{self.text} {self.note}".strip()


@dataclass(frozen=True)
class Sheet:
    """A table: ``rows`` of as many cells as ``head`` has words."""

    block: ClassVar[str] = "sheet"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Heading:
    """Of a part of a section, a task mostly."""

    block: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph; ``kind`` says whether it is a finding or a note on how to read something."""

    block: ClassVar[str] = "words"
    text: str
    kind: Literal["", "note", "finding", "warning"] = ""


@dataclass(frozen=True)
class Drawing:
    """Pictures, each in a box that scrolls."""

    block: ClassVar[str] = "drawing"
    caption: str
    pictures: tuple[Markup, ...]


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, each with its name."""

    block: ClassVar[str] = "gallery"
    caption: str
    pictures: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True)
class Folded:
    """Long text that opens on demand, such as a traceback."""

    block: ClassVar[str] = "folded"
    title: str
    text: str


Block = Sheet | Heading | Words | Drawing | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """A chapter of the report; ``terminal``: worth lines on a terminal."""

    title: str
    blocks: tuple[Block, ...]
    terminal: bool = False


def named(name: str, tag: str = "") -> Cell:
    """The first cell of a row."""
    return Cell(name, "name", tag)


def sheet(caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Sheet:
    return Sheet(caption, tuple(head), tuple(tuple(row) for row in rows))

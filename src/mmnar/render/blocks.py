"""What pages are made of, before they become HTML, Markdown or lines on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from markupsafe import Markup

NOTHING: Final = Markup("")

Kind = Literal["", "name", "indented", "num", "muted", "refused", "better", "worse", "sure"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: As shown.
        kind: How it is shown; "better", "worse" and "sure" hold after correction for the number of tests, "indented"
            is the name of a row that belongs to the row before it.
        tag: A label beside it.
        note: A second line.
        brief: What a terminal shows in place of ``text``; "" = the same.
        full: What ``text`` is short for; a browser shows it on demand.
        mark: A small picture of the same number, for a column that the table lists in ``marks``.
        tint: Depth of the background, 0 to 10, or None.
    """

    text: str
    kind: Kind = "num"
    tag: str = ""
    note: str = ""
    brief: str = ""
    full: str = ""
    mark: Markup = NOTHING
    tint: int | None = None

    @property
    def line(self) -> str:
        """Text and note in one line."""
        return f"{self.text} {self.note}".strip()


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as ``head`` has names.

    Args:
        marks: Column → heading of the column of small pictures that follows it, see ``marks.marks_head``.
        look: "grid": many narrow columns; "narrow": few short ones; "cards": of sentences, each row a card on a phone.
    """

    block: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    marks: Mapping[int, str] = field(default_factory=dict)
    look: Literal["", "grid", "narrow", "cards"] = ""


@dataclass(frozen=True)
class Heading:
    """Of a part of a section, a task mostly."""

    block: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Text; ``kind`` says whether it is a finding, a warning, or a note on how to read something."""

    block: ClassVar[str] = "paragraph"
    text: str
    kind: Literal["", "note", "finding", "warning", "alarm"] = ""


@dataclass(frozen=True)
class Listing:
    """Sentences, one a line."""

    block: ClassVar[str] = "listing"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """An SVG of ``render.charts``, ``marks`` or ``patterns``; ``name`` stands above it."""

    svg: Markup
    name: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures with a caption.

    Args:
        look: "wide": each in a box of its own that scrolls; "side": side by side; "small": many small ones; "row": few
            in one row, on paper too.
        legend: Names beside samples of lines, see ``svg.legend``.
        numbers: What is drawn, as a table: folded beneath the pictures, and in place of them where there are none.
    """

    block: ClassVar[str] = "figure"
    caption: str
    pictures: tuple[Picture, ...]
    look: Literal["wide", "side", "small", "row"] = "wide"
    legend: Markup = NOTHING
    numbers: Table | None = None


@dataclass(frozen=True)
class Step:
    """One rule of a flow: who is left, in words, and as a share of the first step."""

    rule: str
    kept: str
    subjects: str
    left_out: str
    share: float
    tag: str = ""


@dataclass(frozen=True)
class Flow:
    """Who was left after each rule."""

    title: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Flows:
    """Flows side by side."""

    block: ClassVar[str] = "flows"
    flows: tuple[Flow, ...]


@dataclass(frozen=True)
class Fact:
    """A name with one value, several, or a structure as JSON."""

    name: str
    values: tuple[str, ...]
    code: bool = False


@dataclass(frozen=True)
class Facts:
    """A list of facts; "inline": side by side, where they are few and short; "columns": in two columns."""

    block: ClassVar[str] = "facts"
    items: tuple[Fact, ...]
    look: Literal["", "inline", "columns"] = ""


@dataclass(frozen=True)
class Code:
    """Text as it is, such as a configuration."""

    block: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that open on demand; on paper they are open.

    Args:
        look: "long": stays folded on paper, too.
    """

    block: ClassVar[str] = "fold"
    title: str
    blocks: tuple[Block, ...]
    open: bool = False
    look: Literal["", "long"] = ""


Block = Heading | Paragraph | Listing | Table | Figure | Flows | Facts | Code | Fold


@dataclass(frozen=True)
class Section:
    """A chapter of a page.

    Args:
        terminal: Worth lines on a terminal.
        folded: Opens on demand, and is printed only if it is open.
    """

    title: str
    blocks: tuple[Block, ...]
    terminal: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page.

    Args:
        kind: What sort of page it is.
        byline: What it is about, in short.
        fingerprint: Of the data, or "".
        alarms: What a reader must see first.
        footer: What lies beside the page.
        rest: Where a print's reader finds the folded sections.
    """

    kind: str
    title: str
    sections: tuple[Section, ...]
    byline: str = ""
    fingerprint: str = ""
    alarms: tuple[str, ...] = ()
    footer: str = ""
    rest: str = ""


def named(name: str, tag: str = "") -> Cell:
    """The first cell of a row."""
    return Cell(name, "name", tag)


def table_of(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    marks: Mapping[int, str] | None = None,
    look: Literal["", "grid", "narrow", "cards"] = "",
) -> Table:
    return Table(caption, tuple(head), tuple(tuple(row) for row in rows), marks or {}, look)


def facts(mapping: Mapping[str, Any]) -> Facts:
    """Facts of a mapping of plain values.

    >>> facts({"a_b": None, "c": [1, "x"], "d": {"e": 1}}).items[1]
    Fact(name='c', values=('1', 'x'), code=False)
    """
    return Facts(tuple(_fact(key.replace("_", " "), value) for key, value in mapping.items()))


def _fact(name: str, value: Any) -> Fact:
    if value is None:
        return Fact(name, ("not given",))
    if isinstance(value, Mapping):
        return Fact(name, (pretty(value),), code=True)
    if isinstance(value, str | int | float):
        return Fact(name, (str(value),))
    parts = tuple(pretty(part) if isinstance(part, Mapping) else str(part) for part in value)
    return Fact(name, parts or ("none",), any(isinstance(part, Mapping) for part in value))


def pretty(value: Any) -> str:
    """A structure as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)

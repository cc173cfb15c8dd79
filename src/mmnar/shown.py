"""What an object says of itself where somebody looks at it: one line in a terminal, a small table in a notebook. Both
may be pasted anywhere: no patient's content, no identifier, no count under ten."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from mmnar.privacy import SMALL_CELL, counted, counted_of, few

MOST: Final = 6
"""Names in one list."""


class Shown:
    """``__repr__`` and ``_repr_html_`` of what ``_facts`` says. A dataclass needs ``repr=False`` beside it."""

    @abstractmethod
    def _facts(self) -> Mapping[str, str]:
        """What → in words."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(f'{key} {said}' for key, said in self._facts().items())}>"

    def _repr_html_(self) -> str:
        return table_html(type(self).__name__, [(key, said) for key, said in self._facts().items()])


def table_html(title: str, rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A plain table; the first cell of each row names it.

    >>> table_html("A", [("b", "<c>")])
    '<table><caption>A</caption><tr><th>b</th><td>&lt;c&gt;</td></tr></table>'
    """
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    return f"<table><caption>{escape(title)}</caption>{top}{body}</table>"


def sized(samples: int, patients: int, total: int | None = None) -> str:
    """How many samples of how many patients.

    Args:
        total: Patients of whom these are a part, where that is shown, too.

    >>> sized(277, 146), sized(12, 5), sized(0, 0)
    ('277 samples of 146 patients', 'fewer than 10 patients', '0 samples of 0 patients')
    >>> sized(140, 95, total=100), sized(140, 95, total=572)
    ('all but fewer than 10 of 100 patients', '140 samples of 95 patients')
    """
    if few(patients):
        return f"fewer than {SMALL_CELL} patients"
    if total is not None and few(total - patients):
        return f"{counted_of(patients, total)} patients"
    return f"{counted(samples)} samples of {counted(patients)} patients"


def names(of: Sequence[str]) -> str:
    """The first of them, and how many more there are.

    >>> names("abc"), names("abcdefgh")
    ('a, b, c', 'a, b, c, d, e, f and 2 more')
    """
    return ", ".join(of[:MOST]) + (f" and {len(of) - MOST} more" if len(of) > MOST else "") or "none"

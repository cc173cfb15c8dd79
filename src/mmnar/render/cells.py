"""Results of an evaluation as cells of tables: a value, or the reason it is refused."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from mmnar.evaluation.result import Estimate
from mmnar.privacy import briefly
from mmnar.render.blocks import Cell
from mmnar.render.wording import interval, number, percent, percent_interval


def refused_cell(reason: str) -> Cell:
    """Why a number is not given.

    >>> refused_cell("one class only").text
    'not given: one class only'
    """
    return Cell(f"not given: {reason}", "refused", brief=briefly(reason))


def value_cell(estimate: Estimate | None, digits: int = 2) -> Cell:
    """A number with its interval; None = it was not computed."""
    if estimate is None:
        return Cell("not computed", "refused")
    return refused_cell(estimate.reason) if estimate.value is None else Cell(interval(estimate, digits))


def share_cell(estimate: Estimate, digits: int = 1) -> Cell:
    """A share with its interval in percent."""
    return refused_cell(estimate.reason) if estimate.value is None else Cell(percent_interval(estimate, digits))


def plain_share_cell(estimate: Estimate) -> Cell:
    """A share in percent, without an interval."""
    return refused_cell(estimate.reason) if estimate.value is None else Cell(percent(estimate.value))


def plain_cell(value: float | None, digits: int = 0) -> Cell:
    """A number without an interval; None = it was not recorded."""
    return Cell("not recorded", "refused") if value is None else Cell(number(value, digits))


def short(cell: Cell, estimate: Estimate) -> Cell:
    """The cell of a narrow column: two words in place of a reason, which a browser shows on demand."""
    return Cell(briefly(estimate.reason), "refused", full=estimate.reason) if estimate.value is None else cell


def with_mark(cell: Cell, mark: Markup) -> Cell:
    """The cell with a small picture of its number."""
    return replace(cell, mark=mark)

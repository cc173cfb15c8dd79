"""What will become of each input column: a number, a category, or a refusal that says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from mmnar.privacy import SMALL_CELL, counted
from mmnar.sources.reading.instants import read_times
from mmnar.sources.table.numbers import Censored, forms, forms_in_words, is_mostly_numbers, numbers, uncensored
from mmnar.sources.table.spec import ColumnSpec, TableSpec
from mmnar.sources.table.words import one_spelling, spelled_like

_DATES: Final = ("", "%d/%m/%Y", "%m/%d/%Y")

_MEANS: Final[dict[Censored, str]] = {
    "bound": "taken as their bound",
    "half": "'<x' taken as x/2, '>x' as x",
    "missing": "taken as not measured",
}


@dataclass(frozen=True)
class PlannedColumn:
    """What will become of an input column.

    Args:
        spec: What the user wrote.
        type: ``number`` or ``category``; ``empty``: left out, no row has a value.
        observed: Rows with a value that is known in time.
        categories: Of a category, ``other`` last; of an empty column what is stated.
        pooled: Rows whose word went into ``other``.
        late, undated: Rows whose value is known later than the question, or whose ``known_at`` is not told.
        censored: Comparisons (``<4``) that became what the spec says they mean.
        respelled: Cells whose word differs from a more frequent spelling by letter case or blanks alone.
        problem: Why the column is refused; "" = it is not.
    """

    spec: ColumnSpec
    type: Literal["number", "category", "empty"]
    observed: int
    categories: tuple[str, ...] = ()
    pooled: int = 0
    late: int = 0
    undated: int = 0
    censored: int = 0
    respelled: int = 0
    problem: str = ""


def plan_column(
    spec: TableSpec, stored: pl.DataFrame, kept: pl.Series, column: ColumnSpec
) -> tuple[pl.Series, PlannedColumn]:
    """Decide over the rows that are in what a column is.

    Args:
        stored: All rows.
        kept: (n,) the rows that no exclude rule takes.

    Returns:
        (n,) the column's values as they are used: Float64 of a number, words of a category in one spelling each.
    """
    name, at = f"value:{column.name}", f"at:{column.name}"
    cells, changed = stored[name], 0
    in_time = (stored[at] <= stored["prediction_time"]).fill_null(False)
    given = kept & cells.is_not_null()
    undated = int((given & stored[at].is_null()).sum())
    used = given & in_time
    late = int(given.sum()) - undated - int(used.sum())
    if column.censored is not None:
        cells, _ = uncensored(cells, column.censored)
        _, changed = uncensored(stored[name].filter(used), column.censored)
    used &= cells.is_not_null()
    stated = column.categories or (("other",) if column.type == "category" else ())
    plan = PlannedColumn(column, "empty", int(used.sum()), stated, late=late, undated=undated, censored=changed)
    if not plan.observed:
        return cells, plan
    kind, problem = _kind(column, cells.filter(used))
    read, respelled = (numbers(cells), 0) if kind == "number" else _spelled(cells, column)
    respelled = int((read.filter(used) != cells.filter(used)).sum()) if respelled else 0
    plan = replace(plan, type=kind, problem=problem, respelled=respelled)
    if problem:
        return read, plan
    usable = stored.with_columns(read.alias(name)).filter(used)
    told = _tells(usable, column, spec, usable[name].n_unique())
    if told:
        return read, replace(plan, problem=f"its value tells the outcome '{told}'")
    return read, plan if kind == "number" else _with_categories(spec, usable, plan)


def _spelled(cells: pl.Series, column: ColumnSpec) -> tuple[pl.Series, int]:
    return spelled_like(cells, column.categories[:-1]) if column.categories else one_spelling(cells)


def _kind(column: ColumnSpec, cells: pl.Series) -> tuple[Literal["number", "category"], str]:
    """What observed cells are, and why they cannot be used as that; "" = they can."""
    if column.type == "category":
        return "category", ""
    read = numbers(cells)
    if not read.null_count():
        whole = bool((read == read.floor()).all())
        if column.type is None and whole and read.n_unique() == len(read) and len(read) >= 100:
            return "number", "whole numbers, every one different: an identifier? state type: number if not"
        return "number", ""
    if column.type is None and _are_dates(cells):
        return "category", "dates are no input"
    if column.type == "number" or is_mostly_numbers(cells):
        shown = f"{counted(read.null_count())} of {counted(len(cells))} cells are no finite number"
        return "number", f"{shown}: {forms_in_words(forms(cells))}"
    return "category", ""


def _with_categories(spec: TableSpec, usable: pl.DataFrame, plan: PlannedColumn) -> PlannedColumn:
    cells = usable[f"value:{plan.spec.name}"]
    if plan.spec.categories:
        pooled = int((~cells.is_in(list(plan.spec.categories[:-1]))).sum())
        return replace(plan, categories=plan.spec.categories, pooled=pooled)
    distinct = cells.n_unique()
    if plan.spec.type is None and distinct > spec.categories - 1:
        fact = (
            f"{distinct} distinct words; more than {spec.categories - 1} need type: category to keep the most frequent"
        )
        return replace(plan, problem=fact)
    categories = _categories(usable, plan.spec, spec.categories)
    pooled = int((~cells.is_in(list(categories))).sum())
    return replace(plan, categories=(*categories, "other"), pooled=pooled)


def _are_dates(cells: pl.Series) -> bool:
    """Whether nine cells in ten can be read as dates."""
    parsed = (len(cells) - read_times(cells, form).at.null_count() for form in _DATES)
    return max(parsed) >= 0.9 * len(cells)


def _tells(frame: pl.DataFrame, column: ColumnSpec, spec: TableSpec, distinct: int) -> str:
    """The outcome that the column's values decide without exception: a copy of it, or what it was made of."""
    for outcome in spec.outcomes:
        answer = pl.col(f"outcome:{outcome.name}")
        known = frame.filter(answer.is_not_null())
        by_value = known.group_by(f"value:{column.name}").agg(low=answer.min(), high=answer.max())
        both = known[f"outcome:{outcome.name}"].n_unique() == 2
        pure = bool((by_value["low"] == by_value["high"]).all())
        # many distinct values decide any outcome by chance
        if both and pure and (by_value.height == 2 or known.height >= SMALL_CELL * distinct):
            return outcome.name
    return ""


def _categories(frame: pl.DataFrame, column: ColumnSpec, most: int) -> tuple[str, ...]:
    """Words of at least ten patients, the most frequent ``most - 1`` of them, in alphabetical order."""
    cell = f"value:{column.name}"
    people = frame.group_by(cell).agg(people=pl.col("subject_id").n_unique())
    large = people.filter((pl.col("people") >= SMALL_CELL) & (pl.col(cell).str.to_lowercase() != "other"))
    return tuple(sorted(large.sort(["people", cell], descending=[True, False])[cell].head(most - 1).to_list()))


def shown_type(column: PlannedColumn) -> str:
    if column.problem:
        return "REFUSED"
    shown = column.type if column.type != "category" else _counted_categories(len(column.categories) - 1)
    return shown if column.spec.type is None else f"{shown} (stated)"


def _counted_categories(words: int) -> str:
    return "'other' alone" if not words else f"{words} {'category' if words == 1 else 'categories'} and 'other'"


def remark(column: PlannedColumn) -> str:
    facts = [
        column.problem,
        "no value in any row" if column.type == "empty" else "",
        f"{counted(column.pooled)} rows pooled into 'other'" if column.pooled else "",
        f"{counted(column.respelled)} words in other letter case or blanks: taken as one" if column.respelled else "",
        f"{counted(column.censored)} comparisons ({_MEANS[column.spec.censored]})"
        if column.censored and column.spec.censored
        else "",
        f"{counted(column.late)} values known only after the question: missing" if column.late else "",
        f"{counted(column.undated)} values dropped: when they were known is not told" if column.undated else "",
    ]
    return "; ".join(fact for fact in facts if fact)

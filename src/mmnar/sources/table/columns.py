"""What will become of each input column: a number, a category, or a refusal that says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from mmnar.privacy import SMALL_CELL, counted
from mmnar.sources.table.rows import ISO
from mmnar.sources.table.spec import ColumnSpec, TableSpec

_DATES: Final = (*ISO, "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")


@dataclass(frozen=True)
class PlannedColumn:
    """What will become of an input column.

    Args:
        spec: What the user wrote.
        type: ``number`` or ``category``; ``empty``: left out, no row has a value.
        observed: Rows with a value that is known in time.
        categories: Of a category, ``other`` last.
        pooled: Rows whose word went into ``other``.
        late, undated: Rows whose value is known later than the question, or whose ``known_at`` is not told.
        problem: Why the column is refused; "" = it is not.
    """

    spec: ColumnSpec
    type: Literal["number", "category", "empty"]
    observed: int
    categories: tuple[str, ...] = ()
    pooled: int = 0
    late: int = 0
    undated: int = 0
    problem: str = ""


def own_markers(column: ColumnSpec) -> pl.Expr:
    """The column without the cells that mean "not measured" in it alone."""
    value = pl.col(f"value:{column.name}")
    return pl.when(~value.is_in(list(column.missing))).then(value).alias(f"value:{column.name}")


def plan_column(spec: TableSpec, frame: pl.DataFrame, column: ColumnSpec) -> PlannedColumn:
    """Decide over the rows that are in."""
    given = frame.filter(pl.col(f"value:{column.name}").is_not_null())
    at = pl.col(f"at:{column.name}")
    usable = given.filter(at <= pl.col("prediction_time"))
    undated = given[f"at:{column.name}"].null_count()
    late = given.height - undated - usable.height
    cells = usable[f"value:{column.name}"]
    plan = PlannedColumn(column, "empty", usable.height, late=late, undated=undated)
    if cells.is_empty():
        return plan
    numbers = cells.cast(pl.Float64, strict=False)
    words = int((~numbers.is_finite()).fill_null(True).sum())
    distinct = cells.n_unique()
    told = _tells(usable, column, spec, distinct)
    if told:
        return replace(plan, problem=f"its value tells the outcome '{told}'")
    if column.type == "number" or (column.type is None and not words):
        return replace(plan, type="number", problem=_number_problem(column, numbers, words, distinct))
    if column.type is None and _are_dates(cells):
        return replace(plan, type="category", problem="dates are no input")
    if column.type is None and distinct > spec.categories - 1:
        fact = (
            f"{distinct} distinct words; more than {spec.categories - 1} need type: category to keep the most frequent"
        )
        return replace(plan, type="category", problem=fact)
    categories = _categories(usable, column, spec.categories)
    pooled = int((~cells.is_in(list(categories))).sum())
    return replace(plan, type="category", categories=(*categories, "other"), pooled=pooled)


def _number_problem(column: ColumnSpec, numbers: pl.Series, words: int, distinct: int) -> str:
    if words:
        return f"{counted(words)} of {counted(len(numbers))} cells are no finite number"
    whole = bool((numbers == numbers.floor()).all())
    if column.type is None and whole and distinct == len(numbers) and distinct >= 100:
        return "whole numbers, every one different: an identifier? state type: number if not"
    return ""


def _are_dates(cells: pl.Series) -> bool:
    """Whether nine cells in ten can be read as dates."""
    parsed = (len(cells) - cells.str.to_datetime(form, strict=False).null_count() for form in _DATES)
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
    large = people.filter((pl.col("people") >= SMALL_CELL) & (pl.col(cell) != "other"))
    return tuple(sorted(large.sort(["people", cell], descending=[True, False])[cell].head(most - 1).to_list()))


def shown_type(column: PlannedColumn) -> str:
    if column.problem:
        return "REFUSED"
    shown = f"{len(column.categories)} categories" if column.type == "category" else column.type
    return shown if column.spec.type is None else f"{shown} (stated)"


def remark(column: PlannedColumn) -> str:
    facts = [
        column.problem,
        "no value in any row: left out" if column.type == "empty" else "",
        f"{counted(column.pooled)} rows pooled into 'other'" if column.pooled else "",
        f"{counted(column.late)} values known only after the question: missing" if column.late else "",
        f"{counted(column.undated)} values dropped: when they were known is not told" if column.undated else "",
    ]
    return "; ".join(fact for fact in facts if fact)

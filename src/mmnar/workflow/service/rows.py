"""Rows of the run's table → a question."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from mmnar.dataset.recipe import Recipe
from mmnar.sources.reading.absent import without_absent
from mmnar.sources.table.like import without_answers
from mmnar.sources.table.rows import is_one_of
from mmnar.sources.table.spec import TableSpec
from mmnar.workflow.doors import table_rows
from mmnar.workflow.service.requests import Patient, Question, check_keys, check_units, hint, objects, refuse


def of_rows(body: Mapping[str, Any], recipe: Recipe) -> Question:
    """
    Args:
        body: ``{"rows": [{column: cell, ...}, ...]}``, and perhaps ``units``, ``{column: unit}``.

    Raises:
        SourceError: Of another form, or rows that cannot be read as the run's were.
    """
    check_keys(body, ("rows",), ("units",))
    stated = TableSpec.from_dict(recipe.options["spec"])
    spec = without_answers(stated)
    check_units(body, {c.name: c.unit for c in spec.columns if c.unit})
    frame = _text(objects(body, "rows"), stated)
    _check_beside(frame, spec)
    patients = _patients(frame, spec)
    kept = frame.filter(pl.Series([not patient.refused for patient in patients]))
    records = table_rows(recipe, kept) if kept.height else None
    return Question(tuple(patients), ("sample",) if spec.sample else ("stay_id",), records)


def _text(rows: list[dict[str, Any]], stated: TableSpec) -> pl.DataFrame:
    """Every cell as a file would have it."""
    known = stated.mentioned()
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name not in known:
            refuse("rows", "columns of the run's table", "another one", hint(name, known))
    columns = {name: [_cell(row.get(name), name) for row in rows] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _cell(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return refuse(f"column '{name}'", "text, a number, true, false or null", "something else")


def _check_beside(frame: pl.DataFrame, spec: TableSpec) -> None:
    """Columns without which others cannot be read are there."""
    for column in spec.columns:
        if column.name in frame.columns and column.known_at and column.known_at not in frame.columns:
            refuse("rows", f"the column '{column.known_at}' beside '{column.name}'", "none")
    for name in (spec.subject, spec.sample, spec.prediction_time, *(rule.column for rule in spec.exclude)):
        if name and name not in frame.columns:
            refuse("rows", f"the column '{name}'", "none")


def _patients(frame: pl.DataFrame, spec: TableSpec) -> list[Patient]:
    columns = {"subject": spec.subject, "sample": spec.sample, "prediction_time": spec.prediction_time}
    written = {name: _written(frame, spec, column) for name, column in columns.items() if column}
    patients, kept = [], 0
    for i, reason in enumerate(_excluded(frame, spec)):
        shown = {name: cells[i] for name, cells in written.items()}
        who = (shown["subject"], shown.get("sample") or shown.get("prediction_time", ""))
        # the reader numbers rows that have no identifier of their own
        patients.append(Patient(who, shown, (shown["sample"],) if spec.sample else (kept,), reason))
        kept += not reason
    return patients


def _written(frame: pl.DataFrame, spec: TableSpec, column: str) -> list[str]:
    cells, _ = without_absent(frame[column], spec.absent_in(column))
    if cells.null_count():
        refuse("rows", f"'{column}' in each", "one without")
    return cells.to_list()


def _excluded(frame: pl.DataFrame, spec: TableSpec) -> list[str]:
    """Of each row the rule that leaves it out, in words; "" = none does."""
    reasons = [""] * frame.height
    for rule in spec.exclude:
        cells, _ = without_absent(frame[rule.column], spec.absent_in(rule.column))
        for i in is_one_of(rule.values, cells).fill_null(False).arg_true():
            reasons[i] = f"the run leaves such patients out by its rule '{rule.name}'"
    return reasons

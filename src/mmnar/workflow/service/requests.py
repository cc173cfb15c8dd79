"""The body of a request → the files that the run's door reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError

_TEXT: Final = {"code", "text_value"}
_WHOLE: Final = {"subject_id", "hadm_id", "stay_id"}
_TIMES: Final = {"time", "available_time", "prediction_time"}
_EVENT: Final = ("subject_id", "time", "code", "numeric_value", "text_value", "available_time", "hadm_id", "stay_id")
_ALWAYS: Final = 5
"""Columns of an event that are written though no event has them."""

_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(_WHOLE, pl.Int64),
    **dict.fromkeys(_TEXT, pl.String),
    **dict.fromkeys(_TIMES, pl.Datetime("us")),
    "numeric_value": pl.Float32,
}


def read_body(body: bytes) -> dict[str, Any]:
    """
    Raises:
        SourceError: Not one JSON object of plain numbers and UTF-8 text.
    """
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        _refuse("body", "one JSON object in UTF-8", "something else")
    if not isinstance(found, dict):
        _refuse("body", "one JSON object in UTF-8", "something else")
    return found


def table_file(body: Mapping[str, Any], folder: Path) -> Path:
    """Rows of the run's table as a file; every cell is written as JSON writes it.

    Args:
        body: ``{"rows": [{column: cell, ...}, ...]}``.

    Raises:
        SourceError: Of another form.
    """
    rows = _objects(body, ("rows",), "rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        _refuse("rows", "a cell in some row", "none")
    cells = {name: [_cell(row.get(name)) for row in rows] for name in names}
    path = folder / "rows.csv"
    pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String)).write_csv(path)
    return path


def event_files(body: Mapping[str, Any], folder: Path) -> tuple[Path, Path, list[int]]:
    """A MEDS data set, the moments, and of each moment, in order of subject and time, the events known only later.

    Args:
        body: ``events``, objects with the columns of MEDS; ``at``, objects of ``subject_id`` and ``prediction_time``.

    Raises:
        SourceError: Of another form.
    """
    events = _frame(_objects(body, ("events", "at"), "events"), _EVENT, {"subject_id", "code"}, "events")
    moments = ("subject_id", "prediction_time")
    at = _frame(_objects(body, ("events", "at"), "at"), moments, set(moments), "at").sort(*moments)
    keep = [name for i, name in enumerate(_EVENT) if i < _ALWAYS or events[name].is_not_null().any()]
    root = folder / "meds"
    (root / "data").mkdir(parents=True)
    (root / "metadata").mkdir()
    (root / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "request", "meds_version": "0.4.0"}))
    written = events.select(keep).sort("subject_id", "time", nulls_last=False, maintain_order=True)
    parquet.save(written, root / "data" / "0.parquet")
    parquet.save(at, folder / "at.parquet")
    known = pl.max_horizontal("time", "available_time")
    later = [
        events.filter((pl.col("subject_id") == subject) & (known > moment)).height for subject, moment in at.iter_rows()
    ]
    return root, folder / "at.parquet", later


def _objects(body: Mapping[str, Any], keys: tuple[str, ...], name: str) -> list[dict[str, Any]]:
    if set(body) != set(keys):
        _refuse("body", f"the keys {', '.join(keys)} alone", "others")
    found = body[name]
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        _refuse(name, "a list of objects, one or more", "something else")
    return found


def _frame(rows: list[dict[str, Any]], names: tuple[str, ...], needed: set[str], what: str) -> pl.DataFrame:
    if any(not set(row) <= set(names) for row in rows):
        _refuse(what, f"of {', '.join(names)}", "another key")
    if any(row.get(name) is None for row in rows for name in needed):
        _refuse(what, f"{', '.join(sorted(needed))} in each", "one without")
    cells = {name: [_typed(name, row.get(name), what) for row in rows] for name in names}
    return pl.DataFrame(cells, schema={name: _TYPES[name] for name in names})


def _typed(name: str, value: Any, what: str) -> Any:
    if value is None:
        return None
    if name in _TEXT and isinstance(value, str):
        return value
    if name in _WHOLE and type(value) is int and abs(value) < 2**63:
        return value
    if name == "numeric_value" and type(value) in (int, float) and abs(value) < 3e38:
        return float(value)
    if name in _TIMES and isinstance(value, str):
        return _time(value, what)
    return _refuse(f"'{name}' of {what}", "text, a whole number, a number or a time, as MEDS has it", "another type")


def _time(value: str, what: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        _refuse(f"a time of {what}", "ISO 8601, such as 2026-01-31T08:00:00", "another form")
    if moment.tzinfo is not None:
        _refuse(f"a time of {what}", "one without a zone, by the records' clock", "one with a zone")
    return moment


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return _refuse("a cell of rows", "text, a number, true, false or null", "something else")


def _no_number(_: str) -> NoReturn:
    raise ValueError


def _refuse(subject: str, expected: str, got: str) -> NoReturn:
    raise SourceError(subject, expected, got, "correct the request") from None

"""MEDS events and moments → a question."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import polars as pl

from mmnar.dataset.recipe import Recipe
from mmnar.sources.events import EVENT_SCHEMA, FeatureRule, SeriesRule
from mmnar.sources.meds.survey import DEATH
from mmnar.sources.reading.later import later
from mmnar.workflow.doors import meds_rows
from mmnar.workflow.service.requests import Patient, Question, check_keys, check_units, objects, refuse

MOST_PAIRS: Final = 1_000_000
"""Of an event and a moment of one patient: what is read grows with them, not with the body."""

_TYPES: Final = {name: dtype for name, dtype in EVENT_SCHEMA.items() if name != "source"}
_MOMENT: Final = {"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us")}
_LARGEST: Final = 3.4e38
"""What a number of an event can be."""


def of_events(body: Mapping[str, Any], recipe: Recipe) -> Question:
    """
    Args:
        body: ``events``, objects with the columns of MEDS; ``at``, objects of ``subject_id`` and ``prediction_time``;
            perhaps ``units``, ``{code: unit}``.

    Raises:
        SourceError: Of another form, or about a subject without any event that has a time.
    """
    check_keys(body, ("events", "at"), ("units",))
    rules = [rule for rule in recipe.rules if isinstance(rule, FeatureRule | SeriesRule)]
    check_units(body, {code: rule.unit for rule in rules for code in rule.codes if rule.unit})
    events = _frame(objects(body, "events"), _TYPES, {"subject_id", "code"}, "events")
    at = _frame(objects(body, "at"), _MOMENT, {*_MOMENT}, "at")
    if at.n_unique() < at.height:
        refuse("at", "every subject and moment once", "some repeated")
    facts = _facts(events, at)
    patients = [_patient(row) for row in facts.iter_rows(named=True)]
    asked = at.filter(pl.Series([not patient.refused for patient in patients]))
    events = events.sort("subject_id", "time", nulls_last=False, maintain_order=True)
    records = meds_rows(recipe, events, asked) if asked.height else None
    return Question(tuple(patients), ("subject_id", "prediction_time"), records)


def _patient(row: Mapping[str, Any]) -> Patient:
    subject, moment = row["subject_id"], row["prediction_time"]
    shown = {"subject_id": subject, "prediction_time": moment.isoformat()}
    who = (str(subject), moment.isoformat())
    return Patient(who, shown, (subject, moment), _reason(row), {"ignored_later_events": row["later"]})


def _reason(row: Mapping[str, Any]) -> str:
    if row["prediction_time"] < row["first"]:
        return "the time lies before the patient's first event: nothing is known then"
    if row["death"] is not None and row["death"] <= row["prediction_time"]:
        return "the time lies after the patient's death"
    return ""


def _facts(events: pl.DataFrame, at: pl.DataFrame) -> pl.DataFrame:
    """``at`` with ``first`` and ``death``, and with ``later``: how many of the events were known only after it."""
    timed = events.filter(pl.col("time").is_not_null())
    of_subject = timed.group_by("subject_id").agg(
        pl.col("time").min().alias("first"), pl.col("time").filter(pl.col("code") == DEATH).min().alias("death")
    )
    asked = at.with_row_index("place").join(of_subject, on="subject_id", how="left", maintain_order="left")
    if asked["first"].null_count():
        refuse("at", "subjects of whom some event has a time", "one without")
    _check_pairs(events, at)
    known = timed.select("subject_id", known=later(pl.col("time"), pl.col("available_time")))
    late = (
        asked.select("place", "subject_id", "prediction_time")
        .join(known, on="subject_id")
        .filter(pl.col("known") > pl.col("prediction_time"))
        .group_by("place")
        .agg(later=pl.len())
    )
    return asked.join(late, on="place", how="left", maintain_order="left").with_columns(pl.col("later").fill_null(0))


def _check_pairs(events: pl.DataFrame, at: pl.DataFrame) -> None:
    counts = (frame.group_by("subject_id").agg(n=pl.len().cast(pl.Int64)) for frame in (events, at))
    both = next(counts).join(next(counts), on="subject_id")
    if (both["n"] * both["n_right"]).sum() > MOST_PAIRS:
        most = f"{MOST_PAIRS:,} pairs of an event and a moment of one patient"
        refuse("body", f"no more than {most}", "more", "ask at fewer moments")


def _frame(rows: list[dict[str, Any]], types: Mapping[str, pl.DataType], needed: set[str], what: str) -> pl.DataFrame:
    if any(not {*row} <= {*types} for row in rows):
        refuse(f"each of {what}", f"no key but {', '.join(types)}", "another")
    if any(row.get(name) is None for row in rows for name in needed):
        refuse(f"each of {what}", ", ".join(sorted(needed)), "one without")
    cells = {name: [_typed(row.get(name), name, dtype, what) for row in rows] for name, dtype in types.items()}
    return pl.DataFrame(cells, schema=dict(types))


def _typed(value: Any, name: str, dtype: pl.DataType, what: str) -> Any:
    where = f"'{name}' of {what}"
    if value is None:
        return None
    if isinstance(dtype, pl.Datetime):
        return _time(value, where)
    if dtype == pl.String:
        return value if isinstance(value, str) else refuse(where, "text", "something else")
    if dtype == pl.Int64:
        whole = type(value) is int and abs(value) < 2**63
        return value if whole else refuse(where, "a whole number below 2^63", "something else")
    number = type(value) in (int, float) and abs(value) < _LARGEST
    return float(value) if number else refuse(where, "a number that single precision holds", "something else")


def _time(value: Any, where: str) -> datetime:
    form = "ISO 8601 by the records' clock, such as 2026-01-31T08:00:00"
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        refuse(where, form, "something else")
    if moment.tzinfo is not None:
        refuse(where, form, "a time with a zone", "write it without, as the run's records have it")
    return moment

"""Whose a row is, when its question is asked, when its cells were known, and what the answer is."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.reading.identifiers import read_identifiers
from mmnar.sources.reading.instants import Times
from mmnar.sources.table.reading import raw_name
from mmnar.sources.table.spec import ColumnSpec, OutcomeSpec, TableSpec
from mmnar.sources.table.times import checked_times, one_clock
from mmnar.sources.table.words import word_key

_NO_TIME: Final = datetime(2000, 1, 1)
_BINARY: Final = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True, "n": False, "y": True}
IDS: Final = ("subject_id", "hadm_id", "stay_id")
WRITTEN: Final = "written:"
"""Begins the names of columns of stays that hold identifiers as the table has them."""


def identified(spec: TableSpec, raw: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a patient, and the three identifiers.

    Raises:
        SourceError: Most rows name no patient; an identifier that may be another's; a sample without one, or twice.
    """
    kept = raw.filter(pl.col(raw_name(spec.subject)).is_not_null())
    lost = raw.height - kept.height
    if 2 * lost > raw.height:
        raise SourceError(
            f"column '{spec.subject}' (subject)",
            "an identifier in most rows",
            f"none in {counted(lost)} of {counted(raw.height)}",
            "fill it in, or correct missing: in the spec",
        )
    if lost:
        notes.append(f"{counted(lost)} rows dropped: no '{spec.subject}'")
    subject = _identifiers(spec.subject, kept, notes)
    stay = pl.Series(range(kept.height), dtype=pl.Int64)
    if spec.sample:
        stay = _identifiers(spec.sample, kept, notes)
        known = stay.drop_nulls()
        repeated = len(known) - known.n_unique()
        if repeated or stay.null_count():
            raise SourceError(
                f"column '{spec.sample}' (sample)",
                "each identifier once, none missing",
                f"{counted(repeated)} repeated, {counted(stay.null_count())} missing",
                "remove the duplicate rows, or leave sample: out",
            )
    return kept.with_columns(subject.alias("subject_id"), stay.alias("hadm_id"), stay.alias("stay_id"))


def _identifiers(column: str, frame: pl.DataFrame, notes: list[str]) -> pl.Series:
    ids, respelled = read_identifiers(frame[raw_name(column)].alias(column))
    if respelled:
        notes.append(f"column '{column}': {counted(respelled)} identifiers written in more than one way, taken as one")
    return ids


def timed(spec: TableSpec, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a prediction time, and ``at:<column>``, when the column's value was known; null = not told.

    Raises:
        SourceError: Most cells of a column of times are no time, or the times are not on one clock.
    """
    if not spec.prediction_time:
        notes.append("no prediction_time in the spec: every value is taken as known when the question is asked")
        asked = pl.repeat(_NO_TIME, frame.height, dtype=pl.Datetime("us"), eager=True).alias("prediction_time")
        return frame.with_columns(asked, *(asked.alias(f"at:{c.name}") for c in spec.columns))
    names = dict.fromkeys((spec.prediction_time, *(c.known_at for c in spec.columns if c.known_at)))
    notes_of_times: list[str] = []
    times = {name: checked_times(name, frame[raw_name(name)], spec.time_format, notes_of_times) for name in names}
    one_clock(times, notes_of_times)
    asked = times[spec.prediction_time].at
    timed = frame.with_columns(asked.alias("prediction_time"), *(_known(c, asked, times) for c in spec.columns))
    kept = timed.drop_nulls("prediction_time")
    absent = frame[raw_name(spec.prediction_time)].null_count()
    for count, reason in ((absent, "is missing"), (frame.height - kept.height - absent, "is no time that can be read")):
        if count:
            notes.append(f"{counted(count)} rows dropped: '{spec.prediction_time}' {reason}")
    notes.extend(notes_of_times)
    return kept


def _known(column: ColumnSpec, asked: pl.Series, times: dict[str, Times]) -> pl.Series:
    return (times[column.known_at].at if column.known_at else asked).alias(f"at:{column.name}")


def answered(outcome: OutcomeSpec, cells: pl.Series) -> pl.Series:
    """Nullable bool; null = not known.

    Raises:
        SourceError: No cell says anything, none is the event, or some are of another form.
    """
    known = cells.len() - cells.null_count()
    if not known:
        raise SourceError(
            f"outcome '{outcome.name}'", f"an answer in '{outcome.column}'", "none in any row", "correct the spec"
        )
    if outcome.positive:
        answers = is_one_of(outcome.positive, cells)
        if not answers.any():
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"cells of '{outcome.column}' that are one of {list(outcome.positive)}",
                f"none of {counted(known)}",
                "correct positive: in the spec",
            )
    else:
        answers = word_key(cells).replace_strict(_BINARY, default=None, return_dtype=pl.Boolean)
        other = answers.null_count() - cells.null_count()
        if other:
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"0/1, true/false or yes/no in '{outcome.column}', or positive: in the spec",
                f"{counted(other)} of {counted(known)} cells of another form",
                "write which cells count as the event, e.g. positive: ['<30']",
            )
    return answers.alias(f"outcome:{outcome.name}")


def is_one_of(words: tuple[str, ...], cells: pl.Series) -> pl.Series:
    """Whether each cell is one of some words, in any spelling; null where it is not known."""
    return word_key(cells).is_in(word_key(pl.Series(words)).unique().to_list())


def excluded(words: tuple[str, ...], cells: pl.Series) -> pl.Series:
    return is_one_of(words, cells).fill_null(False)


def included(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that no exclude rule takes."""
    rules = [name for name in frame.columns if name.startswith("exclude:")]
    return frame.filter(~pl.any_horizontal(rules)) if rules else frame

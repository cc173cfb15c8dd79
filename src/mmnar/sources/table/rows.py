"""Whose a row is, when its question is asked, when its cells were known, and what the answer is."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.table.reading import raw_name
from mmnar.sources.table.spec import ColumnSpec, OutcomeSpec, TableSpec

_NO_TIME: Final = datetime(2000, 1, 1)
ISO: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_BINARY: Final = {"0": False, "1": True, "0.0": False, "1.0": True} | {
    **{"false": False, "true": True},
    **{"no": False, "yes": True},
}
IDS: Final = ("subject_id", "hadm_id", "stay_id")


def identified(spec: TableSpec, raw: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a patient, and the three identifiers."""
    kept = raw.filter(pl.col(raw_name(spec.subject)).is_not_null())
    if kept.height < raw.height:
        notes.append(f"{counted(raw.height - kept.height)} rows dropped: no '{spec.subject}'")
    if spec.sample:
        cells = kept[raw_name(spec.sample)]
        repeated = len(cells) - cells.n_unique()
        if repeated or cells.null_count():
            raise SourceError(
                f"column '{spec.sample}' (sample)",
                "each identifier once, none missing",
                f"{counted(repeated)} repeated, {counted(cells.null_count())} missing",
                "remove the duplicate rows, or leave sample: out",
            )
        stay = _identifiers(cells)
    else:
        stay = pl.Series(range(kept.height), dtype=pl.Int64)
    return kept.with_columns(
        _identifiers(kept[raw_name(spec.subject)]).alias("subject_id"), stay.alias("hadm_id"), stay.alias("stay_id")
    )


def _identifiers(cells: pl.Series) -> pl.Series:
    """Whole numbers as they are; words by the first 53 bits of a hash, the same in every run.

    Raises:
        SourceError: Two ways of writing one number: are they one patient or two?
    """
    numbers = cells.cast(pl.Int64, strict=False)
    if not numbers.null_count():
        if numbers.n_unique() < cells.n_unique():
            raise SourceError(
                f"column '{cells.name.removeprefix('raw:')}'",
                "each identifier written in one way",
                f"{counted(cells.n_unique() - numbers.n_unique())} that differ as text and not as numbers (007 and 7)",
                "write them alike, or put a letter before those that are different",
            )
        return numbers
    words = cells.unique().to_list()
    ids = {w: int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest()) >> 11 for w in words}
    if len(set(ids.values())) < len(ids):
        raise SourceError(
            f"column '{cells.name.removeprefix('raw:')}'",
            "a distinct hash each",
            "a collision",
            "number the identifiers",
        )
    return cells.replace_strict(ids, return_dtype=pl.Int64)


def _time(cells: pl.Series, form: str) -> pl.Series:
    """datetime[us]; null where a cell is not of the form."""
    forms = (form,) if form else ISO
    return pl.select(
        pl.coalesce(pl.lit(cells).str.to_datetime(f, strict=False, time_unit="us") for f in forms)
    ).to_series()


def timed(spec: TableSpec, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a prediction time."""
    if not spec.prediction_time:
        notes.append("no prediction_time in the spec: every value is taken as known when the question is asked")
        return frame.with_columns(prediction_time=pl.lit(_NO_TIME).cast(pl.Datetime("us")))
    cells = frame[raw_name(spec.prediction_time)]
    times = _time(cells, spec.time_format)
    kept = frame.with_columns(times.alias("prediction_time")).drop_nulls("prediction_time")
    absent = cells.null_count()
    for count, reason in ((absent, "is missing"), (frame.height - kept.height - absent, "is no time that can be read")):
        if count:
            notes.append(f"{counted(count)} rows dropped: '{spec.prediction_time}' {reason}")
    return kept


def known_from(spec: TableSpec, frame: pl.DataFrame, column: ColumnSpec, notes: list[str]) -> pl.Series | pl.Expr:
    """When the column's value was known; null = not told."""
    if not column.known_at:
        return pl.col("prediction_time").alias(f"at:{column.name}")
    cells = frame[raw_name(column.known_at)]
    times = _time(cells, spec.time_format)
    note = f"column '{column.known_at}': {counted(times.null_count() - cells.null_count())} cells are no time"
    if times.null_count() > cells.null_count() and note not in notes:
        notes.append(note)
    return times.alias(f"at:{column.name}")


def answered(outcome: OutcomeSpec, cells: pl.Series) -> pl.Series:
    """Nullable bool; null = not known."""
    known = cells.len() - cells.null_count()
    if outcome.positive:
        answers = cells.is_in(list(outcome.positive))
        if not answers.any():
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"cells of '{outcome.column}' that are one of {list(outcome.positive)}",
                f"none of {counted(known)}",
                "correct positive: in the spec",
            )
    else:
        answers = cells.str.to_lowercase().replace_strict(_BINARY, default=None, return_dtype=pl.Boolean)
        other = answers.null_count() - cells.null_count()
        if other:
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"0/1, true/false or yes/no in '{outcome.column}', or positive: in the spec",
                f"{counted(other)} of {counted(known)} cells of another form",
                "write which cells count as the event, e.g. positive: ['<30']",
            )
    return answers.alias(f"outcome:{outcome.name}")


def excluded(values: tuple[str, ...], cells: pl.Series) -> pl.Series:
    return cells.is_in(list(values)).fill_null(False)


def included(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that no exclude rule takes."""
    rules = [name for name in frame.columns if name.startswith("exclude:")]
    return frame.filter(~pl.any_horizontal(rules)) if rules else frame

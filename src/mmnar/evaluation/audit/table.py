"""Audit of a plain feature table, ours or not: one row a sample, one column a feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import ConfigError, SourceError, nearest
from mmnar.evaluation.audit.columns import (
    auroc_limits,
    category_rates,
    label_copies,
    patients,
    repeated_patients,
    row_keys,
)
from mmnar.evaluation.audit.findings import Audit, Finding, gravest_first
from mmnar.evaluation.audit.meds import split_findings
from mmnar.evaluation.metrics import auroc
from mmnar.privacy import SMALL_CELL, counted

TABLES: Final = (".csv", ".gz", ".tsv", ".parquet")
MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?")
FORMATS: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
MOSTLY: Final = 0.95
"""A text column is one of times where this share of it reads as one."""
ORDERED: Final = 0.80


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are. Everything not named here is a feature.

    Args:
        subject: Whose row it is; "" = every row is a subject of its own.
        time: The prediction time.
        labels: Labels of two values; ``"column=value"`` is the label "the column has this value".
        available_suffix: ``x`` + suffix is the column of times at which feature ``x`` was known.
        feature_times: feature → its column of times.
        split: The part of the split a row is in.
        ignore: Columns that are no inputs.
    """

    subject: str = ""
    time: str = ""
    labels: tuple[str, ...] = ()
    available_suffix: str = ""
    feature_times: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    ignore: tuple[str, ...] = ()


def audit_table(path: Path, columns: TableColumns) -> Audit:
    """Look for leaks in a CSV or Parquet table.

    Raises:
        SourceError: The table cannot be read.
        ConfigError: A named column is not there, or is not what it is said to be.
    """
    frame = read_table(path)
    _check_names(frame, columns)
    subject = _subjects(frame, columns)
    labels = {label: _label(frame, label) for label in columns.labels}
    pairs = _pairs(frame, columns)
    features = _features(frame, columns, pairs)
    findings = [*_shapes(frame, features), *_duplicates(frame, features, subject)]
    looked, missed = ["constant columns and row numbers", "the same values under different subjects"], []
    if columns.time:
        findings += _late(frame, columns, pairs)
        looked.append("inputs and times later than the prediction time")
    else:
        missed.append("inputs later than the prediction time: name it with --time")
    if labels:
        findings += _copies(frame, features, labels, subject)
        looked.append("features, and missing values of features, that give a label away")
    else:
        missed.append("features that copy a label: name it with --label")
    if columns.split and columns.subject:
        rows = frame.select(subject_id=columns.subject, split=pl.col(columns.split).cast(pl.String))
        findings += split_findings(rows, columns.split)
        looked.append("subjects across the parts of the split")
    else:
        missed.append("subjects across the parts of a split: name both with --subject and --split")
    return Audit(f"table '{path.name}'", tuple(looked), tuple(missed), gravest_first(findings))


def read_table(path: Path) -> pl.DataFrame:
    """The table with numbers as Float64, times as Datetime and the rest as String.

    Raises:
        SourceError: It cannot be read, or is empty.
    """
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path)
        else:
            separator = "\t" if ".tsv" in path.name.lower() else ","
            frame = pl.read_csv(path, separator=separator, infer_schema=False, null_values=list(MISSING))
    except (pl.exceptions.PolarsError, OSError) as error:
        kind = type(error).__name__  # the message could quote a row
        raise SourceError(f"table '{path.name}'", "a CSV or Parquet table", kind, "check the file") from None
    if frame.is_empty():
        raise SourceError(f"table '{path.name}'", "at least one row", "none", "check the file")
    return frame.with_columns(_typed(frame[name]) for name in frame.columns)


def _typed(column: pl.Series) -> pl.Series:
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us"), strict=False) if column.dtype != pl.Duration else column.cast(pl.Float64)
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64)
    text = column.cast(pl.String).str.strip_chars()
    known = max(text.len() - text.null_count(), 1)
    number = text.cast(pl.Float64, strict=False)
    if text.len() - number.null_count() == known:
        return number
    bare = text.str.replace(r"(Z|[+-]\d\d:?\d\d)$", "").alias("t")
    times = [pl.col("t").str.to_datetime(f, strict=False, time_unit="us") for f in FORMATS]
    days = pl.col("t").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    time = bare.to_frame().select(pl.coalesce(*times, days)).to_series().alias(column.name)
    return time if time.len() - time.null_count() >= MOSTLY * known else text


def _check_names(frame: pl.DataFrame, columns: TableColumns) -> None:
    named = [columns.subject, columns.time, columns.split, *columns.ignore, *columns.feature_times]
    named += [*columns.feature_times.values(), *(_label_column(frame, label)[0] for label in columns.labels)]
    for name in named:
        if name and name not in frame.columns:
            raise ConfigError(f"column '{name}'", "a column of the table", "none", nearest(name, frame.columns))


def _label_column(frame: pl.DataFrame, label: str) -> tuple[str, str | None]:
    """(column, value or None) of a label as it was named."""
    if label in frame.columns or "=" not in label:
        return label, None
    name, _, value = label.partition("=")
    return name, value


def _label(frame: pl.DataFrame, label: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """((n,) label, (n,) whether it is known)."""
    name, value = _label_column(frame, label)
    column = frame[name]
    known = column.is_not_null().to_numpy()
    if value is not None:
        number = column.dtype == pl.Float64
        y = column == (float(value) if number else value)
        return y.fill_null(False).to_numpy(), known
    words = column.cast(pl.String).str.to_lowercase()
    if set(words.drop_nulls().unique()) - {"0.0", "1.0", "true", "false"}:
        raise ConfigError(f"label '{name}'", "0 and 1 or true and false", "other values", f"say --label {name}=VALUE")
    return words.is_in(["1.0", "true"]).fill_null(False).to_numpy(), known


def _subjects(frame: pl.DataFrame, columns: TableColumns) -> NDArray[np.int64]:
    if not columns.subject:
        return np.arange(frame.height)
    return frame[columns.subject].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _pairs(frame: pl.DataFrame, columns: TableColumns) -> dict[str, str]:
    """feature → its column of times."""
    suffix = columns.available_suffix
    found = {c: c + suffix for c in frame.columns if suffix and c + suffix in frame.columns}
    return {**found, **columns.feature_times}


def _features(frame: pl.DataFrame, columns: TableColumns, pairs: Mapping[str, str]) -> list[str]:
    apart = {columns.subject, columns.time, columns.split, *columns.ignore, *pairs.values()}
    apart |= {_label_column(frame, label)[0] for label in columns.labels}
    return [c for c in frame.columns if c not in apart and frame[c].dtype != pl.Datetime("us")]


def _late(frame: pl.DataFrame, columns: TableColumns, pairs: Mapping[str, str]) -> Iterator[Finding]:
    """Columns of times, each against the prediction time."""
    asked = frame[columns.time]
    if asked.dtype == pl.String:
        raise ConfigError(
            f"column '{columns.time}'", "times as YYYY-MM-DD HH:MM:SS, or numbers", "text", "convert them before"
        )
    for feature, name in pairs.items():
        if frame[name].dtype != asked.dtype:
            raise ConfigError(
                f"column '{name}'", f"times like those of '{columns.time}'", "another kind", "convert one"
            )
        late = int(((frame[name] > asked) & frame[feature].is_not_null()).sum())
        if late:
            words = f"{counted(late)} values are later than the prediction time (by '{name}')"
            yield Finding("leak", "inputs after the prediction time", feature, words)
    paired = {*pairs.values(), columns.time, *columns.ignore}
    others = [c for c in frame.columns if c not in paired and frame[c].dtype == pl.Datetime("us")]
    for name in others if asked.dtype == pl.Datetime("us") else ():
        late = int((frame[name] > asked).sum())
        if late:
            words = f"{counted(late)} of its times are later than the prediction time"
            yield Finding("leak", "inputs after the prediction time", name, words)


def _copies(
    frame: pl.DataFrame,
    features: list[str],
    labels: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    subject: NDArray[np.int64],
) -> Iterator[Finding]:
    for task, (label, known) in labels.items():
        at = np.flatnonzero(known)
        y, whose = label[at], subject[at]
        if min(patients(whose[y]), patients(whose[~y])) < SMALL_CELL:
            words = f"fewer than {SMALL_CELL} subjects with or without it: nothing can be said about copies"
            yield Finding("note", "copies a label", task, words)
            continue
        for name in features:
            yield from label_copies(name, _scores(frame[name], at, y, whose), y, whose, task)
        yield from _order(at, y, whose, task)


def _scores(
    column: pl.Series, at: NDArray[np.int64], y: NDArray[np.bool_], subject: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) numbers as they are; texts as the outcome rate of their category."""
    if column.dtype == pl.Float64:
        return column[at].fill_null(float("nan")).to_numpy()
    codes = (column[at].rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()
    return category_rates(codes, y, subject)


def _order(at: NDArray[np.int64], y: NDArray[np.bool_], subject: NDArray[np.int64], task: str) -> Iterator[Finding]:
    a = auroc(y, at.astype(np.float64))
    low, _ = auroc_limits(max(a, 1 - a), patients(subject[y]), patients(subject[~y]))
    if low > ORDERED:
        words = f"the rows are sorted by '{task}': a row number, or a split by position, would tell it"
        yield Finding("suspect", "order of rows", "rows", words)


def _shapes(frame: pl.DataFrame, features: list[str]) -> Iterator[Finding]:
    for name in features:
        column = frame[name].drop_nulls()
        distinct = column.n_unique()
        if distinct <= 1:
            yield Finding("note", "constant columns", name, "says nothing: at most one value")
        elif distinct == frame.height and _counts_rows(column):
            yield Finding("suspect", "row numbers", name, "counts the rows: an identifier, not a feature")
        elif distinct == frame.height and column.dtype == pl.String:
            yield Finding("suspect", "row numbers", name, "another text in every row: an identifier, not a feature")


def _counts_rows(column: pl.Series) -> bool:
    if column.dtype != pl.Float64:
        return False
    x = column.to_numpy()
    return bool((x == np.round(x)).all()) and bool((np.diff(x) > 0).all() or (np.diff(x) < 0).all())


def _duplicates(frame: pl.DataFrame, features: list[str], subject: NDArray[np.int64]) -> Iterator[Finding]:
    numbers = [c for c in features if frame[c].dtype == pl.Float64]
    columns = (frame[c].cast(pl.Float32).fill_null(float("nan")).to_numpy() for c in numbers)
    n = repeated_patients(*row_keys(columns, frame.height), subject)
    if n:
        words = f"{counted(n)} subjects have a row of numbers in common with another subject"
        yield Finding("suspect", "repeated patients", "rows", words)

"""Audit of a plain feature table, ours or not: one row a sample, one column a feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import ConfigError, nearest
from mmnar.evaluation.audit.cells import Cells, read_table
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
from mmnar.evaluation.audit.pairs import CHECK, pair_copies, tells_alone
from mmnar.evaluation.audit.ruling import ruled_out
from mmnar.evaluation.metrics import auroc
from mmnar.privacy import SMALL_CELL, counted
from mmnar.sources.reading.identifiers import flaws, spellings

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
    cells = read_table(path, [columns.subject] if columns.subject else [])
    frame = cells.frame
    _check_names(cells, columns)
    subject = _subjects(cells, columns)
    labels = {label: _label(frame, label) for label in columns.labels}
    pairs = _pairs(frame, columns)
    features = _features(frame, columns, pairs)
    findings = [*_spellings(cells, columns), *_shapes(frame, features), *_duplicates(frame, features, subject)]
    findings += [Finding("note", "numbers and other forms", n, f"mostly numbers: {f}") for n, f in cells.mixed.items()]
    looked = ["constant and empty columns, row numbers", "the same values under different subjects"]
    missed = [f"'{name}': nested, bytes, or times without a day" for name in cells.unread]
    if columns.subject:
        looked.append("subjects written in more than one way")
    if columns.time:
        findings += _late(cells, columns, pairs)
        looked.append("inputs and times later than the prediction time")
    else:
        missed.append("inputs later than the prediction time: name it with --time")
    if labels:
        found, words = _copies(frame, features, labels, subject)
        findings += found
        looked += ["features, and missing values of features, that give a label away or rule it out", words]
    else:
        missed.append("features that copy a label: name it with --label")
    if columns.split and columns.subject:
        split = frame.select(pl.Series("subject_id", subject), split=pl.col(columns.split).cast(pl.String))
        findings += split_findings(split.filter(frame[columns.subject].is_not_null()), columns.split)
        looked.append("subjects across the parts of the split")
    else:
        missed.append("subjects across the parts of a split: name both with --subject and --split")
    return Audit(f"table '{path.name}'", tuple(looked), tuple(missed), gravest_first(findings))


def _check_names(cells: Cells, columns: TableColumns) -> None:
    frame = cells.frame
    asked = [columns.subject, columns.time, columns.split, *columns.feature_times, *columns.feature_times.values()]
    asked += [_label_column(frame, label)[0] for label in columns.labels]
    for name in (*asked, *columns.ignore):
        if name in cells.unread and name in asked:
            raise ConfigError(f"column '{name}'", "numbers, times or words", "another kind", "convert it before")
        if name and name not in frame.columns and name not in cells.unread:
            raise ConfigError(f"column '{name}'", "a column of the table", "none", nearest(name, frame.columns))
        if name in asked and name and frame[name].null_count() == frame.height:
            raise ConfigError(f"column '{name}'", "a value in some row", "an empty column", "name another, or fill it")


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


def _subjects(cells: Cells, columns: TableColumns) -> NDArray[np.int64]:
    """(n,) whose row it is, numbered from 0: all spellings of an identifier are one subject's."""
    if not columns.subject:
        return np.arange(cells.frame.height)
    written = cells.text[columns.subject]
    table = spellings(written)
    same = written.replace_strict(table["cell"], table["same"], default=None, return_dtype=pl.String)
    return same.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _spellings(cells: Cells, columns: TableColumns) -> Iterator[Finding]:
    """Whether one subject is written in two ways, or two subjects may be written in one."""
    if not columns.subject:
        return
    check, where = "subjects written in several ways", columns.subject
    table = spellings(cells.text[where])
    several = table.group_by("same").len().filter(pl.col("len") > 1).height
    if several:
        words = f"{counted(several)} of {counted(table['same'].n_unique())} subjects are written in more than one way"
        yield Finding("leak", check, where, f"{words} (7 and 7.0): taken as text they are several")
    for n, flaw in flaws(table):
        yield Finding("suspect", check, where, f"{counted(n)} {flaw}")


def _pairs(frame: pl.DataFrame, columns: TableColumns) -> dict[str, str]:
    """feature → its column of times."""
    suffix = columns.available_suffix
    found = {c: c + suffix for c in frame.columns if suffix and c + suffix in frame.columns}
    return {**found, **columns.feature_times}


def _features(frame: pl.DataFrame, columns: TableColumns, pairs: Mapping[str, str]) -> list[str]:
    apart = {columns.subject, columns.time, columns.split, *columns.ignore, *pairs.values()}
    apart |= {_label_column(frame, label)[0] for label in columns.labels}
    return [c for c in frame.columns if c not in apart and frame[c].dtype != pl.Datetime("us")]


def _late(cells: Cells, columns: TableColumns, pairs: Mapping[str, str]) -> Iterator[Finding]:
    """Columns of times, each against the prediction time."""
    frame, asked = cells.frame, cells.frame[columns.time]
    if len(set(cells.zoned.values())) > 1:
        zones = ", ".join(f"'{name}'" for name, has in cells.zoned.items() if has)
        words = "times with a zone beside times without one: they are on no common clock"
        yield Finding("suspect", "inputs after the prediction time", zones, words)
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
) -> tuple[list[Finding], str]:
    """Findings, and in words how many pairs of columns were searched."""
    findings: list[Finding] = []
    searched = "no pairs of columns: too few subjects"
    for task, (label, known) in labels.items():
        at = np.flatnonzero(known)
        y, whose = label[at], subject[at]
        if min(patients(whose[y]), patients(whose[~y])) < SMALL_CELL:
            words = f"fewer than {SMALL_CELL} subjects with or without it: nothing can be said about copies"
            findings.append(Finding("note", "copies a label", task, words))
            continue
        alone: dict[str, NDArray[np.float64]] = {}
        for name in features:
            x = _codes(frame[name], at)
            rates = x if frame[name].dtype == pl.Float64 else category_rates(_whole(x), y, whose)
            found = [*label_copies(name, rates, y, whose, task)] or [*ruled_out(name, x, y, whose, task)]
            findings += found
            if not tells_alone(found):
                alone[name] = x
        together, search = pair_copies(alone, y, whose, task)
        findings += together
        searched = f"{CHECK}: {search.words()}"
        findings += _order(at, y, whose, task)
    return findings, searched


def _codes(column: pl.Series, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) numbers as they are, words numbered in alphabetical order; NaN where missing."""
    kept = column[at]
    numbers = kept if column.dtype == pl.Float64 else kept.rank("dense").cast(pl.Float64) - 1
    return numbers.fill_null(float("nan")).to_numpy()


def _whole(codes: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(np.isfinite(codes), codes, -1).astype(np.int64)


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
        if not distinct:
            yield Finding("note", "empty columns", name, "no value in any row")
        elif distinct == 1:
            yield Finding("note", "constant columns", name, "says nothing: one value")
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

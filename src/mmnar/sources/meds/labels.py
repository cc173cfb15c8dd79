"""Label files of MEDS: who was asked what, when, and the answer. As written by ACES, by others, or by ``mmnar export``.

Layout: ``TASKS/TASK/**/*.parquet``, or one file ``TASKS/TASK.parquet`` (what ``aces-cli`` writes of an unsharded data
set). Columns read: ``subject_id``, ``prediction_time``, ``boolean_value``. The table that ACES itself works with is
taken as it is: ``index_timestamp`` for ``prediction_time``, ``label`` (a count) for ``boolean_value``; its ``trigger``
and ``*_summary`` columns are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError, nearest
from mmnar.files import sha256_of
from mmnar.privacy import counted
from mmnar.sources.meds.forms import check_one_clock, has_zone, identifiers, instants, is_identifier, is_text, is_time
from mmnar.sources.reading.visible import is_hidden, visible_files

LABEL_SCHEMA: Final[dict[str, pl.DataType]] = {
    "task": pl.String(),
    "subject_id": pl.Int64(),
    "prediction_time": pl.Datetime("us"),
    "boolean_value": pl.Boolean(),
}

_SYNONYMS: Final = {
    "subject_id": ("subject_id",),
    "prediction_time": ("prediction_time", "index_timestamp"),
    "boolean_value": ("boolean_value", "label"),
}
_CELLS: Final = {
    "subject_id": "whole numbers below 2^63",
    "prediction_time": "times that can be counted in microseconds",
    "boolean_value": "yes or no, or a count of events",
}
_OTHER_LABELS: Final = ("integer_value", "float_value", "categorical_value")
_SPLITS: Final = frozenset({"train", "tuning", "held_out"})


@dataclass(frozen=True)
class Labels:
    """Answers of K tasks.

    Args:
        frame: Columns of ``LABEL_SCHEMA``; one row per task, subject and prediction time.
        tasks: K names, in alphabetical order or that of the mapping they came from.
        read: task → rows and subjects in its files, before anything was dropped.
        fingerprint: Hash of the files' content.
        warnings: What was dropped, with counts.
        zones: Which task → whether its times name a zone.
    """

    frame: pl.DataFrame
    tasks: tuple[str, ...]
    read: dict[str, tuple[int, int]]
    fingerprint: str
    warnings: tuple[str, ...] = ()
    zones: Mapping[str, bool | None] = field(default_factory=dict)

    def moments(self) -> pl.DataFrame:
        """``subject_id, prediction_time``: every moment at which anything is asked, once and in order."""
        return self.frame.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")


def unanswered(tasks: Sequence[str], moments: pl.DataFrame, zoned: bool) -> Labels:
    """Questions whose answers are not known.

    Args:
        moments: ``subject_id`` (int64), ``prediction_time`` (datetime[us]), each once.
        zoned: Whether the times named a zone.
    """
    asked = [
        moments.select(pl.lit(task).alias("task"), *moments.columns, boolean_value=pl.lit(None, pl.Boolean))
        for task in tasks
    ]
    read = (moments.height, moments["subject_id"].n_unique())
    return Labels(pl.concat(asked), tuple(tasks), dict.fromkeys(tasks, read), "", zones={"the moments (--at)": zoned})


def read_labels(where: str | Path | Mapping[str, str | Path]) -> Labels:
    """Read the label files of all tasks.

    Args:
        where: The folder of the tasks, or task name → its folder or file.

    Raises:
        SourceError: No task, a task without files or labels, columns of another form, labels that are not yes or no,
            or two answers to one question.
    """
    files = _files_of(where)
    digest = hashlib.sha256()
    frames: list[pl.DataFrame] = []
    read: dict[str, tuple[int, int]] = {}
    warnings: list[str] = []
    zones: dict[str, bool | None] = {}
    for task, paths in files.items():
        raw = pl.concat([_read(task, path, digest, zones) for path in paths])
        read[task] = (raw.height, raw["subject_id"].n_unique())
        frames.append(_once(task, raw, warnings))
    check_one_clock(zones)
    return Labels(pl.concat(frames), tuple(files), read, digest.hexdigest(), tuple(warnings), zones)


def _files_of(where: str | Path | Mapping[str, str | Path]) -> dict[str, list[Path]]:
    """Task → its files."""
    if isinstance(where, Mapping):
        if not where:
            raise SourceError("labels", "at least one task", "none", "name a folder of label files")
        return {task: _files(task, Path(path)) for task, path in where.items()}
    root = Path(where)
    if not root.is_dir():
        raise SourceError(
            f"labels '{root}'", "a folder of tasks", "none", "give the folder that holds the task folders"
        )
    visible = [path for path in root.iterdir() if not is_hidden(PurePath(path.name))]
    single = {path.stem for path in visible if path.is_file() and path.suffix.lower() == ".parquet"}
    folders = {path.name for path in visible if path.is_dir()}
    tasks = sorted(folders | single)
    if not tasks:
        raise SourceError(f"labels '{root}'", "a folder or parquet file per task", "none", "extract the labels first")
    if set(tasks) & _SPLITS or all(task.isdigit() for task in tasks):
        raise SourceError(
            f"labels '{root}'",
            "a folder or parquet file per task",
            "what looks like the shards of one task",
            "give the folder above it",
        )
    # aces-cli keeps the logs of TASK.parquet in a folder of the same name
    ends = {path.stem: path for path in visible if path.stem in single and path.is_file()}
    return {task: _files(task, ends.get(task, root / f"{task}.parquet"), root / task) for task in tasks}


def _files(task: str, *places: Path) -> list[Path]:
    files = [f for place in places for f in ([place] if place.is_file() else visible_files(place, ".parquet"))]
    if not files:
        raise SourceError(f"task '{task}'", "parquet files", "none", "extract its labels or leave the task out")
    return files


def _read(task: str, path: Path, digest: hashlib._Hash, zones: dict[str, bool | None]) -> pl.DataFrame:
    """The three columns of one file, typed; none of a file without rows, whose columns may have no types.

    Notes in ``zones`` whether its times name a zone.
    """
    try:
        digest.update(task.encode() + bytes.fromhex(sha256_of(path)))
        schema = parquet.schema_of(path)
        names = list(schema)
        rows = parquet.rows_of(path)
        found = {name: next((c for c in synonyms if c in names), None) for name, synonyms in _SYNONYMS.items()}
        raw = parquet.read(path, [column for column in found.values() if column]) if rows else None
    except (parquet.UnreadableError, OSError) as error:
        kind = parquet.kind_of(error)
        # the path may be a patient's
        raise SourceError(
            f"task '{task}'", "readable parquet files", f"one that is not ({kind})", "extract it again"
        ) from None
    if raw is None:
        return pl.DataFrame(schema=LABEL_SCHEMA)
    if (asked := found["prediction_time"]) is not None and is_time(schema[asked]):
        zones[f"file {len(zones) + 1} of task '{task}'"] = has_zone(path, asked, schema[asked])
    columns = [_column(task, raw, names, name, column) for name, column in found.items()]
    return pl.DataFrame(columns).select(pl.lit(task).alias("task"), pl.all())


def _column(task: str, raw: pl.DataFrame, names: list[str], name: str, found: str | None) -> pl.Series:
    if found is None:
        instead = [c for c in _OTHER_LABELS if c in names] if name == "boolean_value" else []
        raise SourceError(
            f"task '{task}'",
            f"a column '{name}'",
            f"only {', '.join(instead)}" if instead else f"none of that name; {nearest(name, names)}",
            "only yes-or-no tasks can be asked" if instead else "give label files of MEDS 0.4, as ACES writes them",
        )
    column, dtype = raw[found].alias(found), LABEL_SCHEMA[name]
    if not _fits(column.dtype, name):
        raise SourceError(
            f"task '{task}', column '{found}'", str(dtype), str(column.dtype), "give label files of MEDS 0.4"
        )
    where = f"task '{task}'"
    if name == "subject_id" and not column.dtype.is_integer() and column.dtype != pl.Null():
        return identifiers(where, column).alias(name)
    zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None
    if name == "prediction_time" and (zoned or is_text(column.dtype)):
        return instants(where, column, zoned or None).alias(name)
    # a cast that refuses by itself would show cells
    typed = _answers(column) if name == "boolean_value" else column.cast(dtype, strict=False)
    known = column.fill_nan(None) if column.dtype.is_float() else column
    if lost := typed.null_count() - known.null_count():
        raise SourceError(
            f"task '{task}', column '{found}'", _CELLS[name], f"{counted(lost)} others", "correct the task's definition"
        )
    return typed.alias(name)


def _answers(column: pl.Series) -> pl.Series:
    """Yes or no; a count of events, in the table that ACES works with, is a yes from one event on."""
    if not column.dtype.is_numeric():
        return column.cast(pl.Boolean)
    count = column.cast(pl.Float64)
    return (count > 0).set(~((count >= 0) & (count == count.floor()) & count.is_finite()).fill_null(False), None)


def _fits(dtype: pl.DataType, name: str) -> bool:
    if dtype == pl.Null():
        return True
    if name == "subject_id":
        return is_identifier(dtype)
    if name == "prediction_time":
        return is_time(dtype)
    return dtype == pl.Boolean() or dtype.is_integer() or dtype.is_float()


def _once(task: str, raw: pl.DataFrame, warnings: list[str]) -> pl.DataFrame:
    """One row per question; rows without an answer or an address are dropped and counted."""
    whole = raw.drop_nulls()
    if whole.is_empty():
        raise SourceError(
            f"task '{task}'", "at least one label", "none", "correct the task's definition or leave it out"
        )
    distinct = whole.unique(maintain_order=True)
    key = ["subject_id", "prediction_time"]
    contradictory = distinct.height - distinct.select(key).n_unique()
    if contradictory:
        raise SourceError(
            f"task '{task}'",
            "one label per subject and prediction time",
            f"{counted(contradictory)} with both answers",
            "correct the task's definition",
        )
    for dropped, reason in (
        (raw.height - whole.height, "without a subject, a time or a label"),
        (whole.height - distinct.height, "repeats of another"),
    ):
        if dropped:
            warnings.append(f"labels of task '{task}': {counted(dropped)} rows dropped: {reason}")
    return distinct

"""Audit of a MEDS folder: ``data/**/*.parquet`` of events, perhaps ``labels`` and ``metadata/subject_splits.parquet``.

Events after a subject's prediction time are no leak in themselves, labels are made of them: whether a *feature* used
them cannot be seen here. What can be seen is whether the folder says when each event was known, and whether its times
hold together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Final

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.evaluation.audit.findings import Audit, Finding, gravest_first
from mmnar.privacy import counted, counted_of
from mmnar.sources.reading.visible import is_hidden, visible_files

BIRTH: Final = "MEDS_BIRTH"
DEATH: Final = "MEDS_DEATH"
GRACE: Final = pl.duration(days=1)
"""Births and deaths are often known to the day only."""


def audit_meds(folder: Path) -> Audit:
    """Look for leaks in a MEDS folder.

    Raises:
        SourceError: No events, or a table without its columns.
    """
    labels = _labels(folder)
    findings = [*event_findings(folder, labels), *_splits(folder)]
    looked, missed = [*event_looks(), "subjects across splits"], []
    if labels is None:
        missed.append("labels: the folder has none")
    else:
        findings += _conflicts(labels)
        looked.append("labels that contradict each other")
    missed.append("whether features were made of events after the prediction time: a MEDS folder holds no features")
    return Audit(f"MEDS folder '{folder.name}'", tuple(looked), tuple(missed), gravest_first(findings))


def event_looks() -> list[str]:
    """What ``event_findings`` looks at."""
    return ["when each event was known", "events and prediction times before birth and after death"]


def event_findings(folder: Path, samples: pl.DataFrame | None) -> Iterator[Finding]:
    """Times of the events below ``folder/data``, and of prediction times against births and deaths.

    Args:
        samples: ``subject_id``, ``prediction_time``; None where nothing is asked.

    Raises:
        SourceError: No events, or a table without its columns.
    """
    events = scanned(
        visible_files(folder / "data", ".parquet"), f"'{folder.name}/data'", ("subject_id", "time", "code")
    )
    if events is None:
        raise SourceError(f"'{folder.name}/data'", "parquet files of events", "none", "check the folder")
    if "available_time" in events.collect_schema().names():
        yield from _availability(events)
    else:
        words = "there is no such column: an event counts as known when it happened, a result when it was drawn"
        yield Finding("suspect", "when events were known", "available_time", words)
    lives = _lives(events)
    yield from _outside(events.select("subject_id", "time"), lives, "events", "event")
    if samples is not None:
        asked = samples.lazy().select("subject_id", time="prediction_time")
        yield from _outside(asked, lives, "prediction times", "prediction")


def _availability(events: pl.LazyFrame) -> Iterator[Finding]:
    known, time = pl.col("available_time"), pl.col("time")
    early, unknown, total = (
        events.select((known < time).sum().alias("early"), known.is_null().sum().alias("unknown"), pl.len())
        .collect()
        .row(0)
    )
    if early:
        words = f"{counted_of(early, total)} events are known before they happen"
        yield Finding("suspect", "when events were known", "available_time", words)
    if unknown:
        words = f"{counted_of(unknown, total)} events do not say when they were known"
        yield Finding("note", "when events were known", "available_time", words)


def _lives(events: pl.LazyFrame) -> pl.LazyFrame:
    """subject_id, born, died; births are the earliest named, deaths the latest."""
    code, time = pl.col("code"), pl.col("time")
    return (
        events.filter(code.is_in([BIRTH, DEATH]))
        .group_by("subject_id")
        .agg(born=time.filter(code == BIRTH).min(), died=time.filter(code == DEATH).max())
    )


def _outside(times: pl.LazyFrame, lives: pl.LazyFrame, plural: str, what: str) -> Iterator[Finding]:
    joined = times.drop_nulls("time").join(lives, on="subject_id", how="inner")
    found = {
        "before birth": joined.filter(pl.col("time") < pl.col("born") - GRACE),
        "after death": joined.filter(pl.col("time") > pl.col("died") + GRACE),
    }
    for side, rows in found.items():
        n, patients = rows.select(pl.len(), pl.col("subject_id").n_unique().alias("patients")).collect().row(0)
        if n:
            words = f"{counted(n)} {plural} of {counted(patients)} patients lie more than a day {side}"
            yield Finding("suspect", f"{plural} outside a life", what, words)


def _labels(folder: Path) -> pl.DataFrame | None:
    """The labels below ``labels``, whole: subject_id, prediction_time and, where it is there, boolean_value."""
    files = visible_files(folder / "labels", ".parquet")
    labels = scanned(files, f"'{folder.name}/labels'", ("subject_id", "prediction_time"))
    return None if labels is None else labels.collect()


def _conflicts(labels: pl.DataFrame) -> Iterator[Finding]:
    if "boolean_value" not in labels.columns:
        return
    answers = labels.group_by("subject_id", "prediction_time").agg(n=pl.col("boolean_value").n_unique())
    n = answers.filter(pl.col("n") > 1).height
    if n:
        words = f"{counted(n)} prediction times have both answers (several tasks in one folder?)"
        yield Finding("suspect", "contradicting labels", "labels", words)


def _splits(folder: Path) -> Iterator[Finding]:
    named = folder / "metadata" / "subject_splits.parquet"
    splits = scanned([named] if named.is_file() else [], "'metadata/subject_splits.parquet'", ("subject_id", "split"))
    if splits is not None:
        yield from split_findings(splits.collect(), "metadata/subject_splits.parquet")
    frames = []
    for part in sorted(p for p in (folder / "data").iterdir() if p.is_dir() and not is_hidden(PurePath(p.name))):
        rows = scanned(visible_files(part, ".parquet"), f"'{folder.name}/data'", ("subject_id",))
        if rows is not None:
            frames.append(rows.select("subject_id", split=pl.lit(part.name)).unique().collect())
    if len(frames) > 1:
        yield from split_findings(pl.concat(frames), "data")


def split_findings(rows: pl.DataFrame, where: str) -> Iterator[Finding]:
    """Subjects in more than one part, of rows with ``subject_id`` and ``split``."""
    parts = rows.drop_nulls().group_by("subject_id").agg(parts=pl.col("split").n_unique())
    torn = parts.filter(pl.col("parts") > 1).height
    if torn:
        words = f"{counted_of(torn, parts.height)} subjects are in more than one part"
        yield Finding("leak", "subjects across folds", where, words)


_READ: Final = {
    "subject_id": pl.Int64(),
    "code": pl.String(),
    "split": pl.String(),
    "boolean_value": pl.Boolean(),
    **dict.fromkeys(("time", "available_time", "prediction_time"), pl.Datetime("us")),
}


def scanned(files: Iterable[Path], where: str, needed: tuple[str, ...]) -> pl.LazyFrame | None:
    """The rows of parquet files, typed alike; None where no file has any.

    Args:
        files: Files without rows may have columns without types, or none.
        where: Named in messages, for a file's name may be a patient's.
        needed: Columns that must be there. Of the others those of ``_READ`` are read.

    Raises:
        SourceError: A file is damaged, lacks a column, or has one of another kind.
    """
    frames = []
    for file in files:
        try:
            schema = parquet.schema_of(file)
            rows = parquet.rows_of(file)
        except parquet.UnreadableError as error:
            raise SourceError(where, "readable parquet files", str(error), "copy it again") from None
        if not rows or all(dtype == pl.Null() for dtype in schema.values()):
            continue
        if missing := set(needed) - set(schema):
            raise SourceError(where, f"the columns {', '.join(needed)}", f"no {sorted(missing)}", "check the folder")
        wanted = {column: dtype for column, dtype in _READ.items() if column in schema}
        for column, dtype in wanted.items():
            if not _alike(schema[column], dtype):
                raise SourceError(
                    f"{where}, column '{column}'", str(dtype), str(schema[column]), "give it as MEDS has it"
                )
        columns = (pl.col(column).cast(dtype, strict=False) for column, dtype in wanted.items())
        frames.append(parquet.scan(file, list(wanted)).select(columns))
    return pl.concat(frames, how="diagonal") if frames else None


def _alike(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a column of a file can be read as what is wanted."""
    if found == pl.Null():
        return True
    if wanted == pl.Int64():
        return found.is_integer()
    if wanted == pl.Boolean():
        return found == pl.Boolean() or found.is_numeric()
    if wanted == pl.String():
        return isinstance(found, pl.String | pl.Categorical | pl.Enum)
    return found.is_temporal()

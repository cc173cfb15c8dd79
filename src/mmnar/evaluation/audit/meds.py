"""Audit of a MEDS folder: ``data/**/*.parquet`` of events, perhaps ``labels`` and ``metadata/subject_splits.parquet``.

Events after a subject's prediction time are no leak in themselves, labels are made of them: whether a *feature* used
them cannot be seen here. What can be seen is whether the folder says when each event was known, and whether its times
hold together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.evaluation.audit.findings import Audit, Finding, gravest_first
from mmnar.privacy import counted, counted_of

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
    files = sorted((folder / "data").rglob("*.parquet"))
    if not files:
        raise SourceError(f"'{folder.name}/data'", "parquet files of events", "none", "check the folder")
    events = pl.scan_parquet(files)
    names = events.collect_schema().names()
    if missing := {"subject_id", "time", "code"} - set(names):
        raise SourceError(f"'{folder.name}/data'", "the columns of MEDS", f"no {sorted(missing)}", "check the folder")
    if "available_time" in names:
        yield from _availability(events)
    else:
        words = "there is no such column: an event counts as known when it happened, a result when it was drawn"
        yield Finding("suspect", "when events were known", "available_time", words)
    lives = _lives(events)
    yield from _outside(events.select("subject_id", pl.col("time").cast(pl.Datetime("us"))), lives, "events", "event")
    if samples is not None:
        asked = samples.lazy().select("subject_id", time="prediction_time")
        yield from _outside(asked, lives, "prediction times", "prediction")


def _availability(events: pl.LazyFrame) -> Iterator[Finding]:
    known, time = pl.col("available_time").cast(pl.Datetime("us")), pl.col("time").cast(pl.Datetime("us"))
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
    code, time = pl.col("code"), pl.col("time").cast(pl.Datetime("us"))
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
    files = sorted((folder / "labels").rglob("*.parquet"))
    if not files:
        return None
    labels = pl.scan_parquet(files)
    names = labels.collect_schema().names()
    if missing := {"subject_id", "prediction_time"} - set(names):
        raise SourceError(f"'{folder.name}/labels'", "the columns of MEDS labels", f"no {sorted(missing)}", "check it")
    wanted = [c for c in ("subject_id", "prediction_time", "boolean_value") if c in names]
    return labels.select(wanted).with_columns(pl.col("prediction_time").cast(pl.Datetime("us"))).collect()


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
    if named.is_file():
        splits = pl.read_parquet(named, columns=["subject_id", "split"])
        yield from split_findings(splits, "metadata/subject_splits.parquet")
    parts = {p.name: sorted(p.rglob("*.parquet")) for p in (folder / "data").iterdir() if p.is_dir()}
    frames = [
        pl.scan_parquet(files).select("subject_id").unique().with_columns(split=pl.lit(name)).collect()
        for name, files in sorted(parts.items())
        if files
    ]
    if len(frames) > 1:
        yield from split_findings(pl.concat(frames), "data")


def split_findings(rows: pl.DataFrame, where: str) -> Iterator[Finding]:
    """Subjects in more than one part, of rows with ``subject_id`` and ``split``."""
    parts = rows.drop_nulls().group_by("subject_id").agg(parts=pl.col("split").n_unique())
    torn = parts.filter(pl.col("parts") > 1).height
    if torn:
        words = f"{counted_of(torn, parts.height)} subjects are in more than one part"
        yield Finding("leak", "subjects across folds", where, words)

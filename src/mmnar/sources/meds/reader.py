"""Any MEDS folder, read twice block by block: checked and counted, then copied into an event folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from mmnar.errors import ConfigError, SourceError
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA, EventSource, Extract, Rule
from mmnar.sources.meds.files import EventRows, about, data_files, zones_of
from mmnar.sources.meds.forms import check_one_clock
from mmnar.sources.meds.labels import Labels
from mmnar.sources.meds.memory import GivenEvents, events_in_memory
from mmnar.sources.meds.rules import AGE, MAX_MISSING, automatic_rules, group_of, matching, planned_rules
from mmnar.sources.meds.survey import survey
from mmnar.sources.reading.ages import age_group
from mmnar.sources.reading.later import later
from mmnar.sources.reading.shards import EventWriter

_YEAR: Final = timedelta(days=365.25)


def read_meds(
    root: str | Path,
    *,
    work: Path,
    labels: Labels,
    modalities: Path | None = None,
    rules: Sequence[Rule] = (),
    since_days: float | None = None,
) -> Extract:
    """Read a MEDS data set for the questions of ``labels``.

    Args:
        root: Its folder, with ``data`` in it. Never written to.
        work: Where the event folder is built.
        labels: Who is asked what, and when.
        modalities: YAML file of modalities (``meds_rules.ModalityPlan``); without it they are made of the codes' first
            parts (``meds_rules.automatic_rules``).
        rules: Of a run, in place of both.
        since_days: How many days before the prediction time count; None = the whole past. Static events and the age
            are history and always count.

    Returns:
        Events of all subjects. ``stays`` has one row per moment asked about of a subject with events, in order of
        subject and time: ``stay_id`` and ``hadm_id`` are its row number, for MEDS knows neither; ``prediction_time``;
        ``since``; attributes ``sex`` and ``age_group`` where the data tell them.

    Raises:
        SourceError: Not MEDS 0.4: no data, a column missing or of another type, a subject in two files or in two
            places of one, events out of order; or no labelled subject has events.
        ConfigError: The YAML file is not what it should be, or ``since_days`` is not positive.
    """
    if since_days is not None and not since_days > 0:
        raise ConfigError("since_days", "a positive number of days", f"{since_days}", "leave it out for the whole past")
    root = Path(root)
    files = data_files(root)
    check_one_clock({**zones_of(files), **labels.zones})
    described = about(root)
    raw_bytes = sum(file.path.stat().st_size for file in files)
    store = partial(_folder, work, raw_bytes, described)
    return _extract(files, labels, store, described, rules, modalities, since_days)


def meds_in_memory(
    events: pl.DataFrame, labels: Labels, rules: Sequence[Rule], since_days: float | None = None
) -> Extract:
    """``read_meds`` of a few subjects' events in memory, by the rules of a run.

    Args:
        events: Columns of ``EVENT_SCHEMA`` but for ``source``, in order of subject and time, static ones first.

    Raises:
        SourceError: See ``read_meds``.
    """
    return _extract([GivenEvents(events)], labels, _memory, {}, rules, None, since_days)


_Tables = Mapping[str, tuple[str, Iterator[pl.DataFrame]]]
"""Table → its fingerprint and its events."""


def _folder(
    work: Path, raw_bytes: int, described: Mapping[str, Any], subjects: pl.Series, tables: _Tables
) -> tuple[EventSource, tuple[str, ...]]:
    """An event folder, and what was dropped."""
    writer = EventWriter(work, subjects, "subject", raw_bytes=raw_bytes)
    for name, (fingerprint, frames) in tables.items():
        writer.table(name, fingerprint, frames)
    events = writer.finish(*_named(described), {})
    return events, events.notes


def _memory(subjects: pl.Series, tables: _Tables) -> tuple[EventSource, tuple[str, ...]]:
    return events_in_memory(frame for _, frames in tables.values() for frame in frames)


def _named(described: Mapping[str, Any]) -> tuple[str, str]:
    return str(described.get("dataset_name") or "meds"), str(described.get("dataset_version") or "unknown")


def _extract(
    files: Sequence[EventRows],
    labels: Labels,
    store: Callable[[pl.Series, _Tables], tuple[EventSource, tuple[str, ...]]],
    described: Mapping[str, Any],
    rules: Sequence[Rule],
    modalities: Path | None,
    since_days: float | None,
) -> Extract:
    found = survey(files)
    stays = _stays(found.subjects, labels, since_days)
    codes = found.codes
    ages = _ages(stays)
    if ages.height:
        codes = pl.concat([codes, _row_of_ages(ages).select(codes.columns)])
    pattern = codes["code"].str.ends_with("*")
    codes = codes.filter(~pattern)
    unread = codes.filter(~matching([code for rule in rules for code in rule.codes])).height if rules else 0
    if not rules:
        rules = automatic_rules(codes) if modalities is None else planned_rules(modalities, codes)
    tables = {f"data-{i:05}": (file.sha256, _events(file, found.subjects)) for i, file in enumerate(files)}
    tables["age"] = (labels.fingerprint, iter([ages]))
    name, version = _named(described)
    digest = hashlib.sha256("".join([*(f.sha256 for f in files), labels.fingerprint]).encode())
    events, dropped = store(found.subjects["subject_id"], tables)
    notes = [*labels.warnings, *found.notes(files), *dropped, *_moments_told(stays, labels)]
    if unread:
        notes.append(f"{unread:,} of {codes.height:,} codes of the data set are in no feature of the run")
    if pattern.any():
        notes.append(
            f"{int(pattern.sum())} codes end in *, which means a prefix here: they are read but make no feature"
        )
    return Extract(
        name=name,
        version=version,
        events=events,
        stays=stays,
        rules=tuple(rules),
        attributes=tuple(a for a in ("sex", "age_group") if stays[a].null_count() < stays.height),
        fingerprint=digest.hexdigest(),
        max_missing=MAX_MISSING,
        warnings=tuple(notes),
        details={
            "format": "MEDS",
            "availability": found.availability(),
            "since_days": since_days,
            "modalities": "from codes" if modalities is None else Path(modalities).name,
        },
    )


# --- second reading: copy ---------------------------------------------------------------------------------------------


def _events(file: EventRows, subjects: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Blocks of ``EVENT_SCHEMA``."""
    firsts = subjects.select("subject_id", "first")
    number = pl.col("numeric_value")
    for block in file.blocks():
        yield (
            block.join(firsts, on="subject_id", how="left", maintain_order="left")
            .with_columns(time=pl.coalesce("time", "first"))
            .drop_nulls("time")
            .with_columns(
                available_time=later(pl.col("time"), pl.col("available_time")),
                numeric_value=pl.when(number.is_finite()).then(number),
                source=group_of(pl.col("code")),
            )
            .select(*EVENT_SCHEMA)
        )


def _ages(stays: pl.DataFrame) -> pl.DataFrame:
    """One event at each moment of a subject whose birth is known."""
    return stays.drop_nulls("age").select(
        "subject_id",
        hadm_id=pl.lit(None, pl.Int64),
        stay_id=pl.lit(None, pl.Int64),
        time="prediction_time",
        available_time="prediction_time",
        code=pl.lit(AGE),
        numeric_value=pl.col("age").cast(pl.Float32),
        text_value=pl.lit(None, pl.String),
        source=pl.lit("age"),
    )


def _row_of_ages(ages: pl.DataFrame) -> pl.DataFrame:
    """Their row among the codes."""
    row = {"code": AGE, "group": "age", "events": ages.height, "subjects": ages["subject_id"].n_unique()}
    row |= {"numeric": ages.height, "static": 0, "text_length": None}
    return pl.DataFrame(row, schema_overrides={"text_length": pl.Float64})


# --- moments ----------------------------------------------------------------------------------------------------------


def _stays(subjects: pl.DataFrame, labels: Labels, since_days: float | None) -> pl.DataFrame:
    """One row per moment asked about."""
    known = subjects.drop_nulls("first")
    stays = labels.moments().join(known, on="subject_id", how="inner", maintain_order="left")
    if stays.is_empty():
        raise SourceError("moments asked about", "subjects of this data set", "none of them", "give its own labels")
    asked = pl.col("prediction_time")
    since = pl.lit(None) if since_days is None else asked - timedelta(days=since_days)
    stays = stays.with_row_index("stay_id").with_columns(
        pl.col("stay_id").cast(pl.Int64), since=since.cast(pl.Datetime("us"))
    )
    age = (asked - pl.col("birth")) / _YEAR
    stays = stays.with_columns(age=pl.when(age >= 0).then(age))
    age = pl.col("age")
    return stays.select(
        *("subject_id", pl.col("stay_id").alias("hadm_id"), "stay_id", "prediction_time"),
        *(pl.lit(None, pl.Datetime("us")).alias(name) for name in ("intime", "outtime")),
        *("since", "death", "first", "sex", "age"),
        age_group=age_group(age),
    )


def _moments_told(stays: pl.DataFrame, labels: Labels) -> list[str]:
    """What is odd about the moments asked about, in words."""
    strangers = labels.moments().join(stays, on="subject_id", how="anti")["subject_id"].n_unique()
    told = (
        (strangers, "subjects asked about are not in the data set: left out"),
        (
            int((stays["death"] < stays["prediction_time"]).sum()),
            "prediction times lie after the subject's death: correct the task's definition",
        ),
        (
            int((stays["prediction_time"] < stays["first"]).sum()),
            "prediction times lie before the subject's first event: nothing is known of them",
        ),
    )
    return [f"{counted(count)} {words}" for count, words in told if count]

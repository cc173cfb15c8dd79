"""Any MEDS folder, read twice block by block: checked and counted, then copied into an event folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from mmnar.errors import ConfigError, SourceError
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA, Extract
from mmnar.sources.meds.labels import Labels
from mmnar.sources.meds.rules import AGE, MAX_MISSING, automatic_rules, group_of, planned_rules
from mmnar.sources.reading.ages import age_group
from mmnar.sources.reading.shards import EventWriter

BIRTH: Final = "MEDS_BIRTH"
DEATH: Final = "MEDS_DEATH"

_ROWS: Final = 1 << 19
"""Of one block in memory."""

_OLDER: Final = ("patient_id", "events", "measurements")
"""Columns of MEDS before it said ``subject_id``."""

_YEAR: Final = timedelta(days=365.25)


def read_meds(
    root: str | Path,
    *,
    work: Path,
    labels: Labels,
    modalities: Path | None = None,
    since_days: float | None = None,
) -> Extract:
    """Read a MEDS data set for the questions of ``labels``.

    Args:
        root: Its folder, with ``data`` in it. Never written to.
        work: Where the event folder is built.
        labels: Who is asked what, and when.
        modalities: YAML file of modalities (``meds_rules.ModalityPlan``); without it they are made of the codes' first
            parts (``meds_rules.automatic_rules``).
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
    files = _data_files(root)
    about = _about(root)
    survey = _survey(files)
    stays = _stays(survey, labels, since_days)
    codes = survey.codes
    ages = _ages(stays)
    if ages.height:
        codes = pl.concat([codes, _row_of_ages(ages).select(codes.columns)])
    pattern = codes["code"].str.ends_with("*")
    codes = codes.filter(~pattern)
    rules = automatic_rules(codes) if modalities is None else planned_rules(modalities, codes)
    raw_bytes = sum(file.path.stat().st_size for file in files)
    writer = EventWriter(work, survey.subjects["subject_id"], "subject", raw_bytes=raw_bytes)
    for i, file in enumerate(files):
        writer.table(f"data-{i:05}", file.sha256, _events(file, survey.subjects))
    writer.table("age", labels.fingerprint, [ages])
    name, version = str(about.get("dataset_name") or "meds"), str(about.get("dataset_version") or "unknown")
    digest = hashlib.sha256("".join([*(f.sha256 for f in files), labels.fingerprint]).encode())
    events = writer.finish(name, version, {})
    notes = [*labels.warnings, *survey.notes(files), *events.notes, *_after_death(stays)]
    if pattern.any():
        notes.append(
            f"{int(pattern.sum())} codes end in *, which means a prefix here: they are read but make no feature"
        )
    return Extract(
        name=name,
        version=version,
        events=events,
        stays=stays,
        rules=rules,
        attributes=tuple(a for a in ("sex", "age_group") if stays[a].null_count() < stays.height),
        fingerprint=digest.hexdigest(),
        max_missing=MAX_MISSING,
        warnings=tuple(notes),
        details={
            "format": "MEDS",
            "availability": survey.availability(),
            "since_days": since_days,
            "modalities": "from codes" if modalities is None else Path(modalities).name,
        },
    )


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """One data file. Messages give its number, for its name may be a patient's."""

    path: Path
    number: str
    schema: dict[str, pl.DataType]
    sha256: str
    unread: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return f"MEDS data file {self.number} (in order of name)"

    def damaged(self, error: Exception) -> SourceError:
        # the reader's own message may quote cells
        return SourceError(self.subject, "a readable parquet file", type(error).__name__, "copy or extract it again")

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Rows in order, typed: the columns of ``EVENT_SCHEMA`` except ``source``; null where the file lacks one."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        there = [c for c in EVENT_SCHEMA if c in self.schema and c != "source" and c not in self.unread]
        columns = [
            (pl.col(c) if c in there else pl.lit(None)).cast(dtype).alias(c)
            for c, dtype in EVENT_SCHEMA.items()
            if c != "source"
        ]
        try:
            with ParquetFile(self.path) as opened:
                for batch in opened.iter_batches(_ROWS, columns=there):
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)  # a batch is a table
                    yield frame.select(columns)
        except (ArrowException, pl.exceptions.PolarsError, OSError) as error:
            raise self.damaged(error) from None


def _data_files(root: Path) -> list[_File]:
    paths = sorted((root / "data").rglob("*.parquet"))
    if not paths:
        raise SourceError(
            f"MEDS data set '{root}'", "data/**/*.parquet", "no such file", "give the folder that holds 'data'"
        )
    return [_opened(path, f"{i} of {len(paths)}") for i, path in enumerate(paths, 1)]


def _opened(path: Path, number: str) -> _File:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
        schema = dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _File(path, number, {}, "").damaged(error) from None
    _check_columns(_File(path, number, schema, ""))
    # extension columns, free to hold anything
    unread = tuple(c for c in ("hadm_id", "stay_id") if c in schema and not schema[c].is_integer())
    return _File(path, number, schema, digest.hexdigest(), unread)


def _check_columns(file: _File) -> None:
    if "subject_id" not in file.schema and any(column in file.schema for column in _OLDER):
        raise SourceError(
            file.subject,
            "MEDS 0.4: one row per event with subject_id",
            "a table of MEDS 0.3 or older",
            "extract it again with a current release of its ETL",
        )
    for column, fits, words in _FORMS:
        if column not in file.schema:
            if column in ("subject_id", "time", "code"):
                raise SourceError(file.subject, f"a column '{column}'", "none", "give a MEDS 0.4 data set")
        elif not fits(file.schema[column]):
            raise SourceError(
                f"{file.subject}, column '{column}'", words, str(file.schema[column]), "correct the data set's ETL"
            )


def _is_time(dtype: pl.DataType) -> bool:
    return dtype == pl.Date() or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


_FORMS: Final = (
    ("subject_id", lambda d: d.is_integer(), "integers"),
    ("time", lambda d: _is_time(d) or d == pl.Null(), "times without a zone"),
    ("code", _is_text, "strings"),
    ("numeric_value", lambda d: d.is_numeric() or d == pl.Null(), "numbers"),
    ("text_value", lambda d: _is_text(d) or d == pl.Null(), "strings"),
    ("available_time", lambda d: _is_time(d) or d == pl.Null(), "times without a zone"),
)


def _about(root: Path) -> dict[str, Any]:
    path = root / "metadata" / "dataset.json"
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError("metadata/dataset.json", "JSON", type(error).__name__, "correct or delete it") from None
    return about if isinstance(about, dict) else {}


# --- first reading: check and count -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Survey:
    """What the first reading found.

    Attributes:
        subjects: ``subject_id`` in ascending order, ``first`` (earliest time), ``birth``, ``death``, ``sex``,
            ``static`` (events without a time).
        codes: See ``meds_rules.automatic_rules``.
        counts: Reason → events.
    """

    subjects: pl.DataFrame
    codes: pl.DataFrame
    counts: Counter[str]

    def availability(self) -> str:
        if self.counts["unknown"] == self.counts["timed"]:
            return "time only"
        return "partly time" if self.counts["unknown"] else "available_time"

    def notes(self, files: list[_File]) -> list[str]:
        """Warnings."""
        notes = []
        if self.availability() == "time only":
            notes.append(
                "no available_time: every event counts as known at its own time; results and diagnoses may bear times"
                " before anyone knew them"
            )
        elif self.counts["unknown"]:
            notes.append(f"available_time is missing for {counted(self.counts['unknown'])} events: their time is taken")
        lost = int(self.subjects.filter(pl.col("first").is_null())["static"].sum())
        for count, words in (
            (self.counts["early"], "events are available before they happen: taken as known when they happen"),
            (self.counts["infinite"], "numeric values are no finite number: taken as missing"),
            (lost, "events dropped: static, of subjects without any time"),
        ):
            if count:
                notes.append(f"{counted(count)} {words}")
        for column in ("hadm_id", "stay_id"):
            others = sum(column in file.unread for file in files)
            if others:
                notes.append(f"column '{column}' holds no integers in {others} of {len(files)} files: not read there")
        return notes


def _survey(files: list[_File]) -> _Survey:
    """Read everything once.

    Raises:
        SourceError: A null where none may be, or a broken promise about the order of rows.
    """
    subjects, codes, pairs = [], [], []
    counts: Counter[str] = Counter()
    order = _Order()
    for file in files:
        order.open(file)
        for block in file.blocks():
            if block.is_empty():
                continue
            for column in ("subject_id", "code"):
                if nulls := block[column].null_count():
                    raise SourceError(
                        f"{file.subject}, column '{column}'", "no null", counted(nulls), "correct the data set's ETL"
                    )
            pairs.append(order.check(block))
            counts += _counts(block)
            subjects.append(_subjects_of(block))
            codes.append(_codes_of(block))
    if not subjects:
        raise SourceError("MEDS data set", "events", "none", "check the folder")
    return _Survey(_merged_subjects(subjects), _merged_codes(codes, pairs), counts)


def _counts(block: pl.DataFrame) -> Counter[str]:
    time, known = pl.col("time"), pl.col("available_time")
    sums = block.select(
        timed=time.count(),
        unknown=(known.is_null() & time.is_not_null()).sum(),
        early=(known < time).sum(),
        infinite=(~pl.col("numeric_value").is_finite()).sum(),
    )
    return Counter({reason: int(count) for reason, count in sums.row(0, named=True).items()})


def _subjects_of(block: pl.DataFrame) -> pl.DataFrame:
    time, code = pl.col("time"), pl.col("code")
    told = code.str.split("//").list.get(1, null_on_oob=True)
    return block.group_by("subject_id").agg(
        first=time.min(),
        birth=time.filter(code == BIRTH).min(),
        death=time.filter(code == DEATH).min(),
        sex=told.filter(group_of(code).is_in(["gender", "sex"])).drop_nulls().min(),
        static=time.is_null().sum(),
    )


def _merged_subjects(parts: list[pl.DataFrame]) -> pl.DataFrame:
    least = pl.col("first", "birth", "death", "sex").min()
    return pl.concat(parts).group_by("subject_id").agg(least, pl.col("static").sum()).sort("subject_id")


def _codes_of(block: pl.DataFrame) -> pl.DataFrame:
    text = pl.col("text_value").str.len_chars()
    return block.group_by("code").agg(
        events=pl.len(),
        numeric=pl.col("numeric_value").is_finite().sum(),
        static=pl.col("time").is_null().sum(),
        texts=text.count(),
        characters=text.sum(),
    )


def _merged_codes(parts: list[pl.DataFrame], pairs: list[pl.DataFrame]) -> pl.DataFrame:
    subjects = pl.concat(pairs).group_by("code").agg(pl.col("subjects").sum())
    return (
        pl.concat(parts)
        .group_by("code")
        .agg(pl.col("events", "numeric", "static", "texts", "characters").cast(pl.Int64).sum())
        .join(subjects.with_columns(pl.col("subjects").cast(pl.Int64)), on="code")
        .select(
            *("code", "events", "subjects", "numeric", "static"),
            group=group_of(pl.col("code")),
            text_length=pl.when(pl.col("texts") > 0).then(pl.col("characters") / pl.col("texts")),
        )
        .sort("code")
    )


class _Order:
    """Rows as MEDS promises them: a subject in one file, in one piece, sorted by time. Remembers how a block ended."""

    def __init__(self) -> None:
        self._earlier: set[int] = set()
        self._here: set[int] = set()

    def open(self, file: _File) -> None:
        """Begin another file."""
        self._file = file
        self._earlier |= self._here
        self._here = set()
        self._last: dict[str, Any] = {"subject_id": None, "time": None}
        self._codes: set[str] = set()

    def check(self, block: pl.DataFrame) -> pl.DataFrame:
        """Refuse what is out of order.

        Returns:
            ``code, subjects``: how many subjects have the code whom no earlier block counted for it.
        """
        runs = block["subject_id"].rle().struct.field("value").to_list()
        goes_on = runs[0] == self._last["subject_id"]
        started = runs[1:] if goes_on else runs
        if not self._earlier.isdisjoint(started):
            raise self._broken("each subject in one file", "a subject in several", "merge its events into one file")
        if not self._here.isdisjoint(started) or len(set(runs)) < len(runs):
            raise self._broken(
                "each subject's events in one piece", "others between them", "sort by subject_id and time"
            )
        rows = block.select("subject_id", "time")
        if goes_on:
            rows = pl.concat([pl.DataFrame([self._last], schema=rows.schema), rows])
        times = rows.with_columns(pl.col("time").forward_fill().over("subject_id"))
        before = pl.col("time").shift(1).over("subject_id")
        unsorted = times.select((pl.col("time") < before).sum()).item()
        if unsorted:
            raise self._broken(
                "each subject's events sorted by time",
                f"{counted(unsorted)} out of order",
                "sort by subject_id and time",
            )
        pairs = block.select("subject_id", "code").unique()
        if goes_on:
            old = (pl.col("subject_id") == runs[0]) & pl.col("code").is_in(list(self._codes))
            pairs = pairs.filter(~old)
        codes = set(pairs.filter(subject_id=runs[-1])["code"])
        self._codes = self._codes | codes if goes_on and len(runs) == 1 else codes
        self._here.update(started)
        self._last = times.row(-1, named=True)
        return pairs.group_by("code").agg(subjects=pl.len())

    def _broken(self, expected: str, got: str, remedy: str) -> SourceError:
        return SourceError(self._file.subject, expected, got, remedy)


# --- second reading: copy ---------------------------------------------------------------------------------------------


def _events(file: _File, subjects: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Blocks of ``EVENT_SCHEMA``."""
    firsts = subjects.select("subject_id", "first")
    number = pl.col("numeric_value")
    for block in file.blocks():
        yield (
            block.join(firsts, on="subject_id", how="left", maintain_order="left")
            .with_columns(time=pl.coalesce("time", "first"))
            .drop_nulls("time")
            .with_columns(
                available_time=pl.max_horizontal("time", "available_time"),
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


def _stays(survey: _Survey, labels: Labels, since_days: float | None) -> pl.DataFrame:
    """One row per moment asked about."""
    known = survey.subjects.drop_nulls("first")
    stays = labels.moments().join(known, on="subject_id", how="inner", maintain_order="left")
    if stays.is_empty():
        raise SourceError("labels", "subjects of this data set", "none of them", "give the labels of this data set")
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
        *("since", "death", "sex", "age"),
        age_group=age_group(age),
    )


def _after_death(stays: pl.DataFrame) -> list[str]:
    late = int((stays["death"] < stays["prediction_time"]).sum())
    return [f"{counted(late)} prediction times lie after the subject's death: correct the task's definition"] * bool(
        late
    )

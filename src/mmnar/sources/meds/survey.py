"""The first reading of a MEDS data set: checked, and counted by subject and by code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.meds.files import EventRows
from mmnar.sources.meds.rules import group_of

BIRTH: Final = "MEDS_BIRTH"
DEATH: Final = "MEDS_DEATH"


@dataclass(frozen=True)
class Survey:
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

    def notes(self, files: Sequence[EventRows]) -> list[str]:
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


def survey(files: Sequence[EventRows]) -> Survey:
    """Read everything once.

    Args:
        files: In the order in which they are copied later.

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
    return Survey(_merged_subjects(subjects), _merged_codes(codes, pairs), counts)


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

    def open(self, file: EventRows) -> None:
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

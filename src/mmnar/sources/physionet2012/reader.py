"""Stay files and outcomes of the challenge → rows, stays and rules."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract, FeatureRule, Rule, SeriesRule
from mmnar.sources.reading.ages import age_group
from mmnar.sources.reading.code_tables import code_table

ATTRIBUTES: Final = ("set", "sex", "age_group", "icu_type")
HOURS: Final = 48
"""Hours of record; the question is asked when they are over."""

OUTCOME: Final = "In-hospital_death"
"""Code of the outcome event; its number is 1 for death, 0 for survival."""

_SETS: Final = ("a", "b", "c")
_ADMISSION: Final = datetime(2000, 1, 1)
_HEADER: Final = "Time,Parameter,Value"
_DESCRIPTORS: Final = ("Age", "Gender", "Height", "Weight", "ICUType")
_TEXTS: Final[dict[str, dict[float, str]]] = {
    "Gender": {0: "Female", 1: "Male"},
    "ICUType": {1: "Coronary Care", 2: "Cardiac Surgery Recovery", 3: "Medical", 4: "Surgical"},
}
_FILES_PER_BLOCK: Final = 500
_STAYS_PER_PART: Final = 1000


def read_physionet2012(root: str | Path) -> Extract:
    """Read the challenge's sets into one extract.

    Memory grows with the rows, about 13 bytes each (40 MB for sets a and b); text is held 500 stays at a time, events
    1,000 stays at a time.

    Args:
        root: Folder with ``set-a.tar.gz`` or ``set-a/`` and ``Outcomes-a.txt``; so for b and c. Never written to.

    Returns:
        Events, stays and rules. Rows that cannot be used are counted by reason in ``warnings``.

    Raises:
        SourceError: No set, a set without outcomes, a damaged archive or file, or a RecordID twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"data root '{root}'", "a folder", "none", "give the folder with the challenge's sets")
    found = {letter: path for letter in _SETS if (path := _set(root, letter))}
    if not found:
        raise SourceError(
            f"data root '{root}'", "set-a.tar.gz or a folder set-a (b, c)", "none of them", "check the data root"
        )
    outcomes = pl.concat([_outcomes(root, letter) for letter in found])
    reader = _Reader()
    blocks = [block for letter, path in found.items() for block in reader.blocks(letter, path)]
    rows = pl.concat(blocks)
    stays = _stays(reader, rows, outcomes)
    notes = [
        "entry times are not told by the challenge: every value counts as known at the time it is charted",
        *reader.notes,
        *_unmatched(stays, outcomes),
    ]
    return Extract(
        name="physionet2012",
        version="1.0.0",
        events=ChallengeEvents(rows),
        stays=stays.select("subject_id", "hadm_id", "stay_id", "intime", "outtime", *ATTRIBUTES),
        rules=_rules(),
        attributes=ATTRIBUTES,
        fingerprint=reader.fingerprint(outcomes),
        warnings=tuple(notes),
        details={"sets": list(found)},
        outcomes=ChallengeEvents(_outcome_rows(stays)),
    )


@dataclass(frozen=True)
class ChallengeEvents:
    """Rows in a compact form, made events 1,000 stays at a time (``EventSource``).

    Args:
        rows: ``record`` (int32), ``minute`` since admission (int16), ``parameter`` (an enum), ``value`` (float32).
    """

    rows: pl.DataFrame

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Events with the samples they belong to."""
        for block in samples.iter_slices(_STAYS_PER_PART):
            stays = block.select(pl.col("stay_id").cast(pl.Int32)).unique()
            yield Events(_events(self.rows.join(stays, left_on="record", right_on="stay_id", how="semi"))), block


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    at = pl.lit(_ADMISSION).cast(pl.Datetime("us")) + pl.duration(minutes="minute", time_unit="us")
    record, parameter = pl.col("record").cast(pl.Int64), pl.col("parameter")
    text = pl.lit(None, pl.String)
    for name, words in _TEXTS.items():
        of = pl.col("value").cast(pl.Float64).replace_strict(words, default="other", return_dtype=pl.String)
        text = pl.when(parameter == name).then(of).otherwise(text)
    return rows.select(
        subject_id=record,
        hadm_id=record,
        stay_id=record,
        time=at,
        available_time=at,
        code=parameter.cast(pl.String),
        numeric_value="value",
        text_value=text,
        source=pl.when(parameter == OUTCOME).then(pl.lit("outcomes")).otherwise(pl.lit("stays")),
    ).select(*EVENT_SCHEMA)


# --- files ------------------------------------------------------------------------------------------------------------


def _set(root: Path, letter: str) -> Path | None:
    """The set's folder, or else its archive."""
    for name in (f"set-{letter}", f"set-{letter}.tar.gz", f"set-{letter}.tar"):
        if (root / name).exists():
            return root / name
    return None


def _damaged(path: Path, fact: str) -> SourceError:
    return SourceError(f"'{path.name}'", "a whole, readable set of stays", fact, "download it again")


def _stay_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each stay's file, in no particular order."""
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.glob("*.txt")))
        return
    # tarfile takes the end of a cut-off gzip for the end of the archive; gzip itself does not
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            with tarfile.open(fileobj=handle, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.name.endswith(".txt") else None
                    if content is not None:
                        yield Path(member.name).name, content.read()
            while handle.read(1 << 20):  # the checksum stands at the very end
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"a truncated or corrupt archive ({type(error).__name__})") from None


class _Reader:
    """Stay files → rows; remembers which stays there were, what was dropped and why."""

    def __init__(self) -> None:
        self.sets: dict[int, str] = {}
        self._digests: list[bytes] = []
        self._dropped: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped or put right, one line per reason."""
        return (
            *(f"{counted(n)} rows dropped: {reason}" for reason, n in self._dropped.items() if n),
            *(f"{counted(n)} values put right: {reason}" for reason, n in self._repaired.items() if n),
        )

    def fingerprint(self, outcomes: pl.DataFrame) -> str:
        """Hash of every file read, the same for an archive and its unpacked folder."""
        parts = [*sorted(self._digests), outcomes.sort("record").write_csv().encode()]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def blocks(self, letter: str, path: Path) -> Iterator[pl.DataFrame]:
        """Rows of 500 stays at a time.

        Raises:
            SourceError: A damaged archive or file, no stay at all, or a RecordID that was there before.
        """
        stay_files = _stay_files(path)
        batch = list(islice(stay_files, _FILES_PER_BLOCK))
        if not batch:
            raise _damaged(path, "no stay in it")
        while batch:
            yield self._rows(letter, path, batch)
            batch = list(islice(stay_files, _FILES_PER_BLOCK))

    def _rows(self, letter: str, path: Path, batch: list[tuple[str, bytes]]) -> pl.DataFrame:
        """``record, minute, parameter, value`` of some stays."""
        records, texts = [], []
        for name, content in batch:
            records.append(self._admit(letter, path, name))
            texts.append(_text(path, content))
            self._digests.append(hashlib.sha256(f"{letter}/{name}\n".encode() + content).digest())
        lines = (
            pl.DataFrame({"record": pl.Series(records, dtype=pl.Int32), "line": texts})
            .with_columns(pl.col("line").str.split("\n").list.slice(1))
            .explode("line", empty_as_null=False)
            .with_columns(pl.col("line").str.strip_chars())
            .filter(pl.col("line") != "")
        )
        frame = self._own_record(path, self._parsed(lines))
        frame = self._keep(frame, pl.col("name").is_in(_parameters()), "a parameter that the challenge does not name")
        # the challenge's way to say that a descriptor is not known
        frame = frame.filter(~(pl.col("name").is_in(_DESCRIPTORS) & (pl.col("value") == -1)))
        frame = self._keep(frame, pl.struct(pl.all()).is_first_distinct(), "a repeat of another of its stay")
        return self._repair(frame).select(
            "record",
            pl.col("minute").cast(pl.Int16),
            parameter=pl.col("name").cast(_ENUM),
            value=pl.col("value").cast(pl.Float32),
        )

    def _parsed(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Lines → ``record, minute, name, value``; a line that cannot be read is dropped and counted."""
        cells = pl.col("line").str.split(",")
        lines = self._keep(lines, cells.list.len() == 3, f"not of the form {_HEADER}")
        clock = cells.list.get(0).str.extract_groups(r"^\s*(\d{2,3}):([0-5]\d)\s*$")
        frame = lines.select(
            "record",
            minute=clock.struct[0].cast(pl.Int32) * 60 + clock.struct[1].cast(pl.Int32),
            name=cells.list.get(1).str.strip_chars(),
            value=cells.list.get(2).str.strip_chars().cast(pl.Float64, strict=False),
        )
        frame = self._keep(frame, pl.col("minute").is_not_null(), "a time that is not HH:MM")
        frame = self._keep(frame, pl.col("minute") <= HOURS * 60, f"a time after {HOURS} h")
        return self._keep(frame, pl.col("value").is_finite(), "a value that is no number")

    def _admit(self, letter: str, path: Path, name: str) -> int:
        digits = name.removesuffix(".txt")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
            raise _damaged(path, "a file whose name is not a RecordID")
        record = int(digits)
        if record in self.sets:
            raise SourceError(
                f"'{path.name}'", "each RecordID once, in one set only", "one that was there before", "keep one copy"
            )
        self.sets[record] = letter
        return record

    def _keep(self, frame: pl.DataFrame, good: pl.Expr, reason: str) -> pl.DataFrame:
        kept = frame.filter(good.fill_null(False))
        self._dropped[reason] += frame.height - kept.height
        return kept

    def _own_record(self, path: Path, frame: pl.DataFrame) -> pl.DataFrame:
        """Refuse files that hold another stay's record than their name says."""
        named = pl.col("name") == "RecordID"
        wrong = frame.filter(named & (pl.col("value") != pl.col("record")))
        if wrong.height:
            fact = f"{counted(wrong.height)} files of another record"
            raise SourceError(f"'{path.name}'", "files named by their RecordID", fact, "download it again")
        return frame.filter(~named)

    def _repair(self, frame: pl.DataFrame) -> pl.DataFrame:
        name, value = pl.col("name"), pl.col("value")
        for bad, right, reason in (
            ((name == "pH") & value.is_between(600, 800), value / 100, "a pH without its point"),
            ((name == "Height") & value.is_between(300, 500), value / 2.54, "a height in cm taken for inches"),
        ):
            self._repaired[reason] += frame.filter(bad).height
            frame = frame.with_columns(value=pl.when(bad).then(right).otherwise(value))
        return frame


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _damaged(path, "a stay's file that is no text") from None
    if text.partition("\n")[0].strip() != _HEADER:
        raise _damaged(path, f"a stay's file that does not begin with {_HEADER}")
    return text


def _outcomes(root: Path, letter: str) -> pl.DataFrame:
    """``record`` and ``death`` (null = not told) of one set."""
    path = root / f"Outcomes-{letter}.txt"
    if not path.is_file():
        raise SourceError(
            f"'{path.name}'", f"the outcomes of set {letter}", "no such file", "download it beside the set"
        )
    try:
        raw = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # the reader's own message quotes cells
        raise _damaged(path, f"one that cannot be parsed ({type(error).__name__})") from None
    raw = raw.rename({name: name.strip() for name in raw.columns})
    for column in ("RecordID", OUTCOME):
        if column not in raw.columns:
            raise SourceError(f"'{path.name}'", f"a column '{column}'", "none of that name", "download it again")
    record = pl.col("RecordID").str.strip_chars().cast(pl.Int32, strict=False)
    death = pl.col(OUTCOME).str.strip_chars().cast(pl.Int8, strict=False)
    frame = raw.select(record=record, death=death)
    bad = frame.filter(pl.col("record").is_null() | ~pl.col("death").is_in([-1, 0, 1]).fill_null(False)).height
    repeated = frame.height - frame["record"].n_unique()
    if bad or repeated:
        raise SourceError(
            f"'{path.name}'",
            "each RecordID once, with a death of 0 or 1 (-1: not told)",
            f"{counted(bad)} other rows, {counted(repeated)} repeats",
            "download it again",
        )
    return frame.with_columns(death=pl.when(pl.col("death") >= 0).then("death"))


# --- stays and rules --------------------------------------------------------------------------------------------------


def _stays(reader: _Reader, rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row per stay, those without any row included."""
    described = (
        rows.filter(pl.col("parameter").is_in(["Age", "Gender", "ICUType"]))
        .with_columns(pl.col("parameter").cast(pl.String))
        .group_by("record", "parameter")
        .agg(pl.col("value").last().cast(pl.Float64))
    )
    frame = pl.DataFrame(
        {"record": list(reader.sets), "set": list(reader.sets.values())}, {"record": pl.Int32, "set": pl.String}
    )
    for name in ("Age", "Gender", "ICUType"):
        of = described.filter(parameter=name).select("record", pl.col("value").alias(name))
        frame = frame.join(of, on="record", how="left")
    identifier = pl.col("record").cast(pl.Int64)
    age = pl.col("Age")
    return (
        frame.join(outcomes, on="record", how="left")
        .with_columns(
            subject_id=identifier,
            hadm_id=identifier,
            stay_id=identifier,
            intime=pl.lit(_ADMISSION).cast(pl.Datetime("us")),
            outtime=pl.lit(None, pl.Datetime("us")),
            sex=pl.col("Gender").replace_strict(_TEXTS["Gender"], default=None, return_dtype=pl.String),
            icu_type=pl.col("ICUType").replace_strict(_TEXTS["ICUType"], default=None, return_dtype=pl.String),
            age_group=age_group(age),
        )
        .sort("record")
    )


def _outcome_rows(stays: pl.DataFrame) -> pl.DataFrame:
    told = stays.filter(pl.col("death").is_not_null())
    return told.select(
        "record",
        minute=pl.lit(HOURS * 60 + 1, pl.Int16),
        parameter=pl.lit(OUTCOME, _ENUM),
        value=pl.col("death").cast(pl.Float32),
    )


def _unmatched(stays: pl.DataFrame, outcomes: pl.DataFrame) -> list[str]:
    lost = outcomes.join(stays, on="record", how="anti").height
    unknown = stays["death"].null_count()
    return [f"{counted(lost)} rows of outcomes dropped: no such stay"] * (lost > 0) + [
        f"{counted(unknown)} stays without an outcome: in no evaluation"
    ] * (unknown > 0)


def _parameters() -> list[str]:
    return list(dict.fromkeys(row["code"] for row in code_table("physionet2012")))


_ENUM: Final = pl.Enum([*_parameters(), OUTCOME])


def _rules() -> tuple[Rule, ...]:
    return tuple(_rule(row) for row in code_table("physionet2012"))


def _rule(row: dict[str, str]) -> Rule:
    codes, low, high = (row["code"],), *(float(row[c]) if row[c] else None for c in ("low", "high"))
    if row["kind"] == "series":
        return SeriesRule(row["modality"], row["feature"], codes, row["unit"], low, high)
    aggregation: Any = row["aggregation"]
    categories = tuple(c for c in row["categories"].split(";") if c)
    return FeatureRule(row["modality"], row["feature"], codes, aggregation, categories, row["unit"], low, high)

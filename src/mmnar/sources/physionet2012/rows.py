"""Stays' files → rows; what was dropped or put right is counted by reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.physionet2012.codes import DESCRIPTORS, HOURS, PARAMETER, parameters
from mmnar.sources.physionet2012.files import HEADER, ChallengeFolder, damaged, text_of

_FILES_PER_BLOCK: Final = 500
_COPY: Final = "copies of another file of the set"


class StayReader:
    """Stays' files → rows; remembers which stays there were.

    Args:
        folder: Where they lie.

    Attributes:
        sets: RecordID → letter of its set.
    """

    def __init__(self, folder: ChallengeFolder) -> None:
        self._folder = folder
        self.sets: dict[int, str] = {}
        self._digests: dict[int, bytes] = {}
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
        parts = [*sorted(self._digests.values()), outcomes.sort("record").write_csv().encode()]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def blocks(self, letter: str) -> Iterator[pl.DataFrame]:
        """``record, minute, parameter, value`` of 500 stays at a time.

        Raises:
            SourceError: A damaged archive or file, no stay at all, or a RecordID that was there before.
        """
        stays = (stay for stay in self._folder.stay_files(letter) if self._is_new(letter, *stay))
        batch = list(islice(stays, _FILES_PER_BLOCK))
        if not batch:
            place = self._folder.sets[letter].name
            raise SourceError(f"'{place}'", "stays, RecordID.txt each", "no stay in it", "give it as distributed")
        while batch:
            yield self._rows(letter, batch)
            batch = list(islice(stays, _FILES_PER_BLOCK))

    def _is_new(self, letter: str, record: int, content: bytes) -> bool:
        """Remember a stay. False for a copy of one that was there, as of a folder within the folder."""
        digest = hashlib.sha256(f"{letter}/{record}.txt\n".encode() + content).digest()
        if record not in self.sets:
            self.sets[record], self._digests[record] = letter, digest
            return True
        place = self._folder.sets[letter]
        if self._digests[record] != digest:
            raise SourceError(
                f"'{place.name}'", "each RecordID once, in one set only", "one that was there before", "keep one copy"
            )
        self._folder.pass_over(place, _COPY)
        return False

    def _rows(self, letter: str, batch: list[tuple[int, bytes]]) -> pl.DataFrame:
        """``record, minute, parameter, value`` of some stays."""
        path = self._folder.sets[letter]
        lines = (
            pl.DataFrame(
                {
                    "record": pl.Series([record for record, _ in batch], dtype=pl.Int32),
                    "line": [_body(text_of(path.name, content), path.name) for _, content in batch],
                }
            )
            .with_columns(pl.col("line").str.split("\n"))
            .explode("line", empty_as_null=False)
            .with_columns(pl.col("line").str.strip_chars())
            .filter(pl.col("line") != "")
        )
        frame = _own_record(path.name, self._parsed(lines))
        frame = self._keep(frame, pl.col("name").is_in(parameters()), "a parameter that the challenge does not name")
        # the challenge's way to say that a descriptor is not known
        frame = frame.filter(~(pl.col("name").is_in(DESCRIPTORS) & (pl.col("value") == -1)))
        frame = self._keep(frame, pl.struct(pl.all()).is_first_distinct(), "a repeat of another of its stay")
        return self._repair(frame).select(
            "record",
            pl.col("minute").cast(pl.Int16),
            parameter=pl.col("name").cast(PARAMETER),
            value=pl.col("value").cast(pl.Float32),
        )

    def _parsed(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Lines → ``record, minute, name, value``; a line that cannot be read is dropped and counted."""
        cells = pl.col("line").str.split(",")
        lines = self._keep(lines, cells.list.len() == 3, f"not of the form {HEADER}")
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

    def _keep(self, frame: pl.DataFrame, good: pl.Expr, reason: str) -> pl.DataFrame:
        kept = frame.filter(good.fill_null(False))
        self._dropped[reason] += frame.height - kept.height
        return kept

    def _repair(self, frame: pl.DataFrame) -> pl.DataFrame:
        name, value = pl.col("name"), pl.col("value")
        for bad, right, reason in (
            ((name == "pH") & value.is_between(600, 800), value / 100, "a pH without its point"),
            ((name == "Height") & value.is_between(300, 500), value / 2.54, "a height in cm taken for inches"),
        ):
            self._repaired[reason] += frame.filter(bad).height
            frame = frame.with_columns(value=pl.when(bad).then(right).otherwise(value))
        return frame


def _body(text: str, place: str) -> str:
    """The lines of a stay's file behind its header."""
    header, _, body = text.partition("\n")
    if not header.strip():
        raise damaged(place, f"an empty stay's file, which does not begin with {HEADER}")
    if "".join(header.split()).lower() != HEADER.lower():
        raise SourceError(
            f"'{place}'",
            f"stays' files with the header {HEADER}",
            "one that does not begin with it",
            "give the set as distributed",
        )
    return body


def _own_record(place: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Refuse files that hold another stay's record than their name says."""
    named = pl.col("name") == "RecordID"
    wrong = frame.filter(named & (pl.col("value") != pl.col("record")))
    if wrong.height:
        fact = f"{counted(wrong.height)} files of another record"
        raise SourceError(f"'{place}'", "files named by their RecordID", fact, "give the set as distributed")
    return frame.filter(~named)

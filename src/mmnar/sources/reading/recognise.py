"""Which releases lie in a folder or below it, how many rows their large tables hold, and what reading them will take.

Nothing is read but names, sizes, headers and the first megabytes of the large tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from isal import isal_zlib

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.sources.reading.raw import DataRoot
from mmnar.sources.reading.shards import DISK_FACTOR

LARGE: Final = 50 * 2**20
"""Bytes on disk from which a table is worth a line of its own."""

DEPTH: Final = 5
"""Folders below the one given that are looked into, as in ``physionet.org/files/mimiciv/3.1``."""

FOLDERS: Final = 5000
"""At most so many of them."""

_PATIENTS: Final = re.compile(r"p\d+|s\d+|set-.*", re.IGNORECASE)
"""Folders of patients, X-ray studies and records, of which there are many thousands."""

_SAMPLE: Final = 4 * 2**20
_READING: Final = 2 * 2**30
"""Bytes of memory that reading in blocks and merging one shard take at most (benchmarks/raw_tables.py)."""


@dataclass(frozen=True)
class Kind:
    """A release as ``mmnar prepare`` knows it.

    Args:
        verb: Of ``mmnar prepare``.
        option: What its folder is given as: ``--root``, or an addition to the root of the same verb.
        title: In words.
        folders: Where its tables lie.
        needed: Tables it cannot do without.
        wanted: Tables that bring features.
    """

    verb: str
    option: str
    title: str
    folders: tuple[str, ...]
    needed: tuple[str, ...]
    wanted: tuple[str, ...] = ()


KINDS: Final = (
    Kind(
        "mimic-iv",
        "--root",
        "MIMIC-IV",
        ("hosp", "icu"),
        ("patients", "admissions", "icustays"),
        (
            *("labevents", "chartevents", "outputevents", "inputevents", "procedureevents"),
            *("prescriptions", "diagnoses_icd", "omr"),
        ),
    ),
    Kind(
        "eicu",
        "--root",
        "eICU",
        ("",),
        ("patient",),
        (
            *("hospital", "apacheapsvar", "apachepredvar", "apachepatientresult", "diagnosis", "admissiondx"),
            *("pasthistory", "medication", "infusiondrug", "treatment", "lab", "vitalaperiodic", "vitalperiodic"),
            *("nursecharting", "respiratorycharting", "respiratorycare", "intakeoutput"),
        ),
    ),
    Kind("mimic-iv", "--notes", "MIMIC-IV-Note", ("note", ""), ("discharge",), ("radiology",)),
    Kind("mimic-iv", "--cxr", "MIMIC-CXR", ("",), ("mimic-cxr-2.0.0-metadata",)),
)

EMBEDDINGS: Final = Kind("mimic-iv", "--embeddings", "released embeddings of MIMIC-CXR", ("files",), ())

FILES: Final = {
    Kind("physionet2012", "--root", "PhysioNet 2012", ("",), ()): "Outcomes-*.txt",
    Kind("meds", "--root", "a MEDS data set", ("data",), ()): "data/**/*.parquet",
}
"""Records that are not tables of known names → the files that give them away."""


@dataclass(frozen=True)
class Table:
    """A table found: bytes on disk, and about how many rows (None where it is parquet or small)."""

    name: str
    size: int
    rows: int | None


@dataclass(frozen=True)
class Records:
    """A folder recognised.

    Args:
        root: Its folder.
        kind: What it is.
        tables: Those it needs and wants that are there.
        absent: Those it wants that are not.
    """

    root: Path
    kind: Kind
    tables: tuple[Table, ...]
    absent: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of its tables on disk."""
        return sum(table.size for table in self.tables)

    @property
    def disk(self) -> int:
        """Bytes of free disk that preparing it needs."""
        return DISK_FACTOR * self.size

    @property
    def memory(self) -> int:
        """Bytes of memory that preparing it needs."""
        return _READING


def recognise(root: Path) -> Records | None:
    """What ``root`` itself holds; None where it is nothing with tables of known names.

    Raises:
        SourceError: Not a folder.
    """
    return next(_kinds(root), None)


def releases(root: Path) -> tuple[Records, ...]:
    """Every release in ``root`` or below it, at most ``DEPTH`` folders down, in order of their paths. Prepared stores
    and folders of single patients are not entered.

    Raises:
        SourceError: Not a folder.
    """
    found: list[Records] = []
    level, seen = [root], 0
    for depth in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level[: FOLDERS - seen]:
            here = list(_kinds(folder))
            found += here
            own = {name for records in here for name in records.kind.folders}
            below += [path for path in _folders(folder) if path.name not in own] if depth < DEPTH else []
        seen, level = seen + len(level), below
    return tuple(sorted(found, key=lambda records: records.root))


def _kinds(root: Path) -> Iterator[Records]:
    """All that one folder is: MIMIC-IV may have its notes beside its tables."""
    if not root.is_dir():
        raise SourceError(f"data root '{root}'", "a folder", "none", "give the folder with the raw tables")
    if _has_embeddings(root):
        yield Records(root, EMBEDDINGS, (Table("files/p../p../s../*.tfrecord", 0, None),), ())
    for kind, pattern in FILES.items():
        files = [path for path in root.glob(pattern) if path.is_file()]
        if files and not (kind.verb == "meds" and _is_other(files[0])):
            size = sum(path.stat().st_size for path in (*files, *root.glob("set-*.tar.gz")))
            yield Records(root, kind, (Table(f"{len(files)} files {pattern}", size, None),), ())
    for kind in KINDS:
        data = DataRoot(root, kind.folders)
        if not all(data.has(table) for table in kind.needed):
            continue
        names = (*kind.needed, *kind.wanted)
        found = tuple(Table(name, data.size(name), _rows(data, name)) for name in names if data.has(name))
        yield Records(root, kind, found, tuple(name for name in kind.wanted if not data.has(name)))


def _has_embeddings(root: Path) -> bool:
    """Whether the first few X-ray studies below ``files`` hold embeddings; listing all of them takes minutes."""
    studies = islice((study for group in _inner(root / "files") for who in _inner(group) for study in _inner(who)), 20)
    return any(path.suffix == ".tfrecord" for study in studies for path in study.iterdir())


def _inner(folder: Path) -> Iterator[Path]:
    return (path for path in (folder.iterdir() if folder.is_dir() else ()) if _PATIENTS.fullmatch(path.name))


def _is_other(file: Path) -> bool:
    """Whether it is a table of another kind than MEDS data."""
    try:
        return "code" not in parquet.schema_of(file)
    except parquet.UnreadableError:
        return False


def _folders(folder: Path) -> list[Path]:
    """The folders of a folder that may hold a release; none where it cannot be listed or is a store."""
    try:
        with os.scandir(folder) as entries:
            there = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
    if (folder / "manifest.json").is_file() and any(name.startswith("data-") for name in there):
        return []
    return [folder / name for name in there if not name.startswith(".") and not _PATIENTS.fullmatch(name)]


def _rows(data: DataRoot, table: str) -> int | None:
    """About how many rows a large text table has, from its first megabytes."""
    path, size = data.file(table), data.size(table)
    if size < LARGE or path.name.lower().endswith(".parquet"):
        return None
    with path.open("rb") as handle:
        head = handle.read(_SAMPLE)
    text = isal_zlib.decompressobj(31).decompress(head) if path.name.lower().endswith(".gz") else head
    return round(size / len(head) * text.count(b"\n"))

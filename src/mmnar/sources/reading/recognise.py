"""What a folder of records is, how many rows its large tables hold, and what reading it will take.

Nothing is read but names, sizes, headers and the first megabytes of the large tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isal import isal_zlib

from mmnar.errors import SourceError
from mmnar.sources.reading.raw import DataRoot
from mmnar.sources.reading.shards import DISK_FACTOR

LARGE: Final = 50 * 2**20
"""Bytes on disk from which a table is worth a line of its own."""

_SAMPLE: Final = 4 * 2**20
_READING: Final = 2 * 2**30
"""Bytes of memory that reading in blocks and merging one shard take at most (benchmarks/raw_tables.py)."""


@dataclass(frozen=True)
class Kind:
    """A release as ``mmnar prepare`` knows it.

    Args:
        verb: Of ``mmnar prepare``; "" for folders that come as an addition to another.
        title: In words.
        folders: Where its tables lie.
        needed: Tables it cannot do without.
        wanted: Tables that bring features.
    """

    verb: str
    title: str
    folders: tuple[str, ...]
    needed: tuple[str, ...]
    wanted: tuple[str, ...] = ()


KINDS: Final = (
    Kind(
        "mimic-iv",
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
        "eICU",
        ("",),
        ("patient",),
        (
            *("hospital", "apacheapsvar", "apachepredvar", "apachepatientresult", "diagnosis", "admissiondx"),
            *("pasthistory", "medication", "infusiondrug", "treatment", "lab", "vitalaperiodic", "vitalperiodic"),
            *("nursecharting", "respiratorycharting", "respiratorycare", "intakeoutput"),
        ),
    ),
    Kind("", "MIMIC-IV-Note (give it as --notes)", ("note", ""), ("discharge",), ("radiology",)),
    Kind("", "MIMIC-CXR (give it as --cxr)", ("",), ("mimic-cxr-2.0.0-metadata",)),
)

FILES: Final = {
    Kind("physionet2012", "PhysioNet 2012", ("",), ()): "Outcomes-*.txt",
    Kind("meds", "a MEDS data set", ("data",), ()): "data/**/*.parquet",
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
        kind: What it is.
        tables: Those it needs and wants that are there.
        absent: Those it wants that are not.
    """

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
    """What ``root`` holds; None where it is nothing with tables of known names.

    Raises:
        SourceError: Not a folder.
    """
    if not root.is_dir():
        raise SourceError(f"data root '{root}'", "a folder", "none", "give the folder with the raw tables")
    for kind, pattern in FILES.items():
        files = [path for path in root.glob(pattern) if path.is_file()]
        if files:
            size = sum(path.stat().st_size for path in (*files, *root.glob("set-*.tar.gz")))
            return Records(kind, (Table(f"{len(files)} files {pattern}", size, None),), ())
    for kind in KINDS:
        data = DataRoot(root, kind.folders)
        if not all(data.has(table) for table in kind.needed):
            continue
        names = (*kind.needed, *kind.wanted)
        found = tuple(Table(name, data.size(name), _rows(data, name)) for name in names if data.has(name))
        return Records(kind, found, tuple(name for name in kind.wanted if not data.has(name)))
    return None


def _rows(data: DataRoot, table: str) -> int | None:
    """About how many rows a large text table has, from its first megabytes."""
    path, size = data.file(table), data.size(table)
    if size < LARGE or path.name.lower().endswith(".parquet"):
        return None
    with path.open("rb") as handle:
        head = handle.read(_SAMPLE)
    text = isal_zlib.decompressobj(31).decompress(head) if path.name.lower().endswith(".gz") else head
    return round(size / len(head) * text.count(b"\n"))

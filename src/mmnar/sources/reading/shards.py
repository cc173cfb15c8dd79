"""The event folder: events on disk in shards of subjects, a valid MEDS 0.4 dataset, built in bounded memory.

A build writes the events of each raw table into spill files, then merges them shard by shard. Each file is there
whole or not at all; a killed build goes on with the first table that it had not finished. The manifest is written last:
without it there is no event folder.

Layout: ``data/<n>.parquet`` (a contiguous range of ``subject_id``, sorted by subject and time),
``metadata/codes.parquet``, ``metadata/dataset.json`` (both as MEDS wants them), ``manifest.json`` (files, bounds, what
was dropped).
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import SchemaError, StoreError
from mmnar.files import first_changed, names_below, read_sealed, sha256_of, write_sealed, write_whole
from mmnar.privacy import counted
from mmnar.progress import Pace, say
from mmnar.sources.events import EVENT_SCHEMA, Events, Scope
from mmnar.sources.reading.blocks import ahead
from mmnar.sources.reading.merging import distinct, events_between, starts, write_metadata, write_shard
from mmnar.sources.reading.positions import Positions

SHARD_EVENTS: Final = 1_000_000
"""Events per shard, about; a subject is never divided."""

SPILL_EVENTS: Final = 500_000
"""Events per spill file, about: many small files would have to be opened for each shard."""

DISK_FACTOR: Final = 6
"""Bytes of free disk a build needs per byte of compressed raw tables: spill files, shards, and room to spare."""

_FOLDER_VERSION: Final = 2
_BUILDING: Final = ".building"
_MANIFEST: Final = "manifest.json"
_UNKNOWN: Final = "events dropped: a subject that is not in the cohort's tables"
REPEATS: Final = "events dropped: repeats of another"


class EventWriter:
    """Builds an event folder; the order of calls is ``table`` for each raw table, then ``finish``.

    Args:
        folder: Where the event folder is built; made if need be. Spill files of a killed build are taken up again.
        subjects: Sorted distinct ``subject_id``; events of others are dropped and counted.
        scope: Whose events a sample may read.
        shards: How many; None = as many as keep a shard near ``SHARD_EVENTS``.
        raw_bytes: Size of the raw tables on disk, from which the disk needed is estimated; 0 = not checked.

    Raises:
        SchemaError: ``subjects`` are not sorted and distinct.
        StoreError: The folder holds something else or cannot be written, or the disk is too small.
    """

    def __init__(
        self,
        folder: Path,
        subjects: pl.Series,
        scope: Scope,
        shards: int | None = None,
        raw_bytes: int = 0,
    ) -> None:
        self._folder, self._scope, self._shards = Path(folder), scope, shards
        self._subjects = subjects.cast(pl.Int64).to_numpy()
        if subjects.null_count() or (np.diff(self._subjects) <= 0).any():
            raise SchemaError("subjects", "sorted and distinct", "another order or repeats", "sort them in the source")
        self._spill = self._folder / _BUILDING
        self._tables: dict[str, dict[str, Any]] = {}
        self._finished: dict[str, Any] | None = None
        key = hashlib.sha256(self._subjects.tobytes()).hexdigest()
        self._build = {"version": _FOLDER_VERSION, "mmnar": version("mmnar"), "subjects": key, "scope": scope}
        with _writing(self._folder):
            self._begin(raw_bytes)

    def _begin(self, raw_bytes: int) -> None:
        if (self._folder / _MANIFEST).is_file():
            self._finished = _manifest(self._folder)
            if self._finished["build"] != self._build:
                raise _other_content(self._folder)
            shutil.rmtree(self._spill, ignore_errors=True)  # of a build killed between its manifest and its end
            return
        if self._folder.exists() and any(p.name not in (_BUILDING, "data", "metadata") for p in self._folder.iterdir()):
            raise StoreError(f"'{self._folder}'", "an empty folder or a begun build", "other files", "choose another")
        begun = self._spill / "build.json"
        if _record(begun) != self._build:
            shutil.rmtree(self._spill, ignore_errors=True)
        self._spill.mkdir(parents=True, exist_ok=True)
        _check_disk(self._folder, raw_bytes)
        write_sealed(begun, self._build)

    @property
    def dropped(self) -> dict[tuple[str, str], int]:
        """(table, reason) → how many events were dropped so far."""
        found = self._finished["dropped"] if self._finished else _dropped(self._tables)
        return {(table, reason): count for table, reason, count in found}

    @property
    def notes(self) -> tuple[str, ...]:
        """``dropped`` in words, small counts hidden."""
        return in_words(self.dropped)

    def table(self, table: str, fingerprint: str, frames: Iterable[pl.DataFrame]) -> None:
        """Write one raw table's events to spill files; nothing is read where an earlier run had finished this table.

        Args:
            table: Its name, distinct among the tables of this folder.
            fingerprint: Changes whenever the events could: identity of the raw file and of the rules that made them.
            frames: Events in ``EVENT_SCHEMA``, in any order.

        Raises:
            SchemaError: A frame has other columns, or a null where none may be.
            StoreError: The disk is full, or the finished folder was built from another table.
        """
        if self._finished:
            if self._finished["tables"].get(table) != fingerprint:
                raise _other_content(self._folder)
            self._tables[table] = {}
            return
        if table in self._tables:
            raise SchemaError(f"table '{table}'", "each table once", "it twice", "join its frames")
        place = self._spill / table
        done = place / "done.json"
        record = _record(done)
        if record.get("fingerprint") == fingerprint and not first_changed(place, record["sha256"]):
            self._tables[table] = record
            say(f"{table}: taken from an earlier run")
            return
        say(f"{table}: reading")
        pace, events = Pace(), 0
        with _writing(self._folder):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        with ThreadPoolExecutor(1) as pool:
            spill = _Spill(place, self._subjects, pool)
            for frame in ahead(iter(frames)):
                with _writing(self._folder):
                    spill.add(table, frame, self._scope)
                events += frame.height
                pace.say(f"{table}: {counted(events)} events so far")
            with _writing(self._folder):
                record = {"fingerprint": fingerprint} | spill.end()
                write_sealed(done, record)
        self._tables[table] = record

    def finish(self, dataset_name: str, dataset_version: str, descriptions: Mapping[str, str]) -> EventFolder:
        """Merge the spill files to shards, write the metadata, remove the spill files.

        Args:
            dataset_name, dataset_version: For ``metadata/dataset.json``.
            descriptions: Code → what it is, for ``metadata/codes.parquet``; codes without one stay without.

        Raises:
            StoreError: The disk is full, or the finished folder was built from other tables.
        """
        if self._finished:
            if set(self._finished["tables"]) != set(self._tables):
                raise _other_content(self._folder)
            return EventFolder.open(self._folder)
        say("putting the events of all tables in order")
        with _writing(self._folder):
            self._merge(dataset_name, dataset_version, descriptions)
            shutil.rmtree(self._spill, ignore_errors=True)
        return EventFolder.open(self._folder)

    def _merge(self, dataset_name: str, dataset_version: str, descriptions: Mapping[str, str]) -> None:
        for name in ("data", "metadata"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
            (self._folder / name).mkdir()
        spilled = [self._spill / t / name for t in self._tables for name in self._tables[t]["files"]]
        counts = np.zeros(len(self._subjects), dtype=np.int64)
        for table in self._tables:
            counts += np.load(self._spill / table / "subjects.npy", allow_pickle=False)
        firsts = starts(self._subjects, counts, self._shards, SHARD_EVENTS)
        repeats: Counter[str] = Counter()
        kept: list[pl.DataFrame] = []
        pace = Pace()
        with ThreadPoolExecutor(1) as pool:
            writing: Future[None] | None = None
            for number, (start, stop) in enumerate(zip(firsts, [*firsts[1:], None], strict=True)):
                pace.say(f"events in order: {number} of {len(firsts)} shards")
                shard, repeated = distinct(events_between(spilled, start if number else None, stop))
                repeats.update(repeated)
                kept.append(shard.group_by("code").len("count").cast({"code": pl.String}))
                if writing:
                    writing.result()
                target = self._folder / "data" / f"{number}.parquet"
                writing = pool.submit(write_whole, target, partial(write_shard, shard))
            if writing:
                writing.result()
        write_metadata(self._folder, kept, descriptions, dataset_name, dataset_version)
        written = [path for name in ("data", "metadata") for path in sorted((self._folder / name).iterdir())]
        manifest = {
            "build": self._build,
            "dataset": [dataset_name, dataset_version],
            "tables": {table: record["fingerprint"] for table, record in self._tables.items()},
            "shards": len(firsts),
            "events": int(sum(int(frame["count"].sum()) for frame in kept)),
            "sha256": {p.relative_to(self._folder).as_posix(): sha256_of(p) for p in written},
            "dropped": [*_dropped(self._tables), *((t, REPEATS, n) for t, n in sorted(repeats.items()))],
        }
        write_sealed(self._folder / _MANIFEST, manifest)


class _Spill:
    """The spill files of one table, each sorted by subject; one is written by ``pool`` while the next fills."""

    def __init__(self, place: Path, subjects: NDArray[np.int64], pool: ThreadPoolExecutor) -> None:
        self._place, self._subjects, self._pool = place, Positions(pl.Series(subjects)), pool
        self._counts = np.zeros(len(subjects), dtype=np.int64)
        self._files: list[Path] = []
        self._writing: Future[None] | None = None
        self._unknown: Counter[str] = Counter()
        self._waiting: list[pl.DataFrame] = []

    def add(self, table: str, frame: pl.DataFrame, scope: Scope) -> None:
        Events(frame, scope)
        place = self._subjects.of(frame["subject_id"])
        known = place >= 0
        if not known.all():
            self._unknown[table] += int((~known).sum())
            frame, place = frame.filter(pl.Series(known)), place[known]
        self._counts += np.bincount(place, minlength=len(self._counts))
        self._waiting.append(frame)
        if sum(f.height for f in self._waiting) >= SPILL_EVENTS:
            self._write()

    def _write(self) -> None:
        frame = pl.concat(self._waiting)
        self._waiting = []
        if frame.is_empty():
            return
        self._written()
        self._files.append(self._place / f"{len(self._files)}.arrow")
        self._writing = self._pool.submit(_write_spill, frame, self._files[-1])

    def _written(self) -> None:
        if self._writing:
            self._writing.result()

    def end(self) -> dict[str, Any]:
        if self._waiting:
            self._write()
        self._written()
        write_whole(self._place / "subjects.npy", self._save_counts)
        dropped = [(table, _UNKNOWN, count) for table, count in self._unknown.items()]
        hashes = {path.name: sha256_of(path) for path in [*self._files, self._place / "subjects.npy"]}
        return {"files": [path.name for path in self._files], "sha256": hashes, "dropped": dropped}

    def _save_counts(self, path: Path) -> None:
        with path.open("wb") as handle:
            np.save(handle, self._counts, allow_pickle=False)


def _write_spill(frame: pl.DataFrame, target: Path) -> None:
    ordered = frame if frame["subject_id"].is_sorted() else frame.sort("subject_id")
    ordered = ordered.with_columns(pl.col("code", "source").cast(pl.Categorical()))
    write_whole(target, partial(ordered.write_ipc, compression="uncompressed"))


@dataclass(frozen=True)
class EventFolder:
    """A finished event folder; made by ``EventWriter.finish`` or ``EventFolder.open``."""

    path: Path
    scope: Scope
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path, verify: bool = False) -> EventFolder:
        """Open a finished folder.

        Args:
            path: Its place.
            verify: Recompute every hash, whatever is remembered (see ``files.first_changed``).

        Raises:
            StoreError: Unfinished, of another version, or damaged.
        """
        path = Path(path)
        if not (path / _MANIFEST).is_file():
            fact = "an unfinished one" if (path / _BUILDING).is_dir() else "none"
            raise StoreError(f"'{path}'", "a finished event folder", fact, "run `mmnar prepare` again: it goes on")
        manifest = _manifest(path)
        files = manifest["sha256"]
        strange = sorted({f"data/{name}" for name in names_below(path / "data")} - set(files))
        changed = strange[0] if strange else first_changed(path, files, afresh=verify)
        if changed:
            raise _damaged(path, changed)
        scope = manifest["build"]["scope"]
        assert scope in get_args(Scope)
        return cls(path, scope, manifest)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, in words."""
        return in_words({(table, reason): count for table, reason, count in self.manifest["dropped"]})

    def __len__(self) -> int:
        return int(self.manifest["events"])

    def codes(self) -> pl.DataFrame:
        """``code`` and ``count`` of its events, by code."""
        return pl.read_parquet(self.path / "metadata" / "codes.parquet", columns=["code", "count"])

    def parts(
        self, samples: pl.DataFrame, codes: frozenset[str] | None = None
    ) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Shard by shard, the next one read while the caller works on one; shards without a sample are not read.

        Args:
            samples: Sorted by ``subject_id``.
            codes: Read these codes only; None = all.

        Raises:
            SchemaError: The samples are in another order.
            StoreError: A shard cannot be read.
        """
        if not samples["subject_id"].is_sorted():
            raise SchemaError("samples", "the order of subject_id", "another order", "sort the cohort")
        edges = [samples.height]
        for first in reversed(self._first_subjects()[1:]):
            # nobody is read from an empty shard: what samples it has no events of are read with the one before it
            edges.append(edges[-1] if first is None else int(samples["subject_id"].search_sorted(first)))
        edges = [*edges, 0][::-1]
        wanted = ((n, samples[first:last]) for n, (first, last) in enumerate(pairwise(edges)) if last > first)
        yield from ahead((Events(self._shard(n, codes), self.scope), of_shard) for n, of_shard in wanted)

    def _first_subjects(self) -> list[int | None]:
        """The first subject of each shard, None of an empty one: known to the shards alone, whose manifest may be shown
        to others.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = []
        try:
            for number in range(self.manifest["shards"]):
                shard = pq.ParquetFile(self.path / "data" / f"{number}.parquet")
                place = shard.schema_arrow.get_field_index("subject_id")
                groups = shard.metadata.num_row_groups if shard.metadata.num_rows else 0
                found.append(int(shard.metadata.row_group(0).column(place).statistics.min) if groups else None)
        except (pa.ArrowException, OSError, AttributeError):
            raise _damaged(self.path, f"data/{len(found)}.parquet") from None
        return found

    def _shard(self, number: int, codes: frozenset[str] | None) -> pl.DataFrame:
        shard = pl.scan_parquet(self.path / "data" / f"{number}.parquet").select(*EVENT_SCHEMA)
        if codes is not None:
            shard = shard.filter(pl.col("code").is_in(sorted(codes)))
        try:
            return shard.cast(EVENT_SCHEMA).collect()  # type: ignore[arg-type]
        except (pl.exceptions.PolarsError, OSError):
            raise _damaged(self.path, f"data/{number}.parquet") from None


# --- files and messages --------------------------------------------------------------------------------


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"writing '{folder}'",
            "room and permission to write",
            error.strerror or type(error).__name__,
            "make room and run the same command again: it goes on with the table that was begun",
        ) from error


def _check_disk(folder: Path, raw_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if raw_bytes * DISK_FACTOR > free:
        raise StoreError(
            f"'{folder}'",
            f"about {raw_bytes * DISK_FACTOR / 2**30:.1f} GiB of free disk",
            f"{free / 2**30:.1f} GiB",
            "make room or choose another --out",
        )


def _record(path: Path) -> dict[str, Any]:
    """What a build noted of itself; nothing where it is not there or damaged, and that part is built again."""
    try:
        return read_sealed(path, "", "")
    except (OSError, StoreError):
        return {}


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_sealed(folder / _MANIFEST, f"event folder '{folder}'", "remove it, prepare again")
    if manifest.get("build", {}).get("version") != _FOLDER_VERSION:
        raise StoreError(f"'{folder}'", f"event folder version {_FOLDER_VERSION}", "another", "prepare it again")
    return manifest


def _damaged(folder: Path, name: str) -> StoreError:
    return StoreError(
        f"event folder '{folder}', {name}",
        "the files that prepare wrote",
        "missing, changed or added ones",
        "remove the folder, prepare again",
    )


def _other_content(folder: Path) -> StoreError:
    return StoreError(
        f"event folder '{folder}'",
        "the same raw tables and options as when it was built",
        "others",
        "remove it or choose another --out",
    )


def _dropped(tables: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    return [(table, reason, count) for record in tables.values() for table, reason, count in record["dropped"]]


def in_words(dropped: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """What was dropped of which table, small counts hidden."""
    return tuple(f"table '{table}': {counted(count)} {reason}" for (table, reason), count in dropped.items() if count)

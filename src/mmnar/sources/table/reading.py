"""The files: the named columns as text, before anything is understood."""

from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path

import polars as pl

from mmnar.errors import SourceError, nearest
from mmnar.sources.reading.raw import SUFFIXES, DataRoot
from mmnar.sources.table.spec import TableSpec


def read_columns(spec: TableSpec, root: Path) -> tuple[pl.DataFrame, tuple[str, ...], str]:
    """The named columns as text, the names of the others, and a fingerprint."""
    wanted = spec.mentioned()
    frames, prints = [], [spec.digest]
    unused: tuple[str, ...] = ()
    for name in spec.files:
        path = root / name
        header = _header(path)
        unknown = [f"'{c}' ({key}; {nearest(c, header)})" for c, key in wanted.items() if c not in header]
        if unknown:
            raise SourceError(
                f"'{path.name}'", "every column of the spec", f"no {', '.join(unknown)}", "correct the spec"
            )
        data = DataRoot(path.parent)
        # the folder's reader knows columns by their lower-case names
        columns: dict[str, pl.DataType] = {c.strip().lower(): pl.String() for c in wanted}
        frame = data.read(_stem(path), columns)
        assert frame is not None  # a required table is there or an error
        frames.append(frame.rename({c.strip().lower(): raw_name(c) for c in wanted}))
        prints.append(data.fingerprint())
        unused = tuple(dict.fromkeys((*unused, *(c for c in header if c not in wanted))))
    frame = pl.concat(frames)
    missing = pl.all().is_in(list(spec.missing))
    frame = frame.with_columns(pl.when(~missing).then(pl.all()))
    return frame, unused, hashlib.sha256("\n".join(prints).encode()).hexdigest()


def raw_name(column: str) -> str:
    # a user's column may be called stay_id or prediction_time as well
    return f"raw:{column}"


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise SourceError(f"file '{path.name}'", " or ".join(SUFFIXES), "another kind", "convert it")


def _header(path: Path) -> list[str]:
    """Column names of a file, each once whatever its letter case."""
    stem = _stem(path).lower()
    if not path.is_file():
        raise SourceError(f"file '{path}'", "a file", "none", "check --root and files: in the spec")
    twins = [f for f in path.parent.iterdir() if f.name.lower() in {stem + suffix for suffix in SUFFIXES}]
    if len(twins) > 1:
        raise SourceError(f"file '{path.name}'", "one file of that stem", f"{len(twins)}", "move the others away")
    try:
        if path.name.lower().endswith(".parquet"):
            names = list(pl.read_parquet_schema(path))
        else:
            opener = gzip.open if path.name.lower().endswith(".gz") else open
            with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
                names = next(csv.reader(handle), [])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"file '{path.name}'", "a header that can be read", type(error).__name__, "copy or convert it again"
        ) from None
    if not names:
        raise SourceError(f"file '{path.name}'", "a header", "an empty file", "copy it again")
    plain = [name.strip().lower() for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        raise SourceError(f"file '{path.name}'", "each column name once", f"{twice} several times", "rename them")
    return names

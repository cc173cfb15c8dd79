"""The files: the named columns as text, before anything is understood."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from isal.isal_zlib import IsalError

from mmnar import parquet
from mmnar.errors import SourceError, nearest
from mmnar.sources.reading.absent import without_absent
from mmnar.sources.reading.packing import FormError, check_text, check_utf8, unpacked
from mmnar.sources.reading.raw import SUFFIXES, DataRoot
from mmnar.sources.table.parquet import as_text, read_typed
from mmnar.sources.table.spec import TableSpec


@dataclass(frozen=True)
class RawTable:
    """The files as text.

    Args:
        frame: The named columns under ``raw_name``, without blanks around words; null = not known.
        absent: Word for "not known" → column → cells that held it.
        unused: Columns that the spec does not name.
        fingerprint: Of the files' content and the spec.
    """

    frame: pl.DataFrame
    absent: dict[str, dict[str, int]]
    unused: tuple[str, ...]
    fingerprint: str


def read_columns(spec: TableSpec, root: Path) -> RawTable:
    """The named columns of all files, but for those left out on purpose.

    Raises:
        SourceError: A file is absent or damaged, a column is not there, or of a kind that is no text, number or time.
    """
    named = spec.mentioned()
    wanted = [column for column, key in named.items() if key != "ignore"]
    exact = {spec.subject, spec.sample}
    frames, prints = [], [spec.digest]
    unused: tuple[str, ...] = ()
    for name in spec.files:
        path = root / name
        header = _header(path)
        _refuse_unknown(spec, header, f"'{path.name}'")
        frame, fingerprint = _read(path, {c: header[c] for c in wanted}, exact)
        frames.append(frame)
        prints.append(fingerprint)
        unused = tuple(dict.fromkeys((*unused, *(c for c in header if c not in named))))
    return _known(spec, wanted, pl.concat(frames), unused, hashlib.sha256("\n".join(prints).encode()).hexdigest())


def given_columns(spec: TableSpec, rows: pl.DataFrame) -> RawTable:
    """The named columns of rows in memory.

    Args:
        rows: Text by header; null = not measured.
    """
    wanted = [column for column, key in spec.mentioned().items() if key != "ignore"]
    text = rows.select(pl.col(column).alias(raw_name(column)) for column in wanted)
    unused = tuple(name for name in rows.columns if name not in wanted)
    return _known(spec, wanted, text, unused, "in memory")


def frame_columns(spec: TableSpec, frame: pl.DataFrame) -> RawTable:
    """The same of a typed frame in memory, as if it were read from a file.

    Raises:
        SourceError: A column is not there, twice, or of a kind that is no text, number or time.
    """
    header = _by_name(frame.columns, "the frame")
    _refuse_unknown(spec, header, "the frame")
    wanted = [column for column, key in spec.mentioned().items() if key != "ignore"]
    exact = {spec.subject, spec.sample}
    text = pl.DataFrame([as_text(frame[header[c]], c in exact).alias(raw_name(c)) for c in wanted])
    content = hashlib.sha256("\n".join((spec.digest, text.write_csv())).encode()).hexdigest()
    return _known(spec, wanted, text, tuple(c for c in header if c not in spec.mentioned()), content)


def _refuse_unknown(spec: TableSpec, header: Collection[str], what: str) -> None:
    """
    Raises:
        SourceError: A column that the spec names is not there.
    """
    unknown = [f"'{c}' ({key}; {nearest(c, header)})" for c, key in spec.mentioned().items() if c not in header]
    if unknown:
        raise SourceError(what, "every column of the spec", f"no {', '.join(unknown)}", "correct the spec")


def _known(
    spec: TableSpec, wanted: list[str], text: pl.DataFrame, unused: tuple[str, ...], fingerprint: str
) -> RawTable:
    """Without the words that mean "not known"."""
    absent: dict[str, dict[str, int]] = {}
    columns = []
    for column in wanted:
        cells, found = without_absent(text[raw_name(column)], spec.absent_in(column))
        columns.append(cells)
        for word, n in found.items():
            absent.setdefault(word, {})[column] = n
    return RawTable(pl.DataFrame(columns), absent, unused, fingerprint)


def columns_as_text(path: Path, needed: Sequence[str], also: Sequence[str] = ()) -> pl.DataFrame:
    """Some columns of one file (.csv, .csv.gz, .parquet) as text, without blanks around words; null = absent.

    Args:
        needed: Columns that it must have.
        also: Columns that are read where they are there.

    Raises:
        SourceError: A file or column is absent or damaged, or of a kind that is no text, number or time.
    """
    header = _header(path)
    unknown = [f"'{name}' ({nearest(name, header)})" for name in needed if name not in header]
    if unknown:
        raise SourceError(f"'{path.name}'", ", ".join(needed), f"no {', '.join(unknown)}", "rename the columns")
    wanted = [name for name in (*needed, *also) if name in header]
    frame, _ = _read(path, {name: header[name] for name in wanted}, set(wanted))
    return pl.DataFrame([without_absent(frame[raw_name(name)])[0].alias(name) for name in wanted])


def headers(spec: TableSpec, root: Path) -> set[str]:
    """The columns that all files of a spec have.

    Raises:
        SourceError: A file is absent, or has no header that can be read.
    """
    return set.intersection(*(set(_header(root / name)) for name in spec.files))


def _read(path: Path, columns: dict[str, str], exact: set[str]) -> tuple[pl.DataFrame, str]:
    """Columns of one file as text under ``raw_name``, and the file's fingerprint."""
    data, stem = DataRoot(path.parent, even=True), _stem(path)
    if path.name.lower().endswith(".parquet"):
        data.identity(stem)
        typed = read_typed(path, columns.values())
        text = [as_text(typed[header], name in exact).alias(raw_name(name)) for name, header in columns.items()]
        return pl.DataFrame(text), data.fingerprint()
    # the folder's reader knows columns by their lower-case names
    frame = data.read(stem, dict.fromkeys((c.lower() for c in columns), pl.String()))
    assert frame is not None  # a required table is there or an error
    return frame.rename({c.lower(): raw_name(c) for c in columns}), data.fingerprint()


def raw_name(column: str) -> str:
    # a user's column may be called stay_id or prediction_time as well
    return f"raw:{column}"


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise SourceError(f"file '{path.name}'", " or ".join(SUFFIXES), "another kind", "convert it")


def _csv_names(path: Path) -> list[str]:
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(1 << 16), b"")
        first = next(unpacked(pieces, path.name.lower().endswith(".gz")), b"")
    check_text(first)
    line = first.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    check_utf8(line)
    return next(csv.reader([line.decode().strip()]), [])


def _header(path: Path) -> dict[str, str]:
    """Name without blanks around it → name as the file has it; each once whatever its letter case."""
    stem = _stem(path).lower()
    if not path.is_file():
        raise SourceError(f"file '{path}'", "a file", "none", "check --root and files: in the spec")
    twins = [f for f in path.parent.iterdir() if f.name.lower() in {stem + suffix for suffix in SUFFIXES}]
    if len(twins) > 1:
        raise SourceError(f"file '{path.name}'", "one file of that stem", f"{len(twins)}", "move the others away")
    try:
        if path.name.lower().endswith(".parquet"):
            names = list(parquet.schema_of(path))
        else:
            names = _csv_names(path)
    except FormError as error:
        raise SourceError(f"file '{path.name}'", "CSV text in UTF-8", error.fact, error.remedy) from None
    except (OSError, EOFError, IsalError, csv.Error, parquet.UnreadableError) as error:  # type: ignore[misc] # a class
        kind = parquet.kind_of(error)
        raise SourceError(
            f"file '{path.name}'", "a header that can be read", kind, "copy or convert it again"
        ) from None
    if not names:
        raise SourceError(f"file '{path.name}'", "a header", "an empty file", "copy it again")
    return _by_name(names, f"file '{path.name}'")


def _by_name(names: Sequence[str], what: str) -> dict[str, str]:
    """Name without blanks around it → name as it is written.

    Raises:
        SourceError: Two that differ in letter case or blanks alone.
    """
    plain = [name.strip().lower() for name in names]
    twice = sorted({name for name in plain if name and plain.count(name) > 1})
    if twice:
        raise SourceError(what, "each column name once", f"{twice} several times", "rename them")
    return {name.strip(): name for name in names if name.strip()}

"""The rows of one raw table: bytes → blocks of whole rows → the wanted columns. Messages never show a cell."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import polars as pl

from mmnar import parquet
from mmnar.errors import SourceError, nearest
from mmnar.sources.reading.packing import check_text, check_utf8
from mmnar.sources.reading.widths import uneven_row

_BLOCK: Final = 1 << 23
"""Bytes of text per block. Larger ones leave the caches, and their memory is fetched anew from the system each time:
64 MB take twice the time."""

_LONGEST_ROW: Final = 1 << 28
BATCH_ROWS: Final = 200_000
"""Rows handed on together, about."""
AHEAD: Final = 4
"""Blocks made while rows are handed on: about as many as those rows come from."""
_BOM: Final = b"\xef\xbb\xbf"

Block = TypeVar("Block")


class NotWholeError(Exception):
    """A file without a header line, or without the end of its last row."""


# --- bytes → blocks of whole rows ----------------------------------------------------------------------------------


def _whole_rows(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces to blocks that end with a row. A newline between quotation marks ends no row: notes have many.

    Raises:
        ValueError: A row longer than 256 MB: a quotation mark that is never closed.
    """
    held: list[bytes] = []
    size, inside = 0, False
    for piece in pieces:
        size += len(piece)
        end = _last_row_end(piece, inside) if size >= _BLOCK else 0
        inside ^= piece.count(b'"') % 2 == 1
        if end:
            yield b"".join((*held, piece[:end]))
            held, size = [], len(piece) - end
        held.append(piece[end:])
        if size > _LONGEST_ROW:
            raise ValueError
    if inside:
        raise ValueError
    if size:
        yield b"".join(held)


def _last_row_end(text: bytes, inside: bool) -> int:
    """Bytes up to and including the last newline outside quotation marks; ``inside``: ``text`` begins within them."""
    end = text.rfind(b"\n")
    marks = inside + text.count(b'"', 0, max(end, 0))
    while end >= 0 and marks % 2:
        opening = text.rfind(b'"', 0, end)
        end = text.rfind(b"\n", 0, max(opening, 0))
        marks = inside + text.count(b'"', 0, max(end, 0))
    return end + 1


def ahead(blocks: Iterator[Block], depth: int = 1) -> Iterator[Block]:
    """The same blocks; up to ``depth`` more are made by another thread while the caller works on this one.

    A caller who takes several blocks at a time and then works for long needs as many made meanwhile.
    """
    pool = ThreadPoolExecutor(1)
    try:
        following = deque(pool.submit(next, blocks, None) for _ in range(depth))
        while (block := following.popleft().result()) is not None:
            following.append(pool.submit(next, blocks, None))
            yield block
    finally:
        pool.shutdown(cancel_futures=True)


# --- blocks → frames -----------------------------------------------------------------------------------------------


def csv_blocks(
    table: str,
    pieces: Iterator[bytes],
    columns: Mapping[str, pl.DataType],
    optional: Collection[str],
    every_row: bool,
) -> Iterator[pl.DataFrame]:
    """The wanted columns under their lower-case names, as text or number.

    Args:
        optional: Columns that may be absent.
        every_row: Look at the width of each row, which takes as long as to read it; else only where the commas of a
            block without quotation marks do not add up.

    Raises:
        SourceError: A column is absent, or a row has more or fewer cells than the header.
        NotWholeError: No header, or a last row without its end.
        FormError: Other text than UTF-8.
    """
    header: list[str] = []
    before = 1
    for block in ahead(_whole_rows(pieces), AHEAD):
        check_text(block)
        if not header:
            check_utf8(block.partition(b"\n")[0])
            header, block = _split_header(block)
            places = _positions(table, header, list(columns), optional)
            numbers = {place: columns[name] for name, place in places.items() if columns[name] in _NUMBERS}
        if every_row or _unbalanced(block, len(header)):
            check_widths(f"table '{table}'", block, len(header), before)
        try:
            frame = _parsed(block, len(header), places, numbers)
        except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
            check_utf8(block)
            check_widths(f"table '{table}'", block, len(header), before)
            # the typed reader would print the offending cell and stop at the first: as text, to count them
            numbers = {}
            frame = _parsed(block, len(header), places, numbers)
        before += block.count(b"\n")
        yield frame
    if not header:
        raise NotWholeError("an empty file")
    if _ends_within_a_row(block, len(header)):
        raise NotWholeError("one that ends within a row")


def _unbalanced(block: bytes, width: int) -> bool:
    """Whether the commas of a block show at a glance that some row has another width."""
    rows = block.count(b"\n") + (not block.endswith(b"\n"))
    return b'"' not in block and block.count(b",") != rows * (width - 1)


def check_widths(subject: str, block: bytes, width: int, before: int = 0) -> None:
    """
    Args:
        subject: Of the message.
        before: Lines of the file before the block.

    Raises:
        SourceError: A row has more or fewer cells than the header; a last one without its end may be cut off.
    """
    found = uneven_row(block, width)
    if found is None or (_ends_within_a_row(block, width) and found[0] >= block.count(b"\n")):
        return
    check_utf8(block)
    line, cells = found
    raise SourceError(
        f"{subject}, line {before + line + 1}",
        f"as many cells as the header has: {width}",
        f"{cells}",
        "put text with commas in quotation marks, or fill in the empty cells",
    )


def _ends_within_a_row(block: bytes, width: int) -> bool:
    """Whether the last block of a file lacks the end of its last row: no newline and too few cells."""
    if not block or block.endswith((b"\n", b"\r")):
        return False
    row = block[_last_row_end(block, False) :].decode(errors="replace")
    return bool(row.strip()) and len(next(csv.reader(io.StringIO(row, newline="")), [])) < width


def _split_header(block: bytes) -> tuple[list[str], bytes]:
    """Names of the columns, and the rows behind them."""
    line, _, rows = block.removeprefix(_BOM).partition(b"\n")
    names = next(csv.reader([line.decode().strip()]), [])
    if not any(name.strip() for name in names):
        raise NotWholeError("no header")
    return names, rows


def _positions(table: str, header: list[str], wanted: list[str], optional: Collection[str]) -> dict[str, int]:
    """Wanted name → place of the first column of that name; without optional ones that are not there."""
    places: dict[str, int] = {}
    for place, column in enumerate(header):
        places.setdefault(column.strip().lower(), place)
    missing = [name for name in wanted if name not in places and name not in optional]
    if missing:
        raise SourceError(
            f"table '{table}'",
            "a column '" + "', '".join(missing) + "'",
            _other_header(header, missing, places, known=len(missing) < len(wanted)),
            "check the release of the records",
        )
    return {name: places[name] for name in wanted if name in places}


def _other_header(header: list[str], missing: list[str], places: Mapping[str, int], known: bool) -> str:
    """What the first line is instead; ``known``: it has another column that is read, so it is a header."""
    for mark, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            return f"columns separated by {words}, not by commas"
    if any(name.strip().isdigit() for name in header):
        # the first row of patients, perhaps
        return "a first line that is no header"
    if not known:
        # what stands there may be the first row of patients: no name of it is shown
        return "none of that name, nor any other column that is read"
    return f"none of that name; {nearest(missing[0], places)}"


def _parsed(
    block: bytes,
    width: int,
    places: Mapping[str, int],
    numbers: Mapping[int, pl.DataType],
) -> pl.DataFrame:
    """Columns by name: those of ``numbers`` with their dtype, the others as text."""
    schema = {str(place): numbers.get(place, pl.String()) for place in range(width)}
    if not block.strip():
        return pl.DataFrame(schema={name: schema[str(place)] for name, place in places.items()})
    # one thread: another unpacks the next block meanwhile
    wanted = sorted(set(places.values()))
    raw = pl.read_csv(block, has_header=False, schema=schema, columns=wanted, n_threads=1)
    return raw.select(pl.col(str(place)).alias(name) for name, place in places.items())


def parquet_blocks(table: str, path: Path, wanted: list[str], optional: Collection[str]) -> Iterator[pl.DataFrame]:
    schema = parquet.schema_of(path)
    names = list(schema)
    columns = {name: names[place] for name, place in _positions(table, names, wanted, optional).items()}
    empty = pl.DataFrame(schema=schema)
    frames = parquet.blocks(path, list(columns.values()), BATCH_ROWS) if parquet.rows_of(path) else iter((empty,))
    for frame in frames:
        yield frame.select(pl.col(column).alias(name) for name, column in columns.items())


_NUMBERS: Final = (pl.Int64(), pl.Float64())
"""What the reader of text makes itself, faster than from strings."""

"""Parquet files: our own, and those of others, read by Arrow. A column of a type without a counterpart here is of
``Object``, all null.

Of a damaged one Arrow says so, where Polars' reader panics and writes to stderr by itself. Messages of both may quote
cells: what is raised here has the kind of failure alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_ROWS: Final = 1 << 19
"""Of one block in memory."""


class UnreadableError(Exception):
    """A file that is damaged, absent or no Parquet; its text is the kind of failure, without any content."""


def kind_of(error: BaseException) -> str:
    """What kind of failure it was, never in the words of another library."""
    return str(error) if isinstance(error, UnreadableError) else type(error).__name__


def save(frame: pl.DataFrame, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file; Polars makes its bytes in memory, for it takes a full disk for content that it cannot read.

    Raises:
        OSError: No room or no permission.
    """
    content = io.BytesIO()
    frame.write_parquet(content, metadata=metadata)
    path.write_bytes(content.getbuffer())


def schema_of(path: Path) -> dict[str, pl.DataType]:
    """Column → type.

    Raises:
        UnreadableError: It cannot be read.
    """
    with _opened(path) as file:
        return dict(_frame(file.schema_arrow.empty_table()).schema)


def rows_of(path: Path) -> int:
    """How many rows it says it has.

    Raises:
        UnreadableError: It cannot be read.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def metadata_of(path: Path) -> dict[str, str]:
    """What its writer noted beside the columns.

    Raises:
        UnreadableError: It cannot be read.
    """
    with _opened(path) as file:
        return {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}


def read(path: Path, columns: Iterable[str] | None = None) -> pl.DataFrame:
    """The whole file.

    Args:
        columns: Only these, in this order; None = all.

    Raises:
        UnreadableError: It cannot be read.
    """
    wanted = None if columns is None else list(columns)
    frames = list(blocks(path, wanted))
    if not frames:
        schema = schema_of(path)
        return pl.DataFrame(schema={name: schema[name] for name in wanted or schema})
    try:
        whole = pl.concat(frames)
    except pl.exceptions.PolarsError as error:  # decimals that fit into this type in some blocks alone
        raise UnreadableError(type(error).__name__) from None
    return whole if wanted is None else whole.select(wanted)


def blocks(path: Path, columns: Sequence[str] | None = None, rows: int = _ROWS) -> Iterator[pl.DataFrame]:
    """Rows in order, block by block; none of a file without rows.

    Args:
        columns: Only these; None = all.
        rows: Of a block, at most.

    Raises:
        UnreadableError: It cannot be read; while the blocks are.
    """
    with _opened(path) as file:
        if not file.metadata.num_rows:
            return
        for batch in file.iter_batches(rows, columns=columns):
            # lengths, offsets and UTF-8, which Polars believes
            batch.validate(full=True)
            yield _frame(batch)


def scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    """Some columns as a lazy table, read block by block each time it is collected.

    Raises:
        UnreadableError: Its types cannot be read. Damage found later ends ``collect`` with an error of Polars.
    """
    from polars.io.plugins import register_io_source

    def read_some(
        wanted: list[str] | None, where: pl.Expr | None, most: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = most
        for block in blocks(path, columns):
            if left is not None:
                block = block.head(left)
                left -= block.height
            kept = block if where is None else block.filter(where)
            yield kept if wanted is None else kept.select(wanted)
            if left == 0:
                return

    types = schema_of(path)
    return register_io_source(read_some, schema={name: types[name] for name in columns})


@contextmanager
def _opened(path: Path) -> Iterator[ParquetFile]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, coerce_int96_timestamp_unit="us", page_checksum_verification=True) as file:
            _check_names(file.schema_arrow)
            yield file
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UnreadableError(type(error).__name__) from None
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(type(error).__name__) from None


def _check_names(fields: Iterable[Any]) -> None:
    """Polars panics at names, notes and inner names that are not UTF-8."""
    for field in fields:
        field.name.encode()
        for note in (field.metadata or {}).items():
            _ = [part.decode() for part in note]
        _check_names(field.type.field(i) for i in range(field.type.num_fields))


def _frame(table: Any) -> pl.DataFrame:
    columns = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        plain = _plain(column)
        columns.append(
            pl.Series(name, [None] * len(column), pl.Object) if plain is None else pl.Series(name, pl.from_arrow(plain))
        )
    return pl.DataFrame(columns)


def _plain(column: Any) -> Any:
    """An array of a type that Polars takes without a panic; None where there is none."""
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        return _plain(column.storage if isinstance(column, pa.Array) else column.cast(column.type.storage_type))
    if pa.types.is_dictionary(column.type) and not _is_text(column.type.value_type):
        return _plain(column.cast(column.type.value_type))
    if pa.types.is_decimal256(column.type):
        try:
            return column.cast(pa.decimal128(38, column.type.scale))
        except pa.ArrowException:  # more digits than fit
            return None
    inner = (column.type.field(i).type for i in range(column.type.num_fields))
    return column if all(map(_is_plain, (column.type, *inner))) else None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if kind.num_fields:
        return all(_is_plain(kind.field(i).type) for i in range(kind.num_fields)) and not pa.types.is_union(kind)
    odd = isinstance(kind, pa.BaseExtensionType) or pa.types.is_decimal256(kind) or pa.types.is_interval(kind)
    return not odd

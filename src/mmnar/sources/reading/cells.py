"""Cells of raw tables → numbers, times of day, text. What cannot be read is counted and becomes null, never shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from mmnar.sources.reading.ledger import Ledger

ABSENT: Final = (
    *("null", "none", "nil", "nan", "na", "n/a", "#n/a", "<na>", "nat", "\\n", "missing", "not measured", "unknown"),
    *(".", "-", "--", "?"),
)
"""Lower-case words that stand for "not measured" where a number or a time is expected."""

_ABSENT_TEXT: Final = ("NULL", "Null", "null", "\\N", "NaN", "nan", "NAN", "<NA>", "#N/A", "NaT")
"""Words that databases and data frames write for an empty cell of text; others may be text."""

_EXACT: Final = 2**53
"""Whole numbers beyond this are not told apart by a float."""

_CLOCKS: Final = ("%H:%M:%S", "%H:%M", "%H:%M:%S%.f", "%I:%M:%S %p", "%I:%M %p")


@dataclass(frozen=True)
class Form:
    """What the cells of a column should be, in words, and how they are read from text.

    ``read``: a column of text without blank cells → the same length, null where a cell is of another form.
    """

    words: str
    read: Callable[[pl.Series], pl.Series]


def whole_numbers(text: pl.Series) -> pl.Series:
    """Exact: a float beyond 2^53, or one written with fewer digits than its exponent asks for, could be several.

    >>> whole_numbers(pl.Series(["007", "12.0", "1.0000001e7", "1E+07", "9223372036854775808", "1.5"])).to_list()
    [7, 12, 10000001, None, None, None]
    """
    exact = text.cast(pl.Int64(), strict=False)
    if exact.null_count() == text.null_count():
        return exact
    numbers = text.cast(pl.Float64(), strict=False)
    decimals = text.str.extract(r"^[+-]?\d(?:\.(\d*))?[eE]", 1).str.len_chars().fill_null(0)
    exponent = text.str.extract(r"[eE]\+?(\d{1,3})$", 1).cast(pl.Int64, strict=False).fill_null(0)
    return exact.fill_null(numbers.set(decimals.cast(pl.Int64) < exponent, None).pipe(_whole))


def numbers(text: pl.Series) -> pl.Series:
    """Finite ones."""
    return _finite(text.cast(pl.Float64(), strict=False))


def clocks(text: pl.Series) -> pl.Series:
    """
    >>> [str(t) for t in clocks(pl.Series(["9:05", "21:05:06", "9:05:00 PM", "24:00:00", "2105"]))]
    ['09:05:00', '21:05:06', '21:05:00', 'None', 'None']
    """
    found = text.str.to_time(_CLOCKS[0], strict=False)
    for form in _CLOCKS[1:]:
        if found.null_count() == text.null_count():
            break
        found = found.fill_null(text.str.to_time(form, strict=False))
    return found


FORMS: Final[dict[pl.DataType, Form]] = {
    pl.Int64(): Form("whole numbers", whole_numbers),
    pl.Float64(): Form("numbers", numbers),
    pl.Time(): Form("times of the form HH:MM:SS", clocks),
}


def typed(ledger: Ledger, table: str, column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """A column of a raw table in ``dtype``.

    Args:
        ledger: Counts the cells that cannot be read; it refuses a column most of whose cells cannot.
        table: Named in the counts.
        column: As the file has it.
        dtype: Text, or one of ``FORMS``.

    Returns:
        Null where a cell is blank, holds a word for "not measured", or is of another form.
    """
    if dtype == pl.String():
        return _text(_as_text(column))
    form = FORMS[dtype]
    if column.dtype == dtype and dtype != pl.Float64():
        read, given = column, len(column) - column.null_count()
    elif column.dtype.is_numeric() and not column.dtype.is_decimal():
        given = len(column) - column.null_count()
        if column.dtype.is_float():
            given -= int(column.is_nan().sum())
        read = _number(column, dtype)
    else:
        text = _as_text(column)
        read = form.read(text)
        if read.null_count() > text.null_count():
            text = blanked(text)
            read = form.read(text)
            compared = text.filter(read.is_null()).str.contains(r"^\s*[<>≤≥]")
            ledger.compare(table, column.name, int(compared.sum() or 0))
        given = len(text) - text.null_count()
    ledger.read(table, column.name, form.words, given, given - (len(read) - read.null_count()))
    return read


def blanked(text: pl.Series) -> pl.Series:
    """Text without white space around it; null where nothing is left, or a word for "not measured"."""
    text = text.str.strip_chars()
    return text.set((text == "") | text.str.to_lowercase().is_in(ABSENT), None)


def _text(column: pl.Series) -> pl.Series:
    column = column.str.strip_chars()
    short = column.str.len_bytes() <= max(map(len, _ABSENT_TEXT))
    if not short.any():
        return column
    return column.set(short & ((column == "") | column.is_in(_ABSENT_TEXT)), None)


def _as_text(column: pl.Series) -> pl.Series:
    """A column of any type as text; null where it cannot be that."""
    if column.dtype == pl.String:
        return column
    try:
        return column.cast(pl.String, strict=False)
    except pl.exceptions.PolarsError:
        # lists, structs, bytes: the message may quote cells
        return pl.Series(column.name, [""] * len(column)).set(column.is_null(), None)


def _number(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Float64():
        return _finite(column.cast(pl.Float64(), strict=False))
    if dtype == pl.Int64() and column.dtype.is_float():
        return _whole(column.cast(pl.Float64()))
    # a time of day is no number
    return column.cast(dtype, strict=False) if dtype == pl.Int64() else pl.Series(column.name, [None] * len(column), dtype)


def _finite(numbers: pl.Series) -> pl.Series:
    return numbers.set(~numbers.is_finite(), None)


def _whole(numbers: pl.Series) -> pl.Series:
    exact = numbers.is_finite() & (numbers == numbers.floor()) & (numbers.abs() <= _EXACT)
    return numbers.set(~exact, None).cast(pl.Int64(), strict=False)

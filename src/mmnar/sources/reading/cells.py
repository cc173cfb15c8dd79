"""Cells of raw tables → numbers, times of day, text. What cannot be read is counted and becomes null, never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.sources.reading.absent import without_absent
from mmnar.sources.reading.identifiers import EXACT, spelled
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.times import Order, has_order, in_other_forms, in_release_form, order_of, without_zone

ABSENT_TEXT: Final = ("NULL", "Null", "null", "\\N", "NaN", "nan", "NAN", "<NA>", "#N/A", "NaT")
"""Words that databases and data frames write for an empty cell of text; others may be text."""

_NO_TEXT: Final = "(neither text nor number)"
"""What a list or structure in a cell is read as."""

_CLOCKS: Final = ("%H:%M:%S", "%H:%M", "%H:%M:%S%.f", "%I:%M:%S %p", "%I:%M %p")


def whole_numbers(text: pl.Series) -> pl.Series:
    """As ``identifiers`` reads them: what could be several numbers is none.

    >>> whole_numbers(pl.Series(["007", "12.0", "1.0000001e7", "1E+07", "9223372036854775808", "1.5"])).to_list()
    [7, 12, 10000001, None, None, None]
    """
    exact = text.cast(pl.Int64(), strict=False)
    if exact.null_count() == text.null_count():
        return exact
    plain = text.set(~text.str.contains(r"^[+-]?\d{1,15}\.0*$"), None).str.replace(r"\.0*$", "").cast(pl.Int64())
    powers = text.filter(exact.is_null() & text.str.contains(r"\d[eE]\+?\d")).unique()
    read = {cell: same for cell, (same, flaw) in zip(powers, map(spelled, powers), strict=True) if not flaw}
    told = text.replace_strict(read, default=None, return_dtype=pl.String).cast(pl.Int64(), strict=False)
    return exact.fill_null(plain).fill_null(told)


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


_FORMS: Final[dict[pl.DataType, tuple[str, Callable[[pl.Series], pl.Series]]]] = {
    pl.Int64(): ("whole numbers", whole_numbers),
    pl.Float64(): ("numbers", numbers),
    pl.Time(): ("times of the form HH:MM:SS", clocks),
}
"""What cells should be, in words; cells that are not blank → the same length, null where one is of another form."""

TIME: Final = pl.Datetime("ms")
"""Asks for dates with a time of day; what is read is datetime[us], as of ``DAY_OR_TIME``."""

DAY_OR_TIME: Final = pl.Datetime("us")
"""Asks for dates with or without a time of day: a bare date is its midnight."""

_TIMES: Final[dict[pl.DataType, str]] = {
    TIME: "times of the form 2180-07-23 12:36:00",
    DAY_OR_TIME: "dates of the form 2180-07-23 12:36:00 or 7/23/2180 12:36",
}


class CellReader:
    """Reads the columns of the tables of one folder, block by block.

    Args:
        ledger: Counts the cells that cannot be read; it refuses a column most of whose cells cannot.
        blanks: Words that stand for an empty cell in columns of text.
    """

    def __init__(self, ledger: Ledger, blanks: Sequence[str] = ()) -> None:
        self._ledger, self._blanks = ledger, list(blanks)
        self._orders: dict[str, Order] = {}
        self._unproved: set[str] = set()

    def typed(self, table: str, column: pl.Series, dtype: pl.DataType) -> pl.Series:
        """A column as the file has it → what is asked for.

        Args:
            table: Named in the counts.
            dtype: Text, whole or other numbers, a time of day, ``TIME`` or ``DAY_OR_TIME``.

        Returns:
            Null where a cell is blank, holds a word for "not measured", or is of another form.

        Raises:
            SourceError: Most cells of very many are of another form, or dates are month/day and day/month.
        """
        if dtype == pl.String():
            return self._text(column)
        words = _TIMES[dtype] if dtype in _TIMES else _FORMS[dtype][0]
        given, compared = len(column) - column.null_count(), 0
        if dtype in _TIMES and isinstance(column.dtype, pl.Datetime):
            read = self._local(table, column)
        elif column.dtype.is_numeric() and not column.dtype.is_decimal() and dtype not in _TIMES:
            absent = int(column.is_nan().sum()) if column.dtype.is_float() else 0
            self._ledger.drop(table, absent, _absent(column, "NaN"))
            given -= absent
            read = _number(column, dtype)
        else:
            text = _as_text(column)
            read = in_release_form(text) if dtype in _TIMES else _FORMS[dtype][1](text)
            if read.null_count() > text.null_count():
                text, found = without_absent(text)
                left = read.is_null() & text.is_not_null()
                for word, cells in found.items():
                    self._ledger.drop(table, cells, _absent(column, word))
                rest = text.filter(left)
                read = read.scatter(left.arg_true(), self._leftover(table, rest, dtype))
                compared = int(rest.str.contains(r"^[<>≤≥]").sum() or 0) if dtype not in _TIMES else 0
            given = len(text) - text.null_count()
        unread = given - (len(read) - read.null_count())
        self._ledger.read(table, column.name, words, given, unread, min(compared, unread))
        return read

    def _leftover(self, table: str, rest: pl.Series, dtype: pl.DataType) -> pl.Series:
        """Cells not read at once, without white space and words for "not measured"."""
        if dtype not in _TIMES:
            return _FORMS[dtype][1](rest)
        rest, zoned = without_zone(rest)
        self._ledger.drop(table, zoned, _zoned(rest))
        return in_other_forms(rest, self._order(table, rest), days=dtype == DAY_OR_TIME)

    def _local(self, table: str, times: pl.Series) -> pl.Series:
        """Times of parquet: the clock time where they were taken."""
        if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
            self._ledger.drop(table, len(times) - times.null_count(), _zoned(times))
            times = times.dt.replace_time_zone(None)
        return times.cast(pl.Datetime("us"))

    def _order(self, table: str, text: pl.Series) -> Order:
        """Of day and month: as the table shows, else month first."""
        if not has_order(text):
            return "month"
        proof = order_of(text) | ({self._orders[table]} if table in self._orders else set())
        if len(proof) > 1 or (proof == {"day"} and table in self._unproved):
            raise SourceError(
                f"table '{table}', column '{text.name}'",
                _TIMES[DAY_OR_TIME],
                "dates with the day before the month beside others that can be read either way",
                "write the dates as year-month-day",
            )
        if not proof:
            self._unproved.add(table)
            return "month"
        self._orders[table] = proof.pop()
        return self._orders[table]

    def _text(self, column: pl.Series) -> pl.Series:
        column = _as_text(column).str.strip_chars()
        short = column.str.len_bytes() <= max(map(len, self._blanks), default=0)
        if not short.any():
            return column
        return column.set(short & ((column == "") | column.is_in(self._blanks)), None)


def _absent(column: pl.Series, word: str) -> str:
    return f"cells of column '{column.name}' are '{word}': not measured"


def _zoned(column: pl.Series) -> str:
    return f"times of column '{column.name}' name a zone: it is left out, the clock time kept"


def _as_text(column: pl.Series) -> pl.Series:
    """A column of any type as text; null where it cannot be that."""
    if column.dtype == pl.String:
        return column
    try:
        return (
            column.cast(pl.Int8).cast(pl.String) if column.dtype == pl.Boolean else column.cast(pl.String, strict=False)
        )
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [_NO_TEXT] * len(column)).set(column.is_null(), None)


def _number(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Float64():
        return _finite(column.cast(pl.Float64(), strict=False))
    if dtype == pl.Int64() and column.dtype.is_float():
        return _whole(column.cast(pl.Float64()))
    # a number is no time of day
    nothing = pl.Series(column.name, [None] * len(column), dtype)
    return column.cast(dtype, strict=False) if dtype == pl.Int64() else nothing


def _finite(numbers: pl.Series) -> pl.Series:
    return numbers.set(~numbers.is_finite(), None)


def _whole(numbers: pl.Series) -> pl.Series:
    exact = numbers.is_finite() & (numbers == numbers.floor()) & (numbers.abs() < EXACT)
    return numbers.set(~exact, None).cast(pl.Int64(), strict=False)

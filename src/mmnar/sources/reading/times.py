"""Times as text → datetime[us]: the forms of releases, databases, data frames and spreadsheets.

A zone (``UTC``, ``Z``, ``+00:00``, ``EST``) is left out and counted: dates of these records are shifted and their clock
is the ward's, so the clock time as written is taken. Years have four digits. ``3/1/2150`` is month/day, as the demo of
MIMIC-IV is written, unless days above 12 show that the whole table is day/month; a table that shows both is refused.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl

Order = Literal["month", "day"]

_RELEASE: Final = "%Y-%m-%d %H:%M:%S"
"""Read six times as fast as forms with fractions."""

_CLOCKS: Final = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_ZONE: Final = (
    r"(?i)^(.*\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[ap]m)?) ?"
    r"(?:z|(?:utc|gmt|[ecmp][sd]t)? ?[+-]\d\d?(?::?\d\d)?|utc|gmt|[ecmp][sd]t)(?: ?\[[\w/]+\])?$"
)
_YEAR_FIRST: Final = r"^\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]|$)"
_YEAR_LAST: Final = r"^(\d\d?)[-/](\d\d?)[-/]\d{4}(?:[T ]|$)"
_DOTS: Final = r"^\d\d?\.\d\d?\.\d{4}(?: |$)"
_NAMED: Final = r"(?i)^\d\d?[- ]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[- ]?\d{4}(?:[ :]|$)"


def in_release_form(text: pl.Series) -> pl.Series:
    """Times of the form 2150-03-01 04:05:06, null where a cell is of another."""
    # to keep the times seen costs more than to read one again
    return text.str.to_datetime(_RELEASE, strict=False, time_unit="us", cache=False)


def without_zone(text: pl.Series) -> tuple[pl.Series, int]:
    """Text in which the zone behind a time of day is left out, and in how many cells.

    >>> without_zone(pl.Series(["2150-03-01 04:05:06 UTC", "2150-03-01T04:05Z", "2150-03-01"]))[0].to_list()
    ['2150-03-01 04:05:06', '2150-03-01T04:05', '2150-03-01']
    """
    plain = text.str.replace(_ZONE, "${1}").str.strip_chars()
    return plain, int((plain != text).sum())


def order_of(text: pl.Series) -> set[Order]:
    """Which orders of day and month the cells prove; nothing where no cell has a number above 12.

    >>> order_of(pl.Series(["13/2/2150", "1/2/2150"]))
    {'day'}
    """
    parts = text.str.extract_groups(_YEAR_LAST).struct.unnest().cast(pl.Int64, strict=False)
    proof: set[Order] = set()
    if (parts["1"] > 12).any():
        proof.add("day")
    if (parts["2"] > 12).any():
        proof.add("month")
    return proof


def has_order(text: pl.Series) -> bool:
    """Whether any cell is written with day and month before the year."""
    return bool(text.str.contains(_YEAR_LAST).any())


def in_other_forms(text: pl.Series, order: Order, days: bool) -> pl.Series:
    """Times of any other form that can mean one thing only; null where a cell does not.

    Args:
        text: Without zones and without white space around it.
        order: Of day and month, where both stand before the year.
        days: Whether a date without a time of day is its midnight.

    >>> text = pl.Series(["2150-03-01T04:05:06.5", "3/1/2150 4:05", "1.3.2150 4:05", "01MAR2150:04:05:06", "3/1/50"])
    >>> [str(t) for t in in_other_forms(text, "month", days=False)]
    ['2150-03-01 04:05:06.500000', '2150-03-01 04:05:00', '2150-03-01 04:05:00', '2150-03-01 04:05:06', 'None']
    """
    found = pl.Series(text.name, [None] * len(text), pl.Datetime("us"))
    dashed = text.str.replace_all("/", "-", literal=True).str.replace(r"(\d)T(\d)", "${1} ${2}")
    named = text.str.replace_all(r"[- ]?([A-Za-z]{3})[- ]?(\d{4}):?", "${1}${2} ")
    for shape, cells, date in (
        (_YEAR_FIRST, dashed, "%Y-%m-%d"),
        (_YEAR_LAST, dashed, "%m-%d-%Y" if order == "month" else "%d-%m-%Y"),
        (_DOTS, text, "%d.%m.%Y"),
        (_NAMED, named.str.strip_chars(), "%d%b%Y"),
    ):
        fits = text.str.contains(shape).fill_null(False)
        if fits.any():
            read = _read(cells.set(~fits, None).str.replace_all(r"\s+", " "), date, days)
            found = found.fill_null(read)
    return found


def _read(text: pl.Series, date: str, days: bool) -> pl.Series:
    found = pl.Series(text.name, [None] * len(text), pl.Datetime("us"))
    for clock in _CLOCKS:
        if found.null_count() == text.null_count():
            return found
        found = found.fill_null(text.str.to_datetime(f"{date} {clock}", strict=False, time_unit="us", cache=False))
    if days:
        found = found.fill_null(text.str.to_date(date, strict=False).cast(pl.Datetime("us")))
    return found

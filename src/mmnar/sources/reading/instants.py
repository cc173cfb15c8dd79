"""Times as people write them, as instants: a zone (Z, UTC, GMT, +01:00) counts, where ``times`` leaves it out.

A time without a zone is taken as it is written, one with a zone becomes UTC. The two are on no common clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

_DAYS: Final = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d%b%Y")
_FORMS: Final = tuple(
    f"{day}{clock}"
    for day in ("%Y-%m-%d ", "%Y-%m-%dT", "%Y/%m/%d ", "%d.%m.%Y ", "%d-%b-%Y ", "%d %b %Y ", "%d%b%Y:")
    for clock in ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
)
"""Forms of which nobody has to guess what is the day and what the month."""
_ZONE: Final = r"(?i)(:[0-9]{2}(?:\.[0-9]*)?)\s*(?:Z|UTC|GMT|([+-])([0-9]{2}):?([0-9]{2})?)$"
_UNREAD: Final = (
    ("day/month or month/day", r"^[0-9]{1,2}[/-][0-9]{1,2}[/-]([0-9]{2}|[0-9]{4})\b"),
    ("numbers", r"^[+-]?[0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?$"),
    ("a zone by name", r":[0-9]{2}(\.[0-9]*)?\s*[A-Za-z]+(/[A-Za-z_]+)?$"),
    ("year-month-day", r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}\b"),
)


@dataclass(frozen=True)
class Times:
    """A column of times.

    Args:
        at: (n,) datetime[us]; null where absent or not read. UTC where the cell named a zone.
        zoned: Cells that name a zone.
        plain: Cells that name a time of day and no zone.
        days: Cells that are a day without a time of day: taken as its beginning.
        unread: Cells that are no time, by form.
    """

    at: pl.Series
    zoned: int
    plain: int
    days: int
    unread: Mapping[str, int]

    @property
    def told(self) -> int:
        """Cells that are not absent."""
        return self.zoned + self.plain + self.days + sum(self.unread.values())


def read_times(cells: pl.Series, form: str = "") -> Times:
    """Read a column of text.

    Args:
        cells: (n,) without words for "not measured".
        form: As in ``strptime``; "" = year-month-day (also with slashes), day.month.year or a month by name, with or
            without a time of day, seconds, their fractions, AM or PM, and a zone.
    """
    days = pl.Series(cells.name, [None] * len(cells), pl.Datetime("us"))
    if form:
        with_zone = "%z" in form or "%Z" in form
        moments = cells.str.to_datetime(form, strict=False, time_unit="us", cache=False)
        if moments.dtype == pl.Datetime("us", "UTC"):
            moments = moments.dt.replace_time_zone(None)
        zoned = moments.is_not_null() if with_zone else days.is_not_null()
    else:
        parts = cells.str.extract_groups(_ZONE).struct.unnest()
        zoned = parts.to_series(0).is_not_null()
        minutes = parts.to_series(2).cast(pl.Int64) * 60 + parts.to_series(3).cast(pl.Int64).fill_null(0)
        offset = (pl.when(parts.to_series(1) == "-").then(-1).otherwise(1) * minutes).fill_null(0)
        moments = _first(cells.str.replace(_ZONE, "${1}"), _FORMS)
        moments = pl.select(pl.lit(moments) - pl.duration(minutes=offset, time_unit="us")).to_series()
        days = _first(cells, _DAYS)
    # what reads as a year of less than four digits is a day, or a year of two
    moments = moments.set((moments.dt.year() < 1000).fill_null(False), None)
    days = days.set((days.dt.year() < 1000).fill_null(False), None)
    zoned &= moments.is_not_null()
    at = moments.fill_null(days).alias(cells.name)
    known = int(moments.is_not_null().sum())
    zones = int(zoned.sum())
    unread = _unread(cells.filter(at.is_null() & cells.is_not_null()))
    return Times(at, zones, known - zones, len(days) - days.null_count(), unread)


def _first(cells: pl.Series, forms: tuple[str, ...]) -> pl.Series:
    found = pl.Series(cells.name, [None] * len(cells), pl.Datetime("us"))
    for form in forms:
        if found.null_count() > cells.null_count():
            found = found.fill_null(cells.str.to_datetime(form, time_unit="us", strict=False, cache=False))
    return found


def _unread(rest: pl.Series) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, pattern in _UNREAD:
        has = rest.str.contains(pattern)
        if has.any():
            found[name] = int(has.sum())
            rest = rest.filter(~has)
    return found | ({"words": len(rest)} if len(rest) else {})

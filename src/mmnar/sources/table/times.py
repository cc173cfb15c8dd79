"""Times of a table, on one clock: all with a zone or none, for nobody could say which comes first."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.reading.instants import Times, read_times


def checked_times(column: str, cells: pl.Series, form: str, notes: list[str]) -> Times:
    """``read_times`` of a column that is refused where most of it cannot be read.

    Raises:
        SourceError: More than half the cells that are not absent are no time; which forms they have, not what they are.
    """
    times = read_times(cells, form)
    unread = sum(times.unread.values())
    shown = ", ".join(f"{name} in {counted(n)}" for name, n in times.unread.items())
    if 2 * unread > times.told:
        raise SourceError(
            f"column '{column}'",
            f"times of the form '{form}'" if form else "times such as 2180-07-23 12:36:00, with or without a zone",
            f"{counted(unread)} of {counted(times.told)} cells of another form ({shown})",
            "correct time_format:" if form else "say their form, e.g. time_format: '%d/%m/%Y %H:%M'",
        )
    if unread:
        notes.append(f"column '{column}': {counted(unread)} cells are no time ({shown})")
    if times.days:
        notes.append(f"column '{column}': {counted(times.days)} cells are a day only: taken as its beginning")
    return times


def one_clock(columns: Mapping[str, Times], notes: list[str]) -> None:
    """Times that name a zone are on UTC's clock; beside times that name none they are on no common clock.

    Raises:
        SourceError: Both kinds are there.
    """
    zoned = sum(times.zoned for times in columns.values())
    plain = sum(times.plain + times.days for times in columns.values())
    if zoned and plain:
        raise SourceError(
            f"times in {', '.join(f'{name!r}' for name in columns)}",
            "all with a zone, or none",
            f"{counted(zoned)} with and {counted(plain)} without",
            "write them on one clock",
        )
    if zoned:
        notes.append("times name their zone: all are taken to UTC")

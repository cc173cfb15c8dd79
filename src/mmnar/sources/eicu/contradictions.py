"""What ``patient`` says of the end of a stay that cannot be true: unknown and counted, no input hangs on it."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.privacy import counted

TEN_YEARS: Final = 10 * 366 * 24 * 60
_DAY: Final = 24 * 60
"""A body may lie in the unit for some hours, and two clocks may disagree; by more than a day they contradict."""


def believable_ends(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Add ``outtime``, ``hospital_outtime``, ``unit_discharge_status``, ``hospital_status``; null = unknown.

    Args:
        frame: Rows of ``patient`` with ``hadm_id``, ``stay_id`` and ``intime``.
        notes: What was taken as unknown; added to.
    """
    for column in ("unitdischargeoffset", "hospitaldischargeoffset"):
        odd = ~pl.col(column).is_between(0, TEN_YEARS)
        frame = _unknown(frame, notes, odd, (column,), f"{column} before admission or years later")
    unit, hospital = pl.col("unitdischargeoffset"), pl.col("hospitaldischargeoffset")
    frame = _unknown(
        frame, notes, hospital < unit - _DAY, ("hospitaldischargeoffset",), "stays left the hospital before the unit"
    )
    frame = frame.with_columns(unit_discharge_status="unitdischargestatus", hospital_status="hospitaldischargestatus")
    frame = _with_next(frame)
    both = ("unit_discharge_status", "hospital_status")
    died = pl.col("unit_discharge_status") == "Expired"
    # one of the two is wrong, and nobody knows which
    for odd, columns, words in (
        (died & (pl.col("hospital_status") == "Alive"), both, "stays died in the unit but left the hospital alive"),
        (died & (hospital > unit + _DAY), both, "stays died in the unit but left the hospital days later"),
        (died & pl.col("_next"), both[:1], "stays died in the unit before another unit stay of their hospital stay"),
    ):
        frame = _unknown(frame, notes, odd, columns, words)
    ends = {"outtime": "unitdischargeoffset", "hospital_outtime": "hospitaldischargeoffset"}
    return frame.with_columns(
        (pl.col("intime") + pl.duration(minutes=column, time_unit="us")).alias(name) for name, column in ends.items()
    ).drop("_next")


def _with_next(frame: pl.DataFrame) -> pl.DataFrame:
    """+ ``_next``: whether another unit stay of the hospital stay begins when this one is over, or later."""
    begins = frame.group_by("hadm_id").agg(last=pl.col("intime").max())
    ended = pl.col("intime") + pl.duration(minutes="unitdischargeoffset", time_unit="us")
    later = (pl.col("last") > pl.col("intime")) & (pl.col("last") >= ended)
    frame = frame.join(begins, on="hadm_id", how="left", maintain_order="left")
    return frame.with_columns(_next=later.fill_null(False)).drop("last")


def _unknown(frame: pl.DataFrame, notes: list[str], odd: pl.Expr, columns: tuple[str, ...], words: str) -> pl.DataFrame:
    odd = odd.fill_null(False)
    count = int(frame.select(odd.sum()).item())
    if count:
        notes.append(f"table 'patient': {counted(count)} {words}; taken as unknown")
    return frame.with_columns(pl.when(~odd).then(column).alias(column) for column in columns)

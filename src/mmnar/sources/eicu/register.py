"""What joins and what is dropped: rows become events on the common axis here, or are counted as dropped."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mmnar.sources.eicu.contradictions import TEN_YEARS
from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.reading.later import later
from mmnar.sources.reading.ledger import Ledger


class Register:
    """The stays that rows may belong to; turns rows into events on the common axis, or counts them as dropped.

    ``admitted``: the stays with a ``subject_id`` (without it no event can be placed), at minute 0.
    """

    def __init__(self, stays: pl.DataFrame, ledger: Ledger) -> None:
        self.admitted = stays.drop_nulls("subject_id").with_columns(at=pl.lit(0), known=pl.lit(0))
        self.ledger = ledger
        self._stays = self.admitted.select("subject_id", "hadm_id", "stay_id", "intime")
        self._frames: list[pl.DataFrame] = []

    def taken(self) -> list[pl.DataFrame]:
        """The events recorded since this was last asked."""
        frames, self._frames = self._frames, []
        return frames

    def place(
        self,
        table: str,
        frame: pl.DataFrame,
        at: pl.Expr,
        *,
        entered: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Give each row its stay and the minutes it happened (``at``) and was known (``known``)."""
        placed = frame.rename({"patientunitstayid": "stay_id"}).join(self._stays, on="stay_id", how="inner")
        self.ledger.drop(table, frame.height - placed.height, "rows dropped: no such unit stay with identifiers")
        placed = placed.with_columns(at=at, known=at if entered is None else later(at, entered))
        if entered is not None:
            placed = placed.with_columns(known=pl.when(entered.is_not_null()).then("known"))
        kept = placed.filter(
            pl.col("at").is_between(-TEN_YEARS, TEN_YEARS) & pl.col("known").is_between(-TEN_YEARS, TEN_YEARS)
        )
        self.ledger.drop(table, placed.height - kept.height, "rows dropped: no plausible offset or entry offset")
        return kept

    def named(self, table: str, placed: pl.DataFrame, name: pl.Expr) -> pl.DataFrame:
        """Placed rows with their ``name``; those without one tell nothing and are counted."""
        kept = placed.with_columns(name=name).filter(pl.col("name").str.len_chars() > 0)
        self.ledger.drop(table, placed.height - kept.height, "rows dropped: nothing is named")
        return kept

    def record(
        self,
        table: str,
        placed: pl.DataFrame,
        code: pl.Expr,
        value: pl.Expr | None = None,
        text: pl.Expr | None = None,
    ) -> None:
        """Add placed rows as events; a null code is not an event."""
        events = placed.select(
            *("subject_id", "hadm_id", "stay_id"),
            time=pl.col("intime") + pl.duration(minutes="at", time_unit="us"),
            available_time=pl.col("intime") + pl.duration(minutes="known", time_unit="us"),
            code=code.cast(pl.String),
            numeric_value=(pl.lit(None) if value is None else value).cast(pl.Float32),
            text_value=(pl.lit(None) if text is None else text).cast(pl.String),
            source=pl.lit(table),
        ).drop_nulls("code")
        self._frames.append(events.cast(EVENT_SCHEMA).select(*EVENT_SCHEMA))  # type: ignore[arg-type]


def add_columns(
    register: Register, table: str, frame: pl.DataFrame, prefix: str, values: Mapping[str, pl.Expr], at: pl.Expr
) -> None:
    """One event per non-null value of each row."""
    placed = register.place(table, frame, at)
    for name, value in values.items():
        register.record(table, placed.filter(value.is_not_null()), pl.lit(f"{prefix}{name.upper()}"), value)


def tidy(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()

"""Who there is, what joins, what is dropped: every MIMIC-IV row becomes an event here or is counted as dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.ledger import Ledger

_FORMS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%m/%d/%Y %H:%M")
"""The release's own form, that of parquet conversions, and that of copies of the demo saved by a spreadsheet."""
_DAYS: Final = ("%Y-%m-%d", "%m/%d/%Y")


def moment(column: str) -> pl.Expr:
    """A text column as datetime[us]; a bare date is its midnight; anything else is null.

    >>> times = ["2150-03-01 04:05:06", "3/1/2150 4:05", "2150-03-01", "soon"]
    >>> [str(t) for t in pl.DataFrame({"t": times}).select(moment("t"))["t"]]
    ['2150-03-01 04:05:06', '2150-03-01 04:05:00', '2150-03-01 00:00:00', 'None']
    """
    return pl.col(column).map_batches(_parsed, return_dtype=pl.Datetime("us"))


def _parsed(text: pl.Series) -> pl.Series:
    """Form after form, until nothing is left to read: most tables have one form."""
    found = pl.Series(text.name, [None] * len(text), pl.Datetime("us"))
    for form in (*_FORMS, *_DAYS):
        if found.null_count() == text.null_count():
            break
        if form in _DAYS:
            read = text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
        else:
            read = text.str.to_datetime(form, strict=False, time_unit="us")
        found = found.fill_null(read)
    return found


@dataclass(frozen=True)
class Register:
    """The subjects, admissions and unit stays that rows may belong to.

    Args:
        lives: ``subject_id, born, ended``: no event of a subject lies outside (``ended`` null = not known to be dead).
        admissions: ``subject_id, hadm_id`` and what the tables need of each admission (``dischtime``).
        stays: ``subject_id, stay_id``.
        ledger: Counts of dropped rows.
    """

    lives: pl.DataFrame
    admissions: pl.DataFrame
    stays: pl.DataFrame
    ledger: Ledger

    def of_subjects(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of subjects with a unit stay; the others are none of ours and not counted."""
        return frame.join(self.lives, on="subject_id", how="semi")

    def place(self, table: str, frame: pl.DataFrame, happened: pl.Expr, known: pl.Expr) -> pl.DataFrame:
        """Give each row ``time`` and ``available_time``; drop and count what cannot be placed.

        Args:
            table: Named in the ledger.
            frame: Rows ``of_subjects`` with ``subject_id`` and, where the table has them, ``hadm_id`` and ``stay_id``.
            happened: When it happened.
            known: When the ward could have known; never before ``happened``, null = then.
        """
        frame = self._joined(table, frame)
        placed = frame.with_columns(time=happened, known=known).join(self.lives, on="subject_id", how="inner")
        timed = placed.filter(pl.col("time").is_not_null())
        self.ledger.drop(table, placed.height - timed.height, "rows dropped: no usable time")
        alive = timed.filter((pl.col("time") >= pl.col("born")).fill_null(True))
        self.ledger.drop(table, timed.height - alive.height, "rows dropped: before the subject's birth")
        kept = alive.filter((pl.col("time") <= pl.col("ended")).fill_null(True))
        self.ledger.drop(table, alive.height - kept.height, "rows dropped: after the subject's death")
        return kept.with_columns(available_time=pl.max_horizontal("time", "known")).drop("known", "born", "ended")

    def _joined(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        for key, known, words in (
            ("hadm_id", self.admissions, "no such admission of the subject"),
            ("stay_id", self.stays, "no such unit stay of the subject"),
        ):
            if key in frame.columns:
                pairs = known.select("subject_id", key, joins=pl.lit(True))
                kept = (
                    frame.join(pairs, on=["subject_id", key], how="left", maintain_order="left")
                    .filter(pl.col("joins").is_not_null() | pl.col(key).is_null())
                    .drop("joins")
                )
                self.ledger.drop(table, frame.height - kept.height, f"rows dropped: {words}")
                frame = kept
        return frame


def as_events(
    placed: pl.DataFrame, table: str, code: pl.Expr, value: pl.Expr | None = None, text: pl.Expr | None = None
) -> pl.DataFrame:
    """Placed rows in ``EVENT_SCHEMA``; a row whose code is null is not an event."""
    ids = [pl.col(k) if k in placed.columns else pl.lit(None).alias(k) for k in ("subject_id", "hadm_id", "stay_id")]
    columns: Mapping[str, pl.Expr] = {
        "time": pl.col("time"),
        "available_time": pl.col("available_time"),
        "code": code,
        "numeric_value": pl.lit(None) if value is None else value,
        "text_value": pl.lit(None) if text is None else text,
        "source": pl.lit(table),
    }
    frame = placed.select(*ids, **columns)
    return frame.cast(EVENT_SCHEMA).select(*EVENT_SCHEMA).drop_nulls("code")  # type: ignore[arg-type]

"""Who there is, what joins, what is dropped: every MIMIC-IV row becomes an event here or is counted as dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.reading.later import later
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.positions import Positions


@dataclass(frozen=True)
class Register:
    """The subjects, admissions and unit stays that rows may belong to.

    Args:
        lives: ``subject_id, born, ended``, by ``subject_id``: no event of a subject lies outside (``ended`` null = not
            known to be dead).
        admissions: ``subject_id, hadm_id`` (distinct) and what the tables need of each admission (``dischtime``).
        stays: ``subject_id, stay_id`` (distinct).
        ledger: Counts of dropped rows.
    """

    lives: pl.DataFrame
    admissions: pl.DataFrame
    stays: pl.DataFrame
    ledger: Ledger

    def of_subjects(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of subjects with a unit stay; the others are none of ours and not counted."""
        return self._numbered(frame)[0]

    def place(self, table: str, frame: pl.DataFrame, happened: pl.Expr, known: pl.Expr) -> pl.DataFrame:
        """Give each row ``time`` and ``available_time``; drop and count what cannot be placed.

        Args:
            table: Named in the ledger.
            frame: Rows ``of_subjects`` with ``subject_id`` and, where the table has them, ``hadm_id`` and ``stay_id``.
            happened: When it happened.
            known: When the ward could have known; never before ``happened``, null = then.
        """
        frame, subject = self._numbered(frame)
        frame = frame.with_columns(time=happened, known=known)
        time, life = frame["time"], self.lives[subject]
        kept = self.ledger.sift(
            table,
            frame,
            self._joins(frame, subject)
            | {
                "rows dropped: no usable time": time.is_not_null(),
                "rows dropped: before the subject's birth": (time >= life["born"]).fill_null(True),
                "rows dropped: after the subject's death": (time <= life["ended"]).fill_null(True),
            },
        )
        return kept.with_columns(available_time=later(pl.col("time"), pl.col("known"))).drop("known")

    def stored(self, table: str, frame: pl.DataFrame, happened: str) -> pl.DataFrame:
        """Rows whose ``storetime`` is unknown where it lies before they happened."""
        odd = (frame["storetime"] < frame[happened]).fill_null(False)
        self.ledger.drop(table, int(odd.sum()), f"storetimes before the {happened}: taken as unknown")
        return frame.with_columns(storetime=frame["storetime"].set(odd, None))

    def _numbered(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """Rows ``of_subjects``, and where in ``lives`` the subject of each stands."""
        subject = self._subjects.of(frame["subject_id"])
        ours = subject >= 0
        return (frame, subject) if ours.all() else (frame.filter(ours), subject[ours])

    def _joins(self, frame: pl.DataFrame, subject: NDArray[np.int64]) -> dict[str, pl.Series]:
        """Reason → whether a row names none, or one of its own subject."""
        checks = {}
        for key, (known, owner, reason) in self._owners.items():
            if key in frame.columns:
                found = known.of(frame[key])
                own = (found >= 0) & (owner[found] == subject)
                checks[reason] = pl.Series(own) | frame[key].is_null()
        return checks

    @cached_property
    def _subjects(self) -> Positions:
        return Positions(self.lives["subject_id"])

    @cached_property
    def _owners(self) -> dict[str, tuple[Positions, NDArray[np.int64], str]]:
        """Admissions and unit stays: which there are, the subject of each (its position), what to say of no such."""
        owners = {}
        for key, frame, words in (("hadm_id", self.admissions, "admission"), ("stay_id", self.stays, "unit stay")):
            known = frame.sort(key)
            # one more, so that there is one to look at where none is known
            subject = np.append(self._subjects.of(known["subject_id"]), -1)
            owners[key] = Positions(known[key]), subject, f"rows dropped: no such {words} of the subject"
        return owners


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

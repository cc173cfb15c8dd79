"""Rows in a compact form → events, some stays at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from mmnar.sources.events import EVENT_SCHEMA, Events
from mmnar.sources.physionet2012.codes import OUTCOME, TEXTS

ADMISSION: Final = datetime(2000, 1, 1)
"""Of every stay: the challenge tells hours since then, and no date."""

_STAYS_PER_PART: Final = 1000


@dataclass(frozen=True)
class ChallengeEvents:
    """Rows in a compact form, made events 1,000 stays at a time (``EventSource``).

    Args:
        rows: ``record`` (int32), ``minute`` since admission (int16), ``parameter`` (an enum), ``value`` (float32).
    """

    rows: pl.DataFrame

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Events with the samples they belong to."""
        for block in samples.iter_slices(_STAYS_PER_PART):
            stays = block.select(pl.col("stay_id").cast(pl.Int32)).unique()
            yield Events(_events(self.rows.join(stays, left_on="record", right_on="stay_id", how="semi"))), block


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    at = pl.lit(ADMISSION).cast(pl.Datetime("us")) + pl.duration(minutes="minute", time_unit="us")
    record, parameter = pl.col("record").cast(pl.Int64), pl.col("parameter")
    text = pl.lit(None, pl.String)
    for name, words in TEXTS.items():
        of = pl.col("value").cast(pl.Float64).replace_strict(words, default="other", return_dtype=pl.String)
        text = pl.when(parameter == name).then(of).otherwise(text)
    return rows.select(
        subject_id=record,
        hadm_id=record,
        stay_id=record,
        time=at,
        available_time=at,
        code=parameter.cast(pl.String),
        numeric_value="value",
        text_value=text,
        source=pl.when(parameter == OUTCOME).then(pl.lit("outcomes")).otherwise(pl.lit("stays")),
    ).select(*EVENT_SCHEMA)

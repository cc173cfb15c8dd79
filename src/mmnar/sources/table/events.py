"""Columns and outcomes → events, and the rules that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from mmnar.sources.events import EVENT_SCHEMA, Events, FeatureRule
from mmnar.sources.table.columns import PlannedColumn
from mmnar.sources.table.rows import IDS
from mmnar.sources.table.spec import ColumnSpec

_ROWS_PER_PART: Final = 5000


@dataclass(frozen=True)
class TableEvents:
    """Some columns and outcomes of a wide table, made events 5,000 samples at a time (``EventSource``)."""

    frame: pl.DataFrame
    columns: tuple[PlannedColumn, ...]
    outcomes: tuple[str, ...]

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Events with the samples they belong to."""
        for block in samples.iter_slices(_ROWS_PER_PART):
            rows = self.frame.join(block.select("stay_id").unique(), on="stay_id", how="semi")
            parts = [pl.DataFrame(schema=EVENT_SCHEMA)]  # of columns none may be left
            parts += [_column_events(rows, column) for column in self.columns]
            parts += [_outcome_events(rows, outcome) for outcome in self.outcomes]
            yield Events(pl.concat(parts)), block


def _code(column: ColumnSpec) -> str:
    # the modality last: a column's name may end in the asterisk that would make a code a prefix
    return f"{column.name}//{column.modality}"


def outcome_code(task: str) -> str:
    """Code of a task's outcome event; its number is 1 or 0."""
    return f"OUTCOME//{task}"


def feature_rule(column: PlannedColumn) -> FeatureRule:
    return FeatureRule(
        column.spec.modality,
        column.spec.name,
        (_code(column.spec),),
        "last",
        column.categories,
        column.spec.unit,
        column.spec.low,
        column.spec.high,
    )


def _column_events(rows: pl.DataFrame, column: PlannedColumn) -> pl.DataFrame:
    value, at = pl.col(f"value:{column.spec.name}"), pl.col(f"at:{column.spec.name}")
    number = column.type == "number"
    return (
        # what was known too late was not looked at when the type was chosen, and is no input
        rows.filter(value.is_not_null() & (at <= pl.col("prediction_time")))
        .select(
            *IDS,
            time=at,
            available_time=at,
            code=pl.lit(_code(column.spec)),
            numeric_value=value.cast(pl.Float32) if number else pl.lit(None, pl.Float32),
            text_value=pl.lit(None, pl.String) if number else value,
            source=pl.lit("table"),
        )
        .select(*EVENT_SCHEMA)
    )


def _outcome_events(rows: pl.DataFrame, task: str) -> pl.DataFrame:
    """One minute after the question: whatever its true time, it is no input."""
    answer = pl.col(f"outcome:{task}")
    at = pl.col("prediction_time") + pl.duration(minutes=1, time_unit="us")
    return (
        rows.filter(answer.is_not_null())
        .select(
            *IDS,
            time=at,
            available_time=at,
            code=pl.lit(outcome_code(task)),
            numeric_value=answer.cast(pl.Float32),
            text_value=pl.lit(None, pl.String),
            source=pl.lit("outcomes"),
        )
        .select(*EVENT_SCHEMA)
    )

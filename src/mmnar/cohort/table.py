"""Which rows of a user's table are in, and what is asked of them: as the spec says."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.schema import Task
from mmnar.sources.events import FutureEvents
from mmnar.sources.table import outcome_code
from mmnar.sources.table.spec import TableSpec


def table_criteria(spec: TableSpec) -> tuple[Criterion, ...]:
    """One rule per ``exclude`` of the spec."""
    return tuple(
        Criterion(f"not: {rule.name}", ~pl.col(f"exclude:{i}"), rule.hindsight) for i, rule in enumerate(spec.exclude)
    )


def table_questions(spec: TableSpec) -> tuple[Question, ...]:
    """One question per outcome of the spec, asked at the row's prediction time."""
    return tuple(
        Question(Task(o.name, o.asked_at, o.outcome), pl.col("prediction_time"), (), _answer(o.name))
        for o in spec.outcomes
    )


def _answer(task: str) -> Callable[[FutureEvents], pl.DataFrame]:
    def label(future: FutureEvents) -> pl.DataFrame:
        own = (pl.col("code") == outcome_code(task)) & (pl.col("stay_id") == pl.col("index_stay_id"))
        told = future.frame.filter(own).select("sample", label=pl.col("numeric_value") == 1)
        return pl.DataFrame({"sample": future.samples}).join(told, on="sample", how="left")

    return label

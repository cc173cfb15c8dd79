"""Which simulated stays are in, and what is asked of them: three outcomes, all 24 h after admission."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.schema import Task
from mmnar.simulation.events import OUTCOMES, PREDICTION_AFTER, outcome_code
from mmnar.sources.events import FutureEvents

_WORDS = {
    "icu_admission": "admission to intensive care within 30 days",
    "mortality": "death within 30 days",
    "readmission": "return to hospital within 30 days",
}


def synthetic_criteria() -> tuple[Criterion, ...]:
    """Stays that last until the question is asked."""
    stays_long_enough = pl.col("outtime") >= pl.col("intime") + PREDICTION_AFTER
    return (Criterion("stay of at least 24 h", stays_long_enough, hindsight=True),)


def synthetic_questions() -> tuple[Question, ...]:
    """One question per simulated outcome, in the order of ``Simulation.labels``.

    >>> [q.task.name for q in synthetic_questions()]
    ['icu_admission', 'mortality', 'readmission']
    """
    asked_at = pl.col("intime") + PREDICTION_AFTER
    return tuple(
        Question(Task(name, "24 h after admission", _WORDS[name]), asked_at, (), _happens(name)) for name in OUTCOMES
    )


def _happens(outcome: str) -> Callable[[FutureEvents], pl.DataFrame]:
    def label(future: FutureEvents) -> pl.DataFrame:
        hit = future.frame.filter(pl.col("code") == outcome_code(outcome)).select("sample").unique()
        return hit.with_columns(label=pl.lit(True))

    return label

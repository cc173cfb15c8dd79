"""The 25 phenotypes of the MIMIC benchmarks as questions: whether the admission was billed for them."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.schema import Panel, Task
from mmnar.sources.events import FutureEvents
from mmnar.sources.mimic_iv.phenotypes import Codes, Phenotype, phenotypes


def phenotype_questions(
    at: str, time: pl.Expr, eligible: tuple[Criterion, ...] = (), codes: Codes | None = None
) -> tuple[Question, ...]:
    """One question each.

    Args:
        at: When they are asked, in words.
        time: The same over the columns of ``stays``.
        eligible: Stays of which they can be asked.
        codes: By another list than this package's.
    """
    return tuple(Question(_task(p, at), time, eligible, _billed(p.code)) for p in phenotypes(codes))


def phenotype_panel() -> Panel:
    """All of them, with their kinds."""
    groups = phenotypes()
    return Panel("phenotypes", tuple(p.name for p in groups), kinds=tuple((p.name, p.kind) for p in groups))


def _task(phenotype: Phenotype, at: str) -> Task:
    words = (
        f"{phenotype.description} ({phenotype.kind}; CCS {phenotype.ccs}): a diagnosis code billed for the admission"
    )
    return Task(phenotype.name, at, words)


def _billed(code: str) -> Callable[[FutureEvents], pl.DataFrame]:
    def label(future: FutureEvents) -> pl.DataFrame:
        own = pl.col("hadm_id") == pl.col("index_hadm_id")
        return future.frame.filter((pl.col("code") == code) & own).select("sample", label=pl.lit(True)).unique()

    return label

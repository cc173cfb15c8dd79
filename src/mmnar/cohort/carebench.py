"""Which stays CareBench takes, and its 33 questions, all asked 48 h after admission to the unit.

Yin et al. 2026, sections 3.1 and 4.2. The paper's figure of exclusions is not in its text; the rules stand here in the
order of the text. It calls length of stay the remaining hospital stay and gives classes that begin at two days: what
begins at two days for everybody is the whole stay in the unit, and that is what is asked here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.cohort.mimic_iv import PLANNED, dies_in_hospital
from mmnar.cohort.phenotypes import phenotype_panel, phenotype_questions
from mmnar.schema import Panel, Task
from mmnar.sources.events import FutureEvents
from mmnar.sources.mimic_iv.carebench import ASKED_AFTER
from mmnar.sources.mimic_iv.phenotypes import Codes

AT: Final = "48 h after unit admission"
_AT: Final = pl.col("intime") + ASKED_AFTER
_DAYS: Final[tuple[tuple[int, int | None], ...]] = ((2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 14), (14, None))
"""Classes of the length of a stay: from so many days to less than so many."""


def carebench_criteria(*, notes: bool, matched: bool) -> tuple[Criterion, ...]:
    """The base cohort, or with ``matched`` its matched subset; what is documented afterwards is hindsight.

    Args:
        notes: Whether it is known who has a discharge summary.
        matched: Those with an AP film alone.
    """
    admitted, discharged = pl.col("admittime"), pl.col("dischtime")
    begun, ended = pl.col("intime"), pl.col("outtime")
    # of whom the end is not known yet is still there; cohorts with answers have none such
    lasts = (ended - begun).fill_null(pl.duration(days=3650, time_unit="us"))
    documented = [Criterion("documented: the admission has a diagnosis code", pl.col("coded"), hindsight=True)]
    if notes:
        documented.append(Criterion("documented: the admission has a discharge summary", pl.col("noted"), True))
    film = Criterion("matched: an AP film from 24 h before to 48 h after unit admission", pl.col("film").is_not_null())
    return (
        *documented,
        Criterion(
            "coherent times: admitted before unit admission and discharge, the unit stay ends after it begins",
            (admitted <= begun) & (admitted < discharged) & (begun < discharged) & (begun < ended),
            hindsight=True,
        ),
        Criterion("6 h in the unit or more", lasts >= pl.duration(hours=6)),
        Criterion("not a planned admission", ~pl.col("admission_type").is_in(PLANNED).fill_null(False)),
        Criterion("first unit stay of the admission", pl.col("icu_stay") == 1),
        Criterion("48 h in the unit or more", lasts >= ASKED_AFTER),
        *((film,) if matched else ()),
    )


def carebench_questions(codes: Codes | None = None) -> tuple[Question, ...]:
    """25 phenotypes, death in hospital, and seven classes of the length of the unit stay.

    Args:
        codes: Of the phenotypes, by another list.
    """
    # a death before the question is its answer
    alive = Criterion("alive at 48 h", pl.col("deathtime").is_null() | (pl.col("deathtime") > _AT))
    mortality = Task("mortality", AT, "death before hospital discharge")
    return (
        *phenotype_questions(AT, _AT, (), codes),
        Question(mortality, _AT, (alive,), dies_in_hospital),
        *(Question(_length(*days), _AT, (), _lasting(*days)) for days in _DAYS),
    )


def carebench_panels() -> tuple[Panel, ...]:
    """The three questions of the paper."""
    return (
        phenotype_panel(),
        Panel("mortality", ("mortality",)),
        Panel("length_of_stay", tuple(_length(*days).name for days in _DAYS), exclusive=True),
    )


def _length(least: int, below: int | None) -> Task:
    name = f"los_{least}_up" if below is None else f"los_{least}_{below}"
    span = f"{least} days or more" if below is None else f"{least} to less than {below} days"
    words = f"a stay of {span} in the unit, from admission to leaving it; for those who die there, to death"
    return Task(name, AT, words)


def _lasting(least: int, below: int | None) -> Callable[[FutureEvents], pl.DataFrame]:
    """True: the index stay ends so many days after it began. One that ends at the very question has no end ahead."""

    def label(future: FutureEvents) -> pl.DataFrame:
        left = (pl.col("code") == "ICU_DISCHARGE") & (pl.col("stay_id") == pl.col("index_stay_id"))
        lasts = pl.col("time") - pl.col("prediction_time") + ASKED_AFTER
        ends = future.frame.filter(left).select("sample", lasts=lasts)
        every = pl.DataFrame({"sample": future.samples}).join(ends, on="sample", how="left")
        days = pl.col("lasts").fill_null(ASKED_AFTER)
        within = days >= pl.duration(days=least)
        if below is not None:
            within &= days < pl.duration(days=below)
        return every.select("sample", label=within)

    return label

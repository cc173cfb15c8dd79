"""Which stays MedFuse takes, and its two questions.

Hayat et al. 2022, section 4.1, by the rules of Harutyunyan et al. 2019. Both questions of one stay would lie in one
store as two samples at two times with half of the labels masked each; the paper fits a model for each, of windows and
cohorts of their own. So each question has a store of its own.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.cohort.build import Criterion, Question
from mmnar.cohort.mimic_iv import dies_in_hospital
from mmnar.cohort.phenotypes import phenotype_panel, phenotype_questions
from mmnar.schema import Panel, Task
from mmnar.sources.mimic_iv.medfuse import ASKED_AFTER, Asked
from mmnar.sources.mimic_iv.phenotypes import Codes

AT_48: Final = "48 h after unit admission"
AT_DISCHARGE: Final = "unit discharge, looking back on the whole unit stay"
_AT_48: Final = pl.col("intime") + ASKED_AFTER


def medfuse_criteria(asked: Asked) -> tuple[Criterion, ...]:
    """Adults with one unit stay in one unit; what becomes of a stay is known afterwards, which is hindsight."""
    begun, ended = pl.col("intime"), pl.col("outtime")
    # of whom the end is not known yet is still there; cohorts with answers have none such
    lasts = (ended - begun).fill_null(pl.duration(days=3650, time_unit="us"))
    long = Criterion("48 h in the unit or more", lasts >= ASKED_AFTER)
    return (
        Criterion("no transfer between units during the unit stay", ~pl.col("transferred"), hindsight=True),
        Criterion("the only unit stay of its admission, of those without a transfer", pl.col("alone"), hindsight=True),
        Criterion("adult at admission (18 years or more)", pl.col("age") >= 18),
        Criterion("the unit stay ends after it begins", begun < ended, hindsight=True),
        *((long,) if asked == "mortality" else ()),
    )


def medfuse_questions(asked: Asked, codes: Codes | None = None) -> tuple[Question, ...]:
    """Death in hospital, asked at 48 h; or 25 phenotypes, asked when the patient leaves the unit.

    Args:
        codes: Of the phenotypes, by another list.
    """
    if asked == "phenotypes":
        # without a code it is not known what the admission had
        coded = Criterion("the admission has a diagnosis code", pl.col("coded"), hindsight=True)
        return phenotype_questions(AT_DISCHARGE, pl.col("outtime"), (coded,), codes)
    # a death before the question is its answer
    alive = Criterion("alive at 48 h", pl.col("deathtime").is_null() | (pl.col("deathtime") > _AT_48))
    task = Task("mortality", AT_48, "death before hospital discharge")
    return (Question(task, _AT_48, (alive,), dies_in_hospital),)


def medfuse_panels(asked: Asked) -> tuple[Panel, ...]:
    """The question, for tables."""
    return (phenotype_panel(),) if asked == "phenotypes" else (Panel("mortality", ("mortality",)),)

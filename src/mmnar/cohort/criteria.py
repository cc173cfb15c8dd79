"""Named sets of inclusion rules."""

from __future__ import annotations

import polars as pl

from mmnar.cohort.build import Criterion


def eicu_criteria() -> tuple[Criterion, ...]:
    """The eICU cohort of the CRL-MMNAR paper (C.1.2): age 18-89, unit stay of 12 h to 10 days, identifiers.

    The length of a stay is known only when it is over: in deployment these two rules cannot be applied at 24 h.
    """
    length = pl.col("outtime") - pl.col("intime")
    return (
        Criterion("has identifiers", pl.all_horizontal(pl.col("subject_id", "hadm_id", "stay_id").is_not_null())),
        Criterion("age 18-89", pl.col("age").is_between(18, 89)),
        Criterion("unit stay of at least 12 h", length >= pl.duration(hours=12), hindsight=True),
        Criterion("unit stay of at most 10 days", length <= pl.duration(days=10), hindsight=True),
    )

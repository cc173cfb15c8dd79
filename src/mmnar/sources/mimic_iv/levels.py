"""Charted scores → one column a level: what MedFuse reads as categories, made at the question.

A score measured is a 1 in the column of its level and a 0 in those of its other levels, so that what an encoder carries
forward is one level at any time. Of scores charted in the same minute the largest counts, and of the two sides'
capillary refills the slower. The total of the coma scale is computed (``derived.coma``): of the parts known by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from mmnar.sources.mimic_iv.derived import COMA, EYE, MOTOR, STAY, VERBAL, as_known, charted, coma

REFILL: Final = "REFILL//SLOW"
LEVELS: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "capillary_refill": (REFILL, (0, 1)),
    "gcs_eye": (EYE, tuple(range(1, 5))),
    "gcs_motor": (MOTOR, tuple(range(1, 7))),
    "gcs_total": (COMA, tuple(range(3, 16))),
    "gcs_verbal": (VERBAL, tuple(range(6))),
}
"""Score → its code, and the levels it has."""


def level_code(code: str, level: int) -> str:
    """
    >>> level_code("GCS//EYE", 4)
    'GCS//EYE//4'
    """
    return f"{code}//{level}"


def levels(past: pl.DataFrame) -> pl.DataFrame:
    """Rows known at the question → rows made of them (see ``Derivation``)."""
    known = charted(past)
    totals = coma(known).rename({"numeric_value": "value"})
    columns = [*STAY, "time", "code", "value"]
    scores = pl.concat([known.select(columns), totals.select(columns)])
    table = pl.DataFrame(
        [(code, float(level), level_code(code, level)) for code, of in LEVELS.values() for level in of],
        {"code": pl.String, "level": pl.Float64, "column": pl.String},
        orient="row",
    )
    measured = (
        scores.join(table, left_on=["code", "value"], right_on=["code", "level"], how="semi")
        .group_by(*STAY, "time", "code")
        .agg(pl.col("value").max())
    )
    rows = measured.join(table, on="code").select(
        *STAY, "time", code="column", numeric_value=(pl.col("value") == pl.col("level")).cast(pl.Float64)
    )
    return as_known(rows, past)

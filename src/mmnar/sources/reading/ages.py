"""Age groups, the same for every source."""

from __future__ import annotations

import polars as pl


def age_group(age: pl.Expr) -> pl.Expr:
    """Years → group; null where the age is unknown or below 0.

    >>> pl.DataFrame({"age": [17.9, 18, 64, 65, 80, None]}).select(group=age_group(pl.col("age")))["group"].to_list()
    ['0-17', '18-44', '45-64', '65-79', '80+', None]
    """
    return (
        pl.when(age >= 80)
        .then(pl.lit("80+"))
        .when(age >= 65)
        .then(pl.lit("65-79"))
        .when(age >= 45)
        .then(pl.lit("45-64"))
        .when(age >= 18)
        .then(pl.lit("18-44"))
        .when(age >= 0)
        .then(pl.lit("0-17"))
    )

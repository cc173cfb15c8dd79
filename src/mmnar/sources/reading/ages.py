"""Age groups, the same for every source but for MedFuse's, which has those of its paper."""

from __future__ import annotations

import polars as pl


def decades(age: pl.Expr) -> pl.Expr:
    """Years → the wider groups of MedFuse's table of ages, two decades each; null as in ``age_group``.

    >>> pl.DataFrame({"age": [17.9, 18, 39.9, 40, 60, 80]}).select(group=decades(pl.col("age")))["group"].to_list()
    ['0-17', '18-39', '18-39', '40-59', '60-79', '80+']
    """
    return (
        pl.when(age >= 80)
        .then(pl.lit("80+"))
        .when(age >= 60)
        .then(pl.lit("60-79"))
        .when(age >= 40)
        .then(pl.lit("40-59"))
        .when(age >= 18)
        .then(pl.lit("18-39"))
        .when(age >= 0)
        .then(pl.lit("0-17"))
    )


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

"""The later of two moments."""

from __future__ import annotations

import polars as pl


def later(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """The larger of two columns; of a null and a value the value.

    Polars' own ``max_horizontal`` makes one row of many where both columns hold one value throughout, as those of a
    single patient do (1.44).

    >>> frame = pl.DataFrame({"row": [1, 2, 3]}).with_columns(a=pl.lit(5), b=pl.lit(7), c=pl.lit(None, pl.Int32))
    >>> frame.select(x=later(pl.col("a"), pl.col("b")), y=later(pl.col("c"), pl.col("b"))).rows()
    [(7, 7), (7, 7), (7, 7)]
    """
    return pl.when(other > one).then(other).otherwise(pl.coalesce(one, other))

"""What CareBench computes of several charted values: the total of the coma scale, and rates of urine.

Definitions of mimic-code (Johnson et al. 2018, doi:10.1093/jamia/ocx084; ``gcs``, ``urine_output``, ``kdigo_uo``,
``weight_durations``) and KDIGO 2012, of the rows known at the question alone. Two things differ: a component of the
coma scale that nobody charted in the six hours before leaves no total, where mimic-code takes it as normal; and a
weight counts within the plausible range of its feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

EYE, VERBAL, MOTOR, COMA = "GCS//EYE", "GCS//VERBAL", "GCS//MOTOR", "GCS//TOTAL"
URINE, IRRIGANT, WEIGHT = "OUTPUT//URINE", "OUTPUT//IRRIGANT", "VITAL//WEIGHT"
OUTPUT: Final = "URINE//OUTPUT"
WINDOWS: Final[Mapping[int, float]] = {6: 12.0, 12: float("inf"), 24: float("inf")}
"""Hours of a window of KDIGO → from how many observed hours on there is no rate of it; fewer than its own are none."""

_COMPONENTS: Final = {EYE: (1, 4), VERBAL: (0, 5), MOTOR: (1, 6)}
_LATELY: Final = pl.duration(hours=6)
_SEDATED: Final = 15
_WEIGHTS: Final = (20, 400)
STAY: Final = ("sample", "subject_id", "stay_id", "prediction_time")
"""Of a row: whose it is, and at which question."""


def rate(hours: int) -> str:
    return f"URINE//RATE_{hours}H"


def observed(hours: int) -> str:
    return f"URINE//HOURS_{hours}H"


def derived(past: pl.DataFrame) -> pl.DataFrame:
    """Rows known at the question → rows made of them (see ``Derivation``)."""
    known = charted(past)
    return as_known(pl.concat([coma(known), _urine(known)]), past)


def charted(past: pl.DataFrame) -> pl.DataFrame:
    """Rows of the stay that have a number, as ``value``."""
    known = past.filter(pl.col("recent") & pl.col("numeric_value").is_finite())
    return known.with_columns(value=pl.col("numeric_value").cast(pl.Float64))


def as_known(made: pl.DataFrame, past: pl.DataFrame) -> pl.DataFrame:
    """What was made of rows (their ids, ``time``, ``code``, ``numeric_value``) as rows of ``past``."""
    constant = {"available_time": pl.col("prediction_time"), "source": pl.lit("derived"), "recent": pl.lit(True)}
    rows = made.with_columns(**constant, hadm_id=pl.lit(None), text_value=pl.lit(None))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in past.schema.items())


def coma(charted: pl.DataFrame) -> pl.DataFrame:
    """Total of the coma scale: of eyes, voice and movement charted at one time, or within the six hours before; 15
    while intubated (voice 0)."""
    code, value = pl.col("code"), pl.col("value")
    plausible = [(code == name) & value.is_between(*within) for name, within in _COMPONENTS.items()]
    together = (
        charted.filter(pl.any_horizontal(plausible))
        .group_by(*STAY, "time")
        .agg(value.filter(code == name).max().alias(name) for name in _COMPONENTS)
        .sort(*STAY, "time")
    )
    lately = {name: _last(name) for name in _COMPONENTS}
    extubated = (pl.col(VERBAL) > 0) & (_last(VERBAL, before=1) == 0)
    total = (
        pl.when(lately[VERBAL] == 0)
        .then(_SEDATED)
        .when(extubated)
        .then(pl.col(EYE) + pl.col(VERBAL) + pl.col(MOTOR))
        .otherwise(lately[EYE] + lately[VERBAL] + lately[MOTOR])
    )
    return _long(together.with_columns(total.cast(pl.Float64).alias(COMA)), [COMA])


def _last(name: str, before: int = 0) -> pl.Expr:
    """The latest value, of so many rows before, if it is not six hours old."""
    value = pl.col(name).forward_fill().shift(before).over(STAY)
    time = pl.when(pl.col(name).is_not_null()).then("time").forward_fill().shift(before).over(STAY)
    return pl.when(pl.col("time") - time < _LATELY).then(value)


def _urine(charted: pl.DataFrame) -> pl.DataFrame:
    """Urine of one time, less what was put in; and per window of KDIGO the hours it was collected over and its rate."""
    code, value = pl.col("code"), pl.col("value")
    signed = pl.when((code == IRRIGANT) & (value > 0)).then(-value).otherwise(value)
    since = (pl.col("time") - pl.col("time").shift(1).over(STAY)).dt.total_microseconds() / 3.6e9
    amounts = (
        charted.filter(code.is_in([URINE, IRRIGANT]))
        .group_by(*STAY, "time")
        # sorted: a sum must not depend on the order of rows
        .agg(signed.sort().sum().alias(OUTPUT))
        .sort(*STAY, "time")
        # of the first nobody knows since when
        .with_columns(hours=since.fill_null(1.0))
    )
    weights = charted.filter((code == WEIGHT) & value.is_between(*_WEIGHTS))
    amounts = _weighed(amounts, weights)
    parts = [_long(amounts, [OUTPUT])]
    for window, end in WINDOWS.items():
        span = amounts.rolling("time", period=f"{window}h", closed="both", group_by=STAY).agg(
            pl.col(OUTPUT, "hours").sum(), pl.col("weight").last()
        )
        enough = (pl.col("hours") >= window) & (pl.col("hours") < end)
        per_hour = pl.when(enough).then(pl.col(OUTPUT) / pl.col("weight") / pl.col("hours"))
        span = span.with_columns(per_hour.alias(rate(window)), pl.col("hours").alias(observed(window)))
        parts.append(_long(span, [rate(window), observed(window)]))
    return pl.concat(parts)


def _weighed(amounts: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """+ ``weight``: the latest one by then, else the first there is."""
    both = pl.concat([weights.select(*STAY, "time", weight="value"), amounts], how="diagonal")
    # of one time the weight comes first, of several the largest counts
    both = both.sort(*STAY, "time", OUTPUT, "weight", nulls_last=False)
    known = pl.col("weight").forward_fill().backward_fill().over(STAY)
    return both.with_columns(weight=known).drop_nulls("hours")


def _long(frame: pl.DataFrame, codes: list[str]) -> pl.DataFrame:
    rows = frame.unpivot(codes, index=[*STAY, "time"], variable_name="code", value_name="numeric_value")
    return rows.drop_nulls("numeric_value")

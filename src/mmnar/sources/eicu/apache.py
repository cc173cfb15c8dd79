"""APACHE tables: measurements of the first day, and the scores computed from them."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.sources.eicu.register import Register, add_columns
from mmnar.sources.eicu.rules import PREDICTION

APACHE_DAY: Final = 24 * 60
"""Minutes after unit admission at which APACHE's first day is over."""

APS: Final = (
    *("intubated", "vent", "dialysis", "eyes", "motor", "verbal", "meds", "urine", "wbc", "temperature"),
    *("respiratoryrate", "sodium", "heartrate", "meanbp", "ph", "hematocrit", "creatinine", "albumin", "pao2"),
    *("pco2", "bun", "glucose", "bilirubin", "fio2"),
)
PRED: Final = (
    *("ventday1", "oobventday1", "oobintubday1", "activetx", "electivesurgery", "thrombolytics", "midur", "ima"),
    *("ejectfx", "aids", "hepaticfailure", "lymphoma", "metastaticcancer", "leukemia", "immunosuppression"),
    *("cirrhosis", "diabetes"),
)
RESULT: Final = ("acutephysiologyscore", "apachescore", "preopmi", "preopcardiaccath", "ptcawithin24h")
RESULT_PREDICTED: Final = (
    *("predictedicumortality", "predictedhospitalmortality", "predictediculos", "predictedhospitallos"),
    "predventdays",
)


def add_aps(register: Register, table: str, frame: pl.DataFrame) -> None:
    m = _measured
    derived = {
        "gcs": m("eyes") + m("motor") + m("verbal"),
        "shock_index": pl.when(m("meanbp") > 0).then(m("heartrate") / m("meanbp")),
        "pf_ratio": pl.when(m("fio2") > 0).then(m("pao2") / m("fio2") * 100),
    }
    add_columns(register, table, frame, "APS//", {c: m(c) for c in APS} | derived, pl.lit(APACHE_DAY))


def add_pred(register: Register, table: str, frame: pl.DataFrame) -> None:
    add_columns(register, table, frame, "APACHE_PRED//", {c: _measured(c) for c in PRED}, pl.lit(APACHE_DAY))


def add_result(register: Register, table: str, frame: pl.DataFrame) -> None:
    frame = frame.filter(pl.col("apacheversion") == "IVa")
    at = pl.lit(APACHE_DAY)
    add_columns(register, table, frame, "APACHE//", {c: _measured(c) for c in RESULT}, at)
    add_columns(register, table, frame, PREDICTION, {c: _measured(c) for c in RESULT_PREDICTED}, at)


def _measured(column: str) -> pl.Expr:
    """-1 and below stand for "not measured" in the APACHE tables."""
    return pl.when(pl.col(column) >= 0).then(column)

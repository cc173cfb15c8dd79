"""The challenge's codes: its parameters, the meaning of its numbers for sex and unit, and the rules made of them."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from mmnar.sources.events import FeatureRule, Rule, SeriesRule
from mmnar.sources.reading.code_tables import code_table

HOURS: Final = 48
"""Hours of record; the question is asked when they are over."""

OUTCOME: Final = "In-hospital_death"
"""Code of the outcome event; its number is 1 for death, 0 for survival."""

DESCRIPTORS: Final = ("Age", "Gender", "Height", "Weight", "ICUType")

TEXTS: Final[dict[str, dict[float, str]]] = {
    "Gender": {0: "Female", 1: "Male"},
    "ICUType": {1: "Coronary Care", 2: "Cardiac Surgery Recovery", 3: "Medical", 4: "Surgical"},
}


def parameters() -> list[str]:
    """Names of all parameters, each once."""
    return list(dict.fromkeys(row["code"] for row in code_table("physionet2012")))


PARAMETER: Final = pl.Enum([*parameters(), OUTCOME])
"""Type of a column of codes: one of the parameters, or the outcome."""


def rules() -> tuple[Rule, ...]:
    """The code table, line by line."""
    return tuple(_rule(row) for row in code_table("physionet2012"))


def _rule(row: dict[str, str]) -> Rule:
    codes, low, high = (row["code"],), *(float(row[c]) if row[c] else None for c in ("low", "high"))
    if row["kind"] == "series":
        return SeriesRule(row["modality"], row["feature"], codes, row["unit"], low, high)
    aggregation: Any = row["aggregation"]
    categories = tuple(c for c in row["categories"].split(";") if c)
    return FeatureRule(row["modality"], row["feature"], codes, aggregation, categories, row["unit"], low, high)

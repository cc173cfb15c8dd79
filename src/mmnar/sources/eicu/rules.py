"""The code tables: classes of drugs, and the rules by which events become features."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from mmnar.sources.events import Aggregation, FeatureRule
from mmnar.sources.reading.code_tables import code_table

PREDICTION: Final = "APACHE_PREDICTION//"


def drug_classes() -> dict[str, tuple[str, list[int]]]:
    """Class → (regular expression over lower-case names, HICL ingredient numbers)."""
    classes: dict[str, tuple[str, list[int]]] = {}
    for row in code_table("eicu_drugs"):
        names = "|".join(re.escape(n) for n in row["names"].split(";"))
        classes[row["drug_class"]] = (names, [int(n) for n in row["hicl"].split(";") if n])
    return classes


def feature_rules(tables: set[str], apache_prediction: bool) -> tuple[FeatureRule, ...]:
    """Rules of the tables that are there."""
    return tuple(
        _rule(row)
        for row in code_table("eicu")
        if row["table"] in tables and (apache_prediction or not row["codes"].startswith(PREDICTION))
    )


def _rule(row: dict[str, str]) -> FeatureRule:
    # the table is ours: a word that is no aggregation is a bug
    assert row["aggregation"] in get_args(Aggregation)
    aggregation: Any = row["aggregation"]
    return FeatureRule(
        modality=row["modality"],
        feature=row["feature"],
        codes=tuple(row["codes"].split(";")),
        aggregation=aggregation,
        categories=tuple(c for c in row["categories"].split(";") if c),
        unit=row["unit"],
        low=float(row["low"]) if row["low"] else None,
        high=float(row["high"]) if row["high"] else None,
        zero_if_recorded=row["zero_if_recorded"],
    )

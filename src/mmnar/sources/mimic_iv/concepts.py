"""The code tables: raw items → concepts with units and plausible ranges, and the rules that read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import polars as pl

from mmnar.sources.events import Aggregation, FeatureRule, SeriesRule
from mmnar.sources.reading.code_tables import code_table
from mmnar.sources.reading.units import spelled, ways_to

STRUCTURED: Final = "structured"


@dataclass(frozen=True)
class Concept:
    """One clinical quantity or class of treatment.

    Args:
        code: Event code.
        items: itemid → the unit it is documented to have, which is taken where a row names none.
        unit: Unit of the event.
        also: Other spellings of that unit.
        low, high: Plausible range; applied, with a count, when features are made.
        fraction: Values of at most 1 are fractions of a quantity in %.
        aggregations: Of the features made of it.
        description: In words.
        names: For classes of drugs: parts of lower-case drug names.
        words: Text of an item (``in_words``) → the number it stands for; it goes before a number beside it.
        worded: Whether its items are told in words alone.
    """

    code: str
    items: Mapping[int, str]
    aggregations: tuple[Aggregation, ...]
    description: str
    unit: str = ""
    also: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    fraction: bool = False
    names: str = ""
    words: Mapping[str, float] = field(default_factory=dict)
    worded: bool = False


def concepts(name: str, prefix: str = "") -> tuple[Concept, ...]:
    """The concepts of a code table; ``prefix`` goes before codes that several tables share."""
    return tuple(_concept(row, prefix) for row in code_table(f"mimic_iv_{name}"))


def _concept(row: Mapping[str, str], prefix: str) -> Concept:
    unit = row.get("unit", "")
    items = (item.partition(":") for item in row["items"].split(";") if item)
    aggregations: tuple[Any, ...] = tuple(row["aggregations"].split(";"))
    # the tables are ours: a word that is no aggregation is a bug
    assert set(aggregations) <= set(get_args(Aggregation))
    return Concept(
        code=prefix + row["code"],
        items={int(item): own or unit for item, _, own in items},
        aggregations=aggregations,
        description=row["description"],
        unit=unit,
        also=tuple(s for s in row.get("also", "").split(";") if s),
        low=float(row["low"]) if row.get("low") else None,
        high=float(row["high"]) if row.get("high") else None,
        fraction=row.get("form", "") == "fraction",
        names="|".join(re.escape(n) for n in row.get("names", "").split(";") if n),
        words=dict(_word(cell) for cell in row.get("words", "").split(";") if cell),
        worded=row.get("form", "") == "words",
    )


def _word(cell: str) -> tuple[str, float]:
    """
    >>> _word("PVC's"), _word("No Response-ETT=0")
    (("pvc's", 1.0), ('no response-ett', 0.0))
    """
    text, _, number = cell.partition("=")
    return " ".join(text.lower().split()), float(number or 1)


def in_words(column: str) -> pl.Expr:
    """Text as ``Concept.words`` has it: in small letters, with single blanks."""
    return pl.col(column).str.to_lowercase().str.strip_chars().str.replace_all(r"\s+", " ")


def conversions(table: tuple[Concept, ...]) -> pl.DataFrame:
    """``itemid, unit_found, code, factor, offset, fraction``: every unit that each item may come in."""
    rows = []
    for concept in (c for c in table if not c.worded):
        ways = ways_to(concept.unit, concept.also)
        for item, own in concept.items.items():
            found = ways | {"": ways[spelled(own)]}
            rows += [(item, u, concept.code, *way, concept.fraction) for u, way in found.items()]
    schema = {"itemid": pl.Int64, "unit_found": pl.String, "code": pl.String}
    return pl.DataFrame(
        rows, schema | {"factor": pl.Float64, "offset": pl.Float64, "fraction": pl.Boolean}, orient="row"
    )


def coded(table: tuple[Concept, ...]) -> pl.DataFrame:
    """``itemid, code``."""
    rows = [(item, concept.code) for concept in table for item in concept.items]
    return pl.DataFrame(rows, {"itemid": pl.Int64, "code": pl.String}, orient="row")


def told_in_words(table: tuple[Concept, ...]) -> pl.DataFrame:
    """``itemid, word, code, number``: every text that stands for a number."""
    rows = [(item, word, c.code, number) for c in table for item in c.items for word, number in c.words.items()]
    schema = {"itemid": pl.Int64, "word": pl.String, "code": pl.String, "number": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def feature_name(code: str) -> str:
    """
    >>> feature_name("VITAL//HEART_RATE")
    'vital_heart_rate'
    """
    return code.lower().replace("//", "_")


def aggregate_rules(table: tuple[Concept, ...], source: str) -> list[FeatureRule]:
    """One feature per concept and aggregation; a count is 0 where the table was kept and it did not happen."""
    return [
        FeatureRule(
            STRUCTURED,
            f"{feature_name(concept.code)}_{aggregation}",
            (concept.code,),
            aggregation,
            unit="" if aggregation == "count" else concept.unit,
            low=concept.low,
            high=concept.high,
            zero_if_recorded=source if aggregation == "count" else "",
        )
        for concept in table
        for aggregation in concept.aggregations
    ]


def series_rules(table: tuple[Concept, ...]) -> list[SeriesRule]:
    """One series per concept; of treatments every event is a 1."""
    return [SeriesRule(STRUCTURED, feature_name(c.code), (c.code,), unit=c.unit, low=c.low, high=c.high) for c in table]

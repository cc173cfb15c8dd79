"""From the codes of a MEDS data set to modalities: by their first part, or as a YAML file says.

No label and no fold has a part in it: codes are ranked by the number of subjects who have them, over all subjects of
the data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import polars as pl

from mmnar.config import override
from mmnar.errors import ConfigError, nearest
from mmnar.sources.events import Aggregation, FeatureRule, Rule, SeriesRule, TextRule

AGE: Final = "AGE_AT_PREDICTION"
"""Code of the event that the reader adds at each prediction time: years since ``MEDS_BIRTH``."""

GROUPS: Final = 10
"""Modalities made without a YAML file, at most (demographics and notes come on top)."""

CODES: Final = 20
"""Codes that get features of their own in each, at most."""

LONG_TEXT: Final = 100
"""Mean characters from which the texts of a code are notes."""

P = TypeVar("P")

_DEMOGRAPHIC: Final = ("gender", "sex", "race", "ethnicity")
_NEVER: Final = ("MEDS_BIRTH", "MEDS_DEATH")
_NUMERIC: Final[tuple[Aggregation, ...]] = ("last", "min", "max", "mean", "count")

MAX_MISSING: Final = 1.0
"""A modality is present as soon as anything of it was recorded."""


def group_of(code: pl.Expr) -> pl.Expr:
    """The table a code speaks of: its part before the first ``//``, in small letters, digits and underscores.

    >>> frame = pl.DataFrame({"code": ["LAB//50912//mg/dL", "Blood Pressure", "MEDS_DEATH"]})
    >>> frame.select(group_of(pl.col("code"))).to_series().to_list()
    ['lab', 'blood_pressure', 'meds_death']
    """
    first = code.str.split("//").list.first().str.to_lowercase()
    return first.str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_").replace("", "other")


@dataclass(frozen=True)
class ModalityPlan:
    """One modality of a YAML file.

    Args:
        kind: ``static``: aggregates; ``series``: every number at its own time; ``text``: notes.
        codes: Its codes; one ending in ``*`` matches a prefix.
        top: Of them, this many codes with the most subjects get features of their own (static, series).
        aggregations: Of a numeric code (static); other codes are counted.
        history: Read the whole past, not only what lies within ``--since-days`` (static).
        features: name → ``codes`` and, if need be, ``aggregation, categories, unit, low, high, zero_if_recorded,
            history`` of one feature, instead of ``codes`` (static, series).
    """

    kind: Literal["static", "series", "text"] = "static"
    codes: tuple[str, ...] = ()
    top: int = CODES
    aggregations: tuple[Aggregation, ...] = _NUMERIC
    history: bool = False
    features: dict[str, Any] | None = None


@dataclass(frozen=True)
class _FeaturePlan:
    codes: tuple[str, ...] = ()
    aggregation: Aggregation = "last"
    categories: tuple[str, ...] = ()
    unit: str = ""
    low: float | None = None
    high: float | None = None
    zero_if_recorded: str = ""
    history: bool = False


def automatic_rules(codes: pl.DataFrame) -> tuple[Rule, ...]:
    """One modality per group of codes.

    Args:
        codes: One row per code: ``code, group, events, subjects, numeric`` (events with a number), ``static`` (events
            without a time), ``text_length`` (mean characters, null without texts).

    Returns:
        *demographics*: age, sex, race, ethnicity and whatever has no time; then the ``GROUPS`` groups with the most
        subjects, each with the number of events, the number of distinct codes, and features of its ``CODES`` codes
        with the most subjects; last *notes*: every code whose texts are long.
    """
    ranked = _ranked(codes.filter(~pl.col("code").is_in(_NEVER)))
    is_note = (pl.col("text_length") >= LONG_TEXT).fill_null(False)
    demographic = ((pl.col("static") > 0) | pl.col("group").is_in(_DEMOGRAPHIC)) & (pl.col("code") != AGE)
    notes = ranked.filter(is_note)
    person = ranked.filter(demographic & ~is_note)
    rest = ranked.filter(~demographic & ~is_note & (pl.col("code") != AGE))
    rules: list[Rule] = []
    if (codes["code"] == AGE).any():
        rules.append(FeatureRule("demographics", "age", (AGE,), unit="a"))
    rules += _features("demographics", person.head(CODES), _NUMERIC, history=True)
    groups = rest.group_by("group").agg(pl.col("subjects").max(), pl.col("events").sum())
    for group in groups.sort(["subjects", "events", "group"], descending=[True, True, False]).head(GROUPS)["group"]:
        members = rest.filter(group=group)
        modality = f"{group}_events" if group in ("demographics", "notes") else group
        everything = tuple(sorted(members["code"]))
        rules.append(FeatureRule(modality, "all events", everything, "count"))
        rules.append(FeatureRule(modality, "distinct codes", everything, "nunique"))
        rules += _features(modality, members.head(CODES), _NUMERIC, history=False)
    if notes.height:
        rules.append(TextRule("notes", tuple(sorted(notes["code"]))))
    return tuple(rules)


def planned_rules(path: Path, codes: pl.DataFrame) -> tuple[Rule, ...]:
    """The modalities of a YAML file: name → fields of ``ModalityPlan``.

    Args:
        codes: As in ``automatic_rules``.

    Raises:
        ConfigError: Not YAML of that form, an unknown word, or codes that the data set does not have.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"'{path}'", "a readable YAML file", type(error).__name__, "correct it") from None
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"'{path}'", "modality: {kind, codes, …}", type(content).__name__, "see docs/meds.md")
    rules: list[Rule] = []
    for name, fields in content.items():
        rules += _planned(str(name), _filled(ModalityPlan(), fields, str(name)), codes)
    return tuple(rules)


def _filled(plan: P, fields: Any, where: str) -> P:
    """``plan`` with the fields of a YAML mapping."""
    if not isinstance(fields, Mapping):
        raise ConfigError(f"'{where}'", "a mapping: kind, codes, …", type(fields).__name__, "see docs/meds.md")
    try:
        return override(plan, dict(fields), f"{where}.")
    except (TypeError, ValueError):  # a number where a list belongs, a list where a mapping does
        raise ConfigError(f"'{where}'", "lists and mappings where they belong", "others", "see docs/meds.md") from None


def _planned(modality: str, plan: ModalityPlan, codes: pl.DataFrame) -> Sequence[Rule]:
    if plan.features is not None:
        return [_one(modality, name, fields, plan.kind, codes) for name, fields in plan.features.items()]
    found = _ranked(codes.filter(matching(plan.codes)))
    if found.is_empty():
        raise _no_such_code(f"modality '{modality}'", plan.codes, codes)
    if plan.kind == "text":
        return [TextRule(modality, plan.codes)]
    if plan.kind == "series":
        numeric = found.filter(pl.col("numeric") > 0).head(plan.top)["code"]
        return [SeriesRule(modality, code, (code,)) for code in numeric]
    return _features(modality, found.head(plan.top), plan.aggregations, plan.history)


def _one(modality: str, name: str, fields: Any, kind: str, codes: pl.DataFrame) -> Rule:
    """A feature that is spelt out."""
    where = f"{modality}.features.{name}"
    if kind == "text":
        raise ConfigError(f"'{where}'", "a static or series modality", "text", "give the notes' codes instead")
    plan = _filled(_FeaturePlan(), fields, where)
    if codes.filter(matching(plan.codes)).is_empty():
        raise _no_such_code(f"'{where}'", plan.codes, codes)
    if kind == "series":
        return SeriesRule(modality, name, plan.codes, plan.unit, plan.low, plan.high)
    return FeatureRule(modality, name, **vars(plan))


def matching(patterns: Sequence[str]) -> pl.Expr:
    """Whether a code is one of them; one ending in ``*`` matches a prefix."""
    exact = [p for p in patterns if not p.endswith("*")]
    prefixes = [pl.col("code").str.starts_with(p[:-1]) for p in patterns if p.endswith("*")]
    return pl.any_horizontal(pl.col("code").is_in(exact), *prefixes)


def _no_such_code(subject: str, patterns: Sequence[str], codes: pl.DataFrame) -> ConfigError:
    if not patterns:
        return ConfigError(subject, "codes", "none", "list codes, or prefixes that end in *")
    hint = nearest(patterns[0].rstrip("*"), codes["group"].unique().to_list() + codes["code"].head(1000).to_list())
    return ConfigError(subject, f"a code like {', '.join(patterns)}", "none in the data set", hint)


def _ranked(codes: pl.DataFrame) -> pl.DataFrame:
    return codes.sort(["subjects", "events", "code"], descending=[True, True, False])


def _features(
    modality: str, codes: pl.DataFrame, aggregations: Sequence[Aggregation], history: bool
) -> list[FeatureRule]:
    """Aggregates of numeric codes, counts of others; a count is 0 where the group was recorded and the code was not."""
    rules = []
    for code, group, numeric in codes.select("code", "group", "numeric").iter_rows():
        for aggregation in aggregations if numeric else ("count",):
            zero = group if aggregation == "count" else ""
            name = f"{code} {aggregation}"
            rules.append(FeatureRule(modality, name, (code,), aggregation, zero_if_recorded=zero, history=history))
    return rules

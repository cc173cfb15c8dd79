"""Features: past events → one row of numbers per sample. Nothing here is fitted, nothing sees a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import SchemaError
from mmnar.sources.events import FeatureRule, PastEvents, Rule, SeriesRule

_COUNTING: Final = ("count", "nunique")


def static_features(
    past: PastEvents, rules: Sequence[FeatureRule]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
    """Aggregate each sample's past events into features.

    Ties in time are ordered by value, so that no answer depends on the order of the rows. Sums run in that
    order, one sample at a time in float64, so that no answer depends on other samples' rows either.

    Args:
        past: Events known at prediction time.
        rules: Feature rules; columns come out in this order within each modality.

    Returns:
        modality → (N, F) float32, N samples in the order of ``past.samples``; NaN where nothing was observed; a
        category is its index. And ``modality.feature`` → number of values outside the plausible range, where there
        are any.

    Raises:
        SchemaError: A categorical rule does not end in ``"other"``, or does not take ``last`` or ``first``.
    """
    _check(rules)
    frame = past.numbered
    # rules that differ in their aggregation alone read the same events: those are gathered once
    read = [_reading(rule) for rule in rules]
    readings = {reading: number for number, reading in enumerate(dict.fromkeys(read))}
    number = [readings[reading] for reading in read]
    hits = _hits(frame, [rules[number.index(i)] for i in range(len(readings))])
    table = np.full((len(rules), len(past.samples)), np.nan, dtype=np.float64)
    for aggregation in dict.fromkeys(rule.aggregation for rule in rules):
        wanted = [i for i, rule in enumerate(rules) if rule.aggregation == aggregation]
        part = hits.filter(pl.col("rule").is_in({number[i] for i in wanted}))
        if aggregation not in _COUNTING:
            part = part.filter("plausible")
        cells = np.full((len(readings), len(past.samples)), np.nan, dtype=np.float64)
        _aggregate(cells, part, aggregation)
        table[wanted] = cells[[number[i] for i in wanted]]
    _zeros(table, hits, frame, rules, number)
    values = {
        modality: np.ascontiguousarray(table[_rows(rules, modality)].T.astype(np.float32))
        for modality in dict.fromkeys(rule.modality for rule in rules)
    }
    return values, _implausible(hits, rules, number)


def _reading(rule: FeatureRule) -> tuple[object, ...]:
    """What of the events a rule reads."""
    return rule.codes, rule.low, rule.high, rule.history, rule.categories


def _implausible(hits: pl.DataFrame, rules: Sequence[FeatureRule], number: Sequence[int]) -> dict[str, int]:
    """Of rules that read the same codes within the same range the first is named."""
    first: dict[tuple[object, ...], int] = {}
    for i, rule in enumerate(rules):
        if rule.aggregation not in _COUNTING and not rule.categories:
            first.setdefault((rule.codes, rule.low, rule.high), i)
    outside = hits.filter(~pl.col("plausible") & pl.col("value").is_not_null())
    counts = dict(outside.group_by("rule").len().iter_rows())
    found = ((rules[i], counts.get(number[i], 0)) for i in first.values())
    return {f"{rule.modality}.{rule.feature}": count for rule, count in found if count}


def ranges(rules: Sequence[Rule]) -> list[FeatureRule]:
    """The rules whose values have a plausible range, one for all that differ in their aggregation alone."""
    ranged = [
        FeatureRule(r.modality, r.feature, r.codes, unit=r.unit, low=r.low, high=r.high, history=_has_history(r))
        for r in rules
        if isinstance(r, FeatureRule | SeriesRule) and not (r.low is None and r.high is None) and not _counts(r)
    ]
    return list({_reading(rule): rule for rule in reversed(ranged)}.values())[::-1]


def implausible(past: PastEvents, ranged: Sequence[FeatureRule]) -> dict[int, list[FeatureRule]]:
    """Position in ``past.samples`` → those of ``ranges`` outside of which it has a value."""
    hits = _hits(past.numbered, ranged).filter(~pl.col("plausible") & pl.col("value").is_not_null())
    found: dict[int, list[FeatureRule]] = {}
    for sample, rule in hits.select("sample", "rule").unique(maintain_order=True).iter_rows():
        found.setdefault(sample, []).append(ranged[rule])
    return found


def _has_history(rule: FeatureRule | SeriesRule) -> bool:
    return isinstance(rule, FeatureRule) and rule.history


def _counts(rule: FeatureRule | SeriesRule) -> bool:
    return isinstance(rule, FeatureRule) and rule.aggregation in _COUNTING


def matches(codes: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> pl.DataFrame:
    """``code, rule`` pairs, each once: which of ``wanted`` (one tuple of codes or ``prefix*`` a rule) reads a code."""
    pairs: set[tuple[str, int]] = set()
    for i, own in enumerate(wanted):
        exact = {c for c in own if not c.endswith("*")}
        prefixes = tuple(c[:-1] for c in own if c.endswith("*"))
        pairs.update((code, i) for code in codes if code in exact or (prefixes and code.startswith(prefixes)))
    return pl.DataFrame(sorted(pairs), schema={"code": pl.String, "rule": pl.Int64}, orient="row")


def _rows(rules: Sequence[FeatureRule], modality: str) -> list[int]:
    return [i for i, rule in enumerate(rules) if rule.modality == modality]


def _check(rules: Sequence[FeatureRule]) -> None:
    for rule in rules:
        if rule.categories and (rule.categories[-1] != "other" or rule.aggregation not in ("last", "first")):
            raise SchemaError(
                f"feature rule '{rule.modality}.{rule.feature}'",
                "categories that end in 'other', taken last or first",
                f"{rule.categories[-1]!r}, {rule.aggregation}",
                "correct the source's feature rules",
            )


def _hits(frame: pl.DataFrame, rules: Sequence[FeatureRule]) -> pl.DataFrame:
    """Events matched with rules: ``rule, sample, value, plausible, code``, ordered by rule, sample, time, value."""
    pairs = matches(frame["code"].unique().to_list(), [rule.codes for rule in rules])
    categorical = [i for i, rule in enumerate(rules) if rule.categories]
    n = (frame["sample"].max() or 0) + 1  # type: ignore[operator]
    recent = frame.filter("recent")
    parts = []
    for events, history in ((recent, False), (frame, True)):
        numbers = [i for i, rule in enumerate(rules) if not rule.categories and rule.history is history]
        value = pl.col("numeric_value").cast(pl.Float64)
        # of 0.0 and -0.0 at one time neither sorts first
        value = pl.when(value == 0.0).then(0.0).otherwise(value)
        parts.append(_matched(events, pairs.filter(pl.col("rule").is_in(numbers)), value))
    for i in categorical:
        events = frame if rules[i].history else recent
        parts.append(_matched(events, pairs.filter(rule=i), _index(rules[i].categories)))
    return (
        pl.concat(parts)
        .join(bounds(rules), on="rule", how="left", maintain_order="left")
        .with_columns(
            plausible=(pl.col("value").is_finite() & pl.col("value").is_between("low", "high")).fill_null(False),
            cell=pl.col("rule") * n + pl.col("sample"),
        )
        # time and value are in order already; one stable sort is cheaper than four keys
        .sort("cell", maintain_order=True)
        .select("rule", "sample", "value", "plausible", "code")
    )


def _matched(frame: pl.DataFrame, pairs: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    """``rule, sample, code, value``, ordered by time and value within each rule and sample."""
    return (
        frame.filter(pl.col("code").is_in(pairs["code"].unique().implode()))
        .select("sample", "time", "code", value=value)
        .sort("time", "value", nulls_last=True)
        .join(pairs, on="code", maintain_order="left")
        .select("rule", "sample", "code", "value")
    )


def _index(categories: tuple[str, ...]) -> pl.Expr:
    """Index of ``text_value``; the last category for a text that is not among them."""
    indices = {category: float(i) for i, category in enumerate(categories)}
    text = pl.col("text_value")
    known = text.replace_strict(indices, default=float(len(categories) - 1), return_dtype=pl.Float64)
    return pl.when(text.is_not_null()).then(known)


def bounds(rules: Sequence[FeatureRule | SeriesRule]) -> pl.DataFrame:
    """``rule, low, high``: the plausible range of each rule, infinite where none is said."""
    return pl.DataFrame(
        {
            "rule": range(len(rules)),
            "low": [-np.inf if rule.low is None else rule.low for rule in rules],
            "high": [np.inf if rule.high is None else rule.high for rule in rules],
        },
        schema={"rule": pl.Int64, "low": pl.Float64, "high": pl.Float64},
    )


def _aggregate(table: NDArray[np.float64], part: pl.DataFrame, aggregation: str) -> None:
    """Fill the cells of ``table`` (rules, N) that have events in ``part``."""
    if part.is_empty():
        return
    rule, sample = part["rule"].to_numpy(), part["sample"].to_numpy()
    new = np.r_[True, (rule[1:] != rule[:-1]) | (sample[1:] != sample[:-1])]
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    count = np.bincount(group)
    table[rule[first], sample[first]] = _reduce(part, aggregation, group, first, count)


def _reduce(
    part: pl.DataFrame,
    aggregation: str,
    group: NDArray[np.int64],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
) -> NDArray[Any]:
    """(G,) one number per group of consecutive rows."""
    if aggregation == "count":
        return count.astype(np.float64)
    if aggregation == "nunique":
        pairs = pl.DataFrame({"group": group, "code": part["code"]}).unique()
        return np.bincount(pairs["group"].to_numpy(), minlength=len(first)).astype(np.float64)
    value: NDArray[np.float64] = part["value"].to_numpy()
    if aggregation == "first":
        return value[first]
    if aggregation == "last":
        return value.take(first + count - 1)
    if aggregation == "min":
        return np.minimum.reduceat(value, first)
    if aggregation == "max":
        return np.maximum.reduceat(value, first)
    # bincount adds row by row: a vectorised sum would round differently with the group's place in memory
    total = np.bincount(group, weights=value)
    if aggregation == "sum":
        return total
    mean = total / count
    if aggregation == "mean":
        return mean
    squares = np.bincount(group, weights=(value - mean[group]) ** 2)
    # one value has no spread
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def _zeros(
    table: NDArray[np.float64],
    hits: pl.DataFrame,
    frame: pl.DataFrame,
    rules: Sequence[FeatureRule],
    number: Sequence[int],
) -> None:
    """0 where the source was kept for the sample and no event matched; an implausible match stays missing."""
    of_stay = frame.filter("recent").select("sample", "source").unique()
    ever = frame.select("sample", "source").unique()
    matched = hits.select("rule", "sample").unique()
    for i, rule in enumerate(rules):
        if not rule.zero_if_recorded:
            continue
        recorded = ever if rule.history else of_stay
        kept = recorded.filter(source=rule.zero_if_recorded)["sample"].to_numpy()
        hit = matched.filter(rule=number[i])["sample"].to_numpy()
        table[i, np.setdiff1d(kept, hit)] = 0.0

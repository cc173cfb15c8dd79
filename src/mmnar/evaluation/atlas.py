"""Availability atlas: which modalities patients have, and how outcomes differ by pattern (paper, Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import Content, SeriesArrays
from mmnar.dataset.store import PatientDataset
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.privacy import COMPLEMENT, FEW_WITH, FEW_WITHOUT, SMALL_CELL, count_refusals, few, hidden_cells, in_tens
from mmnar.schema import ModalitySpec

Z_95: Final = 1.959963984540054
POOLED: Final = "other, rare patterns"
NOBODY: Final = "nobody has it"
NO_FEATURES: Final = "it has no features"
ITEMS: Final = {"embedding": "vectors", "hashed": "word counts", "image": "images"}


@dataclass(frozen=True)
class OutcomeRate:
    """Share of the samples asked that had the outcome.

    Counts under SMALL_CELL are None, and both are where they would tell of how few patients the outcome is not known.
    """

    n: int | None
    events: int | None
    rate: Estimate


@dataclass(frozen=True)
class ModalityRow:
    """One modality.

    Args:
        name: As in the schema.
        kind: What one of its items is, for modalities that hold items instead of features; "" for the others.
        features: How many features it has.
        present: Share of samples that have it.
        missing: Share of its values not observed in samples that have it.
    """

    name: str
    kind: str
    features: int
    present: Estimate
    missing: Estimate


@dataclass(frozen=True)
class PatternRow:
    """Samples with the same observation pattern δ.

    Args:
        label: In words.
        present: Names of the modalities present; None for the pooled rest.
        n, patients: Samples and distinct patients; None under SMALL_CELL patients.
        outcomes: task → outcome rate.
    """

    label: str
    present: tuple[str, ...] | None
    n: int | None
    patients: int | None
    outcomes: dict[str, OutcomeRate]


@dataclass(frozen=True)
class FeatureRow:
    """Share of samples without a value of one feature: of all, and of those that have the modality."""

    modality: str
    feature: str
    missing: Estimate
    missing_when_present: Estimate


@dataclass(frozen=True)
class FeatureGroupRow:
    """Features that differ in their statistic only (``sodium_min``, ``sodium_max``), seen together.

    ``missing`` is the share of their values not observed in samples that have the modality.
    """

    modality: str
    group: str
    features: int
    missing: Estimate


@dataclass(frozen=True)
class GroupAvailability:
    """Samples of one period, site or other group; ``present``: modality → share of them that have it."""

    group: str
    n: int | None
    patients: int | None
    present: dict[str, Estimate]


@dataclass(frozen=True)
class Breakdown:
    """Availability over the values of one attribute, or over calendar time (``over_time``, in its order)."""

    name: str
    over_time: bool
    rows: tuple[GroupAvailability, ...]


@dataclass(frozen=True)
class Atlas:
    """Availability of a whole dataset, no fold apart. ``patterns`` most frequent first, the pooled rest last.

    No count of 1 to 9 patients is shown, and none follows from a total and what is shown beside it.
    """

    samples: int
    patients: int
    modalities: tuple[ModalityRow, ...]
    outcomes: dict[str, OutcomeRate]
    patterns: tuple[PatternRow, ...]
    features: tuple[FeatureRow, ...]
    feature_groups: tuple[FeatureGroupRow, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()


def wilson(events: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927): (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n).

    >>> [round(v, 4) for v in wilson(8, 40)]
    [0.105, 0.3476]
    >>> wilson(0, 12)[0]
    0.0
    """
    p, shrink = events / n, 1 + Z_95**2 / n
    centre = (p + Z_95**2 / (2 * n)) / shrink
    half = Z_95 * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n)) / shrink
    # at p̂ = 0 and 1 the bound is exact; floating point would miss it by 1e-18
    return (0.0 if events == 0 else centre - half), (1.0 if events == n else centre + half)


def pattern_label(present: Sequence[str], modalities: Sequence[str]) -> str:
    """A pattern in words, by what is absent where that is shorter.

    >>> pattern_label(["labs", "note"], ["labs", "note", "cxr", "ecg"])
    'labs + note'
    >>> pattern_label(["labs", "note", "ecg"], ["labs", "note", "cxr", "ecg"])
    'all but cxr'
    """
    absent = [m for m in modalities if m not in present]
    if not present:
        return "nothing present"
    if not absent:
        return "all modalities"
    return f"all but {', '.join(absent)}" if len(absent) < len(present) - 1 else " + ".join(present)


def availability(dataset: PatientDataset) -> Atlas:
    """Count presence, patterns, outcomes and missing values over all samples.

    Intervals take samples as independent: right where a patient has one sample a task.
    """
    everyone = np.arange(len(dataset))
    features = tuple(_feature_rows(dataset))
    return Atlas(
        len(dataset),
        _patients(dataset, everyone),
        tuple(_modality_rows(dataset)),
        _outcomes(dataset, [everyone])[0],
        tuple(_pattern_rows(dataset)),
        features,
        tuple(_feature_groups(dataset, features)),
        tuple(_breakdowns(dataset)),
    )


def _patients(dataset: PatientDataset, rows: NDArray[Any]) -> int:
    return len(np.unique(dataset.subject_id[rows]))


def _small(dataset: PatientDataset, *rows: NDArray[Any]) -> bool:
    """Whether any of these sets of rows is of 1 to 9 patients."""
    return any(_is_small(dataset.subject_id[r]) for r in rows)


def _is_small(subject: NDArray[np.int64]) -> bool:
    if len(np.unique(subject[:1000])) >= SMALL_CELL:  # nearly always enough to tell
        return False
    return 0 < len(np.unique(subject)) < SMALL_CELL


# --- outcomes ---------------------------------------------------------------------------------------------------------


def _outcomes(dataset: PatientDataset, groups: Sequence[NDArray[np.int64]]) -> list[dict[str, OutcomeRate]]:
    """task → outcome rate, for each of the groups of rows that together are everyone."""
    found: list[dict[str, OutcomeRate]] = [{} for _ in groups]
    for k, task in enumerate(dataset.schema.task_names):
        asked = [rows[dataset.label_mask[rows, k]] for rows in groups]
        positive = [rows[dataset.labels[rows, k]] for rows in asked]
        negative = [rows[~dataset.labels[rows, k]] for rows in asked]
        totals, with_event, without = (
            [_patients(dataset, rows) for rows in sides] for sides in (asked, positive, negative)
        )
        unknown = hidden_cells([_patients(dataset, rows[~dataset.label_mask[rows, k]]) for rows in groups])
        for g, (no_size, no_events) in enumerate(count_refusals(totals, with_event, without)):
            n, events = len(asked[g]), len(positive[g])
            rate = Estimate(None, reason=no_events) if no_events else Estimate(events / n, *wilson(events, n))
            found[g][task] = OutcomeRate(None if no_size else n, None if no_events else events, rate)
            if unknown[g]:  # all samples less those asked would tell of how few it is not known
                found[g][task] = OutcomeRate(None, None, rate.rounded(COARSE))
    return found


# --- modalities and features ------------------------------------------------------------------------------------------


def _modality_rows(dataset: PatientDataset) -> Iterator[ModalityRow]:
    for i, spec in enumerate(dataset.schema.modalities):
        has = dataset.present[:, i]
        unseen = _unseen(dataset.values[spec.name], spec)
        missing = _share(has, dataset, _missing(unseen[has]) if has.any() and spec.features else None)
        if missing.reason in (FEW_WITH, FEW_WITHOUT):  # of the modality, not of its missing values
            missing = Estimate(None, reason=COMPLEMENT)
        yield ModalityRow(
            spec.name, ITEMS.get(spec.kind, ""), len(spec.features), _share(has, dataset, has.mean()), missing
        )


def _missing(unseen: NDArray[np.bool_]) -> float:
    """Share of values not observed. Less what single features show it would tell a small count: rounded to tens."""
    return in_tens(int(unseen.sum())) / unseen.size


def _share(has: NDArray[np.bool_], dataset: PatientDataset, value: np.floating[Any] | float | None) -> Estimate:
    """A share that would tell how many patients have a modality, unless they, or the others, are few."""
    if value is None:
        return Estimate(None, reason=NOBODY if not has.any() else NO_FEATURES)
    if _small(dataset, has, ~has):
        return _few(dataset, has)
    return Estimate(float(value))


def _few(dataset: PatientDataset, has: NDArray[Any]) -> Estimate:
    """A share withheld because few have it, or because few lack it."""
    return Estimate(None, reason=FEW_WITH if _small(dataset, has) else FEW_WITHOUT)


def _feature_rows(dataset: PatientDataset) -> Iterator[FeatureRow]:
    for i, spec in enumerate(dataset.schema.modalities):
        has = dataset.present[:, i]
        empty = _unseen(dataset.values[spec.name], spec)
        few = _small(dataset, has, ~has)
        for j, name in enumerate(spec.feature_names):
            yield _feature_row(dataset, spec.name, name, empty[:, j], has, few)


def _feature_row(
    dataset: PatientDataset, modality: str, name: str, empty: NDArray[np.bool_], has: NDArray[np.bool_], few: bool
) -> FeatureRow:
    hidden = Estimate(None, reason=COMPLEMENT)
    if _small(dataset, empty, ~empty):
        return FeatureRow(modality, name, _few(dataset, empty), hidden)
    overall = Estimate(float(empty.mean()))
    if not has.any():
        return FeatureRow(modality, name, overall, Estimate(None, reason=NOBODY))
    if few:  # with the overall share this one would tell how many lack the modality
        return FeatureRow(modality, name, overall, hidden)
    if _small(dataset, empty & has):  # and here the two shares would tell how many lack the value
        return FeatureRow(modality, name, hidden, hidden)
    return FeatureRow(modality, name, overall, Estimate(float(empty[has].mean())))


STATISTICS: Final = ("first", "last", "min", "max", "mean", "median", "std", "sum", "total", "count", "slope", "unique")


def feature_group(name: str) -> str:
    """A feature's name without the statistic at its end.

    >>> feature_group("sodium_max"), feature_group("age"), feature_group("last")
    ('sodium', 'age', 'last')
    """
    stem, _, statistic = name.rpartition("_")
    return stem if stem and statistic in STATISTICS else name


def _feature_groups(dataset: PatientDataset, rows: Sequence[FeatureRow]) -> Iterator[FeatureGroupRow]:
    for spec in dataset.schema.modalities:
        members: dict[str, list[FeatureRow]] = {}
        for row in rows:
            if row.modality == spec.name:
                members.setdefault(feature_group(row.feature), []).append(row)
        for group, features in members.items():
            shares = [f.missing_when_present for f in features]
            known = [s.value for s in shares if s.value is not None]
            refused = next((s for s in shares if s.value is None), None)
            yield FeatureGroupRow(spec.name, group, len(features), refused or Estimate(sum(known) / len(known)))


# --- patterns ---------------------------------------------------------------------------------------------------------


def _unseen(content: Content, spec: ModalitySpec) -> NDArray[np.bool_]:
    """(N, F) which features a sample has no value of; F = 0 for kinds without features."""
    if isinstance(content, np.ndarray):
        return np.isnan(content)
    unseen = np.ones((len(content), len(spec.features)), dtype=bool)
    if isinstance(content, SeriesArrays):
        unseen[np.repeat(np.arange(len(content)), content.counts), content.feature] = False
    return unseen


def _pattern_rows(dataset: PatientDataset) -> Iterator[PatternRow]:
    names = dataset.schema.modality_names
    patterns, which = np.unique(dataset.present, axis=0, return_inverse=True)
    groups, rest = _pooled(dataset, which.reshape(-1), len(patterns), bits=patterns)
    members = [np.flatnonzero(which.reshape(-1) == g) for g in groups] + ([rest] if len(rest) else [])
    for i, (rows, outcomes) in enumerate(zip(members, _outcomes(dataset, members), strict=True)):
        present = (
            tuple(m for m, here in zip(names, patterns[groups[i]], strict=True) if here) if i < len(groups) else None
        )
        label = POOLED if present is None else pattern_label(present, names)
        patients = _patients(dataset, rows)
        shown = patients >= SMALL_CELL
        yield PatternRow(label, present, len(rows) if shown else None, patients if shown else None, outcomes)


def _pooled(
    dataset: PatientDataset,
    which: NDArray[np.int64],
    groups: int,
    most: int | None = None,
    bits: NDArray[np.bool_] | None = None,
) -> tuple[list[int], NDArray[np.int64]]:
    """Groups to show, the largest first, and the rows of all others: none, or those of at least ten patients.

    Args:
        which: (N,) group of each row.
        most: Show at most so many.
        bits: (G, M) which modalities a group has. How many have each is known: of the rows left over at least ten
            patients have it, or none, and likewise for those who lack it.
    """
    order = np.argsort(-np.bincount(which, minlength=groups), kind="stable").tolist()
    shown = [g for g in order if _patients(dataset, which == g) >= SMALL_CELL][:most]
    sides = np.ones((groups, 1), dtype=bool) if bits is None else np.column_stack([bits, ~bits, np.ones(groups, bool)])
    while shown:
        rest = ~np.isin(which, shown)
        small = [s for s in range(sides.shape[1]) if _small(dataset, rest & sides[which, s])]
        # what a total leaves over must not be a small cell; where no group shown could add to it, no total is shown
        victims = [g for g in shown if sides[g, small].any()]
        if not victims:
            break
        shown.remove(victims[-1])
    return shown, np.flatnonzero(~np.isin(which, shown))


# --- availability over time and groups --------------------------------------------------------------------------------

PERIODS: Final = ("anchor_year_group", "discharge_year", "year")
"""Attributes that say when, where prediction times are shifted."""
REAL_YEARS: Final = (1990, 2099)
"""Years outside are shifted for privacy and say nothing about the calendar."""
MOST_GROUPS: Final = 12


def _breakdowns(dataset: PatientDataset) -> Iterator[Breakdown]:
    name, period = _period(dataset)
    if period is not None:
        yield _breakdown(dataset, name, period, over_time=True)
    for attribute, values in dataset.attributes.items():
        if attribute not in PERIODS and len(np.unique(values)) > 1:
            yield _breakdown(dataset, attribute, np.where(values == "", "unknown", values), over_time=False)


def _period(dataset: PatientDataset) -> tuple[str, NDArray[np.str_] | None]:
    """The period of each sample where it is known: an attribute, or the year of prediction, or its quarter."""
    for name in PERIODS:
        if name in dataset.attributes and len(np.unique(dataset.attributes[name])) > 1:
            values = dataset.attributes[name]
            return name, np.where(values == "", "unknown", values)
    if not len(dataset):
        return "", None
    times = np.asarray(dataset.prediction_time).astype("datetime64[us]")
    years = times.astype("datetime64[Y]").astype(np.int64) + 1970
    if years.min() < REAL_YEARS[0] or years.max() > REAL_YEARS[1]:
        return "", None
    quarters = np.char.add(np.char.add(years.astype(str), " Q"), _quarter(times).astype(str))
    if years.max() - years.min() < 2 and len(np.unique(_quarter(times))) == 4:
        return "quarter", quarters
    return ("year", years.astype(str)) if years.min() < years.max() else ("", None)


def _quarter(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    months = times.astype("datetime64[M]").astype(np.int64) % 12
    return np.asarray(months // 3 + 1)


def _breakdown(dataset: PatientDataset, name: str, values: NDArray[np.str_], over_time: bool) -> Breakdown:
    names, members = (_in_order if over_time else _largest)(dataset, values)
    present: list[dict[str, Estimate]] = [{} for _ in members]
    for i, modality in enumerate(dataset.schema.modality_names):
        for g, share in enumerate(_shares(dataset, members, i)):
            present[g][modality] = share
    rows = []
    for label, group, shares in zip(names, members, present, strict=True):
        patients = _patients(dataset, group)
        n, known = (len(group), patients) if patients >= SMALL_CELL else (None, None)
        rows.append(GroupAvailability(label, n, known, shares))
    return Breakdown(name, over_time, tuple(rows))


def _largest(dataset: PatientDataset, values: NDArray[np.str_]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Names and rows of the largest groups, the others together as the last."""
    labels, which = np.unique(values, return_inverse=True)
    which = which.reshape(-1)
    shown, rest = _pooled(dataset, which, len(labels), MOST_GROUPS)
    members = [np.flatnonzero(which == g) for g in shown] + ([rest] if len(rest) else [])
    joined = [str(labels[g]) for g in np.unique(which[rest]) if _patients(dataset, which == g) >= SMALL_CELL]
    # a large group that had to take in the rare ones keeps its name
    name = f"{joined[0]} or others" if len(joined) == 1 else "others"
    return [str(labels[g]) for g in shown] + ([name] if len(rest) else []), members


def _in_order(dataset: PatientDataset, values: NDArray[np.str_]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Names and rows of the periods in order; small ones join the next, the last the one before."""
    names: list[str] = []
    members: list[NDArray[np.int64]] = []
    waiting: list[str] = []
    rows = np.empty(0, dtype=np.int64)
    for label in np.unique(values):
        waiting.append(str(label))
        rows = np.concatenate([rows, np.flatnonzero(values == label)])
        if not _small(dataset, rows):
            names.append(_span(waiting))
            members.append(rows)
            waiting, rows = [], np.empty(0, dtype=np.int64)
    if waiting and members:
        names[-1] = _span([names[-1], *waiting])
        members[-1] = np.concatenate([members[-1], rows])
    return names, members


def _span(periods: Sequence[str]) -> str:
    return periods[0] if len(periods) == 1 else f"{periods[0]} to {periods[-1]}"


def _shares(dataset: PatientDataset, members: Sequence[NDArray[np.int64]], modality: int) -> list[Estimate]:
    """Share of each group that has a modality; the groups together are everyone."""
    has = [rows[dataset.present[rows, modality]] for rows in members]
    lacks = [rows[~dataset.present[rows, modality]] for rows in members]
    hidden_by = [hidden_cells([_patients(dataset, rows) for rows in side]) for side in (has, lacks)]
    shares = []
    for g, rows in enumerate(members):
        if _small(dataset, has[g], lacks[g]):
            shares.append(_few(dataset, has[g]))
        elif hidden_by[0][g] or hidden_by[1][g]:
            shares.append(Estimate(None, reason=COMPLEMENT))
        else:
            shares.append(Estimate(len(has[g]) / max(len(rows), 1)))
    return shares


def pooled_flows(manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Attrition in which no step leaves out 1 to 9 stays or patients, nor differs by so few from a number that another
    flow shows: such a step is merged with the next, and the last one with the step before it.

    >>> flow = [{"rule": r, "kept": k, "subjects": k} for r, k in [("all", 90), ("a", 85), ("b", 60), ("c", 58)]]
    >>> other = [{"rule": r, "kept": k, "subjects": k} for r, k in [("cohort", 58), ("d", 40), ("e", 20)]]
    >>> flows = {"cohort": flow, "task": other, "twin": [*other[:1], {"rule": "f", "kept": 43, "subjects": 43}]}
    >>> shown = pooled_flows({"samples": 58, "attrition": flows})
    >>> {name: [(s["rule"], s["kept"]) for s in steps] for name, steps in shown.items()}
    {'cohort': [('all', 90), ('a; b; c', 58)], 'task': [('cohort', 58), ('d', 40), ('e', 20)], 'twin': [('cohort', 58)]}
    """
    flows: dict[str, list[dict[str, Any]]] = {}
    known = [{"kept": int(manifest["samples"])}] if "samples" in manifest else []
    for name, steps in manifest.get("attrition", {}).items():
        flows[name] = _pooled_steps(steps, known)
        known += flows[name]
    return flows


def _pooled_steps(steps: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    waiting: dict[str, Any] | None = None
    for step in steps:
        merged = _merged(waiting, step) if waiting else dict(step)
        near = any(_few_between(other, merged) for other in (*shown, *known))
        waiting = merged if near else None
        if waiting is None:
            shown.append(merged)
    if waiting and shown and not any(_few_between(other, waiting) for other in (*shown[:-1], *known)):
        shown[-1] = _merged(shown[-1], waiting)
    return shown


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    hindsight = bool(first.get("hindsight")) or bool(second.get("hindsight"))
    return {**second, "rule": f"{first['rule']}; {second['rule']}", "hindsight": hindsight}


def _few_between(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(few(abs(one[key] - other[key])) for key in ("kept", "subjects") if key in one)

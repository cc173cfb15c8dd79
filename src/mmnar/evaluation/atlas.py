"""Availability atlas: which modalities patients have, and how outcomes differ by pattern (paper, Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import Content, SeriesArrays
from mmnar.dataset.store import PatientDataset
from mmnar.evaluation.result import Estimate
from mmnar.privacy import FEW, FEW_OUTCOMES, SMALL_CELL, briefly
from mmnar.schema import ModalitySpec

Z_95: Final = 1.959963984540054
POOLED: Final = f"other patterns (<{SMALL_CELL} patients each)"


@dataclass(frozen=True)
class OutcomeRate:
    """Share of the samples asked that had the outcome; counts under SMALL_CELL are None."""

    n: int | None
    events: int | None
    rate: Estimate


@dataclass(frozen=True)
class ModalityRow:
    """One modality.

    Args:
        name: As in the schema.
        features: How many features it has.
        present: Share of samples that have it.
        missing: Share of its values not observed in samples that have it; None where nobody has it.
    """

    name: str
    features: int
    present: float
    missing: float | None


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
    missing: float
    missing_when_present: float | None


@dataclass(frozen=True)
class Atlas:
    """Availability of a whole dataset, no fold apart. ``patterns`` most frequent first, the pooled rest last."""

    samples: int
    patients: int
    modalities: tuple[ModalityRow, ...]
    outcomes: dict[str, OutcomeRate]
    patterns: tuple[PatternRow, ...]
    features: tuple[FeatureRow, ...]


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
    return Atlas(
        len(dataset),
        len(np.unique(dataset.subject_id)),
        tuple(_modality_rows(dataset)),
        _outcomes(dataset, everyone),
        tuple(_pattern_rows(dataset)),
        tuple(_feature_rows(dataset)),
    )


def _outcomes(dataset: PatientDataset, rows: NDArray[np.int64]) -> dict[str, OutcomeRate]:
    asked, labels = dataset.label_mask[rows], dataset.labels[rows]
    subjects = dataset.subject_id[rows]
    return {
        task: _outcome_rate(labels[asked[:, k], k], subjects[asked[:, k]])
        for k, task in enumerate(dataset.schema.task_names)
    }


def _outcome_rate(labels: NDArray[np.bool_], subjects: NDArray[np.int64]) -> OutcomeRate:
    n, events = len(labels), int(labels.sum())
    if len(np.unique(subjects)) < SMALL_CELL:
        return OutcomeRate(None, None, Estimate(None, reason=FEW))
    # n and a rate give the events away, so the rate goes with them
    if min(len(np.unique(subjects[labels])), len(np.unique(subjects[~labels]))) < SMALL_CELL:
        return OutcomeRate(n, None, Estimate(None, reason=FEW_OUTCOMES))
    return OutcomeRate(n, events, Estimate(events / n, *wilson(events, n)))


def _modality_rows(dataset: PatientDataset) -> Iterator[ModalityRow]:
    for i, spec in enumerate(dataset.schema.modalities):
        has = dataset.present[:, i]
        unseen = _unseen(dataset.values[spec.name], spec)
        missing = float(unseen[has].mean()) if has.any() and unseen.shape[1] else None
        yield ModalityRow(spec.name, len(spec.features), float(has.mean()) if len(has) else 0.0, missing)


def _feature_rows(dataset: PatientDataset) -> Iterator[FeatureRow]:
    for i, spec in enumerate(dataset.schema.modalities):
        has = dataset.present[:, i]
        empty = _unseen(dataset.values[spec.name], spec)
        overall = empty.mean(axis=0) if len(empty) else np.zeros(len(spec.features))
        within = empty[has].mean(axis=0) if has.any() else None
        for j, name in enumerate(spec.feature_names):
            yield FeatureRow(spec.name, name, float(overall[j]), None if within is None else float(within[j]))


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
    which = which.reshape(-1)
    small = np.zeros(len(dataset), dtype=bool)
    for g in np.argsort(-np.bincount(which, minlength=len(patterns)), kind="stable"):
        rows = np.flatnonzero(which == g)
        if len(np.unique(dataset.subject_id[rows])) < SMALL_CELL:
            small[rows] = True
            continue
        present = tuple(m for m, here in zip(names, patterns[g], strict=True) if here)
        yield _pattern_row(dataset, rows, pattern_label(present, names), present)
    if small.any():
        yield _pattern_row(dataset, np.flatnonzero(small), POOLED, None)


def _pattern_row(
    dataset: PatientDataset, rows: NDArray[np.int64], label: str, present: tuple[str, ...] | None
) -> PatternRow:
    patients = len(np.unique(dataset.subject_id[rows]))
    shown = patients >= SMALL_CELL
    return PatternRow(
        label, present, len(rows) if shown else None, patients if shown else None, _outcomes(dataset, rows)
    )


def describe_text(atlas: Atlas, dataset: PatientDataset, top: int = 12) -> str:
    """The atlas and the manifest as aligned plain text, for a terminal.

    "few" hides a cell of fewer than ten patients.

    Args:
        top: How many patterns to list.
    """
    manifest = dataset.manifest
    source = " ".join(str(manifest[key]) for key in ("source", "version") if manifest.get(key))
    blocks = [
        f"{source or 'unnamed source'}: {atlas.samples:,} samples of {atlas.patients:,} patients"
        f"\nfingerprint {dataset.fingerprint or 'none (not stored)'}"
    ]
    for flow, steps in manifest.get("attrition", {}).items():
        blocks.append(_section(f"Attrition: {flow}", ("rule", "kept", "patients", ""), _attrition_cells(steps)))
    blocks.append(_section("Modalities", ("modality", "features", "present", "values missing"), _modality_cells(atlas)))
    title = "Outcome by pattern (rate, 95 % interval)"
    if len(atlas.patterns) > top:
        title += f"; the {top} most frequent of {len(atlas.patterns)} rows"
    blocks.append(_section(title, ("pattern", "samples", *dataset.schema.task_names), _pattern_cells(atlas, top)))
    if warnings := manifest.get("warnings"):
        blocks.append("\n".join(["Warnings", *(f"  - {w}" for w in warnings)]))
    return "\n\n".join(blocks)


def pooled_steps(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Attrition steps in which no step leaves out 1 to 9 stays or patients: such a step is merged with the next.

    The last one is merged with the step before it. Without this the difference of two counts shows a small cell.

    >>> flow = [{"rule": r, "kept": k, "subjects": k} for r, k in [("all", 90), ("a", 85), ("b", 60), ("c", 58)]]
    >>> [(s["rule"], s["kept"]) for s in pooled_steps(flow)]
    [('all', 90), ('a; b; c', 58)]
    """
    shown: list[dict[str, Any]] = []
    waiting: dict[str, Any] | None = None
    for step in steps:
        merged = _merged(waiting, step) if waiting else dict(step)
        waiting = merged if shown and _leaves_out_few(shown[-1], merged) else None
        if waiting is None:
            shown.append(merged)
    if waiting and len(shown) > 1:
        shown[-1] = _merged(shown[-1], waiting)
    return shown


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    hindsight = bool(first.get("hindsight")) or bool(second.get("hindsight"))
    return {**second, "rule": f"{first['rule']}; {second['rule']}", "hindsight": hindsight}


def _leaves_out_few(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return any(0 < before[key] - after[key] < SMALL_CELL for key in ("kept", "subjects"))


def _attrition_cells(steps: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (s["rule"], f"{s['kept']:,}", f"{s['subjects']:,}", "uses hindsight" if s.get("hindsight") else "")
        for s in pooled_steps(steps)
    ]


def _modality_cells(atlas: Atlas) -> list[tuple[str, ...]]:
    return [
        (m.name, str(m.features), f"{m.present:.1%}", "n/a" if m.missing is None else f"{m.missing:.1%}")
        for m in atlas.modalities
    ]


def _pattern_cells(atlas: Atlas, top: int) -> list[tuple[str, ...]]:
    overall = ("everyone", f"{atlas.samples:,}", *(_rate_words(o) for o in atlas.outcomes.values()))
    rows = [
        (p.label, f"<{SMALL_CELL}" if p.n is None else f"{p.n:,}", *(_rate_words(o) for o in p.outcomes.values()))
        for p in atlas.patterns[:top]
    ]
    return [overall, *rows]


def _rate_words(outcome: OutcomeRate) -> str:
    e = outcome.rate
    if e.value is None or e.low is None or e.high is None:
        return briefly(e.reason)
    return f"{e.value:.1%} ({e.low:.1%} to {e.high:.1%})"


def _section(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the first flush left, numbers flush right."""
    table = [header, *rows]
    widths = [max(len(row[c]) for row in table) for c in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])

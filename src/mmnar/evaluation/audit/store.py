"""Audit of a prepared store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.content import Content, Packed, SeriesArrays
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.dataset.table import SUMMARIES, series_columns
from mmnar.evaluation.audit.columns import category_rates, label_copies, repeated_patients, row_keys, told_by
from mmnar.evaluation.audit.findings import Audit, Finding, gravest_first
from mmnar.evaluation.audit.meds import event_findings, event_looks
from mmnar.evaluation.audit.pairs import CHECK, pair_copies, tells_alone
from mmnar.evaluation.audit.ruling import ruled_out
from mmnar.privacy import SMALL_CELL, counted, in_tens
from mmnar.schema import ModalitySpec
from mmnar.sources.reading.shards import EventFolder


def audit_store(path: Path) -> Audit:
    """Look for leaks in a store.

    Raises:
        StoreError: Not a store, or damaged.
    """
    data = open_store(path)
    copies, searched = _features(data)
    findings = [
        *_folds(data),
        *copies,
        *_presence(data),
        *_hours(data),
        *_hindsight(data),
        *_duplicates(data),
    ]
    looked = [
        "subjects across the folds of a split",
        "features, and missing values of features, that give a label away or rule it out",
        "modalities whose presence gives a label away or rules it out",
        *searched,
        "inputs later than the prediction time, where the store keeps their hours",
        "inclusion rules that use hindsight",
        "patients with the very same values under different identifiers",
    ]
    opaque = [m.name for m in data.schema.modalities if m.kind not in ("static", "series")]
    missed = [f"what is in {name}: only whether it is present" for name in opaque]
    missed.append("subjects written in two ways: a store keeps numbers, not what was written")
    events = path / "events" / "meds"
    if (events / "data").is_dir():
        if (events / "manifest.json").is_file():
            EventFolder.open(events)
        else:
            missed.append("whether the events are those that prepare wrote: no manifest beside them")
        samples = pl.DataFrame({"subject_id": data.subject_id, "prediction_time": data.prediction_time})
        findings += event_findings(events, samples.with_columns(pl.col("prediction_time").cast(pl.Datetime("us"))))
        looked += event_looks()
    else:
        missed.append("times of events, births and deaths: the store keeps no events")
    return Audit(f"store '{path.name}'", tuple(looked), tuple(missed), gravest_first(findings))


def _folds(data: PatientDataset) -> Iterator[Finding]:
    roles = Split(calibration=0.1).roles(data.subject_id)
    order = np.argsort(data.subject_id, kind="stable")
    same = np.diff(data.subject_id[order]) == 0
    torn = order[1:][same & (roles[order][1:] != roles[order][:-1])]
    if len(torn):
        n = counted(len(np.unique(data.subject_id[torn])))
        yield Finding("leak", "subjects across folds", "split", f"{n} subjects are in more than one fold")


def _numbered(data: PatientDataset) -> NDArray[np.int64]:
    """(N,) subjects numbered from 0."""
    return np.unique(data.subject_id, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _features(data: PatientDataset) -> tuple[list[Finding], list[str]]:
    """Findings, and in words how many pairs of features were searched for each task."""
    whose, findings, searched = _numbered(data), list[Finding](), list[str]()
    for k, task in enumerate(data.schema.task_names):
        alone: dict[str, NDArray[np.float64]] = {}
        known = np.flatnonzero(data.label_mask[:, k])
        for i, spec in enumerate(data.schema.modalities):
            for name, x, categorical in _columns(data.values[spec.name], spec):
                # an absent modality is judged as a whole
                at = known[data.present[known, i]]
                y, v = data.labels[at, k], x[at]
                rates = (
                    category_rates(np.where(np.isfinite(v), v, -1).astype(np.int64), y, whose[at]) if categorical else v
                )
                found = [*label_copies(name, rates, y, whose[at], task)] or [*ruled_out(name, v, y, whose[at], task)]
                findings += found
                if not tells_alone(found):
                    alone[name] = x[known]
        y = data.labels[known, k]
        together, search = pair_copies(alone, y, whose[known], task) if len(known) else ([], None)
        findings += together
        if search is not None:
            searched.append(f"{CHECK}, '{task}': {search.words()}")
    return findings, searched


def _columns(content: Content, spec: ModalitySpec) -> Iterator[tuple[str, NDArray[np.float64], bool]]:
    """(name, (N,) values, whether they are categories) of each feature; of a series its summaries."""
    if isinstance(content, SeriesArrays):
        table = series_columns(content, len(spec.features))
        names = [f"{spec.name}.{name} {summary}" for name in spec.feature_names for summary in SUMMARIES]
        yield from ((name, table[:, j], False) for j, name in enumerate(names))
    elif isinstance(content, np.ndarray):
        for j, feature in enumerate(spec.features):
            x = np.asarray(content[:, j], dtype=np.float64)
            yield f"{spec.name}.{feature.name}", x, feature.kind == "categorical"


def _presence(data: PatientDataset) -> Iterator[Finding]:
    whose = _numbered(data)
    for i, modality in enumerate(data.schema.modality_names):
        for k, task in enumerate(data.schema.task_names):
            at = np.flatnonzero(data.label_mask[:, k])
            flag, y = data.present[at, i], data.labels[at, k]
            found = [*told_by(modality, flag, y, whose[at], task, "whether it is present")]
            yield from found or ruled_out(modality, np.where(flag, 1.0, np.nan), y, whose[at], task)


def _hours(data: PatientDataset) -> Iterator[Finding]:
    """Modalities that keep when each entry was known: hours before the prediction time, never after."""
    for modality, content in data.values.items():
        if isinstance(content, Packed) and (late := int((np.asarray(content.hours) > 0).sum())):
            words = f"{counted(late)} entries are later than the prediction time"
            yield Finding("leak", "inputs after the prediction time", modality, words)


def _hindsight(data: PatientDataset) -> Iterator[Finding]:
    for flow, steps in data.manifest.get("attrition", {}).items():
        for before, step in pairwise(steps):
            left_out = before["kept"] - step["kept"]
            if step.get("hindsight"):
                words = f"'{step['rule']}' is known only afterwards; it leaves out {_about(left_out)}"
                yield Finding("suspect" if left_out else "note", "hindsight in the cohort", flow, words)


def _about(left_out: int) -> str:
    """In tens: less what the merged steps of an attrition table show, more would tell a small step."""
    return counted(left_out) if left_out < SMALL_CELL else f"about {in_tens(left_out):,}"


def _duplicates(data: PatientDataset) -> Iterator[Finding]:
    static = [content for content in data.values.values() if isinstance(content, np.ndarray)]
    columns = (content[:, j] for content in static for j in range(content.shape[1]))
    n = repeated_patients(*row_keys(columns, len(data)), data.subject_id)
    if n:
        words = f"{counted(n)} patients have a row of values in common with another patient"
        yield Finding("suspect", "repeated patients", "subject_id", words)

"""Audit of a prepared store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.evaluation.audit.columns import category_rates, label_copies, repeated_patients, row_keys, told_by
from mmnar.evaluation.audit.findings import Audit, Finding, gravest_first
from mmnar.evaluation.audit.meds import event_findings, event_looks
from mmnar.privacy import counted


def audit_store(path: Path) -> Audit:
    """Look for leaks in a store.

    Raises:
        StoreError: Not a store, or damaged.
    """
    data = open_store(path)
    findings = [
        *_folds(data),
        *_features(data),
        *_presence(data),
        *_hours(data),
        *_hindsight(data),
        *_duplicates(data),
    ]
    looked = [
        "subjects across the folds of a split",
        "features, and missing values of features, that give a label away",
        "modalities whose presence gives a label away",
        "inputs later than the prediction time, where the store keeps their hours",
        "inclusion rules that use hindsight",
        "patients with the very same values under different identifiers",
    ]
    missed = []
    events = path / "events"
    if (events / "data").is_dir():
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


def _features(data: PatientDataset) -> Iterator[Finding]:
    whose = _numbered(data)
    for spec in data.schema.modalities:
        if spec.kind != "static":
            continue
        has = data.present[:, data.schema.modality_names.index(spec.name)]
        for j, feature in enumerate(spec.features):
            x = np.asarray(data.values[spec.name][:, j], dtype=np.float64)
            for k, task in enumerate(data.schema.task_names):
                # an absent modality is judged as a whole
                at = np.flatnonzero(data.label_mask[:, k] & has)
                y, subject = data.labels[at, k], whose[at]
                v = x[at]
                if feature.kind == "categorical":
                    codes = np.where(np.isfinite(v), v, -1).astype(np.int64)
                    v = category_rates(codes, y, subject)
                yield from label_copies(f"{spec.name}.{feature.name}", v, y, subject, task)


def _presence(data: PatientDataset) -> Iterator[Finding]:
    whose = _numbered(data)
    for i, modality in enumerate(data.schema.modality_names):
        for k, task in enumerate(data.schema.task_names):
            at = np.flatnonzero(data.label_mask[:, k])
            flag, y = data.present[at, i], data.labels[at, k]
            yield from told_by(modality, flag, y, whose[at], task, "whether it is present")


def _hours(data: PatientDataset) -> Iterator[Finding]:
    """Modalities that keep when each entry was known: hours before the prediction time, never after."""
    for modality, values in data.values.items():
        hours: NDArray[np.float32] | None = getattr(values, "hours", None)
        if hours is not None and (late := int((np.asarray(hours) > 0).sum())):
            words = f"{counted(late)} entries are later than the prediction time"
            yield Finding("leak", "inputs after the prediction time", modality, words)


def _hindsight(data: PatientDataset) -> Iterator[Finding]:
    for flow, steps in data.manifest.get("attrition", {}).items():
        for before, step in pairwise(steps):
            left_out = before["kept"] - step["kept"]
            if step.get("hindsight"):
                words = f"'{step['rule']}' is known only afterwards; it leaves out {counted(left_out)}"
                yield Finding("suspect" if left_out else "note", "hindsight in the cohort", flow, words)


def _duplicates(data: PatientDataset) -> Iterator[Finding]:
    static = [spec for spec in data.schema.modalities if spec.kind == "static"]
    columns = (data.values[spec.name][:, j] for spec in static for j in range(len(spec.features)))
    n = repeated_patients(*row_keys(columns, len(data)), data.subject_id)
    if n:
        words = f"{counted(n)} patients have a row of values in common with another patient"
        yield Finding("suspect", "repeated patients", "subject_id", words)

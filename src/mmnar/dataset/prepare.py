"""Prepare: extract → cohort → features → store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.cohort.build import Cohort, Criterion, Question, build_cohort, label_column
from mmnar.dataset.features import implausible, schema_of, static_features
from mmnar.dataset.store import PatientDataset, make_dataset, write_store
from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.events import Extract


def prepare(extract: Extract, criteria: Sequence[Criterion], questions: Sequence[Question], out: str | Path) -> Path:
    """Build the dataset and write it to ``out``, whole or not at all.

    Args:
        extract: What a source read.
        criteria: Inclusion rules of the cohort.
        questions: Tasks; K, in schema order.
        out: Folder of the store; a store already there is replaced only when the new one is whole.

    Returns:
        ``out``.

    Raises:
        SourceError: Nothing is left of the cohort, or a task has one class only.
        StoreError: The store cannot be written.
    """
    return write_store(Path(out), dataset_of(extract, build_cohort(extract, criteria, questions)))


def dataset_of(extract: Extract, cohort: Cohort) -> PatientDataset:
    """The samples of ``cohort`` with their features, labels and manifest, in memory."""
    samples = cohort.samples
    past = extract.events.before(samples)
    values = static_features(past, extract.rules, samples.height)
    labels = samples.select(label_column(task.name) for task in cohort.tasks)
    subject_id, hadm_id, stay_id = (_ids(samples, name) for name in ("subject_id", "hadm_id", "stay_id"))
    return make_dataset(
        schema_of(extract, cohort.tasks),
        values,
        labels.with_columns(pl.all().fill_null(False)).to_numpy().astype(bool),
        labels.select(pl.all().is_not_null()).to_numpy().astype(bool),
        subject_id,
        hadm_id,
        stay_id,
        samples["prediction_time"].cast(pl.Datetime("us")).cast(pl.Int64).to_numpy(),
        {name: samples[name].fill_null("").to_numpy().astype(np.str_) for name in extract.attributes},
        _manifest(extract, cohort, implausible(past, extract.rules)),
        _bayes(extract, cohort),
    )


def _ids(samples: pl.DataFrame, column: str) -> NDArray[np.int64]:
    nulls = samples[column].null_count()
    if nulls:
        raise SourceError(f"cohort.{column}", "no null", f"{nulls} nulls", "add the criterion 'has identifiers'")
    return samples[column].cast(pl.Int64).to_numpy()


def _bayes(extract: Extract, cohort: Cohort) -> NDArray[np.float64] | None:
    """(N, K) exact risks of a simulated source."""
    if extract.truth is None:
        return None
    names = [task.name for task in cohort.tasks]
    risks = cohort.samples.select("stay_id").join(extract.truth, on="stay_id", how="left", maintain_order="left")
    unknown = sum(risks[name].null_count() for name in names)
    if unknown:
        raise SourceError("truth", "a risk for each stay and task", f"{unknown} missing", "correct the simulation")
    return risks.select(names).to_numpy().astype(np.float64)


def _manifest(extract: Extract, cohort: Cohort, dropped: dict[str, int]) -> dict[str, Any]:
    warnings = list(extract.warnings)
    warnings.extend(f"feature '{name}': {counted(count)} implausible values dropped" for name, count in dropped.items())
    return {
        "source": extract.name,
        "source_version": extract.version,
        "source_fingerprint": extract.fingerprint,
        "attrition": {flow: [asdict(step) for step in steps] for flow, steps in cohort.attrition.items()},
        "warnings": warnings,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mmnar": version("mmnar"),
        "options": dict(extract.details),
    }

"""Prepare: extract → cohort → features → store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.cohort.build import Cohort, Criterion, Question, build_cohort, label_column
from mmnar.dataset.gather import Gatherer, Gathering, gatherers
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.store import PatientDataset, claim_store, make_dataset, secret_of, write_store
from mmnar.errors import SourceError
from mmnar.notes.encoder import TextEncoder
from mmnar.privacy import counted
from mmnar.progress import Pace, say
from mmnar.schema import Schema
from mmnar.sources.events import Extract

_SHOWN: Final = 8
"""Features named in one line, at most."""


def prepare(
    extract: Extract,
    criteria: Sequence[Criterion],
    questions: Sequence[Question],
    out: str | Path,
    *,
    notes: TextEncoder | None = None,
    bin_hours: float = 0.0,
    told: Callable[[int], None] | None = None,
) -> Path:
    """Build the dataset and write it to ``out``, whole or not at all.

    Args:
        extract: What a source read.
        criteria: Inclusion rules of the cohort.
        questions: Tasks; K, in schema order.
        out: Folder of the store; a store already there is replaced only when the new one is whole.
        notes: Encoder of notes; None = hashed counts.
        bin_hours: Series at native times (0), or means over bins of so many hours.
        told: Called with the number of notes encoded so far.

    Returns:
        ``out``.

    Raises:
        SourceError: Nothing is left of the cohort, a task has one class only, or nobody has any content.
        StoreError: The store cannot be written.
    """
    cohort = build_cohort(extract, criteria, questions)
    return store_cohort(extract, cohort, out, notes=notes, bin_hours=bin_hours, told=told)


def store_cohort(
    extract: Extract,
    cohort: Cohort,
    out: str | Path,
    *,
    notes: TextEncoder | None = None,
    bin_hours: float = 0.0,
    told: Callable[[int], None] | None = None,
    recipe: Callable[[Schema], Recipe] | None = None,
) -> Path:
    """``prepare`` for a cohort that is there already.

    Args:
        recipe: Schema → how these inputs were made, to be kept in the store.
    """
    out = Path(out)
    claim_store(out)
    how = Gathering(notes, out / "cache", bin_hours, out, told)
    dataset = dataset_of(extract, cohort, how)
    _check_content(dataset)
    if recipe is not None:
        dataset.manifest["recipe"] = recipe(dataset.schema).to_dict()
    if secret := secret_of(out):  # runs on the store that was there stay comparable
        dataset = replace(dataset, secret=secret)
    say("writing the store")
    return write_store(out, dataset)


def _check_content(dataset: PatientDataset) -> None:
    """Warn of every modality that nobody has.

    Raises:
        SourceError: Nobody has any of them.
    """
    empty = [name for i, name in enumerate(dataset.schema.modality_names) if not dataset.present[:, i].any()]
    if len(empty) == len(dataset.schema.modalities):
        told = "; ".join(dataset.manifest["warnings"][:3]) or "and nothing was said to be dropped"
        raise SourceError("store", "patients with content", f"nobody with any ({told})", "repair the raw files")
    dataset.manifest["warnings"] += [f"modality '{name}': nobody has it" for name in empty]


def dataset_of(extract: Extract, cohort: Cohort, how: Gathering | None = None) -> PatientDataset:
    """The samples of ``cohort`` with their content, labels and manifest; one part of the events in memory at a time."""
    samples = cohort.samples
    modalities = gatherers(extract.rules, extract.max_missing, how or Gathering())
    say(f"inputs of {counted(samples.height)} samples: gathering")
    pace, done = Pace(), 0
    for events, part in extract.events.parts(samples):
        past = events.before(part)
        for modality in modalities:
            modality.add(past)
        done += part.height
        pace.say(f"inputs: {counted(done)} of {counted(samples.height)} samples")
    labels = samples.select(label_column(task.name) for task in cohort.tasks)
    subject_id, hadm_id, stay_id = (_ids(samples, name) for name in ("subject_id", "hadm_id", "stay_id"))
    return make_dataset(
        Schema(tuple(m.spec for m in modalities), cohort.tasks, tuple(extract.attributes), cohort.panels),
        {m.spec.name: m.content() for m in modalities},
        labels.with_columns(pl.all().fill_null(False)).to_numpy().astype(bool),
        labels.select(pl.all().is_not_null()).to_numpy().astype(bool),
        subject_id,
        hadm_id,
        stay_id,
        samples["prediction_time"].cast(pl.Datetime("us")).cast(pl.Int64).to_numpy(),
        {name: samples[name].fill_null("").to_numpy().astype(np.str_) for name in extract.attributes},
        _manifest(extract, cohort, modalities),
        _bayes(extract, cohort),
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


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
    lacking = [name for name in names if name not in extract.truth.columns]
    if lacking:
        raise SourceError(
            "truth", "risks of each task", f"none of {_listed(lacking)}", "give that of the same questions"
        )
    risks = cohort.samples.select("stay_id").join(extract.truth, on="stay_id", how="left", maintain_order="left")
    unknown = sum(risks[name].null_count() for name in names)
    if unknown:
        raise SourceError("truth", "a risk for each stay and task", f"{unknown} missing", "correct the simulation")
    return risks.select(names).to_numpy().astype(np.float64)


def _manifest(extract: Extract, cohort: Cohort, modalities: Sequence[Gatherer]) -> dict[str, Any]:
    warnings = [*extract.warnings, *cohort.warnings]
    for modality in modalities:
        warnings.extend(what.replace("#", counted(count)) for what, count in modality.left_out().items())
        # of a modality without any feature it is said that nobody has it
        if 0 < len(never := modality.never_seen()) < len(modality.spec.features):
            warnings.append(f"modality '{modality.spec.name}': no value for anybody of {_listed(never)}")
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

"""From runs to a result, or to files that other people's tools read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, StoreError
from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.export import write_full, write_labels, write_predictions, write_splits
from mmnar.evaluation.result import Result
from mmnar.lock import alone, contents
from mmnar.predictions import Predictions
from mmnar.roles import Test
from mmnar.workflow.run import Run


def evaluate_runs(runs: Sequence[Run], *, on: Path | None = None, resamples: int = 1000, seed: int = 0) -> Result:
    """Judge runs on the same patients: their own test fold, or every patient of another store.

    Args:
        on: Another store of the same schema (external validation); nothing is fitted on it.

    Raises:
        SchemaError: The runs were scored on different samples, or the other store has another schema.
        LeakageError: A scored subject was seen in fitting.
        ConfigError: No runs.
    """
    if not runs:
        raise ConfigError("runs", "at least one run folder", "none", "name the folders that `mmnar train` wrote")
    scored = [p for run in runs for p in scored_predictions(run, on)]
    controls = [run.name for run in runs if run.record["card"]["control"]]
    return evaluate(*scored, controls=controls, resamples=resamples, seed=seed)


def scored_predictions(run: Run, on: Path | None = None) -> list[Predictions[Test]]:
    """A run's test predictions, before and after its rectifier; of another store's patients if ``on`` names one."""
    if on is None:
        return [run.test] + ([run.rectified] if run.rectified is not None else [])
    base = run.predictor().predict(open_store(on).fold(Split.external(), "test"))
    base.refuse_overlap()
    line, rectifier = run.platt(), run.rectifier()
    base = line.apply(base) if line else base
    return [base] + ([rectifier.apply(base)] if rectifier else [])


def store_of(run: Run, moved: Path | None = None) -> PatientDataset:
    """The store a run was trained on.

    Args:
        moved: Where it lies now, if it has moved since.

    Raises:
        StoreError: It is gone or has changed.
    """
    path = moved or run.folder / run.record["store"]
    data = open_store(path)
    if run.record["data"] != data.fingerprint:
        raise StoreError(
            f"store '{path}'",
            f"the data run '{run.folder.name}' was trained on",
            "another fingerprint",
            "pass the right one with --store, or train again",
        )
    return data


def export_run(run: Run, out: Path, *, store: Path | None = None) -> None:
    """Write a run's splits, labels and test predictions as MEDS 0.4 files.

    ``metadata/subject_splits.parquet``, ``labels/TASK/labels.parquet`` (every sample of the store),
    ``predictions/MODEL/TASK/predictions.parquet`` (before and after the rectifier) and, beside them,
    ``predictions_full.parquet`` (see ``evaluation.export``).

    Args:
        store: Where the run's store lies now, if it has moved since training.

    Raises:
        StoreError: ``out`` holds other files, or the store is gone or has changed.
    """
    data = store_of(run, store)
    with alone(out):
        if contents(out):
            raise StoreError(f"'{out}'", "a new or empty folder", "other files", "choose another --out")
        write_splits(data, Split(**run.record["config"]["split"]), out / "metadata" / "subject_splits.parquet")
        write_labels(data, out / "labels")
        named = {str(p.provenance["model"]): p for p in scored_predictions(run)}
        for name, predictions in named.items():
            write_predictions(predictions, out / "predictions" / name)
        write_full(named, out / "predictions_full.parquet")

"""From runs to a result, or to files that other people's tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store, secret_of
from mmnar.errors import ConfigError, StoreError
from mmnar.evaluation.evaluate import RECTIFIED, evaluate
from mmnar.evaluation.export import write_full, write_labels, write_predictions, write_splits
from mmnar.evaluation.outside import outside_predictions
from mmnar.evaluation.result import Result
from mmnar.evaluation.thresholds import (
    Thresholds,
    check_tasks,
    learned_rate,
    learned_samples,
    of_rate,
    per_hundred,
    stated,
    usual,
)
from mmnar.lock import fresh_folder
from mmnar.predictions import ELSEWHERE, OUT_OF_FOLD, Predictions
from mmnar.roles import Test, key_mark, subject_digests
from mmnar.workflow.run import Run


def evaluate_runs(
    runs: Sequence[Run],
    *,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    outside: Mapping[str, Path] | None = None,
) -> Result:
    """Judge runs on the same patients: their own test fold, or every patient of another store.

    Args:
        on: Another store of the same schema (external validation); nothing is fitted on it.
        store: Where the runs' store lies now, if it has moved since: it tells whether somebody was fitted on.
        thresholds: Task → risks at which its alerts are judged, the main one first; default: by the outcome rate among
            the patients learned from (``thresholds_of``).
        outside: Name → table of risks made elsewhere of the same patients (``evaluation.outside``), judged and compared
            as a run is, and every run compared with them; only tasks that they have are judged.

    Raises:
        SchemaError: The runs were scored on different samples, or the other store has another schema.
        LeakageError: A scored subject was seen in fitting.
        StoreError: Whether one was cannot be told: the runs' store is not there.
        SourceError: Risks made elsewhere that are not of the scored samples.
        ConfigError: No runs, thresholds of an unknown task, or outside (0, 1).
    """
    if not runs:
        raise ConfigError("runs", "at least one run folder", "none", "name the folders that `mmnar train` wrote")
    scored = judged_predictions(runs, on, store, outside)
    tasks = scored[0].tasks
    check_tasks(thresholds or {}, tasks)
    at = thresholds_of(runs, thresholds or {}, out_of_fold_too=on is not None)
    controls = [run.name for run in runs if run.record["card"]["control"]]
    return evaluate(
        *scored,
        controls=controls,
        resamples=resamples,
        seed=seed,
        thresholds={task: of for task, of in at.items() if task in tasks},
    )


def judged_predictions(
    runs: Sequence[Run],
    on: Path | None = None,
    store: Path | None = None,
    outside: Mapping[str, Path] | None = None,
) -> list[Predictions[Test]]:
    """``scored_predictions`` of every run, and risks made elsewhere after them, all of the same tasks.

    Args:
        outside: As in ``evaluate_runs``.

    Raises:
        ConfigError: Risks made elsewhere under the name of a run, or of other tasks than those beside them.
    """
    scored = [p for run in runs for p in scored_predictions(run, on, store, runs)]
    taken = {str(p.provenance["model"]) for p in scored}
    others: list[Predictions[Test]] = []
    for name, path in (outside or {}).items():
        if not name or name in taken or name.endswith(RECTIFIED):
            raise ConfigError("--outside", "a name that no run has", f"'{name}'", "choose another")
        others.append(outside_predictions(name, path, scored[0], _learned_from(runs) if on is None else _NOBODY))
        if others[-1].tasks != others[0].tasks:
            fact = f"{', '.join(others[0].tasks)} of one and {', '.join(others[-1].tasks)} of another"
            raise ConfigError("--outside", "risks of the same tasks", fact, "judge them one by one")
    return [p.asking(others[0].tasks) for p in scored] + others if others else scored


_NOBODY: Final = np.empty(0, dtype=np.int64)


def _learned_from(runs: Sequence[Run]) -> NDArray[np.int64]:
    """Subjects whom runs have to learn from; of a single fit they are not kept."""
    known = (run.calibration() for run in runs)
    return np.unique(np.concatenate([_NOBODY, *(of.subject_id for of in known if of is not None)]))


def thresholds_of(
    runs: Sequence[Run], wanted: Mapping[str, Sequence[float]], out_of_fold_too: bool = False
) -> dict[str, Thresholds]:
    """Where the risks of each task are judged, from what was known before the scored patients were looked at.

    Stated ones, or round risks about the outcome rate among the patients learned from; and of every model the risks
    that 5, 10 and 20 of 100 of those patients reached out of fold. Where these risks are themselves what is judged,
    there are no such thresholds, and without stated ones they are the same for every task.

    Args:
        wanted: Task → stated thresholds, the main one first.
        out_of_fold_too: Others are judged, whatever a run was judged on.

    Raises:
        ConfigError: Thresholds of an unknown task, or outside (0, 1).
    """
    check_tasks(wanted, runs[0].test.tasks)
    apart = [run for run in runs if out_of_fold_too or run.test.provenance.get("validation") != OUT_OF_FOLD]
    learned = {run.name: (run.calibration(), run.rectifier()) for run in apart}
    found = {}
    for task in runs[0].test.tasks:
        known = [of for of, _ in learned.values() if of is not None]
        rate = next((r for r in (learned_rate(of, task) for of in known) if r is not None), None)
        if task in wanted:
            at = stated(wanted[task], task)
        else:
            at = usual() if rate is None else of_rate(rate, "by the outcome rate among the patients learned from")
        per_100 = {}
        for name, (of, rectifier) in learned.items():
            if of is not None:
                per_100[name] = per_hundred(of, task)
            if of is not None and rectifier is not None:
                # offsets hardly move a quantile of the risks that they were fitted on
                per_100[name + RECTIFIED] = per_hundred(of.with_proba(rectifier.risks(of)), task)
        sizes = [n for n in (learned_samples(of, task) for of in known) if n is not None]
        found[task] = replace(at, per_100=per_100, learned=max(sizes, default=None))
    return found


def scored_predictions(
    run: Run, on: Path | None = None, store: Path | None = None, beside: Sequence[Run] = ()
) -> list[Predictions[Test]]:
    """A run's test predictions, before and after its rectifier; of another store's patients if ``on`` names one.

    Args:
        store: Where the run's store lies now, if it has moved since.
        beside: Runs that are judged on the same patients of another store: see ``spared``.

    Raises:
        LeakageError: A patient of the other store was fitted on.
        StoreError: Whether one was cannot be told.
    """
    if on is None:
        return [run.test] + ([run.rectified] if run.rectified is not None else [])
    predictor = run.predictor()
    other = under_key_of(run, predictor.fitted_subjects, spared(open_store(on), [run, *beside], store), store)
    base = predictor.predict(other.with_modalities(run.modalities).fold(Split.external(), "test"))
    base.refuse_overlap()
    base = replace(base, provenance={**base.provenance, "model": run.name, "validation": ELSEWHERE})
    line, rectifier = run.platt(), run.rectifier()
    base = line.apply(base) if line else base
    return [base] + ([rectifier.apply(base)] if rectifier else [])


def spared(other: PatientDataset, runs: Sequence[Run], moved: Path | None = None) -> PatientDataset:
    """Another store where those play no role by whose outcomes the rectifier of a run was refitted (``refit_run``)."""
    for run in runs:
        rectifier = run.rectifier() if run.refit else None
        if rectifier is None:
            continue
        keyed = under_key_of(run, rectifier.fitted_on, other, moved)
        seen = np.isin(subject_digests(keyed.subject_id, keyed.secret, keyed.id_space), rectifier.fitted_on)
        other = replace(other, left_out=seen if other.left_out is None else seen | other.left_out)
    return other


def under_key_of(run: Run, fitted: NDArray[np.uint64], other: PatientDataset, moved: Path | None) -> PatientDataset:
    """Another store's patients with digests that can be held against those a run was fitted on.

    Raises:
        StoreError: The store that holds the run's key is not there.
    """
    if key_mark(other.secret) in fitted:
        return other
    path = moved or run.folder / run.record["store"]
    secret = secret_of(path)
    if secret is None or key_mark(secret) not in fitted:
        raise StoreError(
            f"run '{run.folder}' on another store",
            "the store it was trained on, which alone can tell whether a patient was trained on",
            f"none at '{path}'" if secret is None else f"another at '{path}'",
            "say where it lies with --store",
        )
    return replace(other, secret=secret)


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
        out: A new or empty folder; all of it is written or nothing.
        store: Where the run's store lies now, if it has moved since training.

    Raises:
        StoreError: ``out`` holds other files or cannot be written, or the store is gone or has changed.
    """
    data = store_of(run, store)
    named = {str(p.provenance["model"]): p for p in scored_predictions(run)}

    def write(folder: Path) -> None:
        write_splits(run.regime.chosen(data, run.split), run.split, folder / "metadata" / "subject_splits.parquet")
        write_labels(data, folder / "labels")
        for name, predictions in named.items():
            write_predictions(predictions, folder / "predictions" / name)
        write_full(named, folder / "predictions_full.parquet")

    fresh_folder(out, write)

"""From a store to a run, from runs to a result: what the command's verbs do, callable from Python.

A run is a folder. ``run.json`` is written last: a folder without it is unfinished and can be resumed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mmnar.cohort.split import Split
from mmnar.config import RectifierConfig, to_plain
from mmnar.dataset.store import Fold, PatientDataset, open_store
from mmnar.errors import LeakageError, StoreError
from mmnar.estimators.base import Predictor
from mmnar.estimators.cross import cross_predict
from mmnar.estimators.registry import TABULAR, build_estimator, model_settings, resolve_run
from mmnar.estimators.storage import fit_or_load, load_predictor, save_predictor
from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.export import write_full, write_labels, write_predictions, write_splits
from mmnar.evaluation.result import Result
from mmnar.files import write_text
from mmnar.posthoc.base import Correction, FittedCorrection
from mmnar.posthoc.platt import Platt
from mmnar.posthoc.rectify import LatticeRectifier, ThresholdRectifier
from mmnar.posthoc.saved import restore
from mmnar.predictions import Predictions, load
from mmnar.progress import say
from mmnar.roles import Test
from mmnar.training.monitor import Monitor, Recorder, Silent

RUN_VERSION: Final = 1
_LATENCY_SAMPLES: Final = 10


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Where it lies.
        record: ``run.json``.
        test, rectified: Test predictions before and after the rectifier (None where there is none); both after Platt's
            line where the training loss is not a proper score.
    """

    folder: Path
    record: dict[str, Any]
    test: Predictions[Test]
    rectified: Predictions[Test] | None

    @property
    def name(self) -> str:
        return str(self.record["name"])

    def history(self) -> list[dict[str, Any]]:
        """One record per epoch of every fit behind the run."""
        records: list[dict[str, Any]] = json.loads((self.folder / "history.json").read_text(encoding="utf-8"))
        return records

    def predictor(self) -> Predictor:
        return load_predictor(self.folder / "model")

    def platt(self) -> FittedCorrection | None:
        """The line that is part of the model; None where its training loss was a proper score."""
        return self._correction("platt.json")

    def rectifier(self) -> FittedCorrection | None:
        return self._correction("rectifier.json")

    def _correction(self, name: str) -> FittedCorrection | None:
        path = self.folder / name
        return restore(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def train_run(
    store: Path,
    model: str,
    out: Path,
    words: Sequence[str] = (),
    *,
    resume: bool = False,
    monitor: Monitor | None = None,
) -> Run:
    """Fit a model on a store, feed its rectifier out-of-fold, score the test fold, write the run.

    Args:
        words: ``a.b=c`` overrides of ``RunConfig`` and, under ``model.``, of the method's own configuration.
        resume: Continue an interrupted run, to the same numbers.

    Raises:
        ConfigError, StoreError: Before anything is written.
    """
    config, settings = resolve_run(model, words)  # names before anything heavy is imported or read
    data = open_store(store)
    _refuse_taken(out, resume)
    recipe = build_estimator(model, settings, config.train, config.ensemble)
    identity = {
        "name": recipe.name,
        "model": model_settings(recipe),
        "config": to_plain(config),
        "data": data.fingerprint,
        "mmnar": version("mmnar"),
    }
    _claim(out, identity)
    started, cpu = time.time(), time.process_time()
    recorder = Recorder(monitor or Silent())
    split = Split(**to_plain(config.split))
    train, tune, test = data.fold(split, "train"), data.fold(split, "tune"), data.fold(split, "test")
    for fold, role in ((train, "train"), (tune, "tune"), (test, "test")):
        if not len(fold):
            raise LeakageError(f"split fold '{role}'", "at least one subject", "none", "use more subjects")
    say(f"{recipe.name}: fitting")
    work = out / "work"
    predictor = fit_or_load(recipe, train, tune, config.seed, work / "final", recorder)
    scored = predictor.predict(test)
    scored.refuse_overlap()
    rule, proper = rectifier_for(config.rectifier), model in TABULAR or config.train.label_loss == "bce"
    if rule is not None or not proper:
        say(f"{recipe.name}: {config.rectifier.folds} fits more, for out-of-fold risks")
        calibration = cross_predict(recipe, train, tune, config.rectifier.folds, config.seed, work / "cross", recorder)
        if not proper:
            line = Platt().fit(calibration)
            scored, calibration = line.apply(scored), calibration.with_proba(line.risks(calibration))
            _write_json(out / "platt.json", line.to_dict())
        _write(calibration, out / "predictions" / "calibration.parquet")
    _write(scored, out / "predictions" / "test.parquet")
    if rule is not None:
        fitted = rule.fit(calibration)
        _write(fitted.apply(scored), out / "predictions" / "rectified.parquet")
        _write_json(out / "rectifier.json", fitted.to_dict())
    save_predictor(predictor, out / "model")
    _write_json(out / "history.json", recorder.history)
    cost = {"seconds": round(time.time() - started, 1), **cost_of(predictor, test, cpu)}
    record = {**identity, "run_version": RUN_VERSION, "card": recipe.card, "store": os.path.relpath(store, out), **cost}
    _write_json(out / "run.json", {**record, "versions": versions()})
    shutil.rmtree(work, ignore_errors=True)
    return open_run(out)


def cost_of(predictor: Predictor, test: Fold[Test], cpu_started: float) -> dict[str, float | None]:
    """What a run took: processor seconds of this process, its largest memory, milliseconds to score one sample; and
    the number of its parameters, None for what is no network.

    Args:
        cpu_started: ``time.process_time()`` when the run began.
    """
    cpu = time.process_time() - cpu_started
    milliseconds = []
    for i in range(min(len(test), 1 + _LATENCY_SAMPLES)):
        begun = time.perf_counter()
        predictor.predict_proba(replace(test, rows=test.rows[i : i + 1]))
        milliseconds.append(1000 * (time.perf_counter() - begun))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes
    latency = statistics.median(milliseconds[1:] or milliseconds)  # the first one warms up
    return {
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mb": round(peak),
        "latency_ms": round(latency, 2),
        "parameters": getattr(predictor, "parameters", None),
    }


def open_run(folder: str | Path) -> Run:
    """A finished run.

    Raises:
        StoreError: Not a run, unfinished, or of another version.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        begun = (folder / "identity.json").is_file()
        raise StoreError(
            f"run '{folder}'",
            "a finished run (run.json)",
            "an unfinished one" if begun else "none",
            "continue it with `mmnar train … --resume`" if begun else "run `mmnar train` first",
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("run_version") != RUN_VERSION:
        raise StoreError(f"run '{folder}'", f"run version {RUN_VERSION}", f"{record.get('run_version')}", "train again")
    rectified = folder / "predictions" / "rectified.parquet"
    return Run(
        folder,
        record,
        load(folder / "predictions" / "test.parquet"),
        load(rectified) if rectified.is_file() else None,
    )


def rectifier_for(config: RectifierConfig) -> Correction | None:
    """The rectifier's recipe; None where none is asked for."""
    if config.rule == "none":
        return None
    if config.rule == "threshold":
        return ThresholdRectifier(kappas=config.kappas)
    return LatticeRectifier(p0=config.prior_no_effect)


def evaluate_runs(runs: Sequence[Run], *, on: Path | None = None, resamples: int = 1000, seed: int = 0) -> Result:
    """Judge runs on the same patients: their own test fold, or every patient of another store.

    Args:
        on: Another store of the same schema (external validation); nothing is fitted on it.

    Raises:
        SchemaError: The runs were scored on different samples, or the other store has another schema.
        LeakageError: A scored subject was seen in fitting.
    """
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
    if out.exists() and any(out.iterdir()):
        raise StoreError(f"'{out}'", "a new or empty folder", "other files", "choose another --out")
    write_splits(data, Split(**run.record["config"]["split"]), out / "metadata" / "subject_splits.parquet")
    write_labels(data, out / "labels")
    named = {str(p.provenance["model"]): p for p in scored_predictions(run)}
    for name, predictions in named.items():
        write_predictions(predictions, out / "predictions" / name)
    write_full(named, out / "predictions_full.parquet")


def versions() -> dict[str, str]:
    """Of everything that could change a number."""
    names = ("mmnar", "torch", "numpy", "scipy", "scikit-learn", "polars", "lightning")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _refuse_taken(out: Path, resume: bool) -> None:
    """Refuse a folder that cannot become this run's."""
    if out.exists() and not out.is_dir():
        raise StoreError(f"run '{out}'", "a new folder", "a file", "choose another --out")
    begun = (out / "identity.json").is_file()
    if (out / "run.json").is_file() and not resume:
        raise StoreError(f"run '{out}'", "a new folder", "a finished run", "choose another --out")
    if begun and not resume:
        raise StoreError(f"run '{out}'", "a new folder", "an unfinished run", "add --resume or choose another --out")
    if not begun and out.exists() and any(out.iterdir()):
        raise StoreError(f"run '{out}'", "a new or empty folder", "other files", "choose another --out")


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Take the run folder, or refuse to go on with a run of another configuration."""
    path = out / "identity.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in identity if before.get(key) != json.loads(json.dumps(identity[key]))]
        if changed:
            raise StoreError(
                f"run '{out}'",
                "the configuration and data it was begun with",
                f"changed: {', '.join(changed)}",
                "choose another --out",
            )
    out.mkdir(parents=True, exist_ok=True)
    _write_json(path, identity)


def _write(predictions: Predictions[Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        predictions.save(path)
    except OSError as error:
        raise StoreError(f"writing '{path.name}'", "room to write", str(error), "free space and --resume") from error


def _write_json(path: Path, content: Any) -> None:
    try:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False))
    except OSError as error:
        raise StoreError(f"writing '{path.name}'", "room to write", str(error), "free space and --resume") from error

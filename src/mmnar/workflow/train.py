"""From a store to a run: cross-fit, correct by the risks out of fold, score the test fold, write the folder."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmnar.cohort.split import Split
from mmnar.config import RectifierConfig, RunConfig, to_plain
from mmnar.dataset.regimes import settled
from mmnar.dataset.store import Fold, PatientDataset, open_store
from mmnar.errors import LeakageError, StoreError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.cross import cross_fit, learnable
from mmnar.estimators.registry import SWITCH, build_estimator, is_network, model_settings, resolve_run
from mmnar.estimators.stack import StackPredictor
from mmnar.estimators.started import refuse_judged
from mmnar.estimators.storage import fit_or_load, save_predictor
from mmnar.files import sha256_of, sweep, write_sealed, write_text
from mmnar.lock import alone, contents
from mmnar.posthoc.base import Correction, corrected_out_of_fold
from mmnar.posthoc.platt import Platt
from mmnar.posthoc.rectify import LatticeRectifier, ThresholdRectifier
from mmnar.predictions import Predictions, pattern_words
from mmnar.privacy import SMALL_CELL, patients_by_group
from mmnar.progress import say
from mmnar.roles import Calibration, Development
from mmnar.training.monitor import Monitor, Recorder, Silent
from mmnar.workflow.begun import begin
from mmnar.workflow.cost import Clock, size_of
from mmnar.workflow.run import FILES, RUN_VERSION, Run, open_run

WORK: Final = "work"
"""Folder of an unfinished run: checkpoints, finished fits, what was spent."""


def train_run(
    store: Path,
    model: str,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    monitor: Monitor | None = None,
) -> Run:
    """Fit a model on a store, correct it by its risks out of fold, score the test fold, write the run.

    Args:
        overrides: ``a.b=c`` of ``RunConfig`` and, under ``model.``, of the method's own configuration.
        resume: Continue an interrupted run, to the same numbers; of a finished one nothing is changed.

    Raises:
        ConfigError, StoreError: Before anything is written; or somebody else is at work on ``out``.
    """
    config, settings = resolve_run(model, overrides)  # names before anything heavy is imported or read
    whole = open_store(store)
    _refuse_taken(out, resume)
    config, regime = settled(config, whole)
    split = Split(**to_plain(config.split))
    _refuse_empty(whole, split, config)
    data = regime.laid_over(whole, split).with_modalities(config.modalities)
    recipe = build_estimator(model, settings, config.train, config.ensemble)
    refuse_judged(recipe, config, data, split, proper_score(model, config))
    identity = {
        "name": recipe.name,
        "model": model_settings(recipe),
        "config": to_plain(config),
        "data": data.fingerprint,
        "regime": regime.to_dict(),
        "mmnar": version("mmnar"),
    }
    with alone(out, "run"):
        if _claim(out, identity):
            run = open_run(out)
            run.check()
            return run
        clock = Clock(out / WORK / "spent.json", monitor or Silent())
        words = regime.words(whole, split)
        for sentence in words:
            say(sentence)
        recorder = Recorder(clock)
        cost = _fit(recipe, config, data, split, out, recorder, clock, proper_score(model, config))
        _write_json(out / "history.json", recorder.history)
        if "recipe" in data.manifest:
            _write_json(out / "recipe.json", data.manifest["recipe"])
        record = {**identity, "run_version": RUN_VERSION, "card": recipe.card, "store": os.path.relpath(store, out)}
        record["regime_words"] = words
        files = {name: sha256_of(out / name) for name in FILES if (out / name).is_file()}
        write_sealed(out / "run.json", {**record, **cost, **clock.spent(), "versions": versions(), "files": files})
        shutil.rmtree(out / WORK, ignore_errors=True)
        return open_run(out)


def is_finished(out: Path) -> bool:
    """Whether a folder holds a finished run."""
    return (out / "run.json").is_file()


def _refuse_empty(data: PatientDataset, split: Split, config: RunConfig) -> None:
    """
    Raises:
        LeakageError: Nobody plays a role that this run needs.
    """
    needed = ["train", "tune"] if config.fit == "single" else ["train"]
    judged_out_of_fold = config.split.test == 0 and config.split.folds == 1 and not config.split.by
    for role in needed if judged_out_of_fold else [*needed, "test"]:
        if not (split.roles(data.subject_id, data.attributes) == role).any():
            raise LeakageError(f"split fold '{role}'", "at least one subject", "none", "use more subjects")


def proper_score(model: str, config: RunConfig) -> bool:
    """Whether the training loss of a method is a proper score; where it is not, the run needs risks out of fold."""
    return config.train.label_loss == "bce" or not (is_network(model) or model == SWITCH)


def _fit(
    recipe: Estimator,
    config: RunConfig,
    data: PatientDataset,
    split: Split,
    out: Path,
    recorder: Recorder,
    clock: Clock,
    proper: bool,
) -> dict[str, Any]:
    """The model, its predictions and its rectifier, into ``out``; what one sample costs.

    Args:
        proper: Whether the training loss is a proper score; where it is not, Platt's line becomes part of the model.
    """
    rule = rectifier_for(config.rectifier)
    test = data.fold(split, "test")
    needed = rule is not None or not proper or not len(test)
    predictor, calibration = _fitted(recipe, config, data, split, out / WORK, recorder, needed)
    clock.note()
    scored = predictor.predict(test) if len(test) else None
    judged = scored
    if scored is not None:
        scored.refuse_overlap()
    elif calibration is not None:
        # a line fitted on a patient's own outcome would flatter the risk that is judged by it
        judged = (calibration if proper else corrected_out_of_fold(Platt(), calibration)).as_validation()
    if calibration is not None:
        if not proper:
            line = Platt().fit(calibration)
            if scored is not None:
                judged = scored = line.apply(scored)
            calibration = calibration.with_proba(line.risks(calibration))
            _write_json(out / "platt.json", line.to_dict())
        _write(calibration, out / "predictions" / "calibration.parquet")
    assert judged is not None
    _write(judged, out / "predictions" / "test.parquet")
    if rule is not None and calibration is not None:
        fitted = rule.fit(calibration)
        if scored is not None:
            _write(fitted.apply(scored), out / "predictions" / "rectified.parquet")
        _write_json(out / "rectifier.json", fitted.to_dict())
    save_predictor(predictor, out / "model")
    weights = {"weights": predictor.weighed()} if isinstance(predictor, StackPredictor) else {}
    size = size_of(predictor, test if len(test) else data.fold(split, "development"))
    learned = data.fold(split, "train" if config.fit == "single" else "development")
    return {**size, **weights, "patterns": _patterns_of(learned)}


def _patterns_of(fold: Fold[Any]) -> dict[str, int]:
    """Observation pattern (e.g. "1011") → how many patients of a fold have it, of patterns that ten or more have."""
    patterns, group = np.unique(fold.present, axis=0, return_inverse=True)
    people = patients_by_group(group.reshape(-1), fold.subject_id, len(patterns))
    return {name: n for name, n in zip(pattern_words(patterns), people, strict=True) if n >= SMALL_CELL}


def _fitted(
    recipe: Estimator,
    config: RunConfig,
    data: PatientDataset,
    split: Split,
    work: Path,
    recorder: Recorder,
    needed: bool,
) -> tuple[Predictor, Predictions[Calibration] | None]:
    """The model, and every development patient's risks by a fit that never saw them.

    Args:
        needed: Whether these are; a single fit has none otherwise.
    """
    development: Fold[Development] = data.fold(split, "development")
    share, seed = config.split.tune, config.seed
    predictor: Predictor | None = None
    if config.fit == "single":
        say(f"{recipe.name}: fitting")
        train, tune = data.fold(split, "train"), data.fold(split, "tune")
        tasks = learnable(recipe.name, train, tune)
        predictor = fit_or_load(recipe, train.asking(tasks), tune.asking(tasks), seed, work / "final", recorder)
        if not needed:
            return predictor, None
    say(f"{recipe.name}: {config.fits} fits, each scored on patients whom it never saw")
    crossed = cross_fit(
        recipe, development, config.fits, tune=share, seed=seed, workdir=work / "cross", monitor=recorder
    )
    return predictor or crossed.predictor, crossed.out_of_fold


def rectifier_for(config: RectifierConfig) -> Correction | None:
    """The rectifier's recipe; None where none is asked for."""
    if config.rule == "none":
        return None
    if config.rule == "threshold":
        return ThresholdRectifier(kappas=config.kappas)
    return LatticeRectifier(p0=config.prior_no_effect)


def versions() -> dict[str, str]:
    """Of everything that could change a number."""
    names = ("mmnar", "torch", "numpy", "scipy", "scikit-learn", "polars", "lightning")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _refuse_taken(out: Path, resume: bool) -> None:
    """Refuse a folder that cannot become this run's."""
    if out.exists() and not out.is_dir():
        raise StoreError(f"run '{out}'", "a new folder", "a file", "choose another --out")
    begun = (out / "identity.json").is_file()
    if is_finished(out) and not resume:
        raise StoreError(f"run '{out}'", "a new folder", "a finished run", "choose another --out")
    if begun and not resume:
        raise StoreError(f"run '{out}'", "a new folder", "an unfinished run", "add --resume or choose another --out")
    if not begun and contents(out):
        raise StoreError(f"run '{out}'", "a new or empty folder", "other files", "choose another --out")


def _claim(out: Path, identity: dict[str, Any]) -> bool:
    """Take the run folder and sweep what kills left, or refuse to go on with a run of another configuration.

    Returns:
        Whether the run is finished already.
    """
    path = out / "identity.json"
    if path.is_file() or not is_finished(out):
        begin(path, identity, f"run '{out}'", "choose another --out")
    if is_finished(out):
        sweep_finished(out)
        return True
    sweep(out)
    return False


def sweep_finished(out: Path) -> None:
    """Remove what a kill after its last word left of a finished run. For whoever alone may write there."""
    sweep(out)
    shutil.rmtree(out / WORK, ignore_errors=True)


def _write(predictions: Predictions[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    predictions.save(path)


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))

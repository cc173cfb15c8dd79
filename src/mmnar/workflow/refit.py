"""A run with another rectifier: its model as it is, the offsets by pattern from another store's outcomes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, RequirementError
from mmnar.files import sha256_of, write_sealed, write_text
from mmnar.lock import fresh_folder
from mmnar.posthoc.base import EXCLUSIVE, MINIMUM_EVENTS, FittedCorrection
from mmnar.posthoc.rectify import FittedLattice, LatticeRectifier
from mmnar.posthoc.refit import EAGER, Refit
from mmnar.predictions import Predictions
from mmnar.privacy import in_tens
from mmnar.progress import say
from mmnar.roles import Calibration
from mmnar.workflow.judge import under_key_of
from mmnar.workflow.run import FILES, Run, open_run

SUFFIX: Final = "-refit"
KEPT: Final = ("predictions/calibration.parquet", "recipe.json", "platt.json", "history.json")
"""What the new run takes over as it is, beside the model."""


def refit_run(run: Run, on: Path, out: Path, *, share: float = 0.5, seed: int = 0, store: Path | None = None) -> Run:
    """Fit a run's rectifier anew on another store's outcomes.

    The new run is the old one, but for its name and its rectifier: it belongs to the same store, and its test patients
    say what the new offsets cost at home. Judged on the other store, it leaves out whom they were fitted on, and so
    does every run beside it.

    Args:
        share: Of the other store's patients, drawn by the hash of the patient, on whose outcomes it is fitted.
        seed: Of the hash.
        store: Where the run's store lies now, if it has moved since.

    Raises:
        ConfigError: A share outside (0, 1).
        LeakageError: Some of these patients were trained on.
        RequirementError: Every task has fewer than 40 events among them.
        StoreError: ``out`` holds other files, or the run's store is not there.
    """
    if not 0 < share < 1:
        raise ConfigError("--share", "above 0 and below 1: others are left to be judged", f"{share:g}", "use 0.5")
    target = open_store(on)
    calibration = _scored(run, target, Split(seed, tune=0.0, calibration=share, test=0.0), store)
    say(f"{run.name}: its rectifier anew, on outcomes of the other store")
    rectifier = Refit().fit(calibration)
    _refuse_nothing(rectifier)
    told = {
        "data": target.fingerprint,
        "share": share,
        "seed": seed,
        "patients": in_tens(len(np.unique(calibration.subject_id))),
        "prior_no_effect": _priors(rectifier, calibration),
        "reasons": rectifier.reasons,
    }
    name, home = run.name + SUFFIX, store or run.folder / run.record["store"]
    fresh_folder(out, lambda folder: _write(folder, run, rectifier, name, {"refit": told, "store": _from(home, out)}))
    return open_run(out)


def _scored(run: Run, target: PatientDataset, split: Split, store: Path | None) -> Predictions[Calibration]:
    """Risks of the patients to fit on, by a model that never saw them, after Platt's line."""
    predictor = run.predictor()
    keyed = under_key_of(run, predictor.fitted_subjects, target, store)
    scored = predictor.predict(keyed.with_modalities(run.modalities).fold(split, "calibration"))
    scored.refuse_overlap()
    line = run.platt()
    return scored if line is None else scored.with_proba(line.risks(scored))


def _refuse_nothing(rectifier: FittedLattice) -> None:
    reasons = rectifier.reasons.values()
    if all(reasons):
        fact = "none" if EXCLUSIVE not in reasons else "none that a rectifier may touch"
        expected = f"a task with {MINIMUM_EVENTS} events among the patients to fit on"
        remedy = "wait for more outcomes, or raise --share: with fewer the run as it is does better"
        raise RequirementError("refit", expected, fact, remedy)


def _priors(rectifier: FittedLattice, calibration: Predictions[Calibration]) -> dict[str, float]:
    safe = LatticeRectifier().p0
    return {
        task: EAGER if Refit.is_eager(calibration, task) else safe
        for task, reason in rectifier.reasons.items()
        if not reason
    }


def _from(home: Path, out: Path) -> str:
    return os.path.relpath(home, out)


def _write(folder: Path, run: Run, rectifier: FittedCorrection, name: str, told: dict[str, Any]) -> None:
    run.check()
    shutil.copytree(run.folder / "model", folder / "model")
    (folder / "predictions").mkdir()
    for kept in KEPT:
        if kept in run.record["files"]:
            shutil.copyfile(run.folder / kept, folder / kept)
    test = run.test.with_proba(run.test.proba, model=name)
    test.save(folder / "predictions" / "test.parquet")
    rectifier.apply(test).save(folder / "predictions" / "rectified.parquet")
    write_text(folder / "rectifier.json", json.dumps(rectifier.to_dict(), indent=1, ensure_ascii=False))
    config = {**run.record["config"], "rectifier": {**run.record["config"]["rectifier"], "rule": "lattice"}}
    files = {file: sha256_of(folder / file) for file in FILES if (folder / file).is_file()}
    write_sealed(folder / "run.json", {**run.record, **told, "name": name, "config": config, "files": files})

"""Fitted models on disk: JSON, safetensors and numpy arrays; never pickle. A folder is written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.errors import StoreError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor

PREDICTOR_VERSION: Final = 1


def save_predictor(predictor: Predictor, folder: Path) -> Path:
    """Write a fitted model to ``folder``, replacing what was there once the new one is whole.

    Raises:
        StoreError: No room or no permission.
    """
    temporary = folder.with_name(f".tmp-{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        state = predictor._state(temporary)
        np.save(temporary / "fitted_subjects.npy", predictor.fitted_subjects, allow_pickle=False)
        record = {
            "predictor_version": PREDICTOR_VERSION,
            "loader": f"{type(predictor).__module__}:{type(predictor).__qualname__}",
            "name": predictor.name,
            "schema": predictor.schema.to_dict(),
            "state": state,
        }
        (temporary / "predictor.json").write_text(json.dumps(record), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"saving '{predictor.name}'", "room to write", str(error), "free space and --resume"
        ) from error
    return folder


def load_predictor(folder: str | Path) -> Predictor:
    """The fitted model in ``folder``.

    Raises:
        StoreError: Not a fitted model, or written by another version.
    """
    folder = Path(folder)
    path = folder / "predictor.json"
    if not path.is_file():
        raise StoreError(f"'{folder}'", "a fitted model (predictor.json)", "none", "run `mmnar train` first")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("predictor_version") != PREDICTOR_VERSION:
        raise StoreError(
            f"fitted model '{folder.name}'",
            f"version {PREDICTOR_VERSION}",
            f"{record.get('predictor_version')}",
            "train it again with this version",
        )
    module, name = record["loader"].split(":")
    if not module.startswith("mmnar.estimators."):  # a file must not choose what code runs
        raise StoreError(
            f"fitted model '{folder.name}'", "a class of mmnar.estimators", module, "do not trust this file"
        )
    keys = np.load(folder / "fitted_subjects.npy", allow_pickle=False)
    loaded: Predictor = getattr(import_module(module), name).load_state(
        folder, Schema.from_dict(record["schema"]), keys, record["state"]
    )
    return loaded


def fit_or_load(
    estimator: Estimator,
    train: Fold[Train],
    tune: Fold[Tune],
    seed: int,
    workdir: Path | None,
    monitor: Monitor | None,
) -> Predictor:
    """Fit, or take up the finished fit that an interrupted run left in ``workdir``."""
    if workdir is None:
        return estimator.fit(train, tune, seed=seed, monitor=monitor)
    finished = workdir / "fitted"
    if (finished / "predictor.json").is_file():
        return load_predictor(finished)
    predictor = estimator.fit(train, tune, seed=seed, workdir=workdir, monitor=monitor)
    save_predictor(predictor, finished)
    return predictor

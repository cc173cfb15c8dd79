"""Fitted models on disk: JSON, safetensors and numpy arrays; never pickle. A folder is written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.errors import StoreError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.files import names_below, read_sealed, sha256_of, write_sealed
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor, Recorder, Silent

PREDICTOR_VERSION: Final = 3


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
        (temporary / "README.txt").write_text(contents_of(predictor), encoding="utf-8")
        record["files"] = {name: sha256_of(temporary / name) for name in sorted(names_below(temporary))}
        write_sealed(temporary / "predictor.json", record)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        fact = error.strerror or type(error).__name__
        raise StoreError(f"saving '{predictor.name}'", "room to write", fact, "free space and --resume") from error
    return folder


def contents_of(predictor: Predictor) -> str:
    """What a model folder holds, for whoever is asked to pass it on."""
    keeps = (
        "It keeps vectors of training patients, to which it compares those it scores: this folder is patient data and\n"
        "goes nowhere that the records may not go.\n"
        if predictor.keeps_patients
        else "It keeps no bank of training patients, but is an aggregate of few patients where few have a feature,\n"
        "a pattern of modalities, a word, a category, a cluster or a leaf of a tree: means, quantiles, centroids and\n"
        "thresholds may then be, or come close to, one patient's values, and rates may tell counts under ten.\n"
    )
    return (
        f"Fitted model '{predictor.name}'.\n\n"
        "predictor.json names modalities, features, categories and tasks, and says how the model is built. The\n"
        "other files hold what was estimated from the training fold: weights, and each feature's mean, spread and\n"
        f"quantiles.\n{keeps}"
        "fitted_subjects.npy holds a digest of each patient seen in fitting, under a key that stays with the store\n"
        "(subjects.key): without the key nobody can tell who was meant, with it `mmnar evaluate --on` refuses them.\n"
    )


def load_predictor(folder: str | Path) -> Predictor:
    """The fitted model in ``folder``.

    Raises:
        StoreError: Not a fitted model, written by another version, or damaged; names the file.
    """
    folder = Path(folder)
    record = check_predictor(folder)
    keys = np.load(folder / "fitted_subjects.npy", allow_pickle=False)
    return _class_of(record["loader"], f"fitted model '{folder.name}'").load_state(
        folder, Schema.from_dict(record["schema"]), keys, record["state"]
    )


def check_predictor(folder: Path) -> dict[str, Any]:
    """The record of a fitted model whose files are what ``save_predictor`` wrote.

    Raises:
        StoreError: See ``load_predictor``.
    """
    path, what = folder / "predictor.json", f"fitted model '{folder.name}'"
    if not path.is_file():
        raise StoreError(f"'{folder}'", "a fitted model (predictor.json)", "none", "run `mmnar train` first")
    record = read_sealed(path, what, "train it again with this version", ("predictor_version", PREDICTOR_VERSION))
    for file, digest in record["files"].items():
        if not (folder / file).is_file() or sha256_of(folder / file) != digest:
            raise StoreError(f"{what}, {file}", "the file that train wrote", "missing or changed", "train it again")
    return record


def _class_of(loader: Any, what: str) -> type[Predictor]:
    """The class that a file names. A file must not choose what code runs: it is one of ours, or refused."""
    module, _, name = str(loader).partition(":")
    found = None
    if module.startswith("mmnar.estimators."):
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and issubclass(found, Predictor)):
        raise StoreError(what, "a predictor of mmnar.estimators", "another loader", "do not trust this file")
    return found


def fit_or_load(
    estimator: Estimator,
    train: Fold[Train],
    tune: Fold[Tune],
    seed: int,
    workdir: Path | None,
    monitor: Monitor | None,
) -> Predictor:
    """Fit, or take up the finished fit that an interrupted run left in ``workdir``, with its training records. One that
    is damaged is fitted again, to the same numbers."""
    if workdir is None:
        return estimator.fit(train, tune, seed=seed, monitor=monitor)
    finished, records = workdir / "fitted", workdir / "history.json"
    recorder = Recorder(monitor or Silent())
    if (finished / "predictor.json").is_file():
        try:
            predictor = load_predictor(finished)
            recorder.replay(read_sealed(records, "training records", "train again")["history"])
            return predictor
        except (StoreError, FileNotFoundError):
            warnings.warn(f"the finished fit in '{workdir.name}' is damaged; it is made again", stacklevel=2)
            shutil.rmtree(workdir)
    predictor = estimator.fit(train, tune, seed=seed, workdir=workdir, monitor=recorder)
    workdir.mkdir(parents=True, exist_ok=True)
    write_sealed(records, {"history": recorder.history})
    save_predictor(predictor, finished)
    return predictor

"""Films with labels of their own → weights of an image encoder, with the record of whom they have seen.

``models.resnet`` is fitted on the films by the one training loop. No film of a test patient of the store is read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.cohort.split import Split
from mmnar.config import MEDFUSE, RunConfig, parse_overrides, to_plain
from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.encoders.weights import save_weights
from mmnar.errors import ConfigError, SourceError, StoreError
from mmnar.estimators.cross import learnable
from mmnar.estimators.fusion import FusionEstimator, FusionPredictor
from mmnar.estimators.registry import build_estimator, model_settings, resolve_run
from mmnar.files import sweep
from mmnar.lock import alone
from mmnar.privacy import counted
from mmnar.progress import say
from mmnar.sources.events import ImageRule, VectorRule
from mmnar.sources.mimic_iv.findings import TREATMENT, Labeller, labelled_films
from mmnar.sources.reading.raw import DataRoot
from mmnar.training.monitor import Monitor
from mmnar.workflow.begun import begin
from mmnar.workflow.films import CODE, dataset_of_films, side_of, with_embeddings, without

IMAGES: Final = "resnet"
VECTORS: Final = "late-fusion"
"""The method that is fitted: one encoder and a linear head, of images or of vectors."""

WORK: Final = ".work"
"""Ending of the folder beside the file of weights in which unfinished work lies."""

ORIGINAL: Final = {"train.lr": 1e-4, **{key: MEDFUSE[key] for key in MEDFUSE if not key.startswith("model.series.")}}
"""``preset=original``: how MedFuse trains its encoder of films. The paper names no rate for it; here CareBench's."""

_KEYS: Final = ("split.", "train.", "model.", "seed=", "preset=")


@dataclass(frozen=True)
class Pretrained:
    """
    Args:
        file: The weights.
        findings: Those that were learned.
        tune_loss: Log loss of the films of tune patients, at the epoch that was kept; mean over findings.
        told: What was read and what was left out, in words.
    """

    file: Path
    findings: tuple[str, ...]
    tune_loss: float
    told: tuple[str, ...]


def pretrain_images(
    cxr: Path,
    store: Path,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    labeller: Labeller = "chexpert",
    outside: bool = False,
    embeddings: Path | None = None,
    monitor: Monitor | None = None,
) -> Pretrained:
    """Train an image encoder on films of all patients but the store's test patients; write its weights.

    Unfinished work lies in a folder beside ``out``, with the films as they are trained on; called again in the same way
    it goes on, to the same weights, and removes the folder in the end.

    Args:
        cxr: Folder of MIMIC-CXR-JPG, with the files, the metadata and the labels.
        store: Whose split says who is a test patient, and whose key the record of subjects is under. Its films' size is
            that of the films here.
        out: A new ``.safetensors`` file, for ``model.image.weights``.
        overrides: ``split.…``, ``train.…``, ``seed`` and, of the network, ``model.…``; as of the runs that use it.
        labeller: Whose labels.
        outside: Leave out all patients of the store, so that the weights may be cross-fitted with.
        embeddings: Folder of the released embeddings, read in place of images, for a store that has these.

    Raises:
        ConfigError: A key that does not tell here, another ending, a store without films, or no test fold.
        SourceError: Films or labels cannot be read, or nobody is left to train on.
        StoreError: No such store; the file is there; or unfinished work of other settings or films is.
    """
    config, recipe = _recipe(overrides, IMAGES if embeddings is None else VECTORS)
    _refuse_taken(out)
    data = open_store(store)
    side = side_of(data) if embeddings is None else 0
    split = Split(**to_plain(config.split))
    tested = data.subject_id[split.roles(data.subject_id, data.attributes) == "test"]
    if not len(tested) and not outside:
        remedy = "set split.test, or add --outside"
        raise ConfigError("split.test", "a test fold, whose films are left out", "none", remedy)
    found = labelled_films(DataRoot(cxr), labeller)
    others, where = (data.subject_id, "of the store") if outside else (tested, "in its test fold")
    films, left_out = without(found.frame, np.unique(others), where)
    identity: dict[str, Any] = {
        "model": model_settings(recipe),
        "config": to_plain(config),
        "side": side,
        "store": data.fingerprint,
        "mmnar": version("mmnar"),
    }
    work = out.with_suffix(WORK)
    with alone(work, "pre-training"):
        remedy = "choose another --out, or remove that folder"
        read = hashlib.sha256(films.write_csv().encode()).hexdigest()
        begin(work / "identity.json", {**identity, "films": read}, f"pre-training '{work.name}'", remedy)
        sweep(work)
        pictures = _pictures(films, cxr, side, embeddings, data, work)
        predictor = _fitted(recipe, pictures, _apart(split), config.seed, work / "fit", monitor)
        loss = min(epoch["tune"]["task"] for epoch in predictor.history)
        findings = predictor.schema.task_names
        labels = {"labels": labeller, "treatment": TREATMENT, "findings": findings, "tune_loss": loss}
        made = {**_settings(identity), **labels, "without": f"patients {where}", **_counts(pictures)}
        save_weights(predictor.network, out, predictor.fitted_subjects, made)
        shutil.rmtree(work)
    return Pretrained(out, findings, loss, (*found.left_out, *left_out, *pictures.manifest["warnings"]))


def _recipe(overrides: Sequence[str], method: str) -> tuple[RunConfig, FusionEstimator]:
    """
    Raises:
        ConfigError: A key that tells nothing of an encoder that is trained once.
    """
    for key in overrides:
        if not key.startswith(_KEYS):
            fact, known = f"'{key.partition('=')[0]}'", "split.…, train.…, model.…, seed or preset"
            raise ConfigError("key of `pretrain images`", known, fact, "leave it out")
    plain = parse_overrides(overrides, {"original": ORIGINAL})
    config, settings = resolve_run(method, [f"{key}={value}" for key, value in plain.items()])
    recipe = build_estimator(method, settings, config.train)
    assert isinstance(recipe, FusionEstimator)
    return config, recipe


def _refuse_taken(out: Path) -> None:
    """
    Raises:
        ConfigError: No file of weights.
        StoreError: It is there already.
    """
    if out.suffix != ".safetensors":
        raise ConfigError("--out", "a file that ends in .safetensors", "another ending", "correct it")
    if out.exists():
        raise StoreError(f"weights '{out.name}'", "a new file", "one that is there", "choose another --out")


def _apart(split: Split) -> Split:
    """Everybody who is left trains or tunes: tune patients are the split's, where it draws them by hash."""
    share = 0.0 if split.by else 1 / split.folds if split.folds > 1 else split.test
    return Split(split.seed, split.tune / (1 - share), 0.0, 0.0)


def _pictures(
    films: pl.DataFrame, cxr: Path, side: int, embeddings: Path | None, like: PatientDataset, work: Path
) -> PatientDataset:
    """The films under the key of ``like``, read once; one that could not be read plays no role."""
    folder = work / "films"
    if (folder / "manifest.json").is_file():
        say("the films were read before: going on")
    else:
        rule: ImageRule | VectorRule = ImageRule("film", (CODE,), cxr, side)
        said = ""
        if embeddings is not None:
            from mmnar.images.tfrecord import pack_embeddings

            packed = pack_embeddings(embeddings, work / "embeddings", films["dicom_id"].to_list())
            films, rule, said = with_embeddings(films, like, packed)
        read = dataset_of_films(films, rule, like.id_space, work).keyed_like(like)
        read.manifest["warnings"][:0] = filter(None, [said])
        write_store(folder, read)
    pictures = open_store(folder)
    return replace(pictures, left_out=~pictures.present[:, 0])


def _fitted(
    recipe: FusionEstimator, films: PatientDataset, split: Split, seed: int, work: Path, monitor: Monitor | None
) -> FusionPredictor:
    """
    Raises:
        SourceError: Nobody to train or to tune on.
        TrainingError: No finding that can be learned.
    """
    train, tune = films.fold(split, "train"), films.fold(split, "tune")
    if not len(train) or not len(tune):
        what = "films of patients to train and to tune on"
        raise SourceError("films with labels", what, "none for one of these", "use more films, or set split.tune")
    say(f"{counted(len(train))} films to train on, {counted(len(tune))} to tune on")
    tasks = learnable("encoder of films", train, tune)
    return recipe.fit(train.asking(tasks), tune.asking(tasks), seed=seed, workdir=work, monitor=monitor)


def _settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of all settings tells something of the weights."""
    config = {key: identity["config"][key] for key in ("seed", "split", "train")}
    return {**config, **{key: identity[key] for key in ("mmnar", "store", "side", "model")}}


def _counts(films: PatientDataset) -> dict[str, Any]:
    """How many films of how many patients, small cells withheld."""
    used = films.present[:, 0]
    return {"films": counted(int(used.sum())), "patients": counted(len(np.unique(films.subject_id[used])))}

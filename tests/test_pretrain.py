"""An image encoder from films with labels of their own: whom it has seen is remembered, and who was seen not scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmnar import cli
from mmnar.cohort.split import Split
from mmnar.dataset.content import ItemArrays
from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.encoders.weights import seen_by
from mmnar.errors import ConfigError, LeakageError, SourceError, StoreError
from mmnar.estimators.registry import estimator
from mmnar.roles import key_mark, subject_digests
from mmnar.schema import ModalitySpec
from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.cxr import WIDTH
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV
from mmnar.study.plan import plan_runs
from mmnar.study.spec import study_of
from mmnar.training.monitor import Silent
from mmnar.workflow import train_run
from mmnar.workflow.pretrain import IMAGES, Pretrained, _recipe, pretrain_images
from tests.leakage.test_carebench_time import copy_with

SPLIT = ("split.tune=.1", "split.test=.2")
SMALL = ("train.max_epochs=1", "train.min_steps=0", "model.width=8", "model.image.backbone=tiny")
SINGLE = (*SPLIT, *SMALL, "fit=single", "rectifier.rule=none")
CHEXPERT, META = "mimic-cxr-2.0.0-chexpert", "mimic-cxr-2.0.0-metadata"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "tree"
    write_carebench(out, 120, seed=3, images=True, side=32)
    return out


def made(world: Path, out: Path) -> Path:
    cli.prepare.medfuse(root=world / IV, cxr=world / CXR, image_side=32, out=out)
    return out


@pytest.fixture(scope="module")
def store(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(world, tmp_path_factory.mktemp("store") / "store")


def pretrained(
    world: Path, store: Path, out: Path, *overrides: str, cxr: Path | None = None, **options: Any
) -> Pretrained:
    return pretrain_images(cxr or world / CXR, store, out, (*SPLIT, *SMALL, *overrides), **options)


@pytest.fixture(scope="module")
def weights(world: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return pretrained(world, store, tmp_path_factory.mktemp("weights") / "w.safetensors")


def seen(file: Path) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return seen_by(estimator("resnet", f"model.image.weights={file}", "model.image.backbone=tiny").model)  # type: ignore[attr-defined]


def same(first: Path, second: Path) -> bool:
    """To the bit."""
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def with_vectors(data: PatientDataset) -> PatientDataset:
    """A vector of noise, as long as a released embedding, in place of each film."""
    films, at = data.values["cxr"], data.schema.modality_names.index("cxr")
    assert isinstance(films, ItemArrays)
    noise = np.random.default_rng(0).standard_normal((len(films.values), WIDTH)).astype(np.float32)
    specs = [*data.schema.modalities]
    specs[at] = ModalitySpec("cxr", kind="embedding", shape=(WIDTH,))
    schema = replace(data.schema, modalities=tuple(specs))
    return replace(data, schema=schema, values={**data.values, "cxr": replace(films, values=noise)})


def digests(data: PatientDataset, subjects: Any) -> set[int]:
    """With the mark of the key."""
    keyed = subject_digests(np.array(sorted(subjects), dtype=np.int64), data.secret, data.id_space)
    return {*keyed.tolist(), int(key_mark(data.secret))}


def people(world: Path) -> set[int]:
    """Of whom there is a film with a label that is known."""
    films = pl.read_csv(world / CXR / f"{META}.csv.gz", infer_schema=False).select("subject_id", "study_id")
    labels = pl.read_csv(world / CXR / f"{CHEXPERT}.csv.gz", infer_schema=False)
    known = labels.filter(pl.any_horizontal(pl.exclude("subject_id", "study_id").is_in(["0.0", "1.0"])))
    return set(films.join(known, on=["subject_id", "study_id"])["subject_id"].cast(pl.Int64))


def test_everybody_but_the_test_patients_is_seen_and_remembered(world: Path, store: Path, weights: Pretrained) -> None:
    data = open_store(store)
    roles = Split(tune=0.1, test=0.2).roles(data.subject_id)
    tested = set(data.subject_id[roles == "test"].tolist())
    assert tested & people(world)
    assert set(seen(weights.file).tolist()) == digests(data, people(world) - tested)
    assert any("of patients in its test fold" in line and "films left out" in line for line in weights.told)
    assert "edema" in weights.findings
    assert np.isfinite(weights.tune_loss)
    # nobody's number is in the file
    content = weights.file.read_bytes()
    assert not any(str(subject).encode() in content for subject in people(world))
    with safe_open(weights.file, framework="pt") as file:
        made = json.loads(file.metadata()["mmnar.made"])
    assert made["findings"] == list(weights.findings)
    assert made["patients"] == str(len(people(world) - tested))


def test_a_run_starts_from_the_weights(store: Path, weights: Pretrained, tmp_path: Path) -> None:
    given = f"model.image.weights={weights.file}"
    run = train_run(store, "medfuse", tmp_path / "run", (*SINGLE, given, "model.image.frozen=true"))
    fitted = run.predictor()
    assert set(seen(weights.file).tolist()) <= set(fitted.fitted_subjects.tolist())
    own = load_file(next((tmp_path / "run" / "model").glob("**/model.safetensors")))
    for name, array in load_file(weights.file).items():
        (kept,) = (value for key, value in own.items() if key.endswith(f"backbone.{name}"))
        assert torch.equal(kept, array), name
    assert not any("fc." in name for name in load_file(weights.file))


def test_who_was_seen_is_not_scored(world: Path, store: Path, weights: Pretrained, tmp_path: Path) -> None:
    given = f"model.image.weights={weights.file}"
    other = ("split.seed=1",)
    with pytest.raises(LeakageError, match="seen none of the test patients"):
        train_run(store, "resnet", tmp_path / "a", (*SINGLE, given, *other))
    assert not (tmp_path / "a").exists()
    # fits of whom it has seen have no risks out of fold
    for needs in ((), ("fit=single",), ("rectifier.rule=none",)):
        with pytest.raises(LeakageError, match="scored out of fold"):
            train_run(store, "resnet", tmp_path / "b", (*SPLIT, *SMALL, given, *needs))
    # and without the run's own look beforehand: what is fitted has seen them
    data = open_store(store)
    split = Split(seed=1, tune=0.1, test=0.2)
    recipe = estimator("resnet", given, *SMALL)
    scored = recipe.fit(data.fold(split, "train"), data.fold(split, "tune")).predict(data.fold(split, "test"))
    with pytest.raises(LeakageError, match="seen during fitting"):
        scored.refuse_overlap()
    # of patients of another store whose films it has seen, too
    run = train_run(store, "resnet", tmp_path / "run", (*SINGLE, given))
    with pytest.raises(LeakageError, match="seen during fitting"):
        cli.run.evaluate(run.folder, on=made(world, tmp_path / "again"), store=store)


def test_weights_of_another_store_are_refused(world: Path, weights: Pretrained, tmp_path: Path) -> None:
    twin = made(world, tmp_path / "twin")
    given = f"model.image.weights={weights.file}"
    with pytest.raises(LeakageError, match="weights pre-trained for this store"):
        train_run(twin, "resnet", tmp_path / "run", (*SINGLE, given))
    data, split = open_store(twin), Split(tune=0.1, test=0.2)
    with pytest.raises(LeakageError, match="weights pre-trained for this store"):
        estimator("resnet", given, *SMALL).fit(data.fold(split, "train"), data.fold(split, "tune"))
    within = f"model.complete_with=image.weights={weights.file},image.backbone=tiny"
    for name, keys in (("switch-ensemble", (within,)), ("medfuse", ("ensemble=2", given, "model.image.backbone=tiny"))):
        with pytest.raises(LeakageError, match="weights pre-trained for this store"):
            train_run(twin, name, tmp_path / name, (*SPLIT, *keys))


def test_weights_of_outsiders_can_be_cross_fitted(world: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "outside.safetensors"
    told = pretrained(world, store, file, outside=True).told
    assert any("of patients of the store" in line for line in told)
    data = open_store(store)
    assert set(seen(file).tolist()) == digests(data, people(world) - set(data.subject_id.tolist()))
    run = train_run(store, "resnet", tmp_path / "run", (*SPLIT, *SMALL, "fits=2", f"model.image.weights={file}"))
    assert run.rectified is not None


def test_a_study_takes_the_weights_of_each_fold(world: Path, store: Path, tmp_path: Path) -> None:
    for fold in (0, 1):
        folds = ("split.tune=.15", "split.folds=2", f"split.fold={fold}")
        pretrain_images(world / CXR, store, tmp_path / f"ours-{fold}.safetensors", (*SMALL, *folds))
    weights = str(tmp_path / "{data}-{fold}.safetensors")

    def planned(weights: str, **settings: Any) -> list[list[str]]:
        given = {
            "model.image.weights": weights,
            "model.image.backbone": "tiny",
            "fit": "single",
            "rectifier.rule": "none",
        }
        study = {"data": {"ours": {"store": str(store)}}, "rows": {"resnet": {}, "pattern-only": {}}, "folds": 2}
        spec = study_of({"title": "RI and PT", **study, "seeds": [0], "set": {**given, **settings}})
        return [job.task["overrides"] for job in plan_runs(spec, {"ours": store}, tmp_path, {}).jobs.values()]

    starts = [word for words in planned(weights) for word in words if word.startswith("model.image.weights=")]
    assert starts == [f"model.image.weights={tmp_path}/ours-{fold}.safetensors" for fold in (0, 1)]
    with pytest.raises(LeakageError, match="seen none of the test patients"):
        planned(weights.replace("{fold}", "0"))
    with pytest.raises(LeakageError, match="scored out of fold"):
        planned(weights, fit="cross")


def test_embeddings_in_place_of_images(world: Path, store: Path, tmp_path: Path) -> None:
    vectors = write_store(tmp_path / "vectors", with_vectors(open_store(store)))
    # no image is there
    tables = tmp_path / "cxr"
    tables.mkdir()
    for name in (CHEXPERT, META):
        (tables / f"{name}.csv.gz").symlink_to(world / CXR / f"{name}.csv.gz")
    file = pretrained(world, vectors, tmp_path / "w.safetensors", cxr=tables, embeddings=world / EMBEDDINGS).file
    data = open_store(vectors)
    roles = Split(tune=0.1, test=0.2).roles(data.subject_id)
    known = people(world) - set(data.subject_id[roles == "test"].tolist())
    assert set(seen(file).tolist()) == digests(data, known)
    kept = load_file(file)
    assert {name.partition(".")[0] for name in kept} == {"norm", "vector", "mlp"}
    given = f"model.image.weights={file}"
    run = train_run(vectors, "medfuse", tmp_path / "run", (*SINGLE, given, "model.image.frozen=true"))
    own = load_file(next((tmp_path / "run" / "model").glob("**/model.safetensors")))
    at = data.schema.modality_names.index("cxr")
    assert all(torch.equal(own[f"encoders.{at}.{name}"], value) for name, value in kept.items())
    assert set(seen(file).tolist()) <= set(run.predictor().fitted_subjects.tolist())
    with pytest.raises(LeakageError, match="seen none of the test patients"):
        train_run(vectors, "medfuse", tmp_path / "a", (*SINGLE, given, "split.seed=1"))
    with pytest.raises(ConfigError, match="1376 numbers in a width of 16, got those of 1376 numbers in a width of 8"):
        train_run(vectors, "medfuse", tmp_path / "b", (*SINGLE, given, "model.width=16"))
    with pytest.raises(ConfigError, match="a store with embeddings of 1376 numbers"):
        pretrained(world, store, tmp_path / "x.safetensors", embeddings=world / EMBEDDINGS)
    # and of an image encoder they are no weights
    data, split = open_store(store), Split(tune=0.1, test=0.2)
    plain = tmp_path / "plain.safetensors"
    save_file(kept, plain)
    recipe = estimator("resnet", f"model.image.weights={plain}", *SMALL)
    with pytest.raises(ConfigError, match="another network"):
        recipe.fit(data.fold(split, "train"), data.fold(split, "tune"))


def test_the_films_of_test_patients_move_nothing(world: Path, store: Path, weights: Pretrained, tmp_path: Path) -> None:
    """Their labels turned round, the weights are the same to the bit; another patient's, and they are others."""
    data = open_store(store)
    roles = Split(tune=0.1, test=0.2).roles(data.subject_id)
    for role, as_it_was in (("test", True), ("train", False)):
        labels = pl.read_csv(world / CXR / f"{CHEXPERT}.csv.gz", infer_schema=False)
        theirs = pl.col("subject_id").is_in([str(s) for s in data.subject_id[roles == role]])
        turned = pl.when(pl.col("Edema") == "1.0").then(pl.lit("0.0")).otherwise(pl.lit("1.0"))
        changed = labels.with_columns(pl.when(theirs).then(turned).otherwise("Edema").alias("Edema"))
        tree = copy_with(world, tmp_path / role / "tree", {str(CXR / CHEXPERT): changed})
        file = pretrained(world, store, tmp_path / role / "w.safetensors", cxr=tree / CXR).file
        assert same(weights.file, file) is as_it_was


def test_the_published_preset_is_medfuse_s() -> None:
    config, recipe = _recipe(["preset=original", "model.image.channels=1"], IMAGES)
    image = recipe.model.image
    assert (image.backbone, image.channels, image.augment) == ("resnet34", 1, "strong")
    assert (config.train.batch_size, config.train.weight_decay) == (16, 0.0)


def test_what_cannot_be_is_refused(world: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="safetensors"):
        pretrained(world, store, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="'fits'"):
        pretrained(world, store, file, "fits=3")
    with pytest.raises(ConfigError, match="a test fold, whose films are left out"):
        pretrained(world, store, file, "split.test=0")
    cli.prepare.medfuse(root=world / IV, out=tmp_path / "filmless")
    with pytest.raises(ConfigError, match="a store with films"):
        pretrained(world, tmp_path / "filmless", file)
    data = open_store(store)
    roles = Split(tune=0.1, test=0.2).roles(data.subject_id)
    metadata = pl.read_csv(world / CXR / f"{META}.csv.gz", infer_schema=False)
    tested = metadata.filter(pl.col("subject_id").is_in([str(s) for s in data.subject_id[roles == "test"]]))
    tree = copy_with(world, tmp_path / "tree", {str(CXR / META): tested})
    with pytest.raises(SourceError, match="films of patients who are not in its test fold"):
        pretrained(world, store, file, cxr=tree / CXR)
    assert not file.exists()


class Counted(Silent):
    """Counts steps, and interrupts the first that follows ``epochs``."""

    def __init__(self, epochs: int = 99) -> None:
        self.steps, self.left = 0, epochs

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1

    def step(self, loss: float) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.steps += 1


def test_interrupted_it_goes_on_to_the_same_weights(world: Path, store: Path, tmp_path: Path) -> None:
    longer, all_steps, later_steps = ("train.max_epochs=2", "train.checkpoint_seconds=0"), Counted(), Counted()
    whole = pretrained(world, store, tmp_path / "whole.safetensors", *longer, monitor=all_steps)
    assert not whole.file.with_suffix(".work").exists()
    file = tmp_path / "w.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrained(world, store, file, *longer, monitor=Counted(epochs=1))
    assert not file.exists()
    with pytest.raises(StoreError, match="changed: config"):
        pretrained(world, store, file, *longer, "train.lr=1e-3")
    # the films were read, and an epoch made: neither is needed again
    empty = tmp_path / "cxr"
    empty.mkdir()
    for name in (CHEXPERT, META):
        (empty / f"{name}.csv.gz").symlink_to(world / CXR / f"{name}.csv.gz")
    again = pretrained(world, store, file, *longer, cxr=empty, monitor=later_steps)
    assert later_steps.steps == all_steps.steps / 2 > 0
    assert again.told == whole.told
    assert same(again.file, whole.file)
    assert not file.with_suffix(".work").exists()
    with pytest.raises(StoreError, match="one that is there"):
        pretrained(world, store, file, *longer)


def test_a_damaged_record_is_refused(weights: Pretrained, tmp_path: Path) -> None:
    save_file(load_file(weights.file), tmp_path / "w.safetensors", metadata={"mmnar.seen": "no base64!"})
    with pytest.raises(ConfigError, match="a record of whom they have seen"):
        seen(tmp_path / "w.safetensors")
    save_file(load_file(weights.file), tmp_path / "plain.safetensors")
    assert not len(seen(tmp_path / "plain.safetensors"))


def test_the_verb(world: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.safetensors"
    words = ["pretrain", "images", *SPLIT, *SMALL, "--cxr", str(world / CXR), "--store", str(store), "--out", str(file)]
    cli.app(words, result_action="return_value")
    printed = capsys.readouterr().out
    assert "films left out: of patients in its test fold" in printed
    assert "findings, tune loss" in printed
    assert file.is_file()

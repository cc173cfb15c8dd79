"""CareBench's door on its simulated world, whose cohort, labels and films are known; and a run there, asked again."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar import cli
from mmnar.dataset.content import Packed
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError
from mmnar.schema import Panel
from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.release import CXR, IV, NOTES
from mmnar.workflow import train_run
from mmnar.workflow.doors import carebench
from mmnar.workflow.predict import predict

WORDS = {
    "uncoded": "documented: the admission has a diagnosis code",
    "impossible times": "coherent times: admitted before unit admission and discharge, the unit stay ends after it "
    "begins",
    "under 6 h": "6 h in the unit or more",
    "planned": "not a planned admission",
    "second stay": "first unit stay of the admission",
    "under 48 h": "48 h in the unit or more",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "tree"
    write_carebench(out, 200, seed=3, images=True, side=32)
    return out


@pytest.fixture(scope="module")
def stored(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "store"
    truth = world / "truth" / "mimic_iv.parquet"
    cli.prepare.carebench(
        root=world / IV, notes=world / NOTES.parent, cxr=world / CXR, image_side=32, truth=truth, out=out
    )
    return out


@pytest.fixture(scope="module")
def store(stored: Path) -> PatientDataset:
    return open_store(stored)


def test_who_is_left_out_by_which_rule(world: Path, store: PatientDataset) -> None:
    planted = pl.read_parquet(world / "truth" / "attrition.parquet")
    counts = dict(planted.drop_nulls("left_out").group_by("left_out").len().iter_rows())
    steps = store.manifest["attrition"]["cohort"]
    left_out = {b["rule"]: a["kept"] - b["kept"] for a, b in pairwise(steps)}
    # everybody has a summary
    assert left_out.pop("documented: the admission has a discharge summary") == 0
    assert left_out == {words: counts[name] for name, words in WORDS.items()}
    assert set(store.stay_id.tolist()) == set(planted.filter(pl.col("left_out").is_null())["stay_id"])


def test_answers_films_and_panels(world: Path, store: PatientDataset, tmp_path: Path) -> None:
    truth = pl.read_parquet(world / "truth" / "mimic_iv.parquet")
    own = pl.DataFrame({"stay_id": np.array(store.stay_id)}).join(truth, on="stay_id", maintain_order="left")
    assert own.height == len(store)
    assert store.schema.task_names == tuple(name.removeprefix("label:") for name in truth.columns if ":" in name)[:33]
    for k, task in enumerate(store.schema.task_names):
        assert own[f"label:{task}"].to_list() == store.labels[:, k].tolist(), task
    assert store.label_mask.all()
    present = store.present[:, store.schema.modality_names.index("cxr")]
    assert own["present:chest_xray"].to_list() == present.tolist()
    assert 0.3 < present.mean() < 0.7
    phenotypes, mortality, length = store.schema.panels
    assert (phenotypes.name, len(phenotypes.tasks), phenotypes.exclusive) == ("phenotypes", 25, False)
    assert [list(dict(phenotypes.kinds).values()).count(k) for k in ("acute", "mixed", "chronic")] == [13, 5, 7]
    assert mortality == Panel("mortality", ("mortality",))
    assert (length.name, len(length.tasks), length.exclusive) == ("length_of_stay", 7, True)
    records = carebench(world / IV, tmp_path / "work", cxr=world / CXR, matched=True)
    cohort = records.cohort(records.extract, True)
    assert sorted(cohort.samples["stay_id"]) == sorted(own.filter(pl.col("present:chest_xray"))["stay_id"])
    seen = dict(records.extract.stays.select("stay_id", "film").iter_rows())
    for stay, film in own.select("stay_id", "film").iter_rows():
        assert (seen[stay] or "").endswith(f"/{film}.jpg" if film else ""), stay


def test_a_run_is_asked_again(world: Path, stored: Path, store: PatientDataset, tmp_path: Path) -> None:
    run = train_run(stored, "pattern-only", tmp_path / "run", ("fits=2",))
    frame = predict(run, root=world / IV, cxr=world / CXR).frame
    # with those who are documented only afterwards, or not at all
    assert set(store.stay_id.tolist()) < set(frame["stay_id"])
    again = frame.join(pl.DataFrame({"stay_id": run.test.stay_id}), on="stay_id", maintain_order="right")
    for k, task in enumerate(run.test.tasks):
        assert again[f"{task}.risk"].to_list() == run.test.proba[:, k].tolist(), task
    length = frame.select(pl.sum_horizontal(pl.col(r"^los_.*\.risk$"))).to_series()
    assert length.is_between(1 - 1e-9, 1 + 1e-9).all()
    # before anything is billed
    unbilled = tmp_path / "unbilled"
    shutil.copytree(world / IV, unbilled, ignore=shutil.ignore_patterns("diagnoses_icd*"))
    assert predict(run, root=unbilled, cxr=world / CXR).frame.equals(frame)
    without = predict(run, root=world / IV).frame
    assert (without["absent"] == "cxr").all()
    cli.prepare.carebench(
        root=world / IV, notes=world / NOTES.parent, cxr=world / CXR, out=tmp_path / "b", like=run.folder
    )
    twin = open_store(tmp_path / "b")
    for name in store.schema.modality_names:
        ours, theirs = store.values[name], twin.values[name]
        assert isinstance(ours, Packed)
        assert isinstance(theirs, Packed)
        assert all(np.array_equal(array, theirs.arrays()[of]) for of, array in ours.arrays().items()), name
    with pytest.raises(ConfigError, match="--notes"):
        predict(run, root=world / IV, notes=world / NOTES.parent)
    with pytest.raises(ConfigError, match="leave them out"):
        cli.prepare.carebench(root=world / IV, cxr=world / CXR, matched=True, out=tmp_path / "c", like=run.folder)

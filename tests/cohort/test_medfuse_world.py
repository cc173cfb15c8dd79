"""MedFuse's door on the simulated world of CareBench, whose stays and films are known; and runs there, asked again."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from mmnar import cli
from mmnar.dataset.content import Packed
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError
from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.release import CXR, IV
from mmnar.workflow import train_run
from mmnar.workflow.predict import predict

Asked = Literal["mortality", "phenotypes"]
ASKED: tuple[Asked, ...] = ("mortality", "phenotypes")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "tree"
    write_carebench(out, 200, seed=3, images=True, side=32)
    return out


@pytest.fixture(scope="module")
def stores(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    for asked in ASKED:
        cli.prepare.medfuse(root=world / IV, cxr=world / CXR, task=asked, image_side=32, out=folder / asked)
    return folder


def raw(world: Path, name: str) -> list[dict[str, str]]:
    return pl.read_csv(next((world / IV).glob(f"*/{name}.csv.gz")), infer_schema=False).to_dicts()


def times(cell: str) -> np.datetime64:
    return np.datetime64(cell.replace(" ", "T"), "us")


def alone(world: Path) -> dict[int, dict[str, str]]:
    """Stays that are their admission's only one; nobody is transferred or a child here."""
    stays = raw(world, "icustays")
    of = Counter(row["hadm_id"] for row in stays)
    return {int(row["stay_id"]): row for row in stays if of[row["hadm_id"]] == 1}


def films(world: Path) -> list[tuple[str, np.datetime64]]:
    """Subject and time of every AP film."""
    frame = pl.read_csv(world / CXR / "mimic-cxr-2.0.0-metadata.csv.gz", infer_schema=False)
    clock = pl.col("StudyTime").str.split(".").list.first().str.zfill(6)
    taken = (pl.col("StudyDate") + clock).str.to_datetime("%Y%m%d%H%M%S", time_unit="us")
    front = frame.filter(pl.col("ViewPosition") == "AP").select("subject_id", time=taken)
    return [(subject, np.datetime64(time, "us")) for subject, time in front.iter_rows()]


@pytest.mark.parametrize("asked", ASKED)
def test_who_is_asked_and_which_film_is_seen(world: Path, stores: Path, asked: Asked) -> None:
    data = open_store(stores / asked)
    stays, billed = alone(world), {int(row["hadm_id"]) for row in raw(world, "diagnoses_icd")}
    hours = {s: times(row["outtime"]) - times(row["intime"]) for s, row in stays.items()}
    long = {s for s in stays if hours[s] >= np.timedelta64(48, "h")}
    coded = {s for s, row in stays.items() if int(row["hadm_id"]) in billed}
    assert set(data.stay_id.tolist()) == (long if asked == "mortality" else coded)
    seen = films(world)
    present = data.present[:, data.schema.modality_names.index("cxr")]
    for stay, has in zip(data.stay_id.tolist(), present.tolist(), strict=True):
        row = stays[stay]
        begun = times(row["intime"])
        end = begun + np.timedelta64(48, "h") if asked == "mortality" else times(row["outtime"])
        assert has == any(subject == row["subject_id"] and begun <= t <= end for subject, t in seen), stay
    assert 0.1 < present.mean() < 0.9
    steps = [step["kept"] for step in data.manifest["attrition"]["cohort"]]
    assert steps[:3] == [len(raw(world, "icustays")), len(raw(world, "icustays")), len(stays)]
    assert data.schema.panels[0].name == asked
    assert len(data.schema.tasks) == (1 if asked == "mortality" else 25)


def same(ours: PatientDataset, theirs: PatientDataset) -> None:
    for name in ours.schema.modality_names:
        mine, other = ours.values[name], theirs.values[name]
        assert isinstance(mine, Packed)
        assert isinstance(other, Packed)
        assert all(np.array_equal(array, other.arrays()[of]) for of, array in mine.arrays().items()), name


@pytest.mark.parametrize("asked", ASKED)
def test_a_run_is_asked_again(world: Path, stores: Path, tmp_path: Path, asked: Asked) -> None:
    store = open_store(stores / asked)
    run = train_run(stores / asked, "pattern-only", tmp_path / "run", ("fits=2", "split.tune=.1", "split.test=.2"))
    frame = predict(run, root=world / IV, cxr=world / CXR).frame
    # with those whom hindsight leaves out
    assert set(store.stay_id.tolist()) < set(frame["stay_id"])
    again = frame.join(pl.DataFrame({"stay_id": run.test.stay_id}), on="stay_id", maintain_order="right")
    for k, task in enumerate(run.test.tasks):
        assert again[f"{task}.risk"].to_list() == run.test.proba[:, k].tolist(), task
    # before anything is billed
    unbilled = tmp_path / "unbilled"
    shutil.copytree(world / IV, unbilled, ignore=shutil.ignore_patterns("diagnoses_icd*"))
    assert predict(run, root=unbilled, cxr=world / CXR).frame.equals(frame)
    assert predict(run, root=world / IV).frame["absent"].str.ends_with("cxr").all()
    cli.prepare.medfuse(root=world / IV, cxr=world / CXR, out=tmp_path / "b", like=run.folder)
    twin = open_store(tmp_path / "b")
    same(store, twin)
    assert np.array_equal(store.labels, twin.labels)
    with pytest.raises(ConfigError, match="leave them out"):
        cli.prepare.medfuse(root=world / IV, task="phenotypes", out=tmp_path / "c", like=run.folder)
    with pytest.raises(ConfigError, match="prepare medfuse"):
        cli.prepare.carebench(root=world / IV, out=tmp_path / "d", like=run.folder)

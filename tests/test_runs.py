"""A run folder: what an interruption costs, what a finished one refuses, what damage to it says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError, StoreError
from mmnar.estimators.storage import load_predictor
from mmnar.files import read_sealed, write_sealed
from mmnar.lock import alone
from mmnar.training.monitor import Silent
from mmnar.workflow import Run, evaluate_runs, open_run, train_run
from tests.populations import population

WORDS = ("train.checkpoint_seconds=0", "train.max_epochs=2", "train.min_steps=0", "model.width=8", "fits=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("runs") / "store", population(400))


@pytest.fixture(scope="module")
def run(store: Path) -> Run:
    """Two fits of two epochs: each half without the other."""
    return train_run(store, "zero-fill", store.parent / "run", WORDS)


class StopError(Exception):
    pass


class Killed(Silent):
    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopError


def seen(run: Run) -> list[tuple[Any, ...]]:
    return [(r["fit"], r["phase"], r["epoch"], r["train"], r["tune"]) for r in run.history()]


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_resumed_run_has_every_training_record(run: Run, store: Path, tmp_path: Path, after: int) -> None:
    assert len(run.history()) == 4
    with pytest.raises(StopError):
        train_run(store, "zero-fill", tmp_path / "run", WORDS, monitor=Killed(after))
    resumed = train_run(store, "zero-fill", tmp_path / "run", WORDS, resume=True)
    assert seen(resumed) == seen(run)
    assert np.array_equal(resumed.test.proba, run.test.proba)


def test_what_was_spent_before_a_kill_counts(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train_run(store, "zero-fill", tmp_path / "run", WORDS, monitor=Killed(3))
    path = tmp_path / "run" / "work" / "spent.json"
    spent = read_sealed(path, "", "")
    assert spent["cpu_seconds"] >= 0
    write_sealed(path, {**spent, "seconds": 5000.0, "cpu_seconds": 4000.0, "peak_memory_mb": 10**7})
    record = train_run(store, "zero-fill", tmp_path / "run", WORDS, resume=True).record
    assert 5000 < record["seconds"] < 6000
    assert 4000 < record["cpu_seconds"] < 5000
    assert record["peak_memory_mb"] == 10**7


@pytest.mark.parametrize("left", [(), (".lock",), (".tmp-identity.json-01234567",), (".lock", "predictions")])
def test_a_run_killed_before_its_first_word_can_be_begun(store: Path, tmp_path: Path, left: tuple[str, ...]) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in left:
        if "." in name:
            (out / name).write_text("{")
        else:
            train_run(store, "pattern-only", tmp_path / "begun", ("rectifier.rule=none",))
            shutil.copy(tmp_path / "begun" / "identity.json", out)
            (out / name).mkdir()
            (out / name / ".tmp-calibration.parquet-89abcdef").write_text("rows of patients")
    run = train_run(store, "pattern-only", out, ("rectifier.rule=none",), resume=True)
    assert run.name == "pattern-only"
    assert list(out.rglob(".*")) == []


def test_a_finished_run_is_not_trained_anew(run: Run, store: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    again = train_run(store, "zero-fill", folder, WORDS, resume=True, monitor=Killed(1))
    assert again.record == run.record
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before
    with pytest.raises(StoreError, match="changed: config"):
        train_run(store, "zero-fill", folder, (*WORDS, "seed=9"), resume=True)
    flip(folder / "model" / "member0" / "model.safetensors")
    with pytest.raises(StoreError, match=r"model\.safetensors"):
        train_run(store, "zero-fill", folder, WORDS, resume=True)


def test_two_at_one_run_are_refused(store: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    class Second(Silent):
        def epoch(self, record: dict[str, Any]) -> None:
            pid = os.fork()
            if pid == 0:
                try:
                    with alone(tmp_path / "run", "run"):
                        os._exit(1)
                except StoreError:
                    os._exit(7)
            refused.append(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))

    train_run(store, "zero-fill", tmp_path / "run", WORDS, monitor=Second())
    assert set(refused) == {"7"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


USES: dict[str, Callable[[Run], object]] = {
    "run.json": lambda run: run,
    "predictions/test.parquet": lambda run: run.test,
    "predictions/rectified.parquet": lambda run: run.rectified,
    "rectifier.json": lambda run: run.rectifier(),
    "history.json": lambda run: run.history(),
    "model/predictor.json": lambda run: run.predictor(),
    "model/member0/model.safetensors": lambda run: run.predictor(),
    "model/member1/preprocess.npz": lambda run: run.predictor(),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "list", "deep"])
def test_damage_to_any_file_of_a_run_is_refused_by_its_name(run: Run, tmp_path: Path, name: str, damage: str) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    file = folder / name
    if damage == "flip":
        flip(file)
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "remove":
        file.unlink()
    else:
        file.write_text("[]" if damage == "list" else "[" * 100_000)
    with pytest.raises(StoreError, match=file.stem):
        USES[name](open_run(folder))


def test_a_damaged_checkpoint_or_finished_fit_is_made_again(run: Run, store: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train_run(store, "zero-fill", tmp_path / "run", WORDS, monitor=Killed(4))
    work = tmp_path / "run" / "work"
    flip(work / "cross" / "fold0" / "fitted" / "model.safetensors")
    flip(work / "cross" / "fold1" / "checkpoint.safetensors")
    with pytest.warns(UserWarning, match="damaged"):
        resumed = train_run(store, "zero-fill", tmp_path / "run", WORDS, resume=True)
    assert seen(resumed) == seen(run)
    assert np.array_equal(resumed.test.proba, run.test.proba)
    assert resumed.rectified is not None
    assert run.rectified is not None
    assert np.array_equal(resumed.rectified.proba, run.rectified.proba)


@pytest.mark.parametrize("loader", ["mmnar.estimators.fusion:Nobody", "mmnar.estimators.nowhere:X", "os:system", "", 3])
def test_a_loader_of_another_name_is_refused(run: Run, tmp_path: Path, loader: object) -> None:
    folder = shutil.copytree(run.folder / "model", tmp_path / "model")
    record = read_sealed(folder / "predictor.json", "", "")
    write_sealed(folder / "predictor.json", {**record, "loader": loader})
    with pytest.raises(StoreError, match="do not trust"):
        load_predictor(folder)


def test_no_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one run"):
        evaluate_runs([])


def test_a_record_of_another_version_says_so(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "run_version": 1}))
    with pytest.raises(StoreError, match="run version 5, got 1; train it again"):
        open_run(folder)

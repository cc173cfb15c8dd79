"""Attack: whoever is given a model tries every identifier there may be. With the store, a leak is still found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.dataset.store import KEY, open_store, write_store
from mmnar.errors import LeakageError, StoreError
from mmnar.roles import subject_digests, subject_keys
from mmnar.workflow import Run, evaluate_runs, open_run, train_run
from tests.populations import population

WORDS = ("train.batch_size=64", "train.min_steps=20", "train.max_epochs=1", "fits=2", "model.width=16")
FIRST, POSSIBLE = 10_000_000, 40_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Run]]:
    """Patients with identifiers as MIMIC's, from a range that an attacker can walk through."""
    folder = tmp_path_factory.mktemp("shared")
    data = population(300)
    ids = FIRST + np.random.default_rng(3).permutation(POSSIBLE)[: len(data)]
    store = write_store(folder / "store", replace(data, subject_id=ids, hadm_id=ids + 1, stay_id=ids + 2))
    names = {"zero-fill": WORDS, "boosting-pattern": WORDS[3:4], "pattern-only": WORDS[3:4]}
    return store, {name: train_run(store, name, folder / name, words) for name, words in names.items()}


def numbers_of(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        yield from (n for k, v in value.items() for part in (k, v) for n in numbers_of(part))
    elif isinstance(value, (list, tuple)):
        yield from (n for v in value for n in numbers_of(v))
    elif isinstance(value, (str, float)):
        try:
            yield int(float(value))
        except (ValueError, OverflowError):
            return
    elif isinstance(value, int):
        yield value


def words_in(file: Path) -> np.ndarray:
    """Every 64-bit word of a file, at every place a number may begin, and every whole number of its JSON."""
    content = file.read_bytes()
    words = [np.frombuffer(content[at : at + (len(content) - at) // 8 * 8], dtype="<u8") for at in range(8)]
    halves = [np.frombuffer(content[at : at + (len(content) - at) // 4 * 4], dtype="<u4") for at in range(4)]
    if file.suffix == ".json":
        found = [n for n in numbers_of(json.loads(content)) if 0 <= n < 2**64]
        words.append(np.array(found, dtype=np.uint64))
    return np.concatenate([*words, *(h.astype(np.uint64) for h in halves)])


def recognised(file: Path, space: str) -> int:
    """How many of all possible patients a file gives away to who has no key."""
    possible = np.arange(FIRST, FIRST + POSSIBLE)
    words = words_in(file)
    guesses = [
        possible.astype(np.uint64),
        subject_keys(possible),
        subject_keys(possible, space=space),
        subject_digests(possible, b"", space),
        subject_digests(possible, b""),
    ]
    # a number of a model may be that of a patient by chance, but few are
    return max(int(np.isin(guess, words).sum()) for guess in guesses)


def test_nothing_in_a_model_folder_names_a_patient(trained: tuple[Path, dict[str, Run]]) -> None:
    store, runs = trained
    for name, run in runs.items():
        shared = [p for p in (run.folder / "model").rglob("*") if p.is_file()]
        shared += [run.folder / f for f in ("rectifier.json", "run.json", "history.json", "identity.json")]
        assert "fitted_subjects.npy" in {p.name for p in shared}
        for file in shared:
            assert recognised(file, open_store(store).id_space) <= 2, (name, file.name)
    # the attack can succeed: with the key every patient who was fitted on is read back
    data, fitted = open_store(store), runs["zero-fill"].predictor().fitted_subjects
    everybody = np.arange(FIRST, FIRST + POSSIBLE)
    read = everybody[np.isin(subject_digests(everybody, data.secret, data.id_space), fitted)]
    assert len(read) == len(fitted) - 1  # one of them says which key it is
    assert set(read) <= set(data.subject_id.tolist())


def test_the_key_is_nowhere_but_in_the_store(trained: tuple[Path, dict[str, Run]]) -> None:
    store, runs = trained
    secret = (store / KEY).read_bytes()
    assert (store / KEY).stat().st_mode & 0o077 == 0
    for run in runs.values():
        for file in run.folder.rglob("*"):
            assert not file.is_file() or (
                secret not in file.read_bytes() and secret.hex() not in file.read_text("latin-1")
            )


def test_the_readme_of_a_model_folder_says_what_it_holds(trained: tuple[Path, dict[str, Run]]) -> None:
    text = (trained[1]["zero-fill"].folder / "model" / "README.txt").read_text()
    assert "keeps no bank of training patients" in text
    assert "subjects.key" in text


def test_patients_of_another_store_who_were_trained_on_are_refused(
    trained: tuple[Path, dict[str, Run]], tmp_path: Path
) -> None:
    store, runs = trained
    data, run = open_store(store), runs["pattern-only"]
    strangers = replace(data, subject_id=data.subject_id + POSSIBLE, secret=b"k" * 32)
    new = write_store(tmp_path / "strangers", strangers)
    assert evaluate_runs([run], on=new, resamples=10).tasks
    mixed = np.where(np.arange(len(data)) < 290, strangers.subject_id, data.subject_id)
    some = write_store(tmp_path / "some", replace(strangers, subject_id=mixed))
    with pytest.raises(LeakageError, match="fewer than 10 of 300 subjects seen during fitting"):
        evaluate_runs([run], on=some, resamples=10)


def test_without_its_store_a_run_says_that_overlap_cannot_be_told(
    trained: tuple[Path, dict[str, Run]], tmp_path: Path
) -> None:
    store, runs = trained
    data = open_store(store)
    moved = tmp_path / "sent" / "run"
    shutil.copytree(runs["pattern-only"].folder, moved)
    new = write_store(tmp_path / "new", replace(data, subject_id=data.subject_id + POSSIBLE, secret=b"k" * 32))
    alone = open_run(moved)
    assert evaluate_runs([alone], resamples=10).tasks  # its own test fold needs no key
    with pytest.raises(StoreError, match="--store"):
        evaluate_runs([alone], on=new, resamples=10)
    with pytest.raises(StoreError, match="another at"):
        evaluate_runs([alone], on=new, store=new, resamples=10)
    assert evaluate_runs([alone], on=new, store=store, resamples=10).tasks


def test_a_store_prepared_again_keeps_its_key_and_a_part_of_it_has_it(tmp_path: Path) -> None:
    from mmnar.study.data import with_subjects

    data = open_store(write_store(tmp_path / "store", population(100)))
    part = with_subjects(data, 50).with_modalities(("labs",))
    assert part.secret == data.secret == open_store(write_store(tmp_path / "part", part)).secret
    assert population(10).secret != population(10).secret

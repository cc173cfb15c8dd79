"""A store is whole, of this version and undamaged, or it is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmnar.dataset.store import STORE_VERSION, open_store, write_store
from mmnar.errors import StoreError
from mmnar.files import VERIFIED, sha256_of
from tests.populations import mixed_population, population


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    data = population(300)
    read = open_store(write_store(tmp_path / "s", data), verify=True)
    assert read.schema == data.schema
    for name, v in data.values.items():
        assert np.array_equal(read.values[name], v, equal_nan=True)
    for name in ("labels", "label_mask", "present", "subject_id", "hadm_id", "stay_id", "prediction_time"):
        assert np.array_equal(getattr(read, name), getattr(data, name))
    assert np.array_equal(read.attributes["sex"], data.attributes["sex"])
    assert read.id_space == data.id_space
    assert open_store(write_store(tmp_path / "t", data)).fingerprint == read.fingerprint
    assert open_store(write_store(tmp_path / "u", population(300, seed=1))).fingerprint != read.fingerprint


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", population(300))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "store_version": 99}))
    with pytest.raises(StoreError, match=f"expected store version {STORE_VERSION}, got 99; prepare it again"):
        open_store(path)


def data_of(path: Path) -> Path:
    return path / str(json.loads((path / "manifest.json").read_text())["data"])


def flip(path: Path) -> None:
    """One bit of the last byte, and a time of change that tells."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


ARRAYS = ("labels.npy", "subject_id.npy", "attributes/sex.npy", "values/vitals.npy", "values/course/hours.npy")


@pytest.mark.parametrize("name", [*ARRAYS, "values/film/values.npy", "values/report/starts.npy"])
def test_damage_to_any_array_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    path = write_store(tmp_path / "s", mixed_population(120))
    open_store(path)
    file = data_of(path) / name
    original, array = file.read_bytes(), np.load(file)
    damages = {
        "a flipped bit": lambda: flip(file),
        "cut short": lambda: file.write_bytes(original[:-3]),
        "longer": lambda: file.write_bytes(original + b"0"),
        "empty": lambda: file.write_bytes(b""),
        "other rows": lambda: np.save(file, array[:-1]),
        "another type": lambda: np.save(file, array.astype("S8" if array.dtype.kind == "U" else np.float16)),
        "another file": lambda: shutil.copy(data_of(path) / "label_mask.npy", file),
        "a folder": lambda: (file.unlink(), file.mkdir()),
    }
    for what, damage in damages.items():
        damage()
        with pytest.raises(StoreError, match=rf"'{name}'.*missing or changed"):
            print(what, open_store(path))
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        with pytest.raises(StoreError, match=rf"'{name}'"):
            open_store(path)
        file.write_bytes(original)
        assert open_store(path).fingerprint


def test_no_bit_of_a_header_comes_up_as_anything_else(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", population(300))
    file = data_of(path) / "stay_id.npy"
    good = file.read_bytes()
    for bit in range(8 * 80):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(content))
        with pytest.raises(StoreError, match=r"stay_id\.npy"):
            open_store(path)


def test_every_word_of_the_manifest_counts(tmp_path: Path) -> None:
    """Another name, count or reason in it is another store; so is JSON of any other shape."""
    path = write_store(tmp_path / "s", population(300))
    manifest = path / "manifest.json"
    good = manifest.read_text()
    for text in (
        good.replace('"samples": 300', '"samples": 299'),
        good.replace("vitals", "vitaly"),
        good.replace('"source": "test"', '"source": "tess"'),
        good[: len(good) // 2],
        "[]",
        "null",
        '{"store_version": ' + str(STORE_VERSION) + "}",
        "[" * 100_000,
        "",
    ):
        assert text != good
        manifest.write_text(text)
        with pytest.raises(StoreError, match="prepare"):
            open_store(path)
    manifest.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="not UTF-8"):
        open_store(path)
    manifest.write_text(good)
    open_store(path)


def test_hashes_are_read_once_and_again_when_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    path = write_store(tmp_path / "s", population(300))
    for file in data_of(path).rglob("*.npy"):
        os.utime(file, ns=(0, 10**18))  # long ago

    def counted(file: Path) -> str:
        read.append(file.name)
        return sha256_of(file)

    monkeypatch.setattr("mmnar.files.sha256_of", counted)
    files = len(open_store(path).manifest["files"])
    assert len(read) == files
    open_store(path)
    monkeypatch.setattr("mmnar.files._HERE", {})  # another process
    open_store(path)
    assert len(read) == files
    open_store(path, verify=True)
    assert len(read) == 2 * files
    copied = shutil.copytree(path, tmp_path / "copy")
    open_store(copied)
    assert len(read) == 3 * files
    (data_of(copied) / VERIFIED).write_text("{")  # what cannot be read is not believed
    monkeypatch.setattr("mmnar.files._HERE", {})
    open_store(copied)
    assert len(read) == 4 * files


def test_a_kill_leaves_nothing_that_stays(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", population(300))
    (path / ".tmp-0123456789ab").mkdir()
    (path / ".tmp-manifest.json-01234567").write_text("half")
    (path / "cache" / "abc").mkdir(parents=True)
    (path / "cache" / "abc" / ".tmp-shard.safetensors-01234567").write_text("half")
    write_store(path, population(300, seed=1))
    assert [p.name for p in path.rglob(".*") if p.name != VERIFIED] == []
    (data_of(path) / ".tmp-.verified.json-01234567").write_text("half")  # of who read a finished store
    write_store(path, population(300, seed=1))
    assert [p.name for p in path.rglob(".*") if p.name != VERIFIED] == []

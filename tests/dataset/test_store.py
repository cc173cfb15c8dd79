"""A store is whole, of this version and undamaged, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmnar.dataset.store import open_store, write_store
from mmnar.errors import StoreError
from tests.populations import population


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
    with pytest.raises(StoreError, match="expected store version 2, got 99; prepare it again"):
        open_store(path)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", population(300))
    data = path / json.loads((path / "manifest.json").read_text())["data"]
    original = (data / "labels.npy").read_bytes()
    (data / "labels.npy").write_bytes(original[:-10])
    with pytest.raises(StoreError, match=r"labels\.npy"):
        open_store(path)
    (data / "labels.npy").write_bytes(original[:-10] + bytes(10))
    open_store(path)
    flipped = bytearray(original)
    flipped[-1] ^= 1
    (data / "labels.npy").write_bytes(bytes(flipped))
    with pytest.raises(StoreError, match="missing or changed"):
        open_store(path, verify=True)
    (data / "labels.npy").unlink()
    with pytest.raises(StoreError, match="missing or changed"):
        open_store(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="JSON"):
        open_store(path)

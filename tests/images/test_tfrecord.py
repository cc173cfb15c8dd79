"""Embedding files: bytes of an independent writer, of a published package, and every kind of damage."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.images import tfrecord
from mmnar.images.tfrecord import INDEX_SCHEMA, WIDTH, pack_embeddings, read_embedding
from tests.images.records import GOLDEN, GOLDEN_VALUES, crc32c, example, masked, message, packed, put, record, unpacked

VALUES = np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
GOOD = record(example(packed(VALUES)))


def _piece(values: np.ndarray) -> bytes:
    return message(2, message(2, packed(values)))


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "x.tfrecord"
    path.write_bytes(data)
    return path


def test_a_file_of_the_published_writer(tmp_path: Path) -> None:
    assert np.array_equal(read_embedding(_file(tmp_path, GOLDEN)), GOLDEN_VALUES)
    # the writer of these tests agrees with it on the framing
    assert record(GOLDEN[12:-4]) == GOLDEN


def test_known_answers_of_the_checksum() -> None:
    # RFC 3720, B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    for data in (bytes(32), bytes(range(32)), b"\xff" * 32):
        rows = np.frombuffer(data + data[::-1], np.uint8).reshape(2, 32)
        expected = struct.unpack("<2I", masked(data) + masked(data[::-1]))
        assert tuple(tfrecord.masked_crc32c(rows).tolist()) == expected


@pytest.mark.parametrize(
    "payload",
    [
        example(packed(VALUES)),
        example(unpacked(VALUES)),
        example(packed(VALUES[:7]) + unpacked(VALUES[7:20]) + packed(VALUES[20:])),
        # what comes in two pieces is merged; of a repeated key the last counts
        example(packed(VALUES), key=b"other") + example(packed(VALUES)),
        example(packed(-VALUES)) + example(packed(VALUES)),
        message(1, message(1, message(1, b"embedding") + _piece(VALUES[:3]) + _piece(VALUES[3:]))),
    ],
    ids=["packed", "unpacked", "mixed", "two features", "repeated key", "two pieces"],
)
def test_every_encoding_that_the_format_allows(tmp_path: Path, payload: bytes) -> None:
    assert np.array_equal(read_embedding(_file(tmp_path, record(payload))), VALUES)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cut off"),
    "header only": (GOOD[:12], "cut off"),
    "half": (GOOD[: len(GOOD) // 2], "cut off"),
    "one byte short": (GOOD[:-1], "cut off"),
    "two records": (GOOD + GOOD, "more than one record"),
    "length": (_flipped(GOOD, 0), "checksum"),
    "length checksum": (_flipped(GOOD, 9), "checksum"),
    "payload": (_flipped(GOOD, 3000), "checksum"),
    "payload checksum": (_flipped(GOOD, len(GOOD) - 1), "checksum"),
    "too few": (record(example(packed(VALUES[:-1]))), "other than 1,376"),
    "too many": (record(example(packed([*VALUES, 0.0]))), "other than 1,376"),
    "no values": (record(example(b"")), "other than 1,376"),
    "other key": (record(example(packed(VALUES), key=b"embeddings")), "no feature 'embedding'"),
    "bytes": (record(example(packed(VALUES), kind=1)), "no list of floats"),
    "no example": (record(b"\xff" * 40), "no tf.Example"),
    "group": (record(b"\x0b\x0c"), "no tf.Example"),
    "overlong": (record(message(1, b"abc")[:-1]), "no tf.Example"),
    "odd bytes": (record(example(message(1, b"abcde"))), "no tf.Example"),
    "nan": (record(example(packed([float("nan"), *VALUES[1:]]))), "not finite"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    data, reason = DAMAGED[name]
    folder = tmp_path / "p10000032"
    folder.mkdir()
    with pytest.raises(SourceError, match=reason) as caught:
        read_embedding(_file(folder, data))
    assert ".tfrecord" in str(caught.value)
    assert "10000032" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read") as caught:
        read_embedding(tmp_path / "p10000032.tfrecord")
    assert "10000032" not in str(caught.value)


def _values(i: int) -> np.ndarray:
    return (VALUES + i).astype(np.float32)


def _release(root: Path, n: int) -> None:
    for i in range(n):
        put(root, 10000000 + i // 3, 50000000 + i // 2, f"image-{i:03d}", record(example(packed(_values(i)))))


def test_packing_keeps_each_row_beside_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_BLOCK", 4)
    root, out = tmp_path / "root", tmp_path / "out"
    _release(root, 10)
    put(root, 10000099, 50000099, "other-subject", record(example(unpacked(_values(77)))))
    done = pack_embeddings(root, out)
    array = np.load(done.array, mmap_mode="r")
    assert array.shape == (11, WIDTH)
    assert array.dtype == np.float32
    assert dict(done.index.schema) == INDEX_SCHEMA
    assert pl.read_parquet(done.index_file).equals(done.index)
    for dicom_id, study_id, subject_id, row in done.index.iter_rows():
        i = 77 if dicom_id == "other-subject" else int(dicom_id.removeprefix("image-"))
        assert (subject_id, study_id) == ((10000099, 50000099) if i == 77 else (10000000 + i // 3, 50000000 + i // 2))
        assert np.array_equal(array[row], _values(i))
    assert done.notes == ()
    assert sorted(p.name for p in out.iterdir()) == ["embeddings.json", "embeddings.npy", "embeddings.parquet"]


def test_bad_files_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_BLOCK", 5)
    root = tmp_path / "root"
    _release(root, 8)
    for i, (name, (data, _)) in enumerate(DAMAGED.items()):
        put(root, 10000000 + i, 60000000 + i, "bad-" + name.replace(" ", "-"), data)
    for i in range(12):
        put(root, 10000000 + i, 61000000 + i, f"cut-{i}", GOOD[:100])
    put(root, 10000007, 62000000, "image-001", GOOD)  # repeats a dicom_id; its path is the later one
    elsewhere = root / "files" / "p10" / "p10000000" / "study"
    elsewhere.mkdir()
    (elsewhere / "x.tfrecord").write_bytes(GOOD)
    (root / "files" / "p10" / "p10000000" / "index.html").write_text("no embedding")
    os.symlink(root / "nowhere", root / "files" / "p10" / "p10000000" / "s50000000" / "gone.tfrecord")
    done = pack_embeddings(root, tmp_path / "out")
    assert sorted(done.index["dicom_id"].to_list()) == [f"image-{i:03d}" for i in range(8)]
    row = done.index.filter(pl.col("dicom_id") == "image-001")["row"].item()
    assert np.array_equal(np.load(done.array)[row], _values(1))
    words = "\n".join(done.notes)
    assert "16 files dropped that are cut off" in words
    for reason in ("cannot be read", "repeat a dicom_id", "lie outside the layout", "fail their checksum", "no tf.Ex"):
        assert f"fewer than 10 files dropped that {reason}" in words.replace("hold no tf", "no tf")
    assert "1000000" not in words


def test_only_wanted_images(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _release(root, 6)
    done = pack_embeddings(root, tmp_path / "out", {"image-004", "image-001", "never-made"})
    assert done.index["dicom_id"].to_list() == ["image-001", "image-004"]
    assert np.array_equal(np.load(done.array), np.stack([_values(1), _values(4)]))
    # other wishes, other packing
    assert pack_embeddings(root, tmp_path / "out", None).index.height == 6
    with pytest.raises(SourceError, match="at least one wanted file"):
        pack_embeddings(root, tmp_path / "out", {"never-made"})


def test_a_killed_packing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_BLOCK", 3)
    root, out = tmp_path / "root", tmp_path / "out"
    _release(root, 10)
    whole = pack_embeddings(root, tmp_path / "whole")
    reads: list[str] = []
    inner = tfrecord._bytes_of

    def counting(stop: int) -> Callable[[Path], bytes | None]:
        def read(path: Path) -> bytes | None:
            reads.append(path.name)
            if len(reads) > stop:
                raise KeyboardInterrupt
            return inner(path)

        return read

    monkeypatch.setattr(tfrecord, "_bytes_of", counting(7))
    with pytest.raises(KeyboardInterrupt):
        pack_embeddings(root, out, workers=1)
    assert not (out / "embeddings.json").exists()
    reads.clear()
    monkeypatch.setattr(tfrecord, "_bytes_of", counting(1000))
    resumed = pack_embeddings(root, out, workers=1)
    assert len(reads) == 4  # two blocks of three were finished
    assert (out / "embeddings.npy").read_bytes() == whole.array.read_bytes()
    assert resumed.index.equals(whole.index)
    assert resumed.fingerprint == whole.fingerprint
    reads.clear()
    assert pack_embeddings(root, out).fingerprint == whole.fingerprint
    assert reads == []


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    _release(root, 3)
    before = pack_embeddings(root, out)
    path = put(root, 10000000, 50000000, "image-001", record(example(packed(_values(9)))))
    os.utime(path, ns=(1, 1))
    after = pack_embeddings(root, out)
    assert np.array_equal(np.load(after.array)[1], _values(9))
    assert after.fingerprint != before.fingerprint


def test_a_killed_write_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    _release(root, 3)
    pack_embeddings(root, out)
    put(root, 10000000, 50000000, "image-003", record(example(packed(_values(3)))))

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tfrecord, "write_sealed", fail)
    with pytest.raises(OSError, match="no space"):
        pack_embeddings(root, out)
    assert not (out / "embeddings.json").exists()
    monkeypatch.undo()
    assert pack_embeddings(root, out).index.height == 4
    assert json.loads((out / "embeddings.json").read_text())["rows"] == 4


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'files'"):
        pack_embeddings(tmp_path, tmp_path / "out")
    put(tmp_path, 10000000, 1, "a", b"")
    with pytest.raises(SourceError, match="none of 1: fewer than 10 are cut off"):
        pack_embeddings(tmp_path, tmp_path / "out")

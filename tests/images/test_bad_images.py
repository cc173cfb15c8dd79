"""Images as people have them: one bad one never ends a run, and what can be read is read right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from mmnar.dataset.content import ItemArrays
from mmnar.dataset.gather import Gatherer, Gathering, gatherers
from mmnar.errors import SchemaError, SourceError
from mmnar.images.pixels import Undecoded, read_image, read_images
from mmnar.images.places import ImageFolder
from mmnar.images.tfrecord import pack_embeddings
from mmnar.sources.events import EVENT_SCHEMA, Events, ImageRule, Rule, VectorRule
from tests.images.dicom import write_dicom
from tests.images.records import example, packed, put, record

pytest.importorskip("monai")
pydicom = pytest.importorskip("pydicom")
Image = pytest.importorskip("PIL.Image")

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
TWELVE = np.arange(4096).reshape(64, 64).astype(np.uint16)


def _set(path: Path, keyword: str, vr: str, value: object, target: Path) -> Path:
    """A copy of a DICOM with one element as it should not be."""
    from pydicom.config import IGNORE
    from pydicom.dataelem import DataElement

    dataset = pydicom.dcmread(path)
    dataset[keyword] = DataElement(keyword, vr, value, validation_mode=IGNORE)
    dataset.save_as(target)
    return target


def _bad(folder: Path) -> Iterator[Path]:
    """DICOM, JPG and PNG files that are no picture."""
    whole = write_dicom(folder / "whole.dcm", TWELVE, RescaleSlope=1, RescaleIntercept=0)
    for i, (keyword, vr, value) in enumerate(
        (
            ("RescaleSlope", "DS", None),
            ("RescaleSlope", "DS", 0),
            ("RescaleIntercept", "DS", None),
            ("BitsStored", "US", None),
            ("PixelRepresentation", "US", None),
            ("PhotometricInterpretation", "CS", None),
            ("Rows", "US", 65535),
        )
    ):
        yield _set(whole, keyword, vr, value, folder / f"{i}.dcm")
    huge = write_dicom(folder / "huge.dcm", TWELVE)
    yield _set(_set(huge, "Rows", "US", 65000, huge), "Columns", "US", 65000, huge)
    (folder / "zero.jpg").write_bytes(b"")
    yield folder / "zero.jpg"
    (folder / "magic.dcm").write_bytes(bytes(128) + b"DICM")
    yield folder / "magic.dcm"
    picture = folder / "whole.jpg"
    Image.fromarray(np.kron(RAMP, np.ones((8, 8), np.uint8))).save(picture)
    (folder / "cut.jpg").write_bytes(picture.read_bytes()[:-500])
    yield folder / "cut.jpg"


def test_one_bad_image_never_ends_a_run(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(RAMP).save(good)
    bad = list(_bad(tmp_path))
    images = list(read_images([good, *bad, good], 16))
    assert [path.name for path, image in zip(bad, images[1:-1], strict=True) if not isinstance(image, Undecoded)] == []
    assert np.array_equal(images[0], RAMP)
    assert np.array_equal(images[-1], RAMP)
    assert isinstance(images[1], Undecoded)
    assert images[1].reason == "are DICOM files whose slope, intercept or window is no number"


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_turns_of_exif_are_made(tmp_path: Path, turn: int, name: str) -> None:
    # EXIF 2.3, tag 274: where the 0th row and the 0th column of the stored picture are seen
    stored: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, 3),
    }
    scene = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[274] = turn
    Image.fromarray(np.ascontiguousarray(stored[turn](scene))).save(tmp_path / name, exif=exif)
    assert np.abs(read_image(tmp_path / name, 32).astype(int) - scene).max() <= 8


def test_palette_alpha_and_ink(tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("P").save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png", 16), RAMP)
    # white hidden under what is transparent
    alpha = np.where(RAMP < 128, 0, 255).astype(np.uint8)
    colour = np.where(RAMP < 128, 255, RAMP).astype(np.uint8)
    Image.fromarray(np.stack([colour] * 3 + [alpha], axis=-1)).save(tmp_path / "alpha.png")
    assert np.array_equal(read_image(tmp_path / "alpha.png", 16), np.where(RAMP < 128, 0, RAMP))
    # black ink alone: no ink is white
    ink = np.kron(RAMP, np.ones((8, 8), np.uint8))
    none = np.zeros_like(ink)
    Image.fromarray(np.stack([none, none, none, ink], axis=-1), "CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "ink.jpg", 16).astype(int) - (255 - RAMP)).max() <= 4


def test_an_empty_window_is_no_window(tmp_path: Path) -> None:
    plain = read_image(write_dicom(tmp_path / "a.dcm", TWELVE), 64)
    empty = write_dicom(tmp_path / "b.dcm", TWELVE, WindowCenter="", WindowWidth="")
    assert np.array_equal(read_image(empty, 64), plain)


def test_no_library_quotes_a_header(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "whole.dcm", TWELVE)
    aged = _set(whole, "PatientAge", "AS", "10000032 years", tmp_path / "age.dcm")
    long = _set(whole, "PatientID", "LO", "10000032" * 12, tmp_path / "id.dcm")
    window = write_dicom(tmp_path / "window.dcm", TWELVE, WindowCenter="123456780", WindowWidth="9")
    window.write_bytes(window.read_bytes().replace(b"123456780", b"10000032x"))
    code = (
        "import sys; from pathlib import Path; from mmnar.images.pixels import read_images;"
        "print([type(i).__name__ for i in read_images(map(Path, sys.argv[1:]), 16)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(aged), str(long), str(window)], capture_output=True, text=True, check=True
    )
    assert "ndarray" in done.stdout
    assert "10000032" not in done.stdout + done.stderr


# --- from records to content -----------------------------------------------------------------------------------------

NOON = datetime(2180, 5, 6, 12)


def _gatherer(rule: Rule, texts: list[str]) -> Gatherer:
    """A gatherer that was handed one event per subject."""
    frame = pl.DataFrame(
        {"subject_id": range(len(texts)), "time": NOON, "available_time": NOON, "code": "CXR//AP", "text_value": texts}
    ).with_columns(hadm_id=None, stay_id=None, numeric_value=None, source=pl.lit("cxr"))
    events = Events(frame.select(pl.col(c).cast(t) for c, t in EVENT_SCHEMA.items()), scope="subject")
    samples = pl.DataFrame({"sample": range(len(texts)), "subject_id": range(len(texts))}).with_columns(
        stay_id=pl.lit(None, pl.Int64),
        prediction_time=pl.lit(NOON).cast(pl.Datetime("us")),
        since=pl.lit(None, pl.Datetime("us")),
    )
    (gatherer,) = gatherers((rule,), 0.8, Gathering())
    gatherer.add(events.before(samples))
    return gatherer


def _of(root: Path, names: list[str]) -> Gatherer:
    return _gatherer(ImageRule("cxr", ("CXR//*",), root, 16), names)


def _counts(gatherer: Gatherer) -> list[int]:
    content = gatherer.content()
    assert isinstance(content, ItemArrays)
    return np.diff(content.offsets).tolist()


def test_other_forms_of_an_image_are_found(tmp_path: Path) -> None:
    names = [f"s/{i}.jpg" for i in range(6)]
    (tmp_path / "s").mkdir()
    for i, name in enumerate(("0.jpeg", "1.png", "2.JPG", "3.Png", "4.DCM")):
        if name.endswith("DCM"):
            write_dicom(tmp_path / "s" / name, np.roll(RAMP, i).astype(np.uint16), bits=8)
        else:
            Image.fromarray(np.roll(RAMP, i)).save(tmp_path / "s" / name, format="PNG")
    (tmp_path / "s" / "._5.jpg").write_bytes(b"\x00\x05")
    gatherer = _of(tmp_path, names)
    assert _counts(gatherer) == [1, 1, 1, 1, 1, 0]
    content = gatherer.content()
    assert isinstance(content, ItemArrays)
    assert all(np.array_equal(content.values[i], np.roll(RAMP, i)) for i in range(5))
    assert gatherer.left_out() == {"modality 'cxr': # images left out that are not there": 1}


def test_of_twins_the_one_that_the_record_names(tmp_path: Path) -> None:
    for i, name in enumerate(("0.jpg", "0.dcm", "1.dcm", "1.png")):
        Image.fromarray(np.roll(RAMP, i)).save(tmp_path / name, format="PNG")
    gatherer = _of(tmp_path, ["0.dcm", "1.jpg"])
    content = gatherer.content()
    assert isinstance(content, ItemArrays)
    assert np.array_equal(content.values[0], np.roll(RAMP, 1))
    assert np.array_equal(content.values[1], np.roll(RAMP, 3))
    ((said, count),) = gatherer.left_out().items()
    assert count == 2
    assert "several forms" in said


def _put(root: Path, n: int) -> list[str]:
    for i in range(n):
        Image.fromarray(RAMP).save(root / f"{i}.png")
    return [f"{i}.jpg" for i in range(n)]


def test_absent_is_not_unreadable(tmp_path: Path) -> None:
    names = _put(tmp_path, 40)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.png").unlink()
    gatherer = _of(tmp_path, names)
    assert _counts(gatherer) == [0, 0] + [1] * 38
    assert gatherer.left_out() == {
        "modality 'cxr': # images left out that are neither JPG nor PNG nor DICOM": 1,
        "modality 'cxr': # images left out that are not there": 1,
    }


def test_many_absent_images_are_said_and_most_are_refused(tmp_path: Path) -> None:
    names = _put(tmp_path, 40)
    for i in range(15):
        (tmp_path / f"{i}.png").unlink()
    gatherer = _of(tmp_path, names)
    gatherer.content()
    assert any("more than a tenth of all, so complete the download" in what for what in gatherer.left_out())
    for i in range(15, 21):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(SourceError, match="fewer than half"):
        _of(tmp_path, names).content()
    with pytest.raises(SourceError, match=r"none of those asked for.*\.dcm|\.dcm.*none of those asked for"):
        _of(tmp_path / "elsewhere", names).content()


def test_images_none_of_which_can_be_read_are_refused(tmp_path: Path) -> None:
    names = _put(tmp_path, 12)
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"<html>")
    with pytest.raises(SourceError, match="none of 12: 12 are neither JPG nor PNG nor DICOM"):
        _of(tmp_path, names).content()


def test_a_folder_that_may_not_be_listed_is_not_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> dict[str, tuple[str, ...]]:
        raise PermissionError

    monkeypatch.setattr("mmnar.images.places._forms", denied)
    assert ImageFolder(tmp_path).find("s/a.jpg") == tmp_path / "s" / "a.jpg"


def test_vectors_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    array = np.ones((3, 2), np.float32)
    array[1, 0] = np.nan
    np.save(tmp_path / "v.npy", array)
    rule = VectorRule("cxr", ("CXR//*",), tmp_path / "v.npy", 2)
    gatherer = _gatherer(rule, ["0", "1", "2"])
    assert _counts(gatherer) == [1, 0, 1]
    assert gatherer.left_out() == {"modality 'cxr': # vectors left out: numbers that are not finite": 1}
    for text in ("3", "-1", "10000032x"):
        with pytest.raises(SchemaError, match="row numbers") as caught:
            _gatherer(rule, ["0", text])
        assert "10000032" not in str(caught.value)


def test_embedding_files_left_behind_by_systems_and_a_cut_packing(tmp_path: Path) -> None:
    good = record(example(packed(np.ones(1376, np.float32))))
    path = put(tmp_path / "release", 10000032, 1, "a", good)
    path.with_name("._a.tfrecord").write_bytes(b"\x00\x05")
    path.rename(path.with_name("a.TFRECORD"))
    put(tmp_path / "release", 10**19, 2, "b", good)
    first = pack_embeddings(tmp_path / "release", tmp_path / "out")
    assert first.index["dicom_id"].to_list() == ["a"]
    assert len(first.notes) == 1
    assert "fewer than 10 files dropped that lie outside the layout" in first.notes[0]
    for name in ("embeddings.npy", "embeddings.parquet", "embeddings.json"):
        (tmp_path / "out" / name).write_bytes((tmp_path / "out" / name).read_bytes()[:40])
        again = pack_embeddings(tmp_path / "release", tmp_path / "out")
        assert again.fingerprint == first.fingerprint
        assert np.load(again.array).shape == (1, 1376)

"""Pixels: files written by pillow and pydicom, answers by arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmnar.errors import SourceError
from mmnar.images.pixels import Undecoded, read_image, read_images
from tests.images.dicom import write_dicom

pytest.importorskip("monai")
pydicom = pytest.importorskip("pydicom")
Image = pytest.importorskip("PIL.Image")

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def _save(path: Path, values: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return 255 * np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def _close(got: NDArray[np.uint8], expected: NDArray[np.float64]) -> None:
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 0.51


def test_png_of_the_right_size_is_itself(tmp_path: Path) -> None:
    assert np.array_equal(read_image(_save(tmp_path / "a.png", RAMP), 16), RAMP)


def test_darkest_and_brightest_pixel_set_the_scale(tmp_path: Path) -> None:
    _close(read_image(_save(tmp_path / "a.png", RAMP // 4 + 50), 16), _scaled(RAMP // 4 + 50, 50, 113))


def test_an_image_of_one_value_is_black(tmp_path: Path) -> None:
    assert not read_image(_save(tmp_path / "a.png", np.full((8, 8), 90, np.uint8)), 8).any()


def test_what_a_file_is_is_told_by_its_content(tmp_path: Path) -> None:
    assert np.array_equal(read_image(_save(tmp_path / "a.jpg", RAMP, format="PNG"), 16), RAMP)


def test_aspect_ratio_stays_and_margins_are_black(tmp_path: Path) -> None:
    # 8 high, 16 wide, of 2 x 2 cells: halving by area is exact
    cells = np.array([[0, 10, 20, 30, 40, 50, 60, 255]] * 4, dtype=np.uint8) + np.arange(4, dtype=np.uint8)[:, None]
    cells[:, -1] = 255
    image = np.kron(cells, np.ones((2, 2), np.uint8)) + np.tile(np.array([[0, 0], [0, 0]], np.uint8), (4, 8))
    got = read_image(_save(tmp_path / "a.png", image), 8)
    assert np.array_equal(got[2:6], cells)
    assert not got[:2].any()
    assert not got[6:].any()
    tall = read_image(_save(tmp_path / "b.png", image.T.copy()), 8)
    assert np.array_equal(tall, got.T)


def test_areas_are_averaged(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24)).astype(np.uint8)
    image[0, :2] = 0, 255
    expected = image.reshape(8, 3, 8, 3).mean(axis=(1, 3))
    _close(read_image(_save(tmp_path / "a.png", image), 8), expected)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    colour = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    got = read_image(_save(tmp_path / "a.png", colour), 16)
    assert np.abs(got - _scaled(luma, luma.min(), luma.max())).max() <= 3  # luma is rounded before it is stretched


def test_sixteen_bits_are_stretched_between_percentiles(tmp_path: Path) -> None:
    values = (np.arange(4096).reshape(64, 64) * 3 + 500).astype(np.uint16)
    values[0, 0], values[0, 1] = 65535, 0  # a burnt-in marker, a dead pixel
    low, high = np.percentile(values, [0.5, 99.5])
    assert high < 13000
    _close(read_image(_save(tmp_path / "a.png", values), 64), _scaled(values, low, high))


def test_a_large_jpg_decoded_small_is_the_same_picture(tmp_path: Path) -> None:
    blobs = np.random.default_rng(1).integers(0, 256, (12, 10)).astype(np.uint8)
    large = np.asarray(Image.fromarray(blobs).resize((1000, 1200)))
    path = _save(tmp_path / "a.jpg", large, quality=95)
    margin, got = 4, read_image(path, 48)
    expected = large.reshape(48, 25, 40, 25).mean(axis=(1, 3))
    expected = 255 * (expected - large.min()) / (float(large.max()) - large.min())
    assert np.abs(got[:, margin:-margin] - expected).mean() < 4
    assert not got[:, :margin].any()


TWELVE = (np.arange(4096).reshape(64, 64)).astype(np.uint16)


def test_dicom_without_a_window(tmp_path: Path) -> None:
    low, high = np.percentile(TWELVE, [0.5, 99.5])
    _close(read_image(write_dicom(tmp_path / "a.dcm", TWELVE), 64), _scaled(TWELVE, low, high))


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    # the same scene, stored both ways
    bright = read_image(write_dicom(tmp_path / "a", TWELVE), 64)
    dark = read_image(write_dicom(tmp_path / "b", 4095 - TWELVE, "MONOCHROME1"), 64)
    assert np.abs(bright.astype(int) - dark).max() <= 1
    assert bright[0, 0] == 0
    assert bright[-1, -1] == 255


def test_eight_bits_in_a_dicom_keep_all_their_range(tmp_path: Path) -> None:
    assert np.array_equal(read_image(write_dicom(tmp_path / "a", RAMP.astype(np.uint16), bits=8), 16), RAMP)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_window_on_rescaled_values_as_pydicom_applies_it(tmp_path: Path, photometric: str) -> None:
    from pydicom.pixels.processing import apply_rescale, apply_windowing

    elements = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": [2000, 99], "WindowWidth": [1500, 9]}
    path = write_dicom(tmp_path / "a.dcm", TWELVE, photometric, **elements)
    dataset = pydicom.dcmread(path)
    shown = apply_windowing(apply_rescale(dataset.pixel_array, dataset), dataset)
    expected = _scaled(shown, shown.min(), shown.max())  # the ramp reaches both ends of the window
    assert (expected == 0).sum() > 700
    assert (expected == 255).sum() > 1300
    _close(read_image(path, 64), 255 - expected if photometric == "MONOCHROME1" else expected)


def test_signed_values_and_an_exact_window(tmp_path: Path) -> None:
    signed = TWELVE.astype(np.int16) - 2048
    elements = {"WindowCenter": 0, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}
    _close(read_image(write_dicom(tmp_path / "a.dcm", signed, **elements), 64), _scaled(signed, -50, 50))


def _damaged(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that have no pixels for us, and why."""
    whole = _save(folder / "whole.jpg", np.kron(RAMP, np.ones((8, 8), np.uint8))).read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    yield folder / "half.jpg", "are damaged"
    png = _save(folder / "whole.png", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)).read_bytes()
    (folder / "flipped.png").write_bytes(png[:2000] + bytes(50) + png[2050:])
    yield folder / "flipped.png", "are damaged"
    (folder / "empty.jpg").write_bytes(b"")
    yield folder / "empty.jpg", "are neither JPG nor PNG nor DICOM"
    (folder / "text.jpg").write_text("<html>404</html>")
    yield folder / "text.jpg", "are neither JPG nor PNG nor DICOM"
    yield _save(folder / "a.bmp", RAMP), "are neither JPG nor PNG nor DICOM"
    yield folder / "absent.jpg", "cannot be read"
    yield folder, "cannot be read"
    dicom = write_dicom(folder / "whole.dcm", TWELVE).read_bytes()
    (folder / "half.dcm").write_bytes(dicom[: len(dicom) // 2])
    yield folder / "half.dcm", "are damaged"
    (folder / "head.dcm").write_bytes(dicom[:140])
    yield folder / "head.dcm", "are damaged"
    yield write_dicom(folder / "palette.dcm", TWELVE, "PALETTE COLOR"), "are DICOM files of something other"
    frames = write_dicom(folder / "frames.dcm", TWELVE, NumberOfFrames=4, Rows=16)
    yield frames, "are DICOM files of something other"
    yield _jpeg_ls(folder / "whole.dcm", folder / "jpeg_ls.dcm"), "are DICOM files of a compression that is not read"


def _jpeg_ls(dicom: Path, target: Path) -> Path:
    """A DICOM of a compression whose decoders no extra of ours installs."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    dataset = pydicom.dcmread(dicom)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate([bytes(64)])
    dataset.save_as(target)
    return target


def test_what_does_not_decode_is_named_without_its_path(tmp_path: Path) -> None:
    for i, (path, reason) in enumerate(_damaged(tmp_path)):
        with pytest.raises(SourceError) as caught:
            read_image(path, 32)
        assert reason in str(caught.value), i
        assert str(tmp_path) not in str(caught.value), i
        assert path.name not in str(caught.value), i


@pytest.mark.parametrize("workers", [1, 3])
def test_a_long_run_goes_on_past_damage_in_order(tmp_path: Path, workers: int) -> None:
    bad = list(_damaged(tmp_path))
    good = [_save(tmp_path / f"{i}.png", np.roll(RAMP, i)) for i in range(len(bad))]
    paths = [p for pair in zip(good, (p for p, _ in bad), strict=True) for p in pair]
    images = list(read_images(paths, 16, workers))
    assert len(images) == len(paths)
    for i, image in enumerate(images[::2]):
        assert np.array_equal(image, np.roll(RAMP, i))
    reasons = Counter(image.reason for image in images[1::2] if isinstance(image, Undecoded))
    assert reasons.total() == len(bad)
    assert reasons["cannot be read"] == 2


def test_paths_are_taken_no_faster_than_images(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", RAMP)
    taken = []

    def endless() -> Iterator[Path]:
        while True:
            taken.append(1)
            yield path

    images = read_images(endless(), 16, workers=2)
    for _ in range(3):
        next(images)
    images.close()  # type: ignore[attr-defined]
    assert len(taken) <= 2 * 2 + 3

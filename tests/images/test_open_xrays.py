"""The whole path on open chest X-rays: metadata → events → before() → pixels → vectors → gradients.

COVID-19 image data collection (Cohen et al. 2020, arXiv 2006.11988). ``offset`` counts days: the clock here.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from mmnar.encoders.image import ImageEncoder
from mmnar.images.pixels import Undecoded, read_image, read_images
from mmnar.sources.events import EVENT_SCHEMA, Events
from mmnar.types import Items
from tests.records import open_data

pytest.importorskip("monai")

ZERO = datetime(2020, 1, 1)
CUT = 5.5


def _metadata(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _events(rows: list[dict[str, str]]) -> Events:
    """Images with an offset; their subjects are numbered in order of appearance."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(row["patientid"] for row in rows))}
    events = [
        {
            "subject_id": numbers[row["patientid"]],
            "time": ZERO + timedelta(days=float(row["offset"])),
            "available_time": ZERO + timedelta(days=float(row["offset"])),
            "code": "CXR//" + row["view"].split()[0],
            "text_value": row["jpg"],
            "source": "cxr",
        }
        for row in rows
        if row["offset"]
    ]
    return Events(pl.DataFrame(events, schema=EVENT_SCHEMA), scope="subject")


def _by_pillow(path: Path, side: int) -> np.ndarray:
    """The same picture made by pillow alone; (side, side) in 0-255."""
    from PIL import Image

    grey = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
    grey = 255 * (grey - grey.min()) / (grey.max() - grey.min())
    height, width = (round(n * side / max(grey.shape)) for n in grey.shape)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    small = Image.fromarray(grey).resize((width, height), Image.Resampling.BOX)
    square[top : top + height, left : left + width] = np.asarray(small)
    return square


def test_every_open_image_decodes() -> None:
    folder = open_data("covid-chestxray") / "frontal_320"
    paths = sorted(folder.glob("*.jpg"))
    assert len(paths) > 250
    for path, image in zip(paths, read_images(paths, 96, workers=2), strict=True):
        assert not isinstance(image, Undecoded)
        assert np.abs(image - _by_pillow(path, 96)).mean() < 4


def test_metadata_to_gradients(tmp_path: Path) -> None:
    folder = open_data("covid-chestxray")
    rows = _metadata(folder)
    events = _events(rows)
    assert 200 < events.frame.height < len(rows)
    subjects = events.frame["subject_id"].unique().sort()
    samples = pl.DataFrame({"subject_id": subjects}).select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sample"),
        "subject_id",
        pl.lit(None, pl.Int64).alias("stay_id"),
        pl.lit(ZERO + timedelta(days=CUT)).cast(pl.Datetime("us")).alias("prediction_time"),
        pl.lit(None, pl.Datetime("us")).alias("since"),
    )
    latest = events.before(samples).frame.sort("time").unique("sample", keep="last", maintain_order=True)

    # by hand: per person the latest day not after the cut
    people = list(dict.fromkeys(row["patientid"] for row in rows))
    days: dict[int, list[float]] = {}
    for row in rows:
        if row["offset"] and float(row["offset"]) <= CUT:
            days.setdefault(people.index(row["patientid"]), []).append(float(row["offset"]))
    got = {s: (t - ZERO) / timedelta(days=1) for s, t in latest.select("subject_id", "time").iter_rows()}
    assert got == {subject: max(of) for subject, of in days.items()}
    assert 0 < len(got) < len(subjects)

    chosen = latest.sort("sample")["text_value"].to_list()[:6]
    root = tmp_path / "images"
    root.mkdir()
    for name in chosen:
        (root / name).write_bytes((folder / "frontal_320" / name).read_bytes())
    (root / chosen[2]).write_bytes((root / chosen[2]).read_bytes()[:900])
    images = list(read_images((root / name for name in chosen), 64))
    assert [isinstance(image, Undecoded) for image in images] == [i == 2 for i in range(6)]
    assert isinstance(images[2], Undecoded)
    assert images[2].reason == "are damaged"
    good = [image for image in images if not isinstance(image, Undecoded)]
    assert np.array_equal(good[0], read_image(folder / "frontal_320" / chosen[0], 64))

    torch.manual_seed(0)
    encoder = ImageEncoder(64, 8)
    hours = torch.tensor([-24 * (CUT - got[subject]) for subject in latest.sort("sample")["subject_id"].to_list()[:6]])
    offsets = torch.tensor([0, 1, 2, 2, 3, 4, 5])  # the third has none
    vectors = encoder(Items(offsets, hours[[0, 1, 3, 4, 5]], torch.from_numpy(np.stack(good))))
    assert vectors.shape == (6, 8)
    assert [bool(v.any()) for v in vectors] == [i != 2 for i in range(6)]
    vectors.square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in encoder.parameters())

"""Released files and metadata → events → content of the store, for embeddings and for images."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar.dataset.content import ItemArrays
from mmnar.dataset.gather import Gathering, gatherers
from mmnar.images.tfrecord import WIDTH, pack_embeddings
from mmnar.sources.events import Events, ImageRule, PastEvents, Rule, VectorRule
from mmnar.sources.mimic_iv.cxr import METADATA, cxr_embedding_events, cxr_events
from tests.images.records import example, packed, put, record
from tests.records import write_tables

SUBJECT = 10000032
# study, image, hour: the third study is after the prediction at noon
STUDIES = ((1, "a", 80000), (2, "b", 115959.5), (3, "c", 120000.5))


def _metadata(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "dicom_id": dicom,
            "subject_id": SUBJECT,
            "study_id": study,
            "ViewPosition": "AP",
            "StudyDate": 21800506,
            "StudyTime": time,
        }
        for study, dicom, time in STUDIES
    ]
    return write_tables(folder, {METADATA: rows}, ".csv.gz")


def _past(frame: pl.DataFrame) -> PastEvents:
    noon = pl.lit(datetime(2180, 5, 6, 12)).cast(pl.Datetime("us"))
    samples = pl.DataFrame({"sample": [0, 1], "subject_id": [SUBJECT, SUBJECT + 1]}).with_columns(
        stay_id=pl.lit(None, pl.Int64), prediction_time=noon, since=pl.lit(None, pl.Datetime("us"))
    )
    return Events(frame, scope="subject").before(samples)


def _content(rule: Rule, frame: pl.DataFrame) -> tuple[ItemArrays, dict[str, int]]:
    (gatherer,) = gatherers((rule,), 0.8, Gathering())
    gatherer.add(_past(frame))
    content = gatherer.content()
    assert isinstance(content, ItemArrays)
    return content, gatherer.left_out()


def test_embeddings_of_the_past_and_no_other(tmp_path: Path) -> None:
    values = {dicom: np.full(WIDTH, study, np.float32) for study, dicom, _ in STUDIES}
    for study, dicom, _ in reversed(STUDIES):
        put(tmp_path / "release", SUBJECT, study, dicom, record(example(packed(values[dicom]))))
    done = pack_embeddings(tmp_path / "release", tmp_path / "packed")
    frame, _ = cxr_embedding_events(_metadata(tmp_path / "cxr"), done.index)
    content, _ = _content(VectorRule("cxr", ("CXR//*",), done.array, WIDTH), frame)
    assert content.offsets.tolist() == [0, 2, 2]
    assert np.array_equal(content.values, np.stack([values["a"], values["b"]]))
    np.testing.assert_allclose(content.hours, [-4, -0.5 / 3600], rtol=1e-5)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_latest_image_of_the_past(tmp_path: Path, damaged: bool) -> None:
    pytest.importorskip("monai")
    image = pytest.importorskip("PIL.Image")
    root = _metadata(tmp_path / "cxr")
    frame, _ = cxr_events(root, pl.Series([SUBJECT, SUBJECT + 1]))
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for study, dicom, _ in STUDIES:
        path = root / "files" / "p10" / f"p{SUBJECT}" / f"s{study}" / f"{dicom}.jpg"
        path.parent.mkdir(parents=True)
        image.fromarray(np.roll(ramp, 50 * study)).save(path, format="PNG")
        if damaged and dicom == "b":
            path.write_bytes(path.read_bytes()[:60])
    content, left_out = _content(ImageRule("cxr", ("CXR//*",), root, 16), frame)
    if damaged:
        assert content.offsets.tolist() == [0, 0, 0]
        assert left_out == {"modality 'cxr': # images left out that are damaged": 1}
    else:
        assert content.offsets.tolist() == [0, 1, 1]
        assert np.array_equal(content.values[0], np.roll(ramp, 100))
        assert left_out == {}

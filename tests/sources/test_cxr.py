"""X-ray metadata of a handful of made-up studies; every answer is written down by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.images.tfrecord import pack_embeddings
from mmnar.sources.events import EVENT_SCHEMA, Events
from mmnar.sources.mimic_iv.cxr import METADATA, cxr_embedding_events, cxr_events
from mmnar.sources.reading.raw import DataRoot
from tests.images.records import example, packed, put, record
from tests.records import write_tables
from tests.sources.test_mimic_iv import read_tree


def _image(
    dicom: str, view: str | None, time: object, study: int | None = 50000001, date: object = 21800506
) -> dict[str, Any]:
    return {
        "dicom_id": dicom,
        "subject_id": 10000032,
        "study_id": study,
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
        "ViewPosition": view,
        "Rows": 3056,
        "Columns": 2544,
        "StudyDate": date,
        "StudyTime": time,
    }


def _root(folder: Path, rows: list[dict[str, Any]], suffix: str = ".csv.gz") -> Path:
    return write_tables(folder, {METADATA: rows}, suffix)


def _times(folder: Path, times: list[object], dates: list[object] | None = None) -> list[datetime]:
    """Times of images of studies 1, 2, …, in order of the studies; those dropped are left out."""
    days = dates or [21800506] * len(times)
    rows = [
        _image(f"d{i}", "PA", time, study=i, date=day) for i, (time, day) in enumerate(zip(times, days, strict=True), 1)
    ]
    frame, _ = cxr_events(_root(folder, rows), pl.Series([10000032]))
    study = frame["text_value"].str.extract(r"/s(\d+)/").cast(pl.Int64)
    return frame.with_columns(study=study).sort("study")["time"].to_list()


def test_clock_times_that_lost_their_zeros(tmp_path: Path) -> None:
    got = _times(tmp_path, ["213014.531", "80556.875", "5.0", "0", "1500", "235959.999999"])
    day = (2180, 5, 6)
    assert got == [
        datetime(*day, 21, 30, 14, 531000),
        datetime(*day, 8, 5, 56, 875000),
        datetime(*day, 0, 0, 5),
        datetime(*day, 0, 0, 0),
        datetime(*day, 0, 15, 0),
        datetime(*day, 23, 59, 59, 999999),
    ]


@pytest.mark.parametrize("time", ["240000", "236000", "235960", "-1", "", "1e300"])
def test_a_clock_time_that_does_not_exist_is_dropped_and_counted(tmp_path: Path, time: str) -> None:
    root = _root(tmp_path, [_image("a", "PA", time), _image("b", "PA", "10000", study=2)])
    frame, notes = cxr_events(root, pl.Series([10000032]))
    assert frame["time"].to_list() == [datetime(2180, 5, 6, 1, 0, 0)]
    assert notes == (f"table '{METADATA}': fewer than 10 frontal images without a date and clock time that exist",)


@pytest.mark.parametrize("date", [21800230, 2180050, 218005060, "", 21801301])
def test_a_date_that_does_not_exist_is_dropped(tmp_path: Path, date: object) -> None:
    assert _times(tmp_path, ["10000", "10000"], [date, 21800301]) == [datetime(2180, 3, 1, 1, 0, 0)]


def test_one_frontal_image_per_study(tmp_path: Path) -> None:
    rows = [
        _image("lateral", "LATERAL", "120000", study=1),  # the latest, but not frontal
        _image("early", "PA", "100000", study=1),
        _image("late", "AP", "110000", study=1),
        _image("b-ap", "AP", "100000", study=2),
        _image("z-pa", "PA", "100000", study=2),
        _image("y-pa", "PA", "100000", study=2),
        _image("only-lateral", "LL", "100000", study=3),
        _image("no-view", None, "100000", study=4),
        _image("small", "ap", "93000", study=5),
        _image("no-study", "PA", "100000", study=None),
        _image("../../x", "PA", "100000", study=6),
    ]
    frame, notes = cxr_events(_root(tmp_path, rows), pl.Series([10000032, 10000032]))
    at = datetime(2180, 5, 6)
    folder = "files/p10/p10000032"
    assert frame.select("time", "code", "text_value").rows() == [
        (at.replace(hour=9, minute=30), "CXR//AP", f"{folder}/s5/small.jpg"),
        (at.replace(hour=10), "CXR//PA", f"{folder}/s2/y-pa.jpg"),
        (at.replace(hour=11), "CXR//AP", f"{folder}/s1/late.jpg"),
    ]
    assert frame["available_time"].to_list() == frame["time"].to_list()
    assert frame["source"].unique().to_list() == ["cxr"]
    assert frame["hadm_id"].null_count() == frame["stay_id"].null_count() == frame["numeric_value"].null_count() == 3
    assert dict(frame.schema) == EVENT_SCHEMA
    Events(frame, scope="subject")
    reasons = [note.split("fewer than 10 ")[1] for note in notes]
    assert reasons == [
        "images without subject_id, study_id or a dicom_id that can be a file's name",
        "images without a view position",
        "images that are not frontal (neither AP nor PA)",
        "frontal images left out: another one stands for the study",
    ]
    assert not any("10000032" in note for note in notes)


def test_only_the_subjects_asked_for(tmp_path: Path) -> None:
    root = _root(tmp_path, [_image("a", "PA", "1")])
    frame, notes = cxr_events(root, pl.Series([10000033]))
    assert frame.height == 0
    assert dict(frame.schema) == EVENT_SCHEMA
    assert notes == ()


def test_parquet_and_plain_csv_read_the_same(tmp_path: Path) -> None:
    rows = [_image(f"d{i}", view, time, study=i % 3) for i, (view, time) in enumerate([("PA", 80556.875), ("AP", 5.0)])]
    rows.append(_image("gap", None, None, study=9))
    (tmp_path / "parquet").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "parquet" / f"{METADATA}.parquet")
    subjects = pl.Series([10000032])
    plain = cxr_events(_root(tmp_path / "csv", rows, ".csv"), subjects)
    packed = cxr_events(tmp_path / "parquet", subjects)
    assert plain[0].equals(packed[0])
    assert plain[1] == packed[1]
    assert plain[0].height == 2


def test_the_roots_fingerprint_covers_the_table(tmp_path: Path) -> None:
    data = DataRoot(_root(tmp_path, [_image("a", "PA", "1")]))
    blank = data.fingerprint()
    cxr_events(data, pl.Series([10000032]))
    assert data.fingerprint() != blank


def test_a_repeated_image_or_no_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="fewer than 10 repeated"):
        cxr_events(_root(tmp_path, [_image("a", "PA", "1"), _image("a", "AP", "2")]), pl.Series([1]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=METADATA):
        cxr_events(tmp_path / "empty", pl.Series([1]))


def _index(*rows: tuple[str, int, int]) -> pl.DataFrame:
    columns = {"dicom_id": pl.String, "study_id": pl.Int64, "subject_id": pl.Int64}
    return pl.DataFrame(list(rows), schema=columns, orient="row").with_row_index("row").cast({"row": pl.Int64})


def test_embeddings_get_their_time_from_the_metadata(tmp_path: Path) -> None:
    rows = [
        _image("late", "PA", "110000", study=1),  # the study's latest has no embedding: the other stands for it
        _image("early", "AP", "100000", study=1),
        _image("lateral", "LATERAL", "100000", study=2),
        _image("moved", "PA", "100000", study=3),
        _image("second", "PA", "90000", study=4),
    ]
    index = _index(
        ("no-metadata", 7, 10000032),
        ("early", 1, 10000032),
        ("lateral", 2, 10000032),
        ("moved", 3, 10000099),
        ("second", 4, 10000032),
    )
    frame, notes = cxr_embedding_events(_root(tmp_path, rows), index)
    assert frame.select("time", "code", "text_value").rows() == [
        (datetime(2180, 5, 6, 9), "CXR//PA", "4"),
        (datetime(2180, 5, 6, 10), "CXR//AP", "1"),
    ]
    Events(frame, scope="subject")
    reasons = [note.split("fewer than 10 ")[1] for note in notes]
    assert reasons == [
        "embeddings without a row in the metadata, so without a time",
        "embeddings whose folders name another subject or study than the metadata",
        "images that are not frontal (neither AP nor PA)",
    ]


def test_an_index_that_repeats_an_image_is_an_error(tmp_path: Path) -> None:
    root = _root(tmp_path, [_image("a", "PA", "1")])
    with pytest.raises(SourceError, match="1 repeated"):
        cxr_embedding_events(root, _index(("a", 1, 10000032), ("a", 1, 10000032)))


def _of_the_wards(folder: Path, subjects: list[int]) -> Path:
    """One frontal image a study of these patients, in the unit stays' own days."""
    rows = [
        _image(f"d{i}", "PA", "100000", study=i, date=21500302) | {"subject_id": subject}
        for i, subject in enumerate(subjects, 1)
    ]
    return _root(folder, rows)


def test_images_of_other_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="frontal images of patients with a unit stay, got none"):
        read_tree(tmp_path, {}, cxr=_of_the_wards(tmp_path / "cxr", [9998, 9999]))


def test_studies_without_an_embedding_are_counted_and_most_are_refused(tmp_path: Path) -> None:
    cxr = _of_the_wards(tmp_path / "cxr", [1, 1, 1])
    for packed_first, fits in ((2, True), (1, False)):
        root = tmp_path / f"release-{packed_first}"
        for i in range(1, packed_first + 1):
            put(root, 1, i, f"d{i}", record(example(packed(np.ones(1376, np.float32)))))
        done = pack_embeddings(root, tmp_path / f"packed-{packed_first}")
        if fits:
            extract, _ = read_tree(tmp_path / "two", {}, cxr=cxr, embeddings=done)
            said = f"table '{METADATA}': fewer than 10 studies with a frontal X-ray have no embedding"
            assert said in extract.warnings
        else:
            with pytest.raises(SourceError, match="fewer than half"):
                read_tree(tmp_path / "one", {}, cxr=cxr, embeddings=done)

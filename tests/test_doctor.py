"""What a folder of records is told to be, and what it needs, before anything large is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from mmnar.doctor import examine
from mmnar.sources.reading import recognise as rooms
from mmnar.sources.reading.recognise import recognise
from mmnar.sources.reading.shards import DISK_FACTOR


def put(root: Path, name: str, text: str = "a\n") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    ("files", "verb"),
    [
        (["hosp/patients.csv.gz", "hosp/ADMISSIONS.csv", "icu/icustays.parquet"], "mimic-iv"),
        (["Patient.csv.gz", "lab.csv.gz"], "eicu"),
        (["Outcomes-a.txt", "set-a.tar.gz"], "physionet2012"),
        (["data/train/0.parquet"], "meds"),
        (["note/discharge.csv.gz"], ""),
    ],
)
def test_each_release_is_recognised(tmp_path: Path, files: list[str], verb: str) -> None:
    size = sum(put(tmp_path, name).stat().st_size for name in files)
    records = recognise(tmp_path)
    assert records is not None
    assert records.kind.verb == verb
    assert records.size == size
    assert records.disk == DISK_FACTOR * size


def test_rows_of_a_large_table_are_estimated_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "LARGE", 1000)
    monkeypatch.setattr(rooms, "_SAMPLE", 20_000)
    rows = "".join(f"{i * 7919 % 100_003},{i * 104_729 % 99_991}\n" for i in range(50_000))
    put(tmp_path, "patient.csv")
    put(tmp_path, "lab.csv.gz", "id,value\n" + rows)
    records = recognise(tmp_path)
    assert records is not None
    (lab,) = [table for table in records.tables if table.name == "lab"]
    assert lab.rows == pytest.approx(50_000, rel=0.15)


def test_what_is_no_release_is_said_to_be_none(tmp_path: Path) -> None:
    put(tmp_path, "holiday.csv")
    lines, healthy = examine(tmp_path)
    assert not healthy
    assert any("no tables of a known release" in line for line in lines)
    lines, healthy = examine(tmp_path / "nowhere")
    assert not healthy


def test_too_small_a_disk_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "patient.csv")
    monkeypatch.setattr("mmnar.sources.reading.recognise.DISK_FACTOR", 10**15)
    lines, healthy = examine(tmp_path)
    assert not healthy
    assert any(line.startswith("FAIL  disk") for line in lines)

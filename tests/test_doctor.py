"""What a folder of records is told to be, and what it needs, before anything large is read."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path

import polars as pl
import pytest

from mmnar import cli
from mmnar.dataset.store import open_store
from mmnar.doctor import examine
from mmnar.sources.reading import recognise as rooms
from mmnar.sources.reading.recognise import recognise, releases
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
        (["note/discharge.csv.gz"], "mimic-iv"),
    ],
)
def test_each_release_is_recognised(tmp_path: Path, files: list[str], verb: str) -> None:
    size = sum(put(tmp_path, name).stat().st_size for name in files)
    records = recognise(tmp_path)
    assert records is not None
    assert records.kind.verb == verb
    assert records.size == size
    assert records.disk == DISK_FACTOR * size


def test_every_release_below_a_folder_is_found(tmp_path: Path) -> None:
    for version in ("2.2", "3.1"):
        for name in ("hosp/patients.csv.gz", "hosp/admissions.csv.gz", "icu/icustays.csv.gz"):
            put(tmp_path, f"physionet.org/files/mimiciv/{version}/{name}")
    put(tmp_path, "physionet.org/files/mimic-iv-note/2.2/note/discharge.csv.gz")
    put(tmp_path, "older notes/discharge.csv")
    put(tmp_path, "eicu/patient.csv.gz")
    put(tmp_path, "sets/Outcomes-a.txt")
    put(tmp_path, "meds/data/train/0.parquet")
    put(tmp_path, "vectors/files/p10/p10000001/s50000001/a.tfrecord")
    # neither of these is a release
    put(tmp_path, "pictures/files/p10/p10000001/s50000001/a.jpg")
    put(tmp_path, "store/manifest.json")
    put(tmp_path, "store/data-1/labels.npy")
    put(tmp_path, "store/events/meds/data/0.parquet")
    pl.DataFrame({"age": [1]}).write_parquet(put(tmp_path, "mine/data/table.parquet"))
    found = {str(r.root.relative_to(tmp_path)): (r.kind.verb, r.kind.option) for r in releases(tmp_path)}
    assert found == {
        "physionet.org/files/mimiciv/2.2": ("mimic-iv", "--root"),
        "physionet.org/files/mimiciv/3.1": ("mimic-iv", "--root"),
        "physionet.org/files/mimic-iv-note/2.2": ("mimic-iv", "--notes"),
        "older notes": ("mimic-iv", "--notes"),
        "eicu": ("eicu", "--root"),
        "sets": ("physionet2012", "--root"),
        "meds": ("meds", "--root"),
        "vectors": ("mimic-iv", "--embeddings"),
    }
    lines, _ = examine(tmp_path)
    wanted = [line for line in lines if line.startswith("next")]
    files = f"{tmp_path}/physionet.org/files"
    for line in (
        f"mimic-iv --root {files}/mimiciv/2.2 --notes {files}/mimic-iv-note/2.2",
        f"mimic-iv --root {files}/mimiciv/3.1 --notes {files}/mimic-iv-note/2.2",
        f"eicu --root {tmp_path}/eicu",
        f"physionet2012 --root {tmp_path}/sets",
        f"meds --root {tmp_path}/meds --labels LABELS",
    ):
        assert sum(f"mmnar prepare {line} --out store" in said for said in wanted) == 1
    assert len({line.rpartition(" ")[2] for line in wanted}) == len(wanted) == 5, "a store for each"
    assert any("embeddings need MIMIC-CXR" in line for line in lines)
    assert not any("prepare carebench" in line for line in lines)  # its tables are not there


def test_the_line_of_the_doctor_prepares_what_simulate_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmnar.cli.inspect.describe", lambda store: None)
    cli.simulate.mimic_iv(patients=120, out=Path("my records"))
    lines, healthy = examine(Path("my records"))
    assert healthy
    assert sum("`mmnar prepare carebench` asks" in line for line in lines) == 1
    (command,) = (shlex.split(line)[2:] for line in lines if line.startswith("next"))
    cli.app([*command, "--notes-encoder", "hashing"], result_action="return_value")
    store = open_store("store")
    assert {"structured", "discharge_summary", "radiology_report", "cxr"} <= set(store.schema.modality_names)


@pytest.mark.parametrize(
    ("folder", "hint"),
    [
        ("raw/hosp", "mmnar doctor --root {}/raw"),
        ("store", "mmnar doctor --store {}/store"),
        ("packed", "unpack them first"),
        ("notes", "MIMIC-IV-Note goes with MIMIC-IV, as --notes"),
    ],
)
def test_what_to_do_where_no_release_is_found(tmp_path: Path, folder: str, hint: str) -> None:
    for name in ("raw/hosp/patients.csv", "raw/hosp/admissions.csv", "raw/icu/icustays.csv", "notes/discharge.csv"):
        put(tmp_path, name)
    put(tmp_path, "store/manifest.json")
    put(tmp_path, "packed/mimic-iv-3.1.zip")
    lines, _ = examine(tmp_path / folder)
    assert any(hint.format(tmp_path) in line for line in lines)


def test_versions_other_than_the_tested_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"numpy": "1.0", "torch": f"{pinned('torch')}+cpu"}
    monkeypatch.setattr("mmnar.doctor.version", lambda name: found.get(name, "0"))
    lines, healthy = examine()
    assert healthy
    assert f"ok    numpy 1.0 (tested with {pinned('numpy')})" in lines
    assert f"ok    torch {pinned('torch')}+cpu" in lines


def pinned(name: str) -> str:
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


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

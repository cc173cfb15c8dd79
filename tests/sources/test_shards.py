"""Event folders: MEDS on disk, nothing lost, nothing twice, whole after any kill."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from meds.schema import CodeMetadataSchema, DataSchema, DatasetMetadataSchema

from mmnar.errors import SchemaError, StoreError
from mmnar.files import VERIFIED
from mmnar.sources.events import EVENT_SCHEMA, Events
from mmnar.sources.reading import shards
from mmnar.sources.reading.shards import EventFolder, EventWriter

SUBJECTS = pl.Series("subject_id", range(100, 160), dtype=pl.Int64)
SPILLED = 500


def events(rows: int, seed: int, source: str = "labevents") -> pl.DataFrame:
    """Events of subjects 100-159 in no order, some repeated."""
    rng = np.random.default_rng(seed)
    minutes = rng.integers(0, 50, rows)
    frame = pl.DataFrame(
        {
            "subject_id": rng.integers(100, 160, rows),
            "hadm_id": [None if k % 3 == 0 else k % 5 for k in rng.integers(0, 99, rows)],
            "stay_id": [None if k % 4 == 0 else k % 7 for k in rng.integers(0, 99, rows)],
            "time": np.datetime64("2150-01-01", "us") + minutes * np.timedelta64(60_000_000, "us"),
            "available_time": np.datetime64("2150-01-02", "us") + minutes * np.timedelta64(60_000_000, "us"),
            "code": [f"LAB//{k}" for k in rng.integers(0, 4, rows)],
            "numeric_value": [None if k == 0 else float(k) for k in rng.integers(0, 3, rows)],
            "text_value": [None if k else "a note\nof two lines" for k in rng.integers(0, 3, rows)],
            "source": source,
        }
    )
    return frame.cast(EVENT_SCHEMA).select(*EVENT_SCHEMA)  # type: ignore[arg-type]


def build(folder: Path, frames: dict[str, list[pl.DataFrame]], number: int | None = 4) -> EventFolder:
    writer = EventWriter(folder, SUBJECTS, "subject", number)
    for table, pieces in frames.items():
        writer.table(table, "f1", pieces)
    return writer.finish("test", "1", {"LAB//1": "sodium"})


def whole(folder: EventFolder) -> pl.DataFrame:
    return pl.concat([part.frame for part, _ in folder.parts(samples_of(SUBJECTS.to_list()))])


def samples_of(subjects: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"sample": range(len(subjects)), "subject_id": subjects}, schema_overrides={"sample": pl.Int64})


def as_set(frame: pl.DataFrame) -> set[tuple[object, ...]]:
    return set(frame.iter_rows())


@pytest.fixture(autouse=True)
def _small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SPILL_EVENTS", SPILLED)


def test_every_event_once_in_order_and_the_repeats_counted(tmp_path: Path) -> None:
    pieces = [events(700, seed) for seed in range(5)]
    other = events(900, 9, "chartevents")
    folder = build(tmp_path / "e", {"labevents": [*pieces, pieces[0]], "chartevents": [other]})
    given = pl.concat([*pieces, pieces[0], other])
    got = whole(folder)
    assert as_set(got) == as_set(given)
    assert got.height == len(as_set(given)) == len(folder)
    order = list(zip(got["subject_id"], got["time"], strict=True))
    assert order == sorted(order)
    repeats = sum(frame.height - len(as_set(frame)) for frame in (pl.concat([*pieces, pieces[0]]), other))
    assert repeats >= 700
    assert sum(count for _, reason, count in folder.manifest["dropped"] if "repeats" in reason) == repeats
    assert any(note.startswith("table 'labevents': ") and "repeats" in note for note in folder.notes)
    assert not (tmp_path / "e" / ".building").exists()


def test_one_order_whatever_the_order_of_rows_and_frames(tmp_path: Path) -> None:
    given = events(3000, 1)
    first = build(tmp_path / "a", {"labevents": [given]})
    shuffled = given.sample(fraction=1, shuffle=True, seed=3)
    second = build(tmp_path / "b", {"labevents": [shuffled[:10], shuffled[10:1999], shuffled[1999:]]})
    for path in sorted((tmp_path / "a" / "data").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "data" / path.name).read_bytes()
    assert first.manifest["shards"] == second.manifest["shards"]


def test_one_order_of_tables_that_are_sorted_by_subject_and_those_that_are_not(tmp_path: Path) -> None:
    given = {table: events(4000, seed, table) for seed, table in enumerate(("labevents", "chartevents"))}
    build(tmp_path / "a", {table: [frame] for table, frame in given.items()})
    # then few spill files hold events of a shard
    in_order = {t: [f.sort("subject_id")[n : n + 600] for n in range(0, 4000, 600)] for t, f in given.items()}
    build(tmp_path / "b", in_order)
    build(tmp_path / "c", {"labevents": in_order["labevents"], "chartevents": [given["chartevents"]]})
    for path in sorted((tmp_path / "a" / "data").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "data" / path.name).read_bytes()
        assert path.read_bytes() == (tmp_path / "c" / "data" / path.name).read_bytes()


def test_codes_are_in_the_order_of_the_alphabet_not_of_their_coming(tmp_path: Path) -> None:
    one = events(1, 1)
    names = ["Zinc", "albumin", "Albumin", "Äther", "", "Z"]
    given = [pl.concat([one.with_columns(code=pl.lit(name)) for name in names[k:] + names[:k]]) for k in range(6)]
    got = whole(build(tmp_path / "e", {"labevents": given}))
    assert got["code"].to_list() == ["", "Albumin", "Z", "Zinc", "albumin", "Äther"]


def test_it_is_a_meds_dataset(tmp_path: Path) -> None:
    folder = build(tmp_path / "e", {"labevents": [events(2000, 1)]})
    owner: dict[int, str] = {}
    for path in sorted((folder.path / "data").glob("*.parquet")):
        table = pq.read_table(path)
        DataSchema.validate(table)
        assert str(table.schema.field("code").type) == "string"
        for subject in set(table["subject_id"].to_pylist()):
            assert owner.setdefault(subject, path.name) == path.name
    assert len(set(owner.values())) == 4
    codes = pq.read_table(folder.path / "metadata" / "codes.parquet")
    CodeMetadataSchema.validate(codes)
    assert dict(zip(codes["code"].to_pylist(), codes["description"].to_pylist(), strict=True))["LAB//1"] == "sodium"
    DatasetMetadataSchema.validate(json.loads((folder.path / "metadata" / "dataset.json").read_text()))
    counted = dict(whole(folder).group_by("code").len().iter_rows())
    assert dict(folder.codes().iter_rows()) == counted


def test_each_sample_in_one_part_with_all_its_events(tmp_path: Path) -> None:
    given = events(2000, 1).filter(pl.col("subject_id") % 7 != 0)
    folder = build(tmp_path / "e", {"labevents": [given]}, 5)
    # subjects before, between, among and after those of the folder; two samples of one subject
    samples = samples_of([1, 100, 105, 105, 112, 130, 159, 700])
    parts = list(folder.parts(samples))
    assert pl.concat([of_part for _, of_part in parts]).equals(samples)
    for part, of_part in parts:
        assert isinstance(part, Events)
        assert part.scope == "subject"
        for subject in of_part["subject_id"].unique():
            mine = pl.col("subject_id") == subject
            assert as_set(part.frame.filter(mine)) == as_set(given.filter(mine))


def test_parts_read_only_shards_with_samples_and_only_the_codes_asked_for(tmp_path: Path) -> None:
    folder = build(tmp_path / "e", {"labevents": [events(2000, 1)]}, 5)
    last = folder.path / "data" / "4.parquet"
    content = last.read_bytes()
    last.write_bytes(content[:4] + b"?" * (len(content) // 2) + content[4 + len(content) // 2 :])  # its footer is left
    with pytest.raises(StoreError):
        list(folder.parts(samples_of([100, 10**9])))
    ((part, _),) = folder.parts(samples_of([100]), codes=frozenset({"LAB//1"}))
    assert set(part.frame["code"]) == {"LAB//1"}
    assert part.frame.height


def test_samples_must_be_in_order(tmp_path: Path) -> None:
    folder = build(tmp_path / "e", {"labevents": [events(20, 1)]})
    with pytest.raises(SchemaError, match="sort the cohort"):
        list(folder.parts(samples_of([101, 100])))


def test_shards_hold_about_as_many_events_each(tmp_path: Path) -> None:
    folder = build(tmp_path / "e", {"labevents": [events(8000, 1)]}, 4)
    rows = [pq.read_metadata(path).num_rows for path in (folder.path / "data").iterdir()]
    assert len(rows) == 4
    assert max(rows) < 1.2 * min(rows)


def test_number_of_shards_from_the_number_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_EVENTS", 300)
    build(tmp_path / "e", {"labevents": [events(2000, 1)]}, None)
    assert len(list((tmp_path / "e" / "data").iterdir())) == 7


@pytest.mark.parametrize("frames", [{}, {"labevents": []}, {"labevents": [events(0, 1)]}])
def test_no_event_at_all(tmp_path: Path, frames: dict[str, list[pl.DataFrame]]) -> None:
    folder = build(tmp_path / "e", frames)
    assert len(folder) == 0
    assert sum(of_part.height for _, of_part in folder.parts(samples_of([100, 159]))) == 2
    assert whole(folder).is_empty()


def test_events_of_unknown_subjects_are_dropped_and_counted(tmp_path: Path) -> None:
    given = events(1000, 1)
    writer = EventWriter(tmp_path / "e", SUBJECTS[:30], "subject")
    writer.table("labevents", "f1", [given])
    unknown = given.filter(pl.col("subject_id") >= 130).height
    assert writer.dropped == {("labevents", shards._UNKNOWN): unknown}
    assert writer.notes == (f"table 'labevents': {unknown:,} {shards._UNKNOWN}",)
    assert as_set(whole(writer.finish("t", "1", {}))) == as_set(given.filter(pl.col("subject_id") < 130))


def test_a_null_where_none_may_be(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "e", SUBJECTS, "stay")
    with pytest.raises(SchemaError, match=r"events\.stay_id"):
        writer.table("labevents", "f1", [events(100, 1)])


@pytest.mark.parametrize("subjects", [[2, 1], [1, 1], [1, None]])
def test_subjects_are_sorted_and_distinct(tmp_path: Path, subjects: list[int]) -> None:
    with pytest.raises(SchemaError, match="sorted and distinct"):
        EventWriter(tmp_path / "e", pl.Series(subjects), "subject")


def unread() -> Iterator[pl.DataFrame]:
    raise AssertionError("read again")
    yield


def test_a_finished_table_is_not_read_again(tmp_path: Path) -> None:
    given = events(1500, 1)
    EventWriter(tmp_path / "e", SUBJECTS, "subject").table("labevents", "f1", [given])
    writer = EventWriter(tmp_path / "e", SUBJECTS, "subject")
    writer.table("labevents", "f1", unread())
    assert as_set(whole(writer.finish("t", "1", {}))) == as_set(given)


@pytest.mark.parametrize("change", ["fingerprint", "subjects", "file", "scope"])
def test_a_spill_of_other_content_is_not_used(tmp_path: Path, change: str) -> None:
    EventWriter(tmp_path / "e", SUBJECTS, "subject").table("labevents", "f1", [events(1500, 1)])
    if change == "file":
        (tmp_path / "e" / ".building" / "labevents" / "0.arrow").write_bytes(b"half")
    subjects = SUBJECTS[:50] if change == "subjects" else SUBJECTS
    given = events(1500, 2).filter(pl.col("subject_id") < 150).drop_nulls("stay_id")
    writer = EventWriter(tmp_path / "e", subjects, "stay" if change == "scope" else "subject")
    writer.table("labevents", "f2" if change == "fingerprint" else "f1", [given])
    assert as_set(whole(writer.finish("t", "1", {}))) == as_set(given)


def test_a_half_read_table_is_read_again(tmp_path: Path) -> None:
    def breaks() -> Iterator[pl.DataFrame]:
        yield events(1500, 7)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        EventWriter(tmp_path / "e", SUBJECTS, "subject").table("labevents", "f1", breaks())
    given = events(1500, 1)
    assert as_set(whole(build(tmp_path / "e", {"labevents": [given]}))) == as_set(given)


def test_a_finished_folder_stays_as_it_is(tmp_path: Path) -> None:
    given = {"labevents": [events(1500, 1)]}
    build(tmp_path / "e", given)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "e").rglob("*") if p.name != VERIFIED}
    again = EventWriter(tmp_path / "e", SUBJECTS, "subject")
    again.table("labevents", "f1", unread())
    assert as_set(whole(again.finish("test", "1", {}))) == as_set(given["labevents"][0])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "e").rglob("*") if p.name != VERIFIED} == before
    with pytest.raises(StoreError, match="the same raw tables"):
        again.table("labevents", "f2", [])
    with pytest.raises(StoreError, match="the same raw tables"):
        EventWriter(tmp_path / "e", SUBJECTS[:3], "subject")
    with pytest.raises(StoreError, match="the same raw tables"):
        EventWriter(tmp_path / "e", SUBJECTS, "subject").finish("test", "1", {})


def test_what_a_kill_after_the_manifest_left_is_swept(tmp_path: Path) -> None:
    given = {"labevents": [events(1500, 1)]}
    build(tmp_path / "e", given)
    spill = tmp_path / "e" / ".building" / "labevents"
    spill.mkdir(parents=True)
    (spill / "0.arrow").write_bytes(b"half removed")
    again = EventWriter(tmp_path / "e", SUBJECTS, "subject")
    again.table("labevents", "f1", unread())
    assert as_set(whole(again.finish("test", "1", {}))) == as_set(given["labevents"][0])
    assert not (tmp_path / "e" / ".building").exists()


def test_an_unfinished_folder_is_not_opened(tmp_path: Path) -> None:
    EventWriter(tmp_path / "e", SUBJECTS, "subject").table("labevents", "f1", [events(10, 1)])
    with pytest.raises(StoreError, match="an unfinished one"):
        EventFolder.open(tmp_path / "e")
    with pytest.raises(StoreError, match="got none"):
        EventFolder.open(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "manifest"])
def test_a_damaged_folder_is_not_opened(tmp_path: Path, damage: str) -> None:
    build(tmp_path / "e", {"labevents": [events(1500, 1)]})
    path = tmp_path / "e" / ("manifest.json" if damage == "manifest" else "data/1.parquet")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=path.name.replace(".", r"\.")):
        EventFolder.open(tmp_path / "e")


def test_verify_finds_changed_bytes(tmp_path: Path) -> None:
    build(tmp_path / "e", {"labevents": [events(1500, 1)]})
    path = tmp_path / "e" / "data" / "1.parquet"
    whole = path.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    for verify in (False, True):
        with pytest.raises(StoreError, match=r"data/1\.parquet"):
            EventFolder.open(tmp_path / "e", verify=verify)
    (tmp_path / "e" / "data" / "1.parquet").write_bytes(whole)
    EventFolder.open(tmp_path / "e")
    (tmp_path / "e" / "data" / "9.parquet").write_bytes(whole)
    with pytest.raises(StoreError, match=r"data/9\.parquet.*added"):
        EventFolder.open(tmp_path / "e")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="other files"):
        EventWriter(tmp_path, SUBJECTS, "subject")


def test_a_disk_too_small_is_said_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="of free disk"):
        EventWriter(tmp_path / "e", SUBJECTS, "subject", raw_bytes=2**60)


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(tmp_path / "e", SUBJECTS, "subject")

    def full(target: Path, write: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_whole", full)
        with pytest.raises(StoreError, match=r"No space left on device.*it goes on"):
            writer.table("labevents", "f1", [events(1500, 1)])
    given = events(1500, 1)
    assert as_set(whole(build(tmp_path / "e", {"labevents": [given]}))) == as_set(given)


BUILD = """
    import sys
    from pathlib import Path
    from mmnar.sources.reading import shards
    from tests.sources.test_shards import SPILLED, build, events
    shards.SPILL_EVENTS = SPILLED
    build(Path(sys.argv[1]), {f"t{t}": [events(4000, 10 * t + k, f"t{t}") for k in range(4)] for t in range(5)}, 9)
"""


def test_a_build_killed_at_any_moment_ends_as_if_undisturbed(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(BUILD), str(folder)]
        return subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    moments = random.Random(0)
    unfinished = 0
    for kill in range(4):
        folder = tmp_path / f"killed{kill}"
        process = start(folder)
        # from the first file on: before it there is nothing to break
        while not folder.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.35))
        process.kill()
        process.wait()
        unfinished += not (folder / "manifest.json").exists()
        assert start(folder).wait() == 0
        names = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
        assert names == {p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()}
        for name in names - {Path("metadata/dataset.json")}:
            if name.suffix == ".parquet":
                assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert EventFolder.open(folder).manifest["dropped"] == EventFolder.open(tmp_path / "whole").manifest["dropped"]
    assert unfinished >= 1

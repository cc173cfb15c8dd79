"""What the reader of raw tables accepts, and what it says when it cannot."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from mmnar.errors import RequirementError, SourceError
from mmnar.sources.reading import blocks, raw
from mmnar.sources.reading.raw import DataRoot
from tests.records import write_tables

COLUMNS = {"id": pl.Int64(), "value": pl.Float64(), "at": pl.Time(), "word": pl.String()}
ROWS = [
    {"ID": 1, "Value": "1.5e-1", "at": "23:36:00", "word": " a "},
    {"ID": "2.0", "Value": "", "at": None, "word": "  "},
]
SECRET = "Jane Roe"


def _read(folder: Path, columns: dict[str, pl.DataType] | None = None, key: str = "") -> pl.DataFrame:
    frame = DataRoot(folder).read("nurseCharting", columns or COLUMNS, key=key)
    assert frame is not None
    return frame


@pytest.mark.parametrize("name", ["nurseCharting", "nursecharting", "NURSECHARTING"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".CSV"])
def test_any_letter_case_and_suffix(tmp_path: Path, name: str, suffix: str) -> None:
    write_tables(tmp_path, {name: ROWS}, suffix)
    frame = _read(tmp_path)
    assert frame.schema == COLUMNS
    assert frame["id"].to_list() == [1, 2]
    assert frame["value"].to_list() == [0.15, None]
    assert frame["word"].to_list() == ["a", None]
    assert str(frame["at"][0]) == "23:36:00"


def test_parquet_and_nothing_beside_it(tmp_path: Path) -> None:
    pl.DataFrame({"Id": [5], "value": [1], "at": ["01:00:00"], "word": ["x"]}).write_parquet(
        tmp_path / "NurseCharting.parquet"
    )
    assert _read(tmp_path)["id"].to_list() == [5]
    write_tables(tmp_path, {"nursecharting": ROWS})
    with pytest.raises(SourceError, match=r"one file, got NurseCharting.parquet and nursecharting.csv; move away"):
        _read(tmp_path)


def test_only_the_whole_stem_matches(tmp_path: Path) -> None:
    write_tables(tmp_path, {"lab_subset": ROWS}, ".csv.gz")
    root = DataRoot(tmp_path)
    assert root.read("lab", COLUMNS, required=False) is None
    assert root.warnings == ("table 'lab' is absent: its features are left out",)
    with pytest.raises(SourceError, match=r"table 'lab': expected a file lab\.csv or lab\.csv\.gz .*known: lab_subset"):
        root.read("lab", COLUMNS)


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a folder"):
        DataRoot(tmp_path / "nowhere")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "nursecharting.csv").touch()
    with pytest.raises(SourceError, match="an empty file"):
        _read(tmp_path)


def test_gzip_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "nursecharting.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(SourceError, match="an empty file"):
        _read(tmp_path)


@pytest.mark.parametrize("text", ["\n", "  \n\n", "\ufeff"])
def test_no_header(tmp_path: Path, text: str) -> None:
    (tmp_path / "nursecharting.csv").write_text(text)
    with pytest.raises(SourceError):
        _read(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    write_tables(tmp_path, {"nursecharting": ROWS * 500}, ".csv.gz")
    path = tmp_path / "nursecharting.csv.gz"
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a gzip at all")
    else:
        path.write_bytes(whole[:-8] + bytes(b ^ 255 for b in whole[-8:]))
    with pytest.raises(SourceError, match="truncated or corrupt gzip"):
        _read(tmp_path)


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "nursecharting.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(SourceError, match="cannot be parsed"):
        _read(tmp_path)


def test_ragged_line_does_not_show_the_line(tmp_path: Path) -> None:
    (tmp_path / "nursecharting.csv").write_text(f"id,value,at,word\n1,2,,x,{SECRET},{SECRET}\n")
    with pytest.raises(SourceError, match="line 2: expected as many cells as the header has: 4, got 6") as caught:
        _read(tmp_path)
    assert SECRET not in str(caught.value)


def test_renamed_column_offers_the_nearest(tmp_path: Path) -> None:
    write_tables(tmp_path, {"nursecharting": [{"id": 1, "values": 2, "at": None, "word": None}]})
    with pytest.raises(SourceError, match=r"a column 'value', got none of that name; did you mean 'values'\?"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("column", "words"), [("id", "whole numbers"), ("value", "numbers"), ("at", "times of the form HH:MM:SS")]
)
def test_unparseable_cells_are_counted_not_shown(tmp_path: Path, column: str, words: str) -> None:
    bad = {"id": 1, "value": 2, "at": "10:00:00", "word": "x"} | {column: SECRET}
    write_tables(tmp_path, {"nursecharting": [*ROWS_LOWER, bad, bad]})
    with pytest.raises(SourceError) as caught:
        _read(tmp_path)
    assert f"column '{column}': expected {words}, got most cells of another form" in str(caught.value)
    assert SECRET not in str(caught.value)


ROWS_LOWER = [{key.lower(): value for key, value in row.items()} for row in ROWS]


def test_numbers_are_finite(tmp_path: Path) -> None:
    write_tables(tmp_path, {"nursecharting": [{"id": 1, "value": "inf", "at": None, "word": None}]})
    with pytest.raises(SourceError, match="most cells"):
        _read(tmp_path)


def test_a_half_is_not_a_whole_number(tmp_path: Path) -> None:
    write_tables(tmp_path, {"nursecharting": [{"id": "1.5", "value": 1, "at": None, "word": None}]})
    with pytest.raises(SourceError, match="whole numbers"):
        _read(tmp_path)


def test_large_identifiers_are_exact(tmp_path: Path) -> None:
    write_tables(tmp_path, {"nursecharting": [{"id": 2**60 + 1, "value": 1, "at": None, "word": None}]})
    assert _read(tmp_path)["id"].to_list() == [2**60 + 1]


def test_duplicate_and_missing_keys(tmp_path: Path) -> None:
    write_tables(tmp_path, {"nursecharting": [*ROWS_LOWER, *ROWS_LOWER, {"id": None, "value": 1}]})
    with pytest.raises(SourceError, match="got fewer than 10 repeated, fewer than 10 missing"):
        _read(tmp_path, key="id")


def test_fingerprint_follows_content_and_name(tmp_path: Path) -> None:
    def fingerprint() -> str:
        root = DataRoot(tmp_path)
        root.read("nurseCharting", COLUMNS)
        return root.fingerprint()

    write_tables(tmp_path, {"nursecharting": ROWS})
    first = fingerprint()
    write_tables(tmp_path, {"unread": ROWS})
    assert fingerprint() == first
    write_tables(tmp_path, {"nursecharting": ROWS[::-1]})
    second = fingerprint()
    assert second != first
    (tmp_path / "nursecharting.csv").rename(tmp_path / "NurseCharting.csv")
    assert fingerprint() not in (first, second)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_table_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    write_tables(tmp_path, {"nurseCharting": ROWS * 500}, suffix)
    content = next(tmp_path.iterdir()).read_bytes()
    size = len(gzip.decompress(content) if suffix == ".csv.gz" else content)
    monkeypatch.setattr(raw, "memory", lambda: 4 * size)
    with pytest.raises(RequirementError, match="use a larger machine"):
        _read(tmp_path)
    assert _read(tmp_path, {"id": pl.Int64()}).height == 1000  # a quarter of the columns fits
    monkeypatch.setattr(raw, "memory", lambda: 6 * size)
    assert _read(tmp_path).height == 1000


# --- blocks ----------------------------------------------------------------------------------------------------

NOTES = {"note_id": pl.Int64(), "score": pl.Float64(), "charttime": pl.Datetime("us"), "text": pl.String()}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_PIECE", 97)
    monkeypatch.setattr(blocks, "_BLOCK", 200)


def _hostile_notes(rows: int, newline: str) -> tuple[bytes, list[tuple[int, float | None, datetime, str | None]]]:
    """CSV written by the standard library with newlines, quotation marks and commas in the cells, and its truth."""
    chance = random.Random(0)
    parts = ["Seen today", "\n", '"', '""', ",", "\n\n", " 5'2\" tall", "é", "\t"]
    truth: list[tuple[int, float | None, datetime, str | None]] = []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(["NOTE_ID", "Extra", "text", "charttime", "Score"])
    for row in range(rows):
        note = "".join(chance.choices(parts, k=chance.randint(0, 12)))
        score = chance.choice([None, 0.5, 7.25])
        at = datetime(2180, 7, 23, 12, 36, row % 60)
        writer.writerow([row, "x", note, at.isoformat(" "), score])
        truth.append((row, score, at, note.strip(" \t\n\r") or None))
    return text.getvalue().encode(), truth


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["csv", "gz", "members", "padded", "unended", "bom"])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_hold_what_the_standard_library_wrote(tmp_path: Path, form: str, newline: str) -> None:
    text, truth = _hostile_notes(300, newline)
    content = {
        "csv": text,
        "gz": gzip.compress(text),
        "members": gzip.compress(text[:1000]) + gzip.compress(b"") + gzip.compress(text[1000:]),
        "padded": gzip.compress(text) + b"\0" * 600,
        "unended": text.removesuffix(newline.encode()),
        "bom": b"\xef\xbb\xbf" + text,
    }[form]
    suffix = ".csv" if form in ("csv", "unended", "bom") else ".csv.gz"
    (tmp_path / f"Discharge{suffix}").write_bytes(content)
    blocks = list(DataRoot(tmp_path).chunks("discharge", NOTES))
    assert len(blocks) > 20
    assert all(dict(block.schema) == NOTES for block in blocks)
    assert pl.concat(blocks).rows() == truth


def test_blocks_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BATCH_ROWS", 100)
    at = datetime(2180, 7, 23, 12, 36)
    frame = pl.DataFrame({"Id": range(1050), "T": [at] * 1050, "word": [" a ", "", None] * 350})
    frame.write_parquet(tmp_path / "Lab.parquet", row_group_size=400)
    found = list(DataRoot(tmp_path).chunks("lab", {"id": pl.Int64(), "word": pl.String(), "t": pl.Datetime("us")}))
    assert max(block.height for block in found) == 100
    assert pl.concat(found).rows() == [(n, ["a", None, None][n % 3], at) for n in range(1050)]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_header_alone_gives_one_empty_block(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pl.DataFrame(schema={"id": pl.Int32(), "word": pl.String()}).write_parquet(tmp_path / "lab.parquet")
    else:
        (tmp_path / f"lab{suffix}").write_bytes(gzip.compress(b"id,word") if suffix == ".csv.gz" else b"id,word")
    (block,) = DataRoot(tmp_path).chunks("lab", {"word": pl.String(), "id": pl.Int64()})
    assert block.is_empty()
    assert dict(block.schema) == {"word": pl.String(), "id": pl.Int64()}


def test_an_absent_table_gives_no_block(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    assert list(root.chunks("lab", COLUMNS, required=False)) == []
    assert root.warnings == ("table 'lab' is absent: its features are left out",)
    with pytest.raises(SourceError, match="no table at all"):
        root.chunks("lab", COLUMNS)


def test_of_two_columns_of_one_name_the_first(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("id,Value,value,other\n1,2,3,4\n")
    (block,) = DataRoot(tmp_path).chunks("lab", {"value": pl.Int64(), "id": pl.Int64()})
    assert block.rows() == [(2, 1)]


def test_both_forms_of_dates(tmp_path: Path) -> None:
    forms = ["2180-05-07 12:36:00", "5/7/2180", "12/17/2132 5:00", "2180-05-07", "", "05/07/2180 05:06:07"]
    (tmp_path / "omr.csv").write_text("chartdate,x\n" + "".join(f"{form},1\n" for form in forms))
    (block,) = DataRoot(tmp_path).chunks("omr", {"chartdate": pl.Datetime("us")})
    assert block["chartdate"].to_list() == [
        datetime(2180, 5, 7, 12, 36),
        datetime(2180, 5, 7),
        datetime(2132, 12, 17, 5),
        datetime(2180, 5, 7),
        None,
        datetime(2180, 5, 7, 5, 6, 7),
    ]


@pytest.mark.parametrize("date", ["17/12/32", "2180-13-01", SECRET, "2199"])
def test_what_is_no_date_is_counted_not_shown(tmp_path: Path, date: str) -> None:
    (tmp_path / "omr.csv").write_text(f"chartdate,x\n{date},1\n2180-05-07,1\n{date},1\n")
    with pytest.raises(SourceError, match=r"'chartdate': expected dates .*got most cells of another form") as caught:
        list(DataRoot(tmp_path).chunks("omr", {"chartdate": pl.Datetime("us")}))
    assert date not in str(caught.value)


@pytest.mark.usefixtures("small_blocks")
def test_bad_cells_far_down_are_counted_and_a_column_of_them_is_refused(tmp_path: Path) -> None:
    columns = {"id": pl.Int64(), "value": pl.Float64()}
    lines = [f"{n},1.5" for n in range(400)] + [f"{SECRET},2"] * 12 + ["12.0, 3 "] * 5
    (tmp_path / "lab.csv").write_text("id,value\n" + "\n".join(lines))
    root = DataRoot(tmp_path)
    whole = pl.concat(root.chunks("lab", columns))
    assert whole["id"].to_list() == [*range(400), *[None] * 12, *[12] * 5]
    assert root.ledger.notes == ("table 'lab': 12 cells of column 'id' taken as unknown: not whole numbers",)
    (tmp_path / "lab.csv").write_text("id,value\n" + "\n".join([*lines, *[f"{SECRET},2"] * 400]))
    with pytest.raises(SourceError, match=r"whole numbers, got 412 of 817 cells of another form") as caught:
        list(DataRoot(tmp_path).chunks("lab", columns))
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("small_blocks")
def test_where_keeps_rows_before_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("id,value\n" + "".join(f"{n},{n if n % 3 else SECRET}\n" for n in range(300)))
    columns = {"value": pl.Float64(), "id": pl.Int64()}
    blocks = list(DataRoot(tmp_path).chunks("lab", columns, where=pl.col("id") % 3 == 1))
    assert pl.concat(blocks).rows() == [(float(n), n) for n in range(1, 300, 3)]
    with pytest.raises(SourceError, match="expected numbers"):
        list(DataRoot(tmp_path).chunks("lab", columns, where=pl.col("id") % 3 == 0))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_quotation_mark_that_is_never_closed(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ("id,word\n" + "1,a\n" * 500 + f'2,"{SECRET}\n' + "1,a\n" * 5000).encode()
    (tmp_path / f"lab{suffix}").write_bytes(gzip.compress(text) if suffix == ".csv.gz" else text)
    for longest in (1 << 28, 2000):
        monkeypatch.setattr(blocks, "_LONGEST_ROW", longest)
        with pytest.raises(SourceError, match="cannot be parsed") as caught:
            list(DataRoot(tmp_path).chunks("lab", {"id": pl.Int64(), "word": pl.String()}))
        assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("small_blocks")
def test_a_gzip_cut_off_anywhere(tmp_path: Path) -> None:
    text, _ = _hostile_notes(200, "\n")
    whole = gzip.compress(text)
    for cut in [*range(1, 30, 3), *range(40, len(whole) - 20, 1501), *range(len(whole) - 12, len(whole))]:
        (tmp_path / "discharge.csv.gz").write_bytes(whole[:cut])
        with pytest.raises(SourceError, match="truncated or corrupt gzip"):
            list(DataRoot(tmp_path).chunks("discharge", NOTES))


def test_blocks_left_unread_leave_no_thread(tmp_path: Path) -> None:
    import threading

    text, _ = _hostile_notes(300, "\n")
    (tmp_path / "discharge.csv").write_bytes(text)
    before = threading.active_count()
    blocks = DataRoot(tmp_path).chunks("discharge", NOTES)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_several_folders_are_looked_into(tmp_path: Path) -> None:
    write_tables(tmp_path / "hosp", {"labevents": [{"a": 1}], "both": [{"a": 2}], "once": [{"a": 6}]})
    write_tables(tmp_path / "icu", {"chartevents": [{"a": 3}], "both": [{"a": 4}]}, ".csv.gz")
    write_tables(tmp_path, {"outside": [{"a": 5}]})
    root = DataRoot(tmp_path, ("hosp", "icu", "note"))
    assert root.tables == ("both", "chartevents", "labevents", "once")
    assert root.has("LabEvents")
    assert not root.has("outside")
    assert [next(root.chunks(table, {"a": pl.Int64()})).item() for table in root.tables[1:]] == [3, 1, 6]
    with pytest.raises(SourceError, match=r"got hosp.both\.csv and icu.both\.csv\.gz"):
        root.chunks("both", {"a": pl.Int64()})
    assert root.size("chartevents") == (tmp_path / "icu" / "chartevents.csv.gz").stat().st_size
    assert root.size("outside") == 0


def test_the_hash_is_taken_on_the_way_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path, {"lab": ROWS_LOWER * 100}, ".csv.gz")
    unread = DataRoot(tmp_path)
    assert unread.identity("lab")
    expected = unread.fingerprint()

    def never(path: Path) -> str:
        raise AssertionError("hashed in a second pass")

    monkeypatch.setattr(raw, "sha256_of", never)
    root = DataRoot(tmp_path)
    list(root.chunks("lab", COLUMNS))
    assert root._sha256["lab.csv.gz"] == hashlib.sha256((tmp_path / "lab.csv.gz").read_bytes()).hexdigest()
    assert root.fingerprint() == expected


def test_identity_follows_name_size_and_time(tmp_path: Path) -> None:
    write_tables(tmp_path, {"lab": ROWS_LOWER})
    first = DataRoot(tmp_path).identity("Lab")
    assert first == DataRoot(tmp_path).identity("lab")
    os.utime(tmp_path / "lab.csv", (1, 1))
    assert DataRoot(tmp_path).identity("lab") != first
    assert DataRoot(tmp_path).identity("none") == ""


PEAK = """
    import resource, sys
    import polars as pl
    from mmnar.sources.reading.raw import DataRoot
    columns = {"id": pl.Int64(), "text": pl.String(), "at": pl.Datetime("us")}
    rows = sum(block.height for block in DataRoot(sys.argv[1]).chunks("lab", columns))
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_depend_on_the_size_of_the_table(tmp_path: Path) -> None:
    """Four times the blocks, 160 MB of text more: less than two thirds of that more memory.

    Both tables have many blocks: what a process keeps of the first few hangs on the load of the machine.
    """
    peaks = {}
    block = b"".join(b"%d,some words of a note,2180-07-23 12:36:00\n" % n for n in range(100_000, 150_000))
    for times in (25, 100):
        folder = tmp_path / str(times)
        folder.mkdir()
        packed = gzip.compress(block, 1)
        (folder / "lab.csv.gz").write_bytes(gzip.compress(b"id,text,at\n") + packed * times)
        printed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PEAK), str(folder)], capture_output=True, text=True, check=True
        ).stdout
        rows, peaks[times] = (int(word) for word in printed.split())
        assert rows == 50_000 * times
    assert peaks[100] - peaks[25] < 110


@pytest.mark.usefixtures("small_blocks")
def test_a_block_that_has_to_be_read_as_text_joins_the_blocks_of_numbers_before_it(tmp_path: Path) -> None:
    # tables that went through pandas hold "12.0" where a column has gaps; here from the middle on
    rows = [(str(i) if i < 150 else f"{i}.0", i % 3) for i in range(300)]
    text = "id,kind\n" + "".join(f"{i},{kind}\n" for i, kind in rows)
    (tmp_path / "lab.csv").write_text(text, encoding="utf-8")
    columns = {"id": pl.Int64(), "kind": pl.Int64()}
    found = pl.concat(DataRoot(tmp_path).chunks("lab", columns, where=pl.col("kind") == 1))
    assert found["id"].to_list() == [i for i in range(300) if i % 3 == 1]


# --- ahead -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_blocks_made_ahead_are_the_same_in_the_same_order(depth: int) -> None:
    assert list(raw.ahead(iter(range(20)), depth)) == list(range(20))
    assert list(raw.ahead(iter(()), depth)) == []


def test_no_more_blocks_are_made_than_asked_for() -> None:
    made: list[int] = []

    def blocks() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    some = raw.ahead(blocks(), 3)
    assert [next(some) for _ in range(5)] == [0, 1, 2, 3, 4]
    some.close()
    assert len(made) <= 5 + 3


@pytest.mark.parametrize("depth", [1, 4])
def test_what_breaks_while_made_ahead_breaks_at_its_place(depth: int) -> None:
    def blocks() -> Iterator[int]:
        yield from range(6)
        raise KeyError

    got: list[int] = []
    with pytest.raises(KeyError):
        got.extend(raw.ahead(blocks(), depth))
    assert got == list(range(6))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_file_that_ends_within_a_row_is_refused(tmp_path: Path, suffix: str) -> None:
    """A copy that broke off; a last row with all its cells needs no newline."""
    wanted = {"id": pl.Int64(), "word": pl.String(), "last": pl.String()}

    def rows(text: bytes) -> int:
        (tmp_path / f"lab{suffix}").write_bytes(gzip.compress(text) if suffix == ".csv.gz" else text)
        return sum(block.height for block in DataRoot(tmp_path).chunks("lab", wanted))

    whole = b'id,word,last\n1,a,x\n2,"b, ""c""\nd",y\n'
    assert rows(whole) == 2
    assert rows(whole[:-1]) == 2
    assert rows(b"id,word,last") == 0
    assert rows(b"id,word,last\n1,a,x\n2,b,") == 2  # an empty cell is a cell
    for torn in (whole[:-3], b"id,word,last\n1,a,x\n2,b", b"id,word,last\n1,a,x\n2"):
        with pytest.raises(SourceError, match="ends within a row"):
            rows(torn)

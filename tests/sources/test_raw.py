"""What the reader of raw tables accepts, and what it says when it cannot."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from mmnar.errors import RequirementError, SourceError
from mmnar.sources import raw
from mmnar.sources.raw import DataRoot
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


def test_parquet_and_first_suffix_wins(tmp_path: Path) -> None:
    pl.DataFrame({"Id": [5], "value": [1], "at": ["01:00:00"], "word": ["x"]}).write_parquet(
        tmp_path / "NurseCharting.parquet"
    )
    assert _read(tmp_path)["id"].to_list() == [5]
    write_tables(tmp_path, {"nursecharting": ROWS})
    assert _read(tmp_path)["id"].to_list() == [1, 2]


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
    with pytest.raises(SourceError, match="cannot be parsed") as caught:
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
    assert f"column '{column}': expected {words}, got 2 of 4 cells of another form" in str(caught.value)
    assert SECRET not in str(caught.value)


ROWS_LOWER = [{key.lower(): value for key, value in row.items()} for row in ROWS]


@pytest.mark.parametrize("cell", ["inf", "nan"])
def test_numbers_are_finite(tmp_path: Path, cell: str) -> None:
    write_tables(tmp_path, {"nursecharting": [{"id": 1, "value": cell, "at": None, "word": None}]})
    with pytest.raises(SourceError, match="1 of 1 cells"):
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
    with pytest.raises(SourceError, match="each identifier once, none missing, got 2 repeated, 1 missing"):
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

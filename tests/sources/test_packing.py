"""Files as they come: packed, named, encoded and laid beside others in ways nobody asked for."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.sources.reading.raw import DataRoot

COLUMNS = {"subject_id": pl.Int64(), "unit": pl.String()}
TEXT = "subject_id,unit\n10000032,°F\n10000048,mg/dl\n"
TRUTH = [(10000032, "°F"), (10000048, "mg/dl")]


def rows(folder: Path) -> list[tuple[object, ...]]:
    frame = DataRoot(folder).read("lab", COLUMNS)
    assert frame is not None
    return frame.rows()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lab.csv.gz", TEXT.encode()),
        ("lab.csv", gzip.compress(TEXT.encode())),
        ("LAB.CSV", ("\ufeff" + TEXT).replace("\n", "\r\n").encode()),
        ("lab.csv", '"unit", Subject_ID ,"extra"\n"°F","10000032","a, ""b""\nc"\nmg/dl,10000048,'.encode()),
    ],
    ids=("text-named-gz", "gzip-named-csv", "mark-and-crlf", "order-case-quotes"),
)
def test_what_is_read_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows(tmp_path) == TRUTH


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("lab.csv.gz", gzip.compress(TEXT.encode("latin-1")), r"Latin-1 .*iconv -f WINDOWS-1252 -t UTF-8"),
        ("lab.csv", TEXT.encode("utf-16"), r"UTF-16 text; .*iconv -f UTF-16 -t UTF-8"),
        ("lab.csv", TEXT.encode("utf-16-le"), r"bytes of 0: UTF-16 text, or a damaged copy"),
        ("lab.csv", TEXT.encode() + b"\0" * 4096, r"bytes of 0"),
        ("lab.csv.gz", bz2.compress(TEXT.encode()), r"bzip2; unpack it: bunzip2"),
        ("lab.csv.gz", b"\x28\xb5\x2f\xfd" + b"?" * 99, r"Zstandard; unpack it: zstd -d"),
        ("lab.csv", b"PK\x03\x04" + b"?" * 99, r"a zip archive or a spreadsheet"),
        ("lab.csv.gz", b"<!DOCTYPE html>\n<html>sign in</html>", r"a web page; download it again, signed in"),
        ("lab.csv", TEXT.replace(",", ";").encode(), r"'subject_id', 'unit'.* separated by semicolons"),
        ("lab.csv", TEXT.partition("\n")[2].encode(), r"got a first line that is no header"),
        ("lab.csv", b"id,name\n1,x\n", r"a column 'subject_id', 'unit', got none of that name"),
        ("lab.csv", b"Smith,2180-01-01 10:00\nJones,x\n", r"got none of that name, nor any other column that is read;"),
        ("lab.csv.gz", gzip.compress(TEXT.encode() * 99)[:-20], r"truncated or corrupt gzip"),
        ("lab.csv", b"", r"an empty file"),
    ],
    ids=(
        *("latin-1", "utf-16", "utf-16-without-mark", "zeros", "bzip2", "zstd", "zip", "web-page", "semicolons"),
        *("no-header", "other-columns", "names-of-people", "cut", "empty"),
    ),
)
def test_what_is_not_read_is_named_with_the_way_to_read_it(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        rows(tmp_path)
    assert "table 'lab'" in str(caught.value)
    assert not {"1000003", "Smith", "smith"} & set(str(caught.value).replace(",", " ").split())


@pytest.mark.parametrize("twin", ["lab.csv.gz", "Lab.csv", "LAB.parquet"])
def test_a_table_that_lies_there_twice_is_refused(tmp_path: Path, twin: str) -> None:
    """A half-unpacked file would win over the whole one."""
    (tmp_path / "lab.csv").write_text(TEXT)
    (tmp_path / twin).write_text(TEXT)
    (tmp_path / "other.csv").write_text("a\n1\n")
    with pytest.raises(SourceError, match=r"table 'lab': expected one file, got .* and .*; move away all but"):
        rows(tmp_path)
    # a table nobody asks for may lie there twice
    assert DataRoot(tmp_path).read("other", {"a": pl.Int64()}) is not None


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text(TEXT)
    for name in ("._lab.csv", "._lab.csv.gz", ".lab.csv", "~$lab.csv", "Thumbs.db", "lab.csv.part", "lab (1).csv"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "lab.csv").write_text("x\n")
    (tmp_path / "lab.csv.gz").mkdir()
    assert rows(tmp_path) == TRUTH


def test_a_table_packed_otherwise_is_absent_and_named(tmp_path: Path) -> None:
    (tmp_path / "lab.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    root = DataRoot(tmp_path)
    assert root.read("lab", COLUMNS, required=False) is None
    assert root.warnings == (
        "table 'lab' is absent: its features are left out; 'lab.csv.zst' is none of .csv, .csv.gz, .parquet: "
        "unpack or convert it",
    )
    with pytest.raises(SourceError, match=r"got 'lab\.csv\.zst'"):
        root.read("lab", COLUMNS)

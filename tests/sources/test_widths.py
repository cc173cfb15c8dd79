"""Rows of another width than their header: refused by line number at every door that reads CSV, and never shown."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.evaluation.audit.cells import read_table
from mmnar.sources.reading import blocks, raw
from mmnar.sources.reading.raw import DataRoot
from mmnar.sources.reading.widths import uneven_row
from mmnar.sources.table import plan_table
from mmnar.sources.table.spec import parse_spec

SECRET = "10000032 has the pox"


def test_the_first_uneven_row_by_brute_force() -> None:
    rng = random.Random(0)
    cells = ("1", "", "a,b", 'say "x"', "two\nlines", "  ", "é")
    hits = 0
    for _ in range(400):
        width = rng.randint(1, 4)
        rows = [[rng.choice(cells) for _ in range(width)] for _ in range(rng.randint(0, 5))]
        for row in rows:
            if rng.random() < 0.15:
                row.append("more") if rng.random() < 0.5 else row.pop()
        text = io.StringIO()
        csv.writer(text, lineterminator=rng.choice(["\n", "\r\n"])).writerows(rows)
        line, expected = 0, None
        for row in rows:
            if len(row) != width and "".join(row).strip():
                expected = (line, len(row))
                break
            line += 1 + sum(cell.count("\n") for cell in row)
        hits += expected is not None
        assert uneven_row(text.getvalue().encode(), width) == expected
    assert hits > 50


@pytest.mark.parametrize(("row", "cells"), [(f"5,6,7,{SECRET}", 4), ("5", 1), (f'5,"{SECRET}",7,8,9', 5)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_row_of_another_width_is_refused_by_its_line(
    tmp_path: Path, row: str, cells: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "_PIECE", 16)
    monkeypatch.setattr(blocks, "_BLOCK", 20)
    text = "".join(f"{line}\n" for line in ("a,b,c", *["1,2,3"] * 20, '"4\n4",5,6', row, "7,8,9"))
    (tmp_path / ("t.csv.gz" if packed else "t.csv")).write_bytes(
        gzip.compress(text.encode()) if packed else text.encode()
    )
    with pytest.raises(
        SourceError, match=f"line 24: expected as many cells as the header has: 3, got {cells}"
    ) as caught:
        DataRoot(tmp_path, even=True).read("t", {"a": pl.String(), "c": pl.String()})
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("row", "cells"), [("5,6", 2), (f"5,6,7,{SECRET}", 4)])
def test_large_tables_of_numbers_are_looked_at_too(tmp_path: Path, row: str, cells: int) -> None:
    (tmp_path / "t.csv").write_text(f"a,b,c\n1,2,3\n{row}\n7,8,9\n")
    with pytest.raises(
        SourceError, match=f"line 3: expected as many cells as the header has: 3, got {cells}"
    ) as caught:
        DataRoot(tmp_path).read("t", {"a": pl.Int64()})
    assert SECRET not in str(caught.value)


def test_blank_lines_and_a_missing_last_line_end_are_no_rows_of_another_width(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\r\n1,2\r\n\r\n3,4\r\n  \r\n5,6")
    read = DataRoot(tmp_path, even=True).read("t", {"a": pl.Int64(), "b": pl.Int64()})
    assert read is not None
    assert read.drop_nulls().rows() == [(1, 2), (3, 4), (5, 6)]


def test_a_table_of_ones_own_with_a_short_row(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2},{i}.5\n" for i in range(50))
    (tmp_path / "t.csv").write_text(f"id,y,x\n{rows}50,1\n51,0,{SECRET}\n")
    spec = parse_spec(
        {"name": "t", "files": "t.csv", "subject": "id", "modalities": {"m": ["x"]}, "outcomes": {"y": "y"}}
    )
    with pytest.raises(SourceError, match=r"table 't', line 52: expected as many cells as the header has: 3, got 2"):
        plan_table(spec, tmp_path)


def test_an_audit_names_the_encoding_and_the_packing(tmp_path: Path) -> None:
    table = "id,word\n" + "".join(f"{i},caf\u00e9\n" for i in range(20))
    path = tmp_path / "t.csv"
    path.write_bytes(table.encode("latin-1"))
    with pytest.raises(SourceError, match=r"Latin-1 .*iconv -f WINDOWS-1252"):
        read_table(path)
    path.write_bytes(table.encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-16"):
        read_table(path)
    path.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(SourceError, match="a zip archive or a spreadsheet"):
        read_table(path)
    path.write_bytes(gzip.compress(table.encode()))
    assert read_table(path).frame.height == 20
    path.write_bytes(gzip.compress(table.encode())[:-4])
    with pytest.raises(SourceError, match="a whole gzip"):
        read_table(path)
    path.write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert read_table(path).frame.columns == ["id", "word"]
    path.write_text(table + f"20,x,{SECRET}\n")
    with pytest.raises(SourceError, match="line 22: expected as many cells as the header has: 2, got 3") as caught:
        read_table(path)
    assert SECRET not in str(caught.value)

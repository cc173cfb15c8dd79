"""Cells of raw tables as people bring them: what is read, what is counted, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.sources.reading import ledger as ledgers
from mmnar.sources.reading.cells import ABSENT_TEXT, DAY_OR_TIME, TIME
from mmnar.sources.reading.raw import DataRoot

AT = datetime(2150, 3, 1, 16, 5, 6)
ZONE = "times of column 't' name a zone: it is left out, the clock time kept"


def read(folder: Path, cells: list[str], dtype: pl.DataType) -> tuple[list[object], tuple[str, ...]]:
    """A table of one column, with a second one so that a blank cell is a row."""
    (folder / "lab.csv").write_text("t,x\n" + "".join(f'"{cell}",1\n' for cell in cells), encoding="utf-8")
    root = DataRoot(folder, blanks=ABSENT_TEXT)
    frame = root.read("lab", {"t": dtype})
    assert frame is not None
    return frame["t"].to_list(), root.ledger.notes


@pytest.mark.parametrize(
    ("cell", "truth", "zoned"),
    [
        ("2150-03-01 16:05:06", AT, False),
        ("2150-03-01T16:05:06", AT, False),
        ("2150-03-01 16:05:06.25", AT + timedelta(milliseconds=250), False),
        ("2150-03-01 16:05:06 UTC", AT, True),
        ("2150-03-01 16:05:06.000000 UTC", AT, True),
        ("2150-03-01T16:05:06Z", AT, True),
        ("2150-03-01T16:05:06.000Z", AT, True),
        ("2150-03-01 16:05:06+00:00", AT, True),
        ("2150-03-01 16:05:06-05", AT, True),
        ("2150-03-01 16:05:06 EST", AT, True),
        ("2150-03-01T16:05:06-05:00[America/New_York]", AT, True),
        ("2150-03-01 16:05", AT.replace(second=0), False),
        ("2150/03/01 16:05:06", AT, False),
        (" 2150-03-01  4:05:06 PM ", AT, False),
        ("3/1/2150 16:05", AT.replace(second=0), False),
        ("3/1/2150 4:05:06 PM", AT, False),
        ("01.03.2150 16:05:06", AT, False),
        ("01-MAR-2150 16:05:06", AT, False),
        ("01MAR2150:16:05:06", AT, False),
    ],
)
def test_times_that_can_mean_one_thing_only(tmp_path: Path, cell: str, truth: datetime, zoned: bool) -> None:
    times, notes = read(tmp_path, [cell] * 11, TIME)
    assert times == [truth] * 11
    assert notes == ((f"table 'lab': 11 {ZONE}",) if zoned else ())


@pytest.mark.parametrize(
    "cell", ["3/1/50 4:05", "2150-03-01", "20500301", "4722336000", "16:05:06", "2150-02-30 10:00:00", "noon of May 1"]
)
def test_times_that_cannot_be_read(tmp_path: Path, cell: str) -> None:
    good = ["2150-03-01 16:05:06"] * 30
    times, notes = read(tmp_path, [*good, *[cell] * 12], TIME)
    assert times == [AT] * 30 + [None] * 12
    form = "times of the form 2180-07-23 12:36:00"
    assert notes == (f"table 'lab': 12 cells of column 't' taken as unknown: not {form}",)
    with pytest.raises(SourceError, match=rf"table 'lab', column 't': expected {form}, got 31 of 61") as caught:
        read(tmp_path, [*good, *[cell] * 31], TIME)
    assert cell not in str(caught.value).replace("2180-07-23 12:36:00", "")


def test_a_bare_date_where_dates_are_expected(tmp_path: Path) -> None:
    assert read(tmp_path, ["2150-03-01", "3/1/2150"], DAY_OR_TIME)[0] == [datetime(2150, 3, 1)] * 2


def test_days_above_12_show_that_the_day_comes_first(tmp_path: Path) -> None:
    assert read(tmp_path, ["1/3/2150 16:05", "13/3/2150 16:05"], TIME)[0][0] == AT.replace(second=0)
    assert read(tmp_path, ["1-3-2150 16:05", "3-13-2150 16:05"], TIME)[0][0] == datetime(2150, 1, 3, 16, 5)
    with pytest.raises(SourceError, match="day before the month beside others"):
        read(tmp_path, ["1/3/2150 16:05", "13/3/2150 16:05", "3/13/2150 16:05"], TIME)


def test_a_column_read_month_first_before_another_shows_the_opposite(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("a,b\n1/3/2150 16:05,13/3/2150 16:05\n")
    with pytest.raises(SourceError, match=r"column 'b'.*write the dates as year-month-day"):
        DataRoot(tmp_path).read("lab", {"a": TIME, "b": TIME})
    # the column that shows it is read first
    frame = DataRoot(tmp_path).read("lab", {"b": TIME, "a": TIME})
    assert frame is not None
    assert frame["a"].to_list() == [datetime(2150, 3, 1, 16, 5)]


def test_a_column_of_unreadable_cells_is_refused_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "_ENOUGH", 50)
    cells = ["soon"] * 60 + ["2150-03-01 16:05:06"] * 100
    root = DataRoot(tmp_path)
    with pytest.raises(SourceError, match="column 't'"):
        root.ledger.read("lab", "t", "times", 60, 60)
    monkeypatch.undo()
    assert read(tmp_path, cells, TIME)[0].count(None) == 60


@pytest.mark.parametrize("word", ["NULL", "null", "None", r"\N", "nan", "N/A", "<NA>", "#N/A", ".", "-", " "])
def test_words_for_not_measured(tmp_path: Path, word: str) -> None:
    notes = (f"table 'lab': 12 cells of column 't' are '{absent_words(word)}': not measured",) if word.strip() else ()
    assert read(tmp_path, ["1.5", *[word] * 12], pl.Float64()) == ([1.5, *[None] * 12], notes)
    assert read(tmp_path, ["15", *[word] * 12], pl.Int64()) == ([15, *[None] * 12], notes)
    assert read(tmp_path, ["2150-03-01 16:05:06", *[word] * 12], TIME) == ([AT, *[None] * 12], notes)


def absent_words(word: str) -> str:
    return {"null": "NULL", "nan": "NaN"}.get(word, word)


def test_words_that_may_be_text(tmp_path: Path) -> None:
    assert read(tmp_path, ["NULL", r"\N", "nan", "None", "-", "MICU"], pl.String())[0] == [
        None, None, None, "None", "-", "MICU",
    ]  # fmt: skip


def test_comparisons_are_counted_apart(tmp_path: Path) -> None:
    numbers, notes = read(tmp_path, ["4.5"] * 40 + [">4"] * 11 + ["<0.1"] * 4 + ["4 mg"] * 12, pl.Float64())
    assert numbers[:41] == [4.5] * 40 + [None]
    assert notes == (
        "table 'lab': 15 cells of column 't' taken as unknown: comparisons (< or >)",
        "table 'lab': 12 cells of column 't' taken as unknown: not numbers",
    )


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("10000001", 10000001),
        ("10000001.0", 10000001),
        ("1.0000001e7", 10000001),
        ("0010000001", 10000001),
        (" 10000001 ", 10000001),
        # a spreadsheet has rounded it: it could be any of a million
        ("1e+07", 10000000),
        ("1E+07", None),
        ("1.00E+07", None),
        ("9223372036854775808", None),
        ("9007199254740993.0", None),
        ("10000001.5", None),
    ],
)
def test_one_identifier_in_several_forms(tmp_path: Path, cell: str, number: int | None) -> None:
    assert read(tmp_path, ["7", "8", "9", cell], pl.Int64())[0] == [7, 8, 9, number]


def test_parquet_of_other_types(tmp_path: Path) -> None:
    local = datetime(2150, 3, 1, 21, 5, 6, tzinfo=UTC).astimezone(ZoneInfo("America/New_York"))
    frame = pl.DataFrame(
        {
            "id": pl.Series([Decimal("10000001.00"), Decimal("7.5"), None, Decimal(7)]),
            "big": pl.Series([2**64 - 1, 1, 2, 3], dtype=pl.UInt64),
            "float": [1e7 + 1, float("nan"), 2.0, 2.0**60],
            "flag": [True, False, None, True],
            "kind": pl.Series(["5", "6", "NULL", "7"], dtype=pl.Categorical),
            "at": pl.Series([local] * 4, dtype=pl.Datetime("ns", "America/New_York")),
            "day": [AT.date()] * 4,
            "list": pl.Series([[1]] + [None] * 3),
            "bytes": pl.Series([b"\xff"] + [None] * 3),
        }
    )
    frame.write_parquet(tmp_path / "lab.parquet")
    root = DataRoot(tmp_path)
    whole = dict.fromkeys(("id", "big", "float", "flag", "kind"), pl.Int64())
    read = root.read("lab", {**whole, "at": TIME, "day": DAY_OR_TIME})
    assert read is not None
    assert read["id"].to_list() == [10000001, None, None, 7]
    assert read["big"].to_list() == [None, 1, 2, 3]
    assert read["float"].to_list() == [10000001, None, 2, None]
    assert read["flag"].to_list() == [1, 0, None, 1]
    assert read["kind"].to_list() == [5, 6, None, 7]
    assert read["at"].to_list() == [AT] * 4
    assert read["day"].to_list() == [datetime(2150, 3, 1)] * 4
    for column in ("list", "bytes"):
        with pytest.raises(SourceError, match=f"column '{column}': expected numbers, got most cells of another form"):
            DataRoot(tmp_path).read("lab", {column: pl.Float64()})

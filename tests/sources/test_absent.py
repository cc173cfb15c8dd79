"""Words for "not measured"."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnar.sources.reading.absent import ABSENT, is_absent, without_absent

PANDAS = (
    "",
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-NaN",
    "-nan",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
)


@pytest.mark.parametrize("word", [*PANDAS, "\\N", ".", "-", "?", "NONE", "Na", "NaT"])
@pytest.mark.parametrize("around", ["{}", " {}", "{}\t", "\u00a0{} "])
def test_what_others_write_is_absent(word: str, around: str) -> None:
    cell = around.format(word)
    assert without_absent(pl.Series([cell, "1"]))[0].to_list() == [None, "1"]
    assert pl.DataFrame({"x": [cell, None, "1"]}).select(is_absent(pl.col("x"))).to_series().to_list() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "word", ["0", "-1", ".5", "5.", "no", "nil", "nano", "--1", "unknown", "N", "other", "none given"]
)
def test_what_is_a_value_stays(word: str) -> None:
    assert without_absent(pl.Series([word]))[0].to_list() == [word]


def test_a_list_of_ones_own_replaces_the_usual_words() -> None:
    cells, found = without_absent(pl.Series(["NULL", " ", "99", "Not Done", None]), ("99", "not done"))
    assert cells.to_list() == ["NULL", None, None, None, None]
    assert found == {"99": 1, "not done": 1}


def test_a_number_that_means_not_measured_may_have_gone_through_floats() -> None:
    assert without_absent(pl.Series(["999", "999.0", "-9.", "99.9"]), ("999", "-9"))[0].to_list() == [
        *[None] * 3,
        "99.9",
    ]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(ABSENT), st.text(max_size=6)), max_size=20))
def test_both_ways_to_ask_agree_and_count_every_word(cells: list[str | None]) -> None:
    series = pl.Series("x", cells, pl.String)
    kept, found = without_absent(series)
    assert kept.is_null().to_list() == series.to_frame().select(is_absent(pl.col("x"))).to_series().to_list()
    blank = sum(c is None or without_absent(pl.Series([c]), ())[0][0] is None for c in cells)
    assert kept.null_count() == blank + sum(found.values())

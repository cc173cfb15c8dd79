"""One identifier written in several ways is one number, in every file, or the column is refused."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from mmnar.errors import SourceError
from mmnar.sources.reading.identifiers import read_identifiers


def _read(*cells: object, dtype: pl.DataType | None = None) -> list[int | None]:
    return read_identifiers(pl.Series("pid", list(cells), dtype or pl.String()))[0].to_list()


WAYS = ("{n}", "{n}.0", "{n}.", " {n}", "{n}\u00a0", "+{n}", "{n}.000")


@settings(deadline=None)
@given(st.integers(0, 2**53), st.sampled_from(WAYS), st.sampled_from(WAYS))
def test_whole_numbers_are_what_they_count(n: int, one: str, other: str) -> None:
    assert _read(one.format(n=n), other.format(n=n), "x") == [n, n, _read("x")[0]]


@settings(deadline=None)
@given(st.integers(1, 2**53))
def test_floats_as_others_write_them(n: int) -> None:
    """Python's and numpy's shortest form; the exponent with as many digits as the number has."""
    forms = [str(n), repr(float(n)), f"{float(n):.16e}".replace("e+", "e"), str(Decimal(n).normalize()).lower()]
    assert set(_read(*forms)) == {n}
    assert _read(float(n), dtype=pl.Float64()) == [n]


@settings(deadline=None)
@given(st.text(max_size=8), st.text(max_size=8))
def test_what_is_written_differently_stays_apart_and_a_column_never_matters(a: str, b: str) -> None:
    """A cell's number is its own: whatever stands beside it, or the column is refused."""
    try:
        alone, together = [_read(a)[0], _read(b)[0]], _read(a, b)
    except SourceError:
        reject()
    assert together == alone


def test_the_same_number_whatever_else_the_column_holds() -> None:
    assert _read("10000001", "p7")[0] == _read("10000001.0")[0] == _read(10000001, dtype=pl.Int64())[0] == 10000001
    assert _read("P7", "8")[0] == _read("p7 ")[0] != _read("p8")[0]
    assert _read("１２", "12") == [12, 12]
    assert _read(None, "7") == [None, 7]
    assert _read("1.2.840.113", "12-34", "2020/17") == [_read(w)[0] for w in ("1.2.840.113", "12-34", "2020/17")]


def test_how_many_are_written_in_more_than_one_way_is_said() -> None:
    assert read_identifiers(pl.Series(["1", "1.0", "2", "3", "3.0", "3."]))[1] == 2
    assert read_identifiers(pl.Series(["1", "2", "p"]))[1] == 0


@pytest.mark.parametrize(
    ("cells", "dtype", "why"),
    [
        (["9223372036854775808"], None, "2\\^63"),
        ([2**63], pl.UInt64(), "2\\^63"),
        ([2**70], pl.Int128(), "2\\^63"),
        (["9007199254740994.0"], None, "float"),
        (["9.007199254740994e15"], None, "float"),
        ([2.0**54], pl.Float64(), "float"),
        ([float(2**24 + 2)], pl.Float32(), "single precision"),
        (["1.00E+07"], None, "spreadsheet"),
        (["10000001.5"], None, "not whole"),
        ([1.5], pl.Float64(), "not whole"),
        ([Decimal("1.5")], pl.Decimal(10, 2), "not whole"),
        (["1.05e1"], None, "not whole"),
        (["inf"], None, "not whole"),
        (["10,000,001"], None, "separators"),
        (["10 000 001"], None, "separators"),
        (["10000001,0"], None, "not whole"),
        (["007", "7"], None, "leading zeros"),
        (["007.0", "7"], None, "leading zeros"),
        (["P7", "p7"], None, "letter case"),
        ([True], pl.Boolean(), "Boolean"),
        ([[1]], pl.List(pl.Int64), "List"),
        ([b"7"], pl.Binary(), "Binary"),
    ],
)
def test_what_nobody_can_tell_apart_is_refused_without_a_cell(
    cells: list[object], dtype: pl.DataType, why: str
) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        _read(*cells, dtype=dtype)
    message = str(caught.value)
    assert "column 'pid'" in message
    assert "\n" not in message
    assert not any(len(str(c)) > 8 and str(c) in message for c in cells)


def test_words_can_be_refused() -> None:
    with pytest.raises(SourceError, match="fewer than 10 that are no numbers"):
        read_identifiers(pl.Series("hadm_id", ["1", "a"]), words=False)
    assert read_identifiers(pl.Series("hadm_id", ["1", "2.0"]), words=False)[0].to_list() == [1, 2]


def test_hexadecimal_words_are_words() -> None:
    """Digits with an e among them are read as numbers only where software writes them so."""
    words = ["12e45", "9e99", "00e1f3", "5e123456"]
    assert len({*_read(*words)}) == 4
    assert all(n is not None and n > 10**6 for n in _read(*words))

"""Cleaning: a hand-made table, and laws any text must obey."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnar.notes import clean

MARKS = ["___", "[**", "**]", "Age over 90", "=", "-", "_", "+", "*", ".", ","]
SPACES = ["\n", "\f", "\r", " ", "\t", "\x00", "\u200b", "\u2028"]
PIECES = st.sampled_from([*MARKS, *SPACES, "abc", "10⁹/L", "e\u0301", "\ud800"])
NOTES = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Name:  ___      Unit No:   ___", "Name: Unit No:"),
        ("___ yo M w/ CHF", "yo M w/ CHF"),
        ("seen on [**2118-6-2**] by Dr. [**Last Name (STitle) 7**].", "seen on by Dr.."),
        ("[**Age over 90 **] year old", "over 90 year old"),
        (
            "left [** open " + "x " * 60 + "and [**Name**] shut **] here",
            "left [** open " + "x " * 60 + "and shut **] here",
        ),
        ("a [**first\nline**] b", "a b"),
        ("edema +++, WBC 4.5 10⁹/L", "edema +++, WBC 4.5 10⁹/L"),
        ("pH 7.30--7.35", "pH 7.30--7.35"),
        ("one\r\ntwo\fthree", "one\ntwo\nthree"),
        ("A\n\n \n\n\nB", "A\n\nB"),
        ("FINDINGS:\n=========\nclear", "FINDINGS:\n\nclear"),
        ("Dose........5 mg", "Dose 5 mg"),
        ("e\u0301dema a\u00a0b zero\u200bwidth soft\u00adhyphen", "édema a b zero width softhyphen"),
        ("", ""),
        (" ___ \n\n====\n [** name **] .,;", ""),
    ],
)
def test_table(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@settings(deadline=None)
@given(NOTES)
def test_cleaning_twice_is_cleaning_once(raw: str) -> None:
    once = clean(raw)
    assert clean(once) == once


@settings(deadline=None)
@given(NOTES)
def test_what_comes_out_can_be_encoded_and_is_squeezed(raw: str) -> None:
    text = clean(raw)
    text.encode("utf-8")
    assert text == text.strip()
    assert not any(bad in text for bad in ("___", "\n\n\n", "  ", " \n", "\n ", "\r", "\f", "\x00"))
    assert not text or any(c.isalnum() for c in text)


@settings(deadline=None)
@given(st.text(alphabet="abcXYZ0123456789 ", min_size=1))
def test_no_letter_or_digit_outside_marks_is_lost(raw: str) -> None:
    assert clean(f"___{raw}[** gone **]") == " ".join(raw.split())

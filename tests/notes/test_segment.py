"""Segments: whole sentences, headings with their text, nothing dropped, nothing too long."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnar.errors import ConfigError
from mmnar.notes.clean import clean
from mmnar.notes.segment import segments, sentences

NOTE = """HISTORY OF PRESENT ILLNESS:
Mr. A is a 67 year old man with CHF (EF 25 %) who was transferred from an outside
hospital for cardiogenic shock. He was given 2.5 mg of i.v. metoprolol. No fever!

Allergies: none known
Discharge Medications:
1. Aspirin 81 mg PO daily
2. Furosemide 40 mg p.o. b.i.d. with potassium
- hold if SBP < 90

BRIEF HOSPITAL COURSE
Stable. Went home.
"""

WORDS = st.sampled_from(
    ["No.", "Dr.", "pain", "Pain", "PLAN:", "\n", "\n\n", "5.2", "end.", "End!", "1.", "- ", "x" * 90]
)
TEXTS = st.one_of(st.lists(WORDS, min_size=1, max_size=60).map(" ".join), st.text(min_size=1))


def words(texts: Sequence[str]) -> list[int]:
    return [len(t.split()) for t in texts]


def bytewise(texts: Sequence[str]) -> list[int]:
    """A tokenizer whose counts do not add up: three bytes a token, one more where the text begins with a space."""
    return [-(-len(t.encode("utf-8", "replace")) // 3) + (t[:1] == " ") + len(t) // 20 for t in texts]


def test_sentences_by_hand() -> None:
    assert [s.strip() for s in sentences(clean(NOTE))] == [
        "HISTORY OF PRESENT ILLNESS:",
        "Mr. A is a 67 year old man with CHF (EF 25 %) who was transferred from an outside\n"
        "hospital for cardiogenic shock.",
        "He was given 2.5 mg of i.v. metoprolol.",
        "No fever!",
        "Allergies: none known",
        "Discharge Medications:",
        "1. Aspirin 81 mg PO daily",
        "2. Furosemide 40 mg p.o. b.i.d. with potassium",
        "- hold if SBP < 90",
        "BRIEF HOSPITAL COURSE",
        "Stable.",
        "Went home.",
    ]


@pytest.mark.parametrize("limit", range(8, 60))
def test_headings_stay_with_their_text(limit: int) -> None:
    """Only where heading and sentence do not fit together may a segment end with the heading."""
    together = {"HISTORY OF PRESENT ILLNESS:": 4 + 23, "Discharge Medications:": 2 + 6, "BRIEF HOSPITAL COURSE": 3 + 1}
    for segment in segments(clean(NOTE), words, limit):
        for heading, needed in together.items():
            assert not (segment.strip().endswith(heading) and needed <= limit)


@given(TEXTS.map(clean).filter(bool), st.integers(8, 40), st.sampled_from([words, bytewise]))
@settings(max_examples=300, deadline=None)
def test_nothing_is_dropped_or_too_long(text: str, limit: int, count: object) -> None:
    cut = segments(text, count, limit)  # type: ignore[arg-type]
    assert "".join(cut) == text
    assert max(count(cut)) <= limit  # type: ignore[operator]
    assert all(s.strip() for s in cut)


@given(TEXTS.map(clean).filter(bool), st.integers(8, 40))
@settings(max_examples=300, deadline=None)
def test_only_sentences_that_are_too_long_are_cut(text: str, limit: int) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    stops = list(accumulate(map(len, pieces)))
    for end in list(accumulate(map(len, segments(text, words, limit))))[:-1]:
        if end not in stops:
            owner = next(p for p, stop in zip(pieces, stops, strict=True) if stop > end)
            assert words([owner])[0] > limit
            assert text[end - 1].isspace()  # between words


def test_segments_are_filled() -> None:
    """Two neighbours never fit into one."""
    cut = segments(clean(NOTE) * 5, words, 30)
    assert all(sum(words(pair)) > 20 for pair in pairwise(cut))
    assert len(cut) <= 1.5 * sum(words(cut)) / 30 + 1


def test_first_and_last_are_kept() -> None:
    whole = segments(clean(NOTE), words, 8)
    assert len(whole) > 6
    assert segments(clean(NOTE), words, 8, max_segments=5) == whole[:3] + whole[-2:]
    assert segments(clean(NOTE), words, 8, max_segments=1) == whole[:1]
    assert segments(clean(NOTE), words, 8, max_segments=len(whole)) == whole


def test_hostile_notes_take_no_time() -> None:
    """One line of 200,000 characters, unbroken words and runs of marks: linear work, else this never ends."""
    for piece in ("Seen by Dr. Li. Better today. ", "x", "!", "a. ", "A", "PLAN: ", "- "):
        text = clean("t " + piece * (200_000 // len(piece)))
        cut = segments(text, bytewise, 256)
        assert "".join(cut) == text
        assert max(bytewise(cut)) <= 256


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        segments("text", words, 7)
    with pytest.raises(ConfigError, match="max_segments"):
        segments("text", words, 8, max_segments=0)

"""Notes as wards write and exports break them: one bad one never ends a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from mmnar.dataset.content import HashedArrays, ItemArrays
from mmnar.dataset.gather import Gatherer, Gathering, gatherers
from mmnar.errors import RequirementError
from mmnar.notes.cache import encode_cached
from mmnar.notes.encoder import without_text
from mmnar.notes.hashing import HashedText
from mmnar.sources.events import EVENT_SCHEMA, Events, TextRule

NOON = datetime(2180, 5, 6, 12)
BAD = "unmistakable words of a patient"


class Fragile:
    """Fails on one note, or on every one."""

    width = 4
    identity = "fragile"

    def __init__(self, works: bool = True) -> None:
        self.works = works

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        def encoded() -> list[NDArray[np.float32]]:
            if not self.works or BAD in texts:
                raise ValueError(texts[0])
            return [np.full((1, 4), len(text), np.float32) for text in texts]

        return without_text("notes encoder", encoded)


def test_an_encoder_that_fails_on_one_note_goes_on(tmp_path: Path) -> None:
    texts = [*(f"note {'x' * i}" for i in range(40)), BAD, "", "___ [**Name**] ___"]
    for _ in range(2):
        # the second time the others lie in the cache and the bad one is alone
        vectors = encode_cached(texts, Fragile(), tmp_path)
        assert [len(v) for v in vectors] == [1] * 40 + [0] * 3
        # "note" and the blank that goes where nothing follows it
        assert [float(v[0, 0]) for v in vectors[:40]] == [4.0, *(5.0 + i for i in range(1, 40))]
    with pytest.raises(RequirementError) as caught:
        encode_cached(["one more", "and another"], Fragile(works=False), tmp_path)
    assert "one more" not in str(caught.value)


def _gatherer(texts: list[str], how: Gathering) -> Gatherer:
    """One note per subject."""
    frame = pl.DataFrame(
        {"subject_id": range(len(texts)), "time": NOON, "available_time": NOON, "code": "NOTE", "text_value": texts}
    ).with_columns(hadm_id=None, stay_id=None, numeric_value=None, source=pl.lit("notes"))
    events = Events(frame.select(pl.col(c).cast(t) for c, t in EVENT_SCHEMA.items()), scope="subject")
    samples = pl.DataFrame({"sample": range(len(texts)), "subject_id": range(len(texts))}).with_columns(
        stay_id=pl.lit(None, pl.Int64),
        prediction_time=pl.lit(NOON).cast(pl.Datetime("us")),
        since=pl.lit(None, pl.Datetime("us")),
    )
    (gatherer,) = gatherers((TextRule("notes", ("NOTE",)),), 0.8, how)
    gatherer.add(events.before(samples))
    return gatherer


ODD = [
    "",
    " \t\n ",
    "___ \n ---- [**2118-6-2**]",
    "\x00\x00\x00",
    "nul\x00byte and \x07 bell",
    "Fieber 39 °C, Übelkeit, Ödeme – über Nacht",
    "発熱と咳",
    "🫁 ok",
    "a" * 300_000,
    "word. " * 60_000,
]
WRITTEN = [False, False, False, False, True, True, True, True, True, True]


def test_odd_notes_by_hashing() -> None:
    gatherer = _gatherer(ODD, Gathering())
    content = gatherer.content()
    assert isinstance(content, HashedArrays)
    assert (np.diff(content.offsets) > 0).tolist() == WRITTEN
    # blank cells are no events' texts; marks alone and control characters are notes without text
    assert gatherer.left_out() == {"modality 'notes': # notes left out: no text": 2}


def test_odd_notes_by_an_encoder(tmp_path: Path) -> None:
    gatherer = _gatherer([*ODD, BAD], Gathering(Fragile(), tmp_path))
    content = gatherer.content()
    assert isinstance(content, ItemArrays)
    assert np.diff(content.offsets).tolist() == [*map(int, WRITTEN), 0]
    assert gatherer.left_out() == {
        "modality 'notes': # notes left out: no text": 2,
        "modality 'notes': # notes left out: the encoder fails on them": 1,
    }


def test_two_ways_to_write_one_letter_are_one_word() -> None:
    composed, apart = "Übelkeit", "U\u0308belkeit"
    both = HashedText().encode([composed, apart])
    first, second = (both.buckets[a:b].tolist() for a, b in zip(both.starts[:-1], both.starts[1:], strict=True))
    assert first == second

"""Series and items re-derived in plain Python, for random events; packing, parts and the columns tabular models see."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnar.cohort.build import Cohort, label_column
from mmnar.dataset.content import HashedArrays, ItemArrays, SeriesArrays, blanked, gather
from mmnar.dataset.gather import Gathering, gatherers
from mmnar.dataset.items import found, series_content
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.table import SUMMARIES, Components, series_columns
from mmnar.errors import SchemaError
from mmnar.schema import Feature, ModalitySpec, Task
from mmnar.sources.events import (
    EVENT_SCHEMA,
    Events,
    Extract,
    FeatureRule,
    PastEvents,
    SeriesRule,
    TextRule,
)

START = datetime(2015, 1, 1)
RULES = (SeriesRule("s", "a", ("A",), low=0, high=10), SeriesRule("s", "b", ("B//*",)))
Row = tuple[int, str, int, int, float | None, str | None]  # subject, code, minute, known, number, text


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": [r[0] for r in rows],
            "hadm_id": [None for _ in rows],
            "stay_id": [None for _ in rows],
            "time": [START + timedelta(minutes=r[2]) for r in rows],
            "available_time": [START + timedelta(minutes=r[3]) for r in rows],
            "code": [r[1] for r in rows],
            "numeric_value": [r[4] for r in rows],
            "text_value": [r[5] for r in rows],
            "source": ["t" for _ in rows],
        },
        schema=EVENT_SCHEMA,
    )


def samples_of(asked: Sequence[tuple[int, int]], since: int | None = None) -> pl.DataFrame:
    """(subject, minute of prediction) each; stay i belongs to sample i."""
    begin = None if since is None else START + timedelta(minutes=since)
    return pl.DataFrame(
        {
            "sample": range(len(asked)),
            "subject_id": [s for s, _ in asked],
            "hadm_id": range(len(asked)),
            "stay_id": range(len(asked)),
            "prediction_time": [START + timedelta(minutes=m) for _, m in asked],
            "since": [begin for _ in asked],
        },
        schema={"sample": pl.Int64, "subject_id": pl.Int64, "hadm_id": pl.Int64, "stay_id": pl.Int64}
        | {"prediction_time": pl.Datetime("us"), "since": pl.Datetime("us")},
    )


def past_of(rows: Sequence[Row], asked: Sequence[tuple[int, int]], since: int | None = None) -> PastEvents:
    return Events(frame_of(rows), "subject").before(samples_of(asked, since))


rows_strategy = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["A", "B//x", "B//y", "C"]),
        st.integers(0, 300),
        st.integers(0, 300),
        st.one_of(st.none(), st.integers(-3, 14).map(float)),
        st.sampled_from([None, "", " ", "some words", "others"]),
    ).map(lambda r: (r[0], r[1], r[2], max(r[2], r[3]), r[4], r[5])),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows_strategy, st.lists(st.tuples(st.integers(1, 4), st.integers(0, 300)), min_size=1, max_size=4, unique=True))
def test_series_are_the_plausible_known_measurements_at_their_own_times(
    rows: list[Row], asked: list[tuple[int, int]]
) -> None:
    content, outside = series_content(past_of(rows, asked, since=20), RULES)
    content.check(ModalitySpec("s", (Feature("a"), Feature("b")), "series"), len(asked))
    dropped = 0
    for i, (subject, minute) in enumerate(asked):
        want = []
        for s, code, at, known, number, _ in rows:
            if s != subject or known > minute or at < 20 or number is None or code == "C":
                continue
            if code == "A" and not 0 <= number <= 10:
                dropped += 1
                continue
            want.append((np.float32((at - minute) / 60), int(code != "A"), number))
        part = content.take(np.array([i]))
        got = list(zip(part.hours, part.feature, part.values, strict=True))
        assert np.allclose(sorted(got), sorted(want)) if want else not got
        assert (np.diff(part.hours) >= 0).all()
    assert sum(outside.values()) == dropped


def test_bins_end_at_the_prediction_and_hold_means() -> None:
    at = [(0, 3.0), (30, 5.0), (59, 4.0), (60, 1.0), (61, 2.0), (120, 7.0)]
    rows: list[Row] = [(1, "A", m, m, v, None) for m, v in at]
    content, _ = series_content(past_of(rows, [(1, 120)]), RULES, bin_hours=1.0)
    # hours −2 … 0: (−2) | (−2, −1] | (−1, 0]
    assert content.hours.tolist() == pytest.approx([-2.0, -1.0, 0.0])
    assert content.values.tolist() == pytest.approx([3.0, (5 + 4 + 1) / 3, (2 + 7) / 2])


def test_means_of_bins_are_added_in_order_of_time_then_value() -> None:
    # two codes of one rule at one minute; the sum is 1 in another order
    for numbers in permutations([1e30, -1e30, 1.0]):
        rows: list[Row] = [(1, f"B//{k % 2}", 5, 5, number, None) for k, number in enumerate(numbers)]
        content, _ = series_content(past_of(rows, [(1, 10)]), RULES, bin_hours=1.0)
        assert content.values.tolist() == [0.0]


def test_means_of_bins_equal_plain_python() -> None:
    rng = np.random.default_rng(0)
    rows: list[Row] = [
        (1 + k % 2, str(rng.choice(["A", "B//1", "B//2"])), int(at), int(at), float(rng.integers(-4, 14)), None)
        for k, at in enumerate(rng.integers(-300, 0, 400))
    ]
    asked = [(1, 0), (1, -60), (2, 0)]
    content, _ = series_content(past_of(rows, asked), RULES, bin_hours=1.0)
    for k, (subject, end) in enumerate(asked):
        cells: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for own, name, at, _, value, _ in rows:
            assert value is not None
            if own == subject and at <= end and (name != "A" or 0 <= value <= 10):
                cells.setdefault((int(name != "A"), math.ceil((at - end) / 60)), []).append((at - end, value))
        expected = {
            (feature, np.float32(max(values)[0] / 60)): np.float32(sum(v for _, v in values) / len(values))
            for (feature, _), values in cells.items()
        }
        span = slice(content.offsets[k], content.offsets[k + 1])
        got = zip(content.feature[span], content.hours[span], content.values[span], strict=True)
        assert {(feature, hour): value for feature, hour, value in got} == expected


@settings(max_examples=40, deadline=None)
@given(rows_strategy, st.lists(st.tuples(st.integers(1, 4), st.integers(0, 300)), min_size=1, max_size=4, unique=True))
def test_found_texts_are_the_known_ones_with_something_in_them(rows: list[Row], asked: list[tuple[int, int]]) -> None:
    past = past_of(rows, asked)
    every, last = found(past, ("B//*", "C")), found(past, ("B//*", "C"), latest=True)
    for i, (subject, minute) in enumerate(asked):
        want = sorted(
            (at, text)
            for s, code, at, known, _, text in rows
            if s == subject and known <= minute and code != "A" and text and text.strip()
        )
        own = slice(int(every.offsets[i]), int(every.offsets[i + 1]))
        assert every.text[own].to_list() == [text for _, text in want]
        own = slice(int(last.offsets[i]), int(last.offsets[i + 1]))
        assert last.text[own].to_list() == [text for _, text in want][-1:]


def test_the_answer_does_not_depend_on_how_events_are_cut_into_parts() -> None:
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for subject in range(1, 21):
        for _ in range(int(rng.integers(0, 12))):
            minute = int(rng.integers(0, 200))
            code = str(rng.choice(["A", "B//x", "NOTE"]))
            number = float(rng.integers(0, 9)) if code != "NOTE" else None
            text = " ".join(rng.choice(["pain", "none", "severe", "better"], 5)) if code == "NOTE" else None
            rows.append((subject, code, minute, minute, number, text))
    asked = [(s, 150) for s in range(1, 22)]
    rules = (FeatureRule("f", "a", ("A",), "mean"), *RULES, TextRule("note", ("NOTE",)))
    samples = samples_of(asked).with_columns(pl.Series(label_column("t"), [i % 2 == 0 for i in range(21)]))
    cohort = Cohort(samples, (Task("t", "now", "event"),), ())
    whole = dataset_of(_extract(Events(frame_of(rows), "subject"), rules), cohort, Gathering())
    parts = dataset_of(_extract(Parts(frame_of(rows), (7, 8, 15)), rules), cohort, Gathering())
    assert np.array_equal(whole.values["f"], parts.values["f"], equal_nan=True)  # type: ignore[arg-type]
    for name in ("s", "note"):
        a, b = whole.values[name], parts.values[name]
        assert not isinstance(a, np.ndarray)
        assert not isinstance(b, np.ndarray)
        assert a.counts.sum() > 10
        for part, array in a.arrays().items():
            assert np.array_equal(array, b.arrays()[part]), part


class Parts:
    """Events cut at some subjects."""

    def __init__(self, frame: pl.DataFrame, bounds: tuple[int, ...]) -> None:
        self.frame, self.edges = frame, [-(10**9), *bounds, 10**9]

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        for low, high in zip(self.edges, self.edges[1:], strict=False):
            own = pl.col("subject_id").is_between(low, high, closed="left")
            yield Events(self.frame.filter(own), "subject"), samples.filter(own)


def _extract(events: Any, rules: tuple[Any, ...]) -> Extract:
    return Extract("x", "1", events, pl.DataFrame(), rules, (), "f")


def test_window_summaries_equal_plain_python() -> None:
    rng = np.random.default_rng(1)
    n, features = 30, 3
    counts = rng.integers(0, 7, n)
    offsets = np.r_[0, np.cumsum(counts)]
    hours = -np.sort(rng.exponential(5, offsets[-1]))[::-1].astype(np.float32)
    series = SeriesArrays(
        offsets,
        hours,
        rng.integers(0, 2, offsets[-1]).astype(np.int16),
        rng.normal(size=offsets[-1]).astype(np.float32),
    )
    table = series_columns(series, features).reshape(n, features, len(SUMMARIES))
    for i in range(n):
        for f in range(features):
            own = series.take(np.array([i]))
            x = [float(v) for v, g in zip(own.values, own.feature, strict=True) if g == f]
            want = [x[0], x[-1], min(x), max(x), statistics.fmean(x), statistics.pstdev(x), len(x)] if x else None
            if want is None:
                assert np.isnan(table[i, f, :-1]).all()
                assert table[i, f, -1] == 0
            else:
                assert table[i, f].tolist() == pytest.approx(want)


def test_principal_components_equal_a_singular_value_decomposition() -> None:
    x = np.random.default_rng(2).normal(size=(50, 6)) * [5, 4, 3, 2, 1, 0.5]
    fitted = Components.fit(x)
    _, _, v = np.linalg.svd(x - x.mean(0))
    projected = (x - x.mean(0)) @ v.T
    got = fitted.project(x)
    assert np.allclose(np.abs(got[:, :6]), np.abs(projected), atol=1e-9)
    assert (got[:, 6:] == 0).all()
    assert np.array_equal(fitted.project(x[7:8]), got[7:8])


class Spelled:
    """An encoder of one vector a word."""

    identity, width = "spelled", 1

    def encode(self, texts: Sequence[str]) -> list[Any]:
        return [np.array([[len(word)] for word in text.split()], dtype=np.float32) for text in texts]


@pytest.mark.parametrize("encoder", [None, Spelled()])
def test_a_note_without_a_word_is_no_note_and_is_counted(encoder: Any, tmp_path: Path) -> None:
    rows: list[Row] = [(1, "N", m, m, None, t) for m, t in ((1, "___"), (2, "in pain"), (3, "_ ___ _"))]
    rows.append((2, "N", 1, 1, None, "===="))
    (notes,) = gatherers([TextRule("note", ("N",))], 0.8, Gathering(notes=encoder, cache=tmp_path))
    notes.add(past_of(rows, [(1, 5), (2, 5)]))
    content = notes.content()
    assert not isinstance(content, np.ndarray)
    content.check(notes.spec, 2)
    assert (content.counts > 0).tolist() == [True, False]
    assert set(content.hours.tolist()) == {np.float32(-3 / 60)}
    assert notes.left_out() == {"modality 'note': # notes left out: no text": 3}


def test_taking_and_blanking_packed_content() -> None:
    offsets, starts = np.array([0, 2, 2, 3]), np.array([0, 1, 3, 6])
    notes = HashedArrays(
        offsets, np.array([-2, -1, -3], dtype=np.float32), starts, np.arange(6, dtype=np.int32), np.ones(6, np.float32)
    )
    taken = notes.take(np.array([2, 0]))
    assert taken.buckets.tolist() == [3, 4, 5, 0, 1, 2]
    assert taken.starts.tolist() == [0, 3, 4, 6]
    without = blanked(notes, np.array([False, True, True]))
    assert isinstance(without, HashedArrays)
    assert without.offsets.tolist() == [0, 0, 0, 1]
    assert without.buckets.tolist() == [3, 4, 5]
    assert gather(offsets, np.array([], dtype=np.int64))[1].tolist() == []


@pytest.mark.parametrize(
    ("hours", "values", "words"),
    [
        ([0.5], [[1.0, 2.0]], "at or before the prediction"),
        ([math.nan], [[1.0, 2.0]], "at or before the prediction"),
        ([-1.0], [[1.0]], r"shape \(2,\)"),
        ([-1.0], [[1.0, math.inf]], "finite"),
    ],
)
def test_items_that_break_a_promise_are_refused(hours: list[float], values: list[list[float]], words: str) -> None:
    items = ItemArrays(np.array([0, 1]), np.array(hours, dtype=np.float32), np.array(values, dtype=np.float32))
    with pytest.raises(SchemaError, match=words):
        items.check(ModalitySpec("v", kind="embedding", shape=(2,)), 1)

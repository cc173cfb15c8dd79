"""Features re-derived in plain Python, for random events."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnar.dataset.features import static_features
from mmnar.dataset.gather import Gathering, gatherers
from mmnar.errors import SchemaError
from mmnar.sources.events import EVENT_SCHEMA, Events, FeatureRule, PastEvents

START = datetime(2015, 1, 1)
Row = dict[str, Any]


def _past(rows: Sequence[Row], samples: Sequence[tuple[int, int]]) -> PastEvents:
    """``samples``: (stay, minute of prediction)."""
    frame = pl.DataFrame(
        {
            "subject_id": [r["stay"] for r in rows],
            "hadm_id": [r["stay"] for r in rows],
            "stay_id": [r["stay"] for r in rows],
            "time": [START + timedelta(minutes=r["time"]) for r in rows],
            "available_time": [START + timedelta(minutes=r["known"]) for r in rows],
            "code": [r["code"] for r in rows],
            "numeric_value": [r.get("number") for r in rows],
            "text_value": [r.get("text") for r in rows],
            "source": [r["source"] for r in rows],
        },
        schema=EVENT_SCHEMA,
    )
    cohort = pl.DataFrame(
        {
            "sample": range(len(samples)),
            "stay_id": [s for s, _ in samples],
            "prediction_time": [START + timedelta(minutes=m) for _, m in samples],
            "since": [None for _ in samples],
        },
        schema={"sample": pl.Int64, "stay_id": pl.Int64, "prediction_time": pl.Datetime("us")}
        | {"since": pl.Datetime("us")},
    )
    return Events(frame).before(cohort)


def _matches(code: str, rule: FeatureRule) -> bool:
    return any(code == c or (c.endswith("*") and code.startswith(c[:-1])) for c in rule.codes)


def _by_hand(rows: Sequence[Row], stay: int, minute: int, rule: FeatureRule) -> float:
    known = [r for r in rows if r["stay"] == stay and r["known"] <= minute]
    hits = [r for r in known if _matches(r["code"], rule)]
    if not hits:
        return 0.0 if rule.zero_if_recorded in {r["source"] for r in known} else math.nan
    if rule.aggregation == "count":
        return float(len(hits))
    if rule.aggregation == "nunique":
        return float(len({r["code"] for r in hits}))
    if rule.categories:
        words = [(r["time"], r["text"]) for r in hits if r["text"] is not None]
        other = len(rule.categories) - 1
        timed = [(t, rule.categories.index(w) if w in rule.categories else other) for t, w in words]
    else:
        low = -math.inf if rule.low is None else rule.low
        high = math.inf if rule.high is None else rule.high
        timed = [(r["time"], float(np.float32(r["number"]))) for r in hits if r["number"] is not None]
        timed = [(t, v) for t, v in timed if low <= v <= high]
    if not timed:
        return math.nan
    values = [float(v) for _, v in sorted(timed)]
    if rule.aggregation == "std":
        return statistics.stdev(values) if len(values) > 1 else math.nan
    pick = {"last": values[-1], "first": values[0], "min": min(values), "max": max(values), "sum": math.fsum(values)}
    return (pick | {"mean": math.fsum(values) / len(values)})[rule.aggregation]


RULES = (
    FeatureRule("a", "last", ("X//1",)),
    FeatureRule("a", "first", ("X//1", "Y"), "first"),
    FeatureRule("b", "min", ("X//*",), "min", low=-5, high=50),
    FeatureRule("a", "max", ("X//*",), "max", zero_if_recorded="s"),
    FeatureRule("b", "mean", ("X//*", "X//1"), "mean", low=0),
    FeatureRule("b", "std", ("X//*",), "std"),
    FeatureRule("c", "sum", ("X//2", "Y"), "sum", high=30, zero_if_recorded="s"),
    FeatureRule("c", "count", ("*",), "count"),
    FeatureRule("c", "kinds", ("X//*", "Y"), "nunique", zero_if_recorded="t"),
    FeatureRule("c", "word", ("Y",), "last", categories=("red", "blue", "other")),
    FeatureRule("c", "first_word", ("Y", "X//1"), "first", categories=("blue", "other")),
    FeatureRule("c", "never", ("Z",), "mean"),
)
EVENTS = st.lists(
    st.builds(
        lambda stay, time, lag, code, number, text, source: {
            "stay": stay,
            "time": time,
            "known": time + lag,
            "code": code,
            "number": number,
            "text": text,
            "source": source,
        },
        st.integers(1, 3),
        st.integers(0, 3),
        st.integers(0, 4),
        st.sampled_from(["X//1", "X//1", "X//2", "X//22", "X", "Y", "Y", "W"]),
        st.one_of(st.none(), st.integers(-100, 100).map(lambda i: i / 4), st.floats(-1e3, 1e3, width=32)),
        st.sampled_from([None, "red", "blue", "green", "other"]),
        st.sampled_from(["s", "t"]),
    ),
    min_size=8,
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(EVENTS, st.permutations([(1, 3), (1, 9), (2, 6), (3, 0), (4, 9)]))
def test_brute_force(rows: list[Row], samples: list[tuple[int, int]]) -> None:
    got = static_features(_past(rows, samples), RULES)[0]
    assert list(got) == ["a", "b", "c"]
    for modality, values in got.items():
        rules = [rule for rule in RULES if rule.modality == modality]
        assert values.dtype == np.float32
        assert values.shape == (len(samples), len(rules))
        wanted = [[_by_hand(rows, stay, minute, rule) for rule in rules] for stay, minute in samples]
        np.testing.assert_allclose(values, np.array(wanted, dtype=np.float32), rtol=2e-6, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.randoms())
def test_bits_depend_on_the_sample_alone(rows: list[Row], random: Any) -> None:
    """Neither the order of the rows nor other stays' rows move a bit."""
    shuffled = [*rows, *({**r, "stay": 9, "number": 1e6} for r in rows)]
    random.shuffle(shuffled)
    first = static_features(_past(rows, [(1, 9), (2, 9)]), RULES)[0]
    second = static_features(_past(shuffled, [(9, 9), (2, 9), (1, 9)]), RULES)[0]
    for modality in first:
        assert first[modality].tobytes() == np.ascontiguousarray(second[modality][[2, 1]]).tobytes()


def test_brute_force_with_many_ties() -> None:
    """Large enough that an unstable sort would show."""
    rng = np.random.default_rng(0)
    rows = [
        _event(
            stay=int(rng.integers(1, 4)),
            time=int(rng.integers(0, 3)),
            known=3,
            code=str(rng.choice(["X//1", "X//2", "Y"])),
            number=float(np.float32(rng.normal())),
            text=str(rng.choice(["red", "blue", "green"])),
        )
        for _ in range(3000)
    ]
    samples = [(3, 5), (1, 5), (2, 5)]
    got = static_features(_past(rows, samples), RULES)[0]
    for modality, values in got.items():
        rules = [rule for rule in RULES if rule.modality == modality]
        wanted = [[_by_hand(rows, stay, minute, rule) for rule in rules] for stay, minute in samples]
        np.testing.assert_allclose(values, np.array(wanted, dtype=np.float32), rtol=1e-5)


def _event(**changes: Any) -> Row:
    return {"stay": 1, "time": 0, "known": 0, "code": "X//1", "number": 1.0, "text": None, "source": "s"} | changes


def test_infinity_is_implausible_and_missing() -> None:
    past = _past([_event(number=math.inf), _event(number=60.0, code="X//2")], [(1, 9)])
    got, outside = static_features(past, RULES)
    assert np.isnan(got["a"][0, 0])
    assert outside == {
        "a.last": 1,
        "a.first": 1,
        "b.min": 2,
        "a.max": 1,
        "b.mean": 1,
        "c.sum": 1,
    }


def test_an_implausible_match_is_missing_not_zero() -> None:
    past = _past([_event(code="X//2", number=31.0)], [(1, 9)])
    assert np.isnan(static_features(past, RULES)[0]["c"][0, 0])


def test_known_at_the_very_moment_counts() -> None:
    rows = [_event(known=5, number=2.0), _event(known=6, number=3.0, time=1)]
    assert static_features(_past(rows, [(1, 5)]), RULES)[0]["a"][0, 0] == 2.0


def test_no_events_at_all() -> None:
    got = static_features(_past([], [(1, 9), (2, 9)]), RULES)[0]
    assert all(np.isnan(v).all() and len(v) == 2 for v in got.values())


@pytest.mark.parametrize(
    "rule",
    [
        FeatureRule("a", "x", ("Y",), "last", categories=("red", "blue")),
        FeatureRule("a", "x", ("Y",), "max", categories=("red", "other")),
    ],
)
def test_bad_categorical_rules_are_refused(rule: FeatureRule) -> None:
    with pytest.raises(SchemaError, match="end in 'other'"):
        static_features(_past([_event()], [(1, 9)]), [rule])


def test_schema_follows_the_rules() -> None:
    specs = [g.spec for g in gatherers(RULES, 0.8, Gathering())]
    assert [spec.name for spec in specs] == ["a", "b", "c"]
    assert specs[2].feature_names == ("sum", "count", "kinds", "word", "first_word", "never")
    assert specs[2].features[3].kind == "categorical"


def test_what_happened_before_the_stay_is_read_by_history_rules_alone() -> None:
    rows = [_event(time=m, number=float(m), code="Y") for m in (1, 5, 8)]
    now = FeatureRule("a", "now", ("Y",), "count")
    ever = FeatureRule("a", "ever", ("Y",), "count", history=True)
    samples = pl.DataFrame({"sample": [0], "stay_id": [1], "prediction_time": [START + timedelta(minutes=9)]})
    frame = _past(rows, [(1, 9)]).frame.select(*EVENT_SCHEMA)
    past = Events(frame).before(samples.with_columns(since=START + timedelta(minutes=5)))
    assert static_features(past, [now, ever])[0]["a"].tolist() == [[2.0, 3.0]]

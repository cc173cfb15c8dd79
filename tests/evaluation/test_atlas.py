"""The atlas against brute-force counts, its intervals against statsmodels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.evaluation.atlas import POOLED, availability, pooled_flows, wilson
from mmnar.privacy import briefly, hidden_cells
from mmnar.report.atlas import atlas_text
from mmnar.report.inputs import StoreFacts
from mmnar.schema import Feature, ModalitySpec, Schema, Task


@pytest.fixture(scope="module")
def patients() -> PatientDataset:
    rng = np.random.default_rng(8)
    n = 900
    schema = Schema(
        tuple(ModalitySpec(m, (Feature(f"{m}0"), Feature(f"{m}1"))) for m in ("labs", "note", "cxr")),
        (Task("death", "at 48 h", "death"), Task("return", "at discharge", "return")),
    )
    values = {}
    for m, rate in (("labs", 0.985), ("note", 0.7), ("cxr", 0.3)):
        v = rng.normal(size=(n, 2)).astype(np.float32)
        v[rng.random((n, 2)) < 0.1] = np.nan
        v[rng.random(n) > rate] = np.nan
        values[m] = v
    ids = np.arange(n)
    labels, asked = rng.random((n, 2)) < 0.2, rng.random((n, 2)) < 0.8
    flow = [{"rule": "all", "kept": 1000, "subjects": 700, "hindsight": False}]
    manifest = {"source": "made up", "warnings": ["a warning"], "attrition": {"cohort": flow}}
    # three samples for every two patients: counts of samples and of patients differ
    return make_dataset(schema, values, labels, asked, ids * 2 // 3, ids, ids, ids, {}, manifest)


def pattern_members(patients: PatientDataset) -> dict[tuple[str, ...], list[int]]:
    names = patients.schema.modality_names
    members: dict[tuple[str, ...], list[int]] = {}
    for i in range(len(patients)):
        members.setdefault(tuple(m for m, here in zip(names, patients.present[i], strict=True) if here), []).append(i)
    return members


def persons(patients: PatientDataset, rows: Iterable[int]) -> int:
    return len({int(patients.subject_id[i]) for i in rows})


def test_patterns_are_the_brute_force_counts(patients: PatientDataset) -> None:
    members = pattern_members(patients)
    small = {p for p, rows in members.items() if persons(patients, rows) < 10}
    atlas = availability(patients)
    assert small, "the case must hold rare patterns"
    shown = {row.present for row in atlas.patterns if row.present is not None}
    assert shown <= set(members) - small
    # attack: how many have, and lack, each modality is shown; what the patterns shown leave over must not be few
    rest = [row for pattern, rows in members.items() if pattern not in shown for row in rows]
    for i in range(3):
        for has in (True, False):
            assert persons(patients, [r for r in rest if patients.present[r, i] == has]) not in range(1, 10)
    rest = [i for p, rows in members.items() if p not in shown for i in rows]
    withheld = 0
    for row in atlas.patterns:
        rows = members[row.present] if row.present is not None else rest
        assert row.n == len(rows)
        assert row.patients == persons(patients, rows)
        for k, task in enumerate(patients.schema.task_names):
            asked = [i for i in rows if patients.label_mask[i, k]]
            sides = [[i for i in asked if patients.labels[i, k] == y] for y in (True, False)]
            outcome = row.outcomes[task]
            if min(persons(patients, side) for side in sides) < 10:
                assert (outcome.events, outcome.rate.value) == (None, None)
            elif outcome.events is None:
                withheld += 1
            else:
                assert outcome.n == len(asked)
                assert outcome.events == len(sides[0])
                assert outcome.rate.value == pytest.approx(len(sides[0]) / len(asked))
    assert withheld <= 2 * len(patients.schema.task_names)


@pytest.mark.parametrize("seed", range(6))
def test_no_difference_of_shown_counts_is_a_small_cell(seed: int) -> None:
    """Subtract everything shown from the totals: what is left is nothing, or at least ten patients."""
    data = made_up(seed, n=400, per_patient=1)
    atlas, members = availability(data), pattern_members(data)
    assert sum(row.n or 0 for row in atlas.patterns) == len(data)
    shown = {row.present for row in atlas.patterns if row.present is not None}
    pool = [i for p, rows in members.items() if p not in shown for i in rows]
    assert len(pool) == 0 or len(pool) >= 10
    for k, task in enumerate(data.schema.task_names):
        overall = atlas.outcomes[task]
        if overall.n is not None:
            left = overall.n - sum(row.outcomes[task].n or 0 for row in atlas.patterns)
            assert left == 0 or left >= 10, k
        known = [row.outcomes[task] for row in atlas.patterns if row.outcomes[task].events is not None]
        if overall.events is not None:
            events = overall.events - sum(o.events or 0 for o in known)
            others = (overall.n or 0) - overall.events - sum((o.n or 0) - (o.events or 0) for o in known)
            assert events == 0 or events >= 10
            assert others == 0 or others >= 10
    for breakdown in atlas.breakdowns:
        assert sum(r.n or 0 for r in breakdown.rows) == len(data)
        for m, spec in enumerate(atlas.modalities):
            cells = [(r.n or 0, r.present[spec.name].value) for r in breakdown.rows]
            for side in (1, 0):
                total = int((data.present[:, m] == side).sum())
                left = total - sum(round(n * (v if side else 1 - v)) for n, v in cells if v is not None)
                assert left == 0 or left >= 10 or atlas.modalities[m].present.value is None
                assert all(v is None or not 0 < round(n * (v if side else 1 - v)) < 10 for n, v in cells)


def made_up(seed: int, n: int, per_patient: int) -> PatientDataset:
    rng = np.random.default_rng(seed)
    schema = Schema(
        tuple(ModalitySpec(m, (Feature(f"{m}_min"), Feature(f"{m}_max"))) for m in ("labs", "note", "cxr")),
        (Task("death", "at 48 h", "death"), Task("return", "at discharge", "return")),
        ("unit", "site"),
    )
    values = {}
    for m, rate in (("labs", 0.985), ("note", 0.7), ("cxr", 0.3)):
        v = rng.normal(size=(n, 2)).astype(np.float32)
        v[rng.random((n, 2)) < 0.05] = np.nan
        v[rng.random(n) > rate] = np.nan
        values[m] = v
    ids = np.arange(n)
    unit = rng.choice(["A", "B", "C", ""], n, p=[0.6, 0.3, 0.085, 0.015])
    site = np.array([f"s{k}" for k in rng.geometric(0.08, n)])
    day = np.datetime64("2010-01-01", "us") + rng.integers(0, 2000, n).astype("timedelta64[D]")
    return make_dataset(
        schema,
        values,
        rng.random((n, 2)) < 0.15,
        rng.random((n, 2)) < 0.8,
        ids // per_patient,
        ids,
        ids,
        day.astype("datetime64[us]").astype(np.int64),
        {"unit": unit, "site": site},
        {"source": "made up"},
    )


def test_hidden_cells_leave_no_small_remainder() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = rng.poisson(rng.choice([2, 8, 30]), rng.integers(1, 12)).tolist()
        hidden = hidden_cells(counts)
        assert all(h for c, h in zip(counts, hidden, strict=True) if 0 < c < 10)
        left = sum(c for c, h in zip(counts, hidden, strict=True) if h)
        assert left == 0 or left >= 10 or all(h or c == 0 for c, h in zip(counts, hidden, strict=True))


def test_breakdowns_are_the_brute_force_shares() -> None:
    data = made_up(3, n=3000, per_patient=2)
    found = {b.name: b for b in availability(data).breakdowns}
    assert list(found) == ["year", "unit", "site"]
    assert found["year"].over_time
    years = (
        (np.datetime64(0, "us") + data.prediction_time.astype("timedelta64[us]")).astype("datetime64[Y]").astype(str)
    )
    assert [r.group for r in found["year"].rows] == sorted(set(years))
    for row in found["year"].rows:
        at = years == row.group
        assert row.n == at.sum()
        share = row.present["cxr"].value
        assert share == pytest.approx(data.present[at, 2].mean())
    assert {r.group for r in found["unit"].rows} == {"A", "B", "C", "unknown"}
    assert found["site"].rows[-1].group == "others"
    assert len(found["site"].rows) == 13


def test_a_group_that_takes_in_rare_ones_keeps_its_name() -> None:
    data = made_up(3, n=300, per_patient=1)
    unit = np.where(np.arange(300) < 180, "A", "B").astype("<U7")
    unit[-3:] = "rare"
    found = availability(replace(data, attributes={**data.attributes, "unit": unit}))
    rows = next(b for b in found.breakdowns if b.name == "unit").rows
    assert [(r.group, r.n) for r in rows] == [("A", 180), ("B or others", 120)]


def test_shifted_years_say_nothing_about_the_calendar() -> None:
    data = made_up(3, n=300, per_patient=1)
    century = int(np.timedelta64(36525, "D").astype("timedelta64[us]").astype(np.int64))
    shifted = replace(data, prediction_time=data.prediction_time + century)
    assert not [b for b in availability(shifted).breakdowns if b.over_time]
    groups = np.where(np.arange(300) < 150, "2008 - 2010", "2011 - 2013")
    told = replace(shifted, attributes={"anchor_year_group": groups, **shifted.attributes})
    over_time = next(b for b in availability(told).breakdowns if b.over_time)
    assert [(r.group, r.n) for r in over_time.rows] == [("2008 - 2010", 150), ("2011 - 2013", 150)]
    rare = replace(shifted, attributes={"anchor_year_group": np.where(np.arange(300) < 4, "2008", groups)})
    first = next(b for b in availability(rare).breakdowns if b.over_time).rows[0]
    assert (first.group, first.n) == ("2008 to 2008 - 2010", 150)


def test_shares_are_the_brute_force_counts(patients: PatientDataset) -> None:
    atlas = availability(patients)
    for i, row in enumerate(atlas.modalities):
        here = [bool(v) for v in patients.present[:, i]]
        assert row.present.value == pytest.approx(sum(here) / len(here))
        v = patients.values[row.name]
        cells = [np.isnan(v[r, c]) for r in range(len(v)) for c in range(2) if here[r]]
        assert row.missing.value == pytest.approx(sum(cells) / len(cells), abs=5.1 / len(cells))
    first = atlas.features[0]
    assert first.missing.value == pytest.approx(np.isnan(patients.values["labs"][:, 0]).mean())


def test_a_modality_that_nearly_everybody_has_is_not_called_rare() -> None:
    x = np.ones((400, 3), dtype=np.float32)
    x[:2, 0], x[2:, 1], x[:200, 2] = np.nan, np.nan, np.nan
    schema = Schema(tuple(ModalitySpec(m, (Feature("x"),)) for m in ("most", "rare", "half")), (Task("t", "now", "t"),))
    y = np.arange(400)[:, None] % 3 == 0
    values = {m: x[:, i : i + 1] for i, m in enumerate(schema.modality_names)}
    ids = np.arange(400)
    atlas = availability(make_dataset(schema, values, y, np.ones_like(y), ids, ids, ids, ids, {}, {}))
    said = {m.name: m.present.value or briefly(m.present.reason) for m in atlas.modalities}
    assert said == {"most": "nearly all", "rare": "few patients", "half": 0.5}


def test_a_share_that_tells_a_small_count_is_refused() -> None:
    data = made_up(1, n=500, per_patient=1)
    values = {m: np.array(v) for m, v in data.values.items()}
    values["labs"][:] = 1.0
    values["labs"][:4] = np.nan  # four patients lack labs
    values["note"][:] = 1.0
    values["note"][:200] = np.nan
    values["note"][200:203, 1] = np.nan  # three of those with a note lack its second feature
    none = {"unit": data.attributes["unit"], "site": data.attributes["site"]}
    ids = data.subject_id
    rebuilt = make_dataset(
        data.schema, values, data.labels, data.label_mask, ids, ids, ids, data.prediction_time, none, {}
    )
    atlas = availability(rebuilt)
    labs, note = atlas.modalities[0], atlas.modalities[1]
    assert (labs.present.value, labs.missing.value) == (None, None)
    assert note.present.value == pytest.approx(0.6)
    first, second = (f for f in atlas.features if f.modality == "note")
    assert first.missing.value == pytest.approx(0.4)
    assert first.missing_when_present.value == 0.0
    # .406 overall and .6 present would tell the three
    assert (second.missing.value, second.missing_when_present.value) == (None, None)
    assert [g.missing.value for g in atlas.feature_groups if g.group == "note"] == [None]


@pytest.mark.parametrize(("events", "n"), [(0, 10), (1, 10), (7, 31), (31, 31), (412, 5000)])
def test_wilson_is_statsmodels(events: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(events, n, alpha=0.05, method="wilson")
    assert wilson(events, n) == pytest.approx(expected, abs=1e-12)


def test_the_text_is_aligned_and_names_its_parts(patients: PatientDataset) -> None:
    text = atlas_text(StoreFacts(patients.manifest, availability(patients)), "")
    for part in ("made up", "Attrition: cohort", "Modalities", "Outcome by pattern", POOLED, "Warnings", "a warning"):
        assert part in text
    table = text.split("Modalities\n")[1].split("\n\n")[0].splitlines()
    assert len({len(line) for line in table}) == 1


def test_small_attrition_steps_are_merged() -> None:
    flow = [
        {"rule": r, "kept": k, "subjects": s, "hindsight": h}
        for r, k, s, h in [("all", 200, 150, False), ("adult", 195, 146, True), ("stay", 120, 100, False)]
    ]
    assert pooled_flows({"attrition": {"cohort": flow}})["cohort"][1] == {
        "rule": "adult; stay",
        "kept": 120,
        "subjects": 100,
        "hindsight": True,
    }
    assert pooled_flows({}) == {}

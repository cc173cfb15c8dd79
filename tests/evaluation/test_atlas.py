"""The atlas against brute-force counts, its intervals against statsmodels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.evaluation.atlas import POOLED, availability, describe_text, pooled_steps, wilson
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


def test_patterns_are_the_brute_force_counts(patients: PatientDataset) -> None:
    names, members = patients.schema.modality_names, {}
    for i in range(len(patients)):
        members.setdefault(tuple(m for m, here in zip(names, patients.present[i], strict=True) if here), []).append(i)
    small = {p for p, rows in members.items() if len({int(patients.subject_id[i]) for i in rows}) < 10}
    atlas = availability(patients)
    assert small, "the case must hold rare patterns"
    assert {row.present for row in atlas.patterns} == (set(members) - small) | {None}
    for row in atlas.patterns:
        rows = members[row.present] if row.present is not None else [i for p in small for i in members[p]]
        subjects = {int(patients.subject_id[i]) for i in rows}
        assert row.n == (len(rows) if len(subjects) >= 10 else None)
        assert row.patients == (len(subjects) if len(subjects) >= 10 else None)
        for k, task in enumerate(patients.schema.task_names):
            asked = [i for i in rows if patients.label_mask[i, k]]
            events = Counter(bool(patients.labels[i, k]) for i in asked)[True]
            outcome = row.outcomes[task]
            if len({int(patients.subject_id[i]) for i in asked}) < 10:
                assert outcome.n is None
                assert outcome.events is None
                assert outcome.rate.value is None
            elif (
                min(len({int(patients.subject_id[i]) for i in asked if patients.labels[i, k] == y}) for y in (0, 1))
                < 10
            ):
                assert outcome.n == len(asked)
                assert outcome.events is None
                assert outcome.rate.value is None
            else:
                assert outcome.n == len(asked)
                assert outcome.events == events
                assert outcome.rate.value == pytest.approx(events / len(asked))


def test_shares_are_the_brute_force_counts(patients: PatientDataset) -> None:
    atlas = availability(patients)
    for i, row in enumerate(atlas.modalities):
        here = [bool(v) for v in patients.present[:, i]]
        assert row.present == pytest.approx(sum(here) / len(here))
        v = patients.values[row.name]
        cells = [np.isnan(v[r, c]) for r in range(len(v)) for c in range(2) if here[r]]
        assert row.missing == pytest.approx(sum(cells) / len(cells))
    first = atlas.features[0]
    assert first.missing == pytest.approx(np.isnan(patients.values["labs"][:, 0]).mean())


@pytest.mark.parametrize(("events", "n"), [(0, 10), (1, 10), (7, 31), (31, 31), (412, 5000)])
def test_wilson_is_statsmodels(events: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(events, n, alpha=0.05, method="wilson")
    assert wilson(events, n) == pytest.approx(expected, abs=1e-12)


def test_the_text_is_aligned_and_names_its_parts(patients: PatientDataset) -> None:
    text = describe_text(availability(patients), patients)
    for part in ("made up", "Attrition: cohort", "Modalities", "Outcome by pattern", POOLED, "Warnings", "a warning"):
        assert part in text
    table = text.split("Modalities\n")[1].split("\n\n")[0].splitlines()
    assert len({len(line) for line in table}) == 1


def test_small_attrition_steps_are_merged() -> None:
    flow = [
        {"rule": r, "kept": k, "subjects": s, "hindsight": h}
        for r, k, s, h in [("all", 200, 150, False), ("adult", 195, 146, True), ("stay", 120, 100, False)]
    ]
    assert pooled_steps(flow)[1] == {"rule": "adult; stay", "kept": 120, "subjects": 100, "hindsight": True}
    assert pooled_steps([]) == []

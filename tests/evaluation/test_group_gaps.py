"""Gaps between groups: figures by hand and by scikit-learn, small groups withheld, nothing found where nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmnar.evaluation.group_gaps import ONE_GROUP, OTHERS, GroupGaps, group_gaps, groups_of
from mmnar.evaluation.intervals import Resampling
from mmnar.predictions import Predictions
from mmnar.roles import Test
from tests.conftest import draw_predictions

TASKS = ("death", "los", "sepsis")


def drawn(n: int, groups: Any, seed: int = 0, rows: int = 1) -> Predictions[Any]:
    """Of patients of one attribute."""
    made = draw_predictions(n, Test, seed, tasks=TASKS, centre=-0.3, rows_per_subject=rows)
    return replace(made, attributes={"race": np.asarray(groups)})


def judged(predictions: Predictions[Any], tasks: tuple[str, ...] = TASKS, resamples: int = 60) -> GroupGaps:
    return group_gaps(predictions, tasks, Resampling.draw(predictions.subject_id, resamples, 0), 0)["race"]


def test_figures_of_each_group_against_scikit_learn_and_loops() -> None:
    groups = np.array(["A", "B", "C"])[np.arange(600) % 3]
    p = drawn(600, groups)
    found = judged(p)
    assert found.outcomes == TASKS
    assert [g.group for g in found.groups] == ["A", "B", "C"]
    for of in found.groups:
        each: dict[str, list[float]] = {"auprc": [], "sensitivity": [], "false_alarms": []}
        for k in range(3):
            mine = (groups == of.group) & p.label_mask[:, k]
            y, risk = p.labels[mine, k], p.proba[mine, k]
            each["auprc"].append(average_precision_score(y, risk))
            each["sensitivity"].append(sum(r >= 0.5 for r in risk[y]) / y.sum())
            each["false_alarms"].append(sum(r >= 0.5 for r in risk[~y]) / (~y).sum())
        for name, values in each.items():
            assert of.figures[name].value == pytest.approx(np.mean(values), abs=1e-12)
    for gap in found.gaps:
        values = {of.group: of.figures[gap.rate].value for of in found.groups}
        assert gap.difference.value == pytest.approx(values[gap.highest] - values[gap.lowest])  # type: ignore[operator]
        assert values[gap.highest] == max(values.values())  # type: ignore[type-var]


def test_a_group_whose_risks_say_nothing_is_found_and_an_attribute_of_chance_is_not() -> None:
    rng = np.random.default_rng(1)
    groups = rng.choice(["A", "B"], 900)
    p = drawn(900, groups)
    worse = p.proba.copy()
    worse[groups == "B"] = rng.permuted(worse[groups == "B"], axis=0)  # its own risks, each at another's place
    gaps = {gap.rate: gap for gap in judged(p.with_proba(worse)).gaps}
    assert gaps["auprc"].lowest == "B"
    assert gaps["auprc"].p_holm is not None
    assert gaps["auprc"].p_holm < 0.05
    by_chance = [judged(drawn(400, rng.choice(["A", "B"], 400), s)).gaps[0].p for s in range(8)]
    assert sum(p is not None and p < 0.05 for p in by_chance) <= 3  # more happens in 4 of 10,000 such eights


def test_rows_of_a_patient_move_together_when_groups_are_dealt_out() -> None:
    """A hundred patients of five equal rows each are a hundred, not five hundred."""
    sure = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        p = drawn(500, np.repeat(rng.choice(["A", "B"], 100), 5), seed, rows=5)
        copied = np.repeat(np.arange(0, 500, 5), 5)
        p = replace(p, proba=p.proba[copied], labels=p.labels[copied], label_mask=np.ones_like(p.label_mask))
        gaps = judged(p, resamples=10).gaps
        sure += sum(gap.p is not None and gap.p < 0.05 for gap in gaps)
        assert len(gaps) >= 2
    assert sure <= 4  # of twenty; one is expected


def test_a_group_of_nine_is_never_named_and_its_like_share_a_line() -> None:
    groups = np.array(["A"] * 300 + ["B"] * 200 + ["nine"] * 9 + ["few"] * 60)
    labels, group = groups_of(drawn(569, groups), TASKS, groups)
    assert labels == ["A", "B", OTHERS]
    assert set(groups[group == 2]) == {"nine", "few"}
    groups = np.array(["A"] * 300 + ["B"] * 200 + ["nine"] * 9)
    labels, group = groups_of(drawn(509, groups), TASKS, groups)
    assert labels == ["A", OTHERS]  # B takes the nine in, for A and B would tell of them
    assert set(groups[group == 1]) == {"B", "nine"}
    groups = np.array(["A"] * 300 + ["nine"] * 9)
    assert judged(drawn(309, groups)) == GroupGaps(reason=ONE_GROUP)


def test_an_outcome_that_a_group_hardly_has_is_left_out_for_all_groups() -> None:
    groups = np.array(["A", "B"])[np.arange(400) % 2]
    p = drawn(400, groups)
    labels = p.labels.copy()
    labels[groups == "B", 2] = False
    found = judged(replace(p, labels=labels))
    assert found.outcomes == ("death", "los")


def test_shares_of_few_decisions_are_withheld_and_no_gap_is_made_of_them() -> None:
    groups = np.array(["A", "B"])[np.arange(400) % 2]
    p = drawn(400, groups)
    low = np.where(p.proba >= 0.5, 0.45, p.proba)
    low[:4] = 0.9
    found = judged(p.with_proba(low), ("death",))
    for of in found.groups:
        assert of.figures["sensitivity"].value is None
        assert of.figures["auprc"].value is not None
    assert [gap.rate for gap in found.gaps] == ["auprc", "ece"]


def test_intervals_of_calibration_errors_are_around_them() -> None:
    """Resamples of so few patients have errors far above the sample's own."""
    found = judged(drawn(300, np.array(["A", "B"])[np.arange(300) % 2]), resamples=200)
    gap = next(gap for gap in found.gaps if gap.rate == "ece").difference
    for e in (*(of.figures["ece"] for of in found.groups), gap):
        assert e.low is not None
        assert e.low < e.value < e.high  # type: ignore[operator]


def test_what_is_shown_has_two_decimals() -> None:
    found = judged(drawn(300, np.array(["A", "B"])[np.arange(300) % 2])).disclosed()
    shown = [e for g in found.groups for e in g.figures.values()] + [gap.difference for gap in found.gaps]
    assert all(e.value is None or round(e.value, 2) == e.value for e in shown)

"""Gaps between groups: against shuffling one by one, under a null, and with small groups refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import fisher_exact
from sklearn.linear_model import LogisticRegression

from mmnar.evaluation import evaluate
from mmnar.evaluation.fairness import ONE_GROUP, _dealt, fairness, permutation_p
from mmnar.evaluation.groups import Grouping
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.thresholds import stated
from mmnar.privacy import BY_GROUP
from mmnar.roles import Test

AT = {"death": stated([0.2], "death")}


def with_attribute(p, values):
    return replace(p, attributes={"sex": np.asarray(values, dtype=np.str_)}, label_mask=np.ones_like(p.label_mask))


def test_rates_are_those_of_the_group(draw):
    p = draw(1200, Test, tasks=("death",))
    sex = np.where(np.arange(1200) % 3 == 0, "F", "M")
    p = with_attribute(p, sex)
    found = evaluate(p, resamples=50, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"]
    alert, event = p.proba[:, 0] >= 0.2, p.labels[:, 0]
    for row in found.rows:
        mine = sex == row.group
        assert row.rates["sensitivity"].value == pytest.approx(alert[mine & event].mean())
        assert row.rates["false_alarms"].value == pytest.approx(alert[mine & ~event].mean())
        assert row.rates["ppv"].value == pytest.approx(event[mine & alert].mean())
    for gap in found.gaps:
        values = {row.group: row.rates[gap.rate].value for row in found.rows}
        assert gap.difference.value == pytest.approx(values[gap.highest] - values[gap.lowest])
        assert gap.difference.value == pytest.approx(max(values.values()) - min(values.values()))


def test_slope_and_ratio_of_a_group_are_those_of_its_patients_alone(draw):
    p = draw(1500, Test, tasks=("death",))
    sex = np.where(np.arange(1500) % 3 == 0, "F", "M")
    p = with_attribute(p.with_proba(np.where((sex == "F")[:, None], p.proba**1.5, p.proba)), sex)
    found = evaluate(p, resamples=50, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"]
    for row in found.rows:
        mine = sex == row.group
        y, risk = p.labels[mine, 0], p.proba[mine, 0]
        line = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(risk)[:, None], y)
        assert row.rates["slope"].value == pytest.approx(line.coef_[0, 0], abs=1e-4)
        assert row.rates["o_to_e"].value == pytest.approx(y.sum() / risk.sum())
    ratios = {row.group: row.rates["o_to_e"] for row in found.rows}
    assert ratios["F"].low > 1.2 > ratios["M"].value
    names = {"sex": Grouping(("F", "M"), (sex == "M").astype(np.int64), 2, (False, False))}
    of = (
        p.labels[:, 0].astype(float),
        p.proba[:, 0] >= 0.2,
        np.arange(1500),
        0.2,
        Resampling.draw(p.subject_id, 5, 0),
        0,
    )
    withheld = fairness(names, *of)["sex"].rows
    assert len(withheld) == 2
    assert all(row.rates[name].reason == BY_GROUP for row in withheld for name in ("slope", "o_to_e"))


def test_two_groups_of_one_row_each_are_fishers_test():
    """Of two groups of equal size, the gap grows with the table's distance from the middle: Fisher's test."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        hit = rng.random(120) < np.where(np.arange(120) < 60, 0.3, 0.45)
        group = (np.arange(120) >= 60).astype(np.int64)
        table = [[(hit & (group == g)).sum(), (~hit & (group == g)).sum()] for g in (0, 1)]
        p = permutation_p(group, hit, np.arange(120), 2, np.random.default_rng(1))
        assert p == pytest.approx(fisher_exact(table).pvalue, abs=0.05)


def test_deals_are_those_of_shuffling_patients():
    """Patients of one, two and three rows: groups change places among patients of as many rows."""
    rng = np.random.default_rng(2)
    size = rng.integers(1, 4, 80)
    subject = np.repeat(np.arange(80), size)
    of = rng.integers(0, 3, 80)
    hit = rng.random(len(subject)) < np.array([0.2, 0.3, 0.45])[of[subject]]

    def spread(groups: np.ndarray) -> float:
        rates = [hit[groups[subject] == g].mean() for g in range(3)]
        return max(rates) - min(rates)

    reached = 0
    for _ in range(2000):
        dealt = of.copy()
        for k in (1, 2, 3):
            dealt[size == k] = rng.permutation(of[size == k])
        reached += spread(dealt) >= spread(of) - 1e-12
    hits = np.bincount(subject, hit).astype(np.int64)
    # nobody is dealt twice
    assert (_dealt(of, size, 1 + hits, 3, np.random.default_rng(0)).sum(axis=1) == (1 + hits).sum()).all()
    ours = permutation_p(of[subject], hit, subject, 3, np.random.default_rng(0))
    assert ours == pytest.approx(reached / 2000, abs=0.05)


def test_attributes_that_mean_nothing_are_rarely_found():
    """Over many stores; found is a gap of either of two attributes that survives Holm over their six rates."""
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        risk = np.repeat(expit(rng.normal(-0.6, 1, 300)), 2)  # two rows a patient, alike
        y, subject = (rng.random(600) < risk).astype(float), np.repeat(np.arange(300), 2)
        groupings = {
            name: Grouping(labels, np.repeat(rng.integers(0, len(labels), 300), 2), len(labels), (False,) * len(labels))
            for name, labels in (("one", ("a", "b")), ("other", ("a", "b", "c")))
        }
        resampling = Resampling.draw(subject, 1, 0)
        of = fairness(groupings, y, risk >= 0.35, np.arange(600), 0.35, resampling, seed)
        assert all(f.gaps for f in of.values())
        found += any(g.p_holm < 0.05 for f in of.values() for g in f.gaps)
    assert found / 200 < 0.081  # .05 and two standard errors


def test_a_planted_gap_is_found(draw):
    p = draw(3000, Test, tasks=("death",), seed=1)
    old = np.arange(3000) % 2 == 0
    risks = np.where(old[:, None], p.proba * 0.6, p.proba)
    p = with_attribute(p.with_proba(risks), np.where(old, "old", "young"))
    gaps = evaluate(p, resamples=20, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"].gaps
    sensitivity = next(g for g in gaps if g.rate == "sensitivity")
    assert (sensitivity.highest, sensitivity.lowest) == ("young", "old")
    assert sensitivity.p_holm < 0.01
    assert sensitivity.difference.low > 0


def test_small_groups_share_a_row_or_are_refused(draw):
    p = draw(900, Test, tasks=("death",))
    rare = with_attribute(p, np.where(np.arange(900) < 30, "x", np.where(np.arange(900) % 2 == 0, "y", "z")))
    found = evaluate(rare, resamples=10, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"]
    # the smallest of the large groups has joined x already where figures do not depend on alerts
    assert [row.group for row in found.rows] == ["y", "other values, each with few outcomes"]
    fewer = with_attribute(p, np.where(np.arange(900) < 90, "x", np.where(np.arange(900) % 2 == 0, "y", "z")))
    found = evaluate(fewer, resamples=10, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"]
    assert [row.group for row in found.rows][-1] == "other values, each with few alerts or outcomes"
    assert "x" not in [row.group for row in found.rows]
    alone = with_attribute(p, np.where(np.arange(900) < 30, "x", "y"))
    found = evaluate(alone, resamples=10, thresholds=AT).tasks["death"]["made_up"].decided.fairness["sex"]
    assert (found.reason, found.rows, found.gaps) == (ONE_GROUP, (), ())

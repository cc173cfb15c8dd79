"""Net benefit and figures at thresholds against tables made by hand and counting one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logit

from mmnar.errors import ConfigError
from mmnar.evaluation import evaluate
from mmnar.evaluation.cuts import Beside, withheld
from mmnar.evaluation.decided import EVERYONE, NOBODY
from mmnar.evaluation.decisions import Alerts, judged_alerts, points
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.thresholds import LADDER, Thresholds, of_rate, per_hundred, stated, usual
from mmnar.privacy import BESIDE, BETWEEN, BY_GROUP, FEW_OUTCOMES
from mmnar.roles import Test

EVERY_ROW = np.arange


def everybody(n: int, resamples: int = 3, subject: np.ndarray | None = None) -> Resampling:
    return Resampling.draw(np.arange(n) if subject is None else subject, resamples, 0)


def test_a_table_made_by_hand():
    """100 patients, 20 with the event; 30 reach 25 %, 12 of them with the event; 10 reach 50 %, 6 with it."""
    p = np.repeat([0.6, 0.3, 0.1], [10, 20, 70])
    y = np.concatenate([np.arange(10) < 6, np.arange(20) < 6, np.arange(70) < 8]).astype(float)
    alerts = Alerts.of(y, p, EVERY_ROW(100), [0.5, 0.25], everybody(100))
    figures = {name: values[0] for name, values in alerts.figures().items()}
    # .06 − .04 · 1 = .02 and .12 − .18 / 3 = .06
    np.testing.assert_allclose(figures["net_benefit"], [0.02, 0.06])
    np.testing.assert_allclose(figures["sensitivity"], [0.3, 0.6])
    np.testing.assert_allclose(figures["specificity"], [76 / 80, 62 / 80])
    np.testing.assert_allclose(figures["ppv"], [0.6, 0.4])
    np.testing.assert_allclose(figures["npv"], [76 / 90, 62 / 70])
    np.testing.assert_allclose(figures["alerts"], [0.1, 0.3])
    np.testing.assert_allclose(figures["missed"], [0.14, 0.08])
    np.testing.assert_allclose(figures["evaluated_per_event"], [10 / 6, 2.5])
    # everyone: .2 − .8 · 1 and .2 − .8 / 3
    np.testing.assert_allclose(alerts.net_benefit_of_everyone()[0], [-0.6, 0.2 - 0.8 / 3])


def test_every_resample_counted_one_by_one():
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 60, 200)
    # risks at a threshold get an alert; thresholds come in no order, one of them twice
    p, y, at = np.round(rng.random(200), 2), (rng.random(200) < 0.3).astype(float), [0.5, 0.11, 0.5, 0.9]
    rows = np.flatnonzero(rng.random(200) < 0.8)
    resampling = everybody(200, 7, subject)
    alerts = Alerts.of(y[rows], p[rows], rows, at, resampling)
    weights = np.column_stack([np.ones((len(rows), 1)), *resampling.weights(rows)])
    for b in range(8):
        w = weights[:, b]
        for i, t in enumerate(at):
            found = sum(w[j] for j, r in enumerate(rows) if p[r] >= t and y[r] == 1)
            false = sum(w[j] for j, r in enumerate(rows) if p[r] >= t and y[r] == 0)
            assert (alerts.found[b, i], alerts.false[b, i]) == (found, false)
            expected = (found - false * t / (1 - t)) / w.sum()
            assert alerts.net_benefit()[b, i] == pytest.approx(expected)


def test_differences_are_paired_and_of_the_same_resamples(draw):
    model = draw(900, Test, tasks=("death",))
    worse = model.with_proba(expit(0.3 * logit(model.proba) - 1), model="worse")
    at = {"death": stated([0.2, 0.1], "death")}
    result = evaluate(model, worse, controls=["worse"], resamples=200, thresholds=at)
    found = {(d.threshold, d.model, d.against): d.difference for d in result.decisions["death"].differences}
    benefit = {
        (p.threshold, name): p.figures["net_benefit"]
        for name, entry in result.tasks["death"].items()
        for p in entry.decided.points
    }
    difference = found[0.2, "made_up", "worse"]
    assert difference.value == pytest.approx(benefit[0.2, "made_up"].value - benefit[0.2, "worse"].value)
    assert found[0.2, "made_up", NOBODY] == benefit[0.2, "made_up"]
    everyone = dict(result.decisions["death"].everyone)
    assert found[0.1, "made_up", EVERYONE].value == pytest.approx(benefit[0.1, "made_up"].value - everyone[0.1].value)
    # paired: narrower than if the two were independent
    widths = [e.high - e.low for e in (difference, benefit[0.2, "made_up"], benefit[0.2, "worse"])]
    assert widths[0] < 0.9 * np.hypot(widths[1], widths[2])
    assert not any(d.against == "worse" for d in result.decisions["death"].differences if d.model == "worse")


def between(p: np.ndarray, y: np.ndarray, cuts: list[float]) -> list[tuple[int, int]]:
    """(with, without the event) of what lies between neighbours among the cuts, rows being patients."""
    edges = [-np.inf, *sorted(cuts), np.inf]
    inside = [(p >= a) & (p < b) for a, b in pairwise(edges)]
    return [(int(y[i].sum()), int((1 - y[i]).sum())) for i in inside]


def test_no_two_thresholds_have_few_between_them():
    rng = np.random.default_rng(0)
    for _ in range(60):
        n = int(rng.integers(60, 500))
        p = np.round(expit(rng.normal(-1.5, rng.choice([0.1, 1.5]), n)), rng.choice([1, 2, 6]))
        y = (rng.random(n) < p).astype(float)
        reasons = withheld(p, y, np.arange(n), LADDER)
        shown = [t for t, why in zip(LADDER, reasons, strict=True) if not why]
        assert all(cell == (0, 0) or min(cell) >= 10 for cell in between(p, y, shown))
        # the first that could be shown is: nothing is withheld without need
        for t, why in zip(LADDER, reasons, strict=True):
            if not why:
                break
            assert any(sum(cell) > 0 and min(cell) < 10 for cell in between(p, y, [t]))


def test_nine_patients_with_many_rows_are_nine():
    subject = np.repeat(np.arange(40), 10)
    y = np.repeat(np.arange(40) % 2, 10).astype(float)
    p = np.where(subject < 18, 0.9, 0.1)  # nine of them with the event
    assert withheld(p, y, subject, [0.5]) == [BETWEEN]
    p = np.where(subject < 20, 0.9, 0.1)
    assert withheld(p, y, subject, [0.5]) == [""]


def test_earlier_thresholds_are_served_first():
    p = np.linspace(0.01, 0.99, 99)
    y = (np.arange(99) % 2).astype(float)
    assert withheld(p, y, np.arange(99), [0.5, 0.55, 0.75, 0.999]) == ["", BETWEEN, "", ""]
    assert withheld(p, y, np.arange(99), [0.55, 0.5]) == ["", BETWEEN]
    assert withheld(p, y * (np.arange(99) < 18), np.arange(99), [0.5]) == [FEW_OUTCOMES]


def test_a_row_of_the_table_by_pattern_is_not_parted():
    p, row = np.repeat([0.2, 0.4, 0.6], 60), np.repeat([1, 1, 0], 60)
    y = (np.arange(180) % 2).astype(float)
    assert withheld(p, y, np.arange(180), [0.3, 0.5], row) == [BY_GROUP, ""]


def test_a_rectifier_that_moves_few_across_a_threshold_tells_of_nobody():
    rng = np.random.default_rng(0)
    p = rng.random(800) * 0.9
    y, subject = (rng.random(800) < 0.4).astype(float), np.arange(800)
    at = (0.2, 0.5)
    assert withheld(p, y, subject, at) == ["", ""]
    # five are raised across the first threshold
    below = np.flatnonzero(p < 0.2)[np.argsort(p[p < 0.2])[-5:]]
    moved = p.copy()
    moved[below] = 0.21
    assert withheld(moved, y, subject, at, beside=Beside(p, at)) == [BESIDE, ""]
    # many are raised: those who cross are many, too
    many = np.clip(p + np.where(subject % 2 == 0, 0.3, 0.0), 0, 1)
    assert withheld(many, y, subject, at, beside=Beside(p, at)) == ["", ""]


def test_a_rectifier_that_ranks_alike_shares_the_cuts_of_its_base(draw):
    """All are raised alike: a cut of one is a cut of the other, and what lies between two of them is few."""
    rng = np.random.default_rng(0)
    p, y = rng.random(800) / 2, (rng.random(800) < 0.4).astype(float)
    # from .5 on after the rectifier are those from .2 on before it; between .2 and .35 lie many, but perhaps a corner
    assert withheld(p + 0.3, y, np.arange(800), (0.5, 0.65), beside=Beside(p, (0.2,))) == ["", BESIDE]
    base = draw(900, Test, tasks=("death",))
    same = base.with_proba(expit(logit(base.proba) + 0.6), model="made_up+rectifier")
    at = {"death": stated([0.2, 0.3], "death")}
    result = evaluate(base, same, resamples=5, thresholds=at)
    entries = result.tasks["death"]
    assert entries["made_up"].roc == entries["made_up+rectifier"].roc
    told = [p for p in entries["made_up+rectifier"].decided.points if p.figures["net_benefit"].value not in (None, 0.0)]
    ours = [p.figures["net_benefit"].value for p in entries["made_up"].decided.points]
    assert all(p.figures["net_benefit"].value in ours for p in told)
    assert entries["made_up+rectifier"].decided.fairness == {}
    assert entries["made_up"].decided.fairness


def test_thresholds_are_from_what_was_known_before(draw):
    learned = draw(2000, tasks=("death",), seed=5)
    risks, _, asked = learned.task("death")
    for k, t in per_hundred(learned, "death").items():
        assert np.mean(risks[asked] >= t) == pytest.approx(k / 100, abs=0.002)
    at = replace(of_rate(0.07, "said"), per_100={"made_up": per_hundred(learned, "death")})
    scored = draw(1500, Test, tasks=("death",), first_subject=5000)
    changed = replace(scored, labels=~scored.labels & scored.label_mask)
    first, other = (evaluate(p, resamples=10, thresholds={"death": at}) for p in (scored, changed))
    for result in (first, other):
        assert result.decisions["death"].stated == (0.04, 0.075, 0.125)
        kinds = [(p.kind, p.threshold) for p in result.tasks["death"]["made_up"].decided.points]
        assert kinds == [(p.kind, p.threshold) for p in first.tasks["death"]["made_up"].decided.points]


def test_the_ladder_is_used_about_the_rate():
    for rate in (0.004, 0.01, 0.08, 0.3, 0.5, 0.9, 0.99):
        at = of_rate(rate, "")
        assert set(at.stated) | set(at.curve) <= set(LADDER)
        assert at.main in at.stated
        assert set(at.stated) <= set(at.curve)
    assert usual().main in usual().stated


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [0.2, -0.1], [float("nan")]])
def test_thresholds_that_are_none_are_refused(values):
    with pytest.raises(ConfigError, match="thresholds of task 'death': expected risks between 0 and 1"):
        stated(values, "death")


def test_thresholds_of_an_unknown_task_are_refused(draw):
    with pytest.raises(ConfigError, match="did you mean 'death'"):
        evaluate(draw(300, Test), resamples=5, thresholds={"deaht": usual()})


def test_a_task_with_few_events_has_no_figures(draw):
    p = draw(400, Test, tasks=("death",))
    few = replace(p, labels=p.labels & (np.arange(400) < 25)[:, None])
    assert few.labels.sum() < 10
    result = evaluate(few, resamples=10)
    decided = result.tasks["death"]["made_up"].decided
    assert (decided.reason, decided.points, decided.calibrated, decided.risks) == (FEW_OUTCOMES, (), None, ())
    assert result.decisions["death"].everyone == ()
    nobody = evaluate(replace(p, labels=p.labels & False), resamples=10)
    assert nobody.tasks["death"]["made_up"].decided.reason == "no events"


def test_each_risk_is_asked_for_once():
    at = Thresholds(0.2, (0.1, 0.2), (0.05, 0.1, 0.2, 0.4), "", {"m": {5: 0.31}})
    wanted = at.of("m")
    assert [t for t, _, _ in wanted][:3] == [0.2, 0.1, 0.31]
    assert sorted(t for t, _, _ in wanted) == [0.05, 0.1, 0.2, 0.31, 0.4]
    y, p = (np.arange(400) % 4 == 0).astype(float), np.linspace(0.01, 0.99, 400)
    shown = points(judged_alerts("m", y, p, EVERY_ROW(400), at, everybody(400)))
    assert [(q.kind, q.threshold) for q in shown] == [
        ("stated", 0.1),
        ("stated", 0.2),
        ("per 100", 0.31),
        ("curve", 0.05),
        ("curve", 0.4),
    ]

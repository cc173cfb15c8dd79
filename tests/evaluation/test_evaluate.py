from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from mmnar.errors import ConfigError, LeakageError, SchemaError
from mmnar.evaluation import TaskCounts, evaluate
from mmnar.evaluation.compare import bootstrap_p, holm, sign_flip_p
from mmnar.evaluation.curves import Curves, curves
from mmnar.predictions import concat
from mmnar.privacy import FEW, FEW_OUTCOMES
from mmnar.report.parts.summary import summarise
from mmnar.report.terminal import result_text
from mmnar.roles import Calibration, Test, Train, Tune


def noisy(p, sd, seed=0, model="noisy"):
    rng = np.random.default_rng(seed)
    return p.with_proba(expit(logit(p.proba) + rng.normal(0, sd, p.proba.shape)), model=model)


def test_a_whole_result(draw):
    good = draw(800, Test, rows_per_subject=2)
    result = evaluate(good, noisy(good, 1.0), controls=["noisy"], resamples=100)
    assert list(result.tasks) == ["death", "los"]
    entry = result.tasks["death"]["made_up"]
    p, y, asked = good.task("death")
    assert entry.metrics["auroc"].value == pytest.approx(roc_auc_score(y[asked], p[asked]))
    assert entry.metrics["auroc"].low < entry.metrics["auroc"].value < entry.metrics["auroc"].high
    expected = {"auroc", "auprc", "brier", "log_loss", "ece", "auroc_within_pattern", "auroc_between_pattern"}
    assert expected | {"pattern_pair_share", "auroc_gap_to_bayes", "kl_to_bayes"} <= set(entry.metrics)
    assert result.counts["death"].n == asked.sum()
    assert result.counts["death"].subjects == len(np.unique(good.subject_id[asked]))
    assert {c.metric for c in result.comparisons} == {"auroc", "auprc", "brier", "log_loss"}
    auroc = next(c for c in result.comparisons if (c.task, c.metric) == ("death", "auroc"))
    assert auroc.difference.value > 0
    assert auroc.p < 0.05
    assert entry.oracle.words
    assert {row.group for row in entry.subgroups["sex"]} == {"F", "M", "unknown"}
    json.dumps(result.to_dict())


def test_unknown_truth_means_no_gap(draw):
    p = replace(draw(300, Test), bayes=None)
    metrics = evaluate(p, resamples=20).tasks["death"]["made_up"].metrics
    assert "auroc_gap_to_bayes" not in metrics


@pytest.mark.parametrize("role", [Train, Tune, Calibration])
def test_other_roles_are_refused(draw, role):
    with pytest.raises(LeakageError, match="test predictions"):
        evaluate(draw(100, role))


def test_scored_subjects_that_were_fitted_on_are_refused(draw):
    p = draw(100, Test)
    with pytest.raises(LeakageError, match="seen during fitting"):
        evaluate(p.also_fitted_on(replace(p, subject_digest=np.full(100, p.subject_digest[0])).subjects()))


def test_names_and_samples_are_checked(draw):
    a = draw(200, Test)
    b = noisy(a, 1.0)
    with pytest.raises(SchemaError, match="twice"):
        evaluate(a, a)
    with pytest.raises(SchemaError, match="no name"):
        evaluate(replace(a, provenance={}))
    with pytest.raises(SchemaError, match="at least one"):
        evaluate()
    with pytest.raises(ConfigError, match="noisy"):
        evaluate(a, b, controls=["nosy"])
    with pytest.raises(SchemaError, match="beside it"):
        evaluate(noisy(a, 0.1, model="made_up+rectifier"))
    flipped = b.labels.copy()
    flipped[np.flatnonzero(b.label_mask[:, 0])[0], 0] ^= True
    for other in (
        replace(b, labels=flipped),
        replace(b, subject_id=b.subject_id + 1),
        replace(b, fold=b.fold + 1, fitted_subjects=b.fitted_subjects * 2),
    ):
        with pytest.raises(SchemaError, match="the same rows"):
            evaluate(a, other)
    with pytest.raises(SchemaError, match="tasks"):
        evaluate(a, replace(b, tasks=("death", "readmission")))


def test_a_task_without_events_is_refused_with_the_reason(draw):
    p = draw(200, Test)
    empty = replace(p, labels=p.labels & np.array([True, False]))
    result = evaluate(empty, noisy(empty, 1.0), controls=["noisy"], resamples=20)
    metrics = result.tasks["los"]["made_up"].metrics
    assert all(e.value is None and e.reason == "no events" for e in metrics.values())
    refused = [c for c in result.comparisons if c.task == "los"]
    assert all(c.p is None and c.p_holm is None and c.difference.reason for c in refused)
    assert result.tasks["los"]["made_up"].roc is None


def test_a_task_nobody_was_asked_is_refused(draw):
    p = draw(200, Test)
    silent = replace(p, label_mask=p.label_mask & np.array([True, False]), labels=p.labels & np.array([True, False]))
    entry = evaluate(silent, resamples=20).tasks["los"]["made_up"]
    assert entry.metrics["brier"].reason == "no rows"
    assert entry.patterns == ()
    assert entry.calibration is None


def test_how_many_were_asked_is_hidden_where_they_are_few(draw):
    p = draw(200, Test)
    asked = np.ones((200, 2), dtype=bool)
    asked[7:, 1] = False
    labels = np.zeros((200, 2), dtype=bool)
    labels[3:, 0] = True  # three of 200 without the event
    result = evaluate(replace(p, label_mask=asked, labels=labels & asked), resamples=20)
    death, los = TaskCounts(200, None, 200, FEW_OUTCOMES), TaskCounts(None, None, None, FEW)
    assert result.counts == {"death": death, "los": los}
    assert "death: 200 samples of 200 patients, events: withheld" in result_text(result)
    assert "los: <10 samples of <10 patients, events: withheld" in result_text(result)
    sentence = summarise(result, "death", "made_up")[0]
    assert sentence == (
        "The test fold held 200 samples of 200 patients. How often the outcome occurred is withheld: "
        "fewer than 10 patients with or without the event."
    )


def test_cross_validated_predictions_are_averaged_over_folds(draw):
    parts = [draw(300, Test, seed=k, first_subject=k * 1000) for k in range(3)]
    joined = concat([p.with_proba(p.proba / (k + 1)) for k, p in enumerate(parts)])
    value = evaluate(joined, resamples=50).tasks["death"]["made_up"].metrics["auroc"].value
    by_fold = []
    for part in parts:
        p, y, asked = part.task("death")
        by_fold.append(roc_auc_score(y[asked], p[asked]))
    assert value == pytest.approx(np.mean(by_fold))


def test_patterns_with_few_outcomes_share_a_row(draw):
    p = draw(1000, Test, tasks=("death",))
    y = p.labels[:, 0]
    present = np.tile([True, True, True], (1000, 1))
    present[:6, 0] = False
    present[6:13, 1] = False
    everybody = np.ones_like(p.label_mask)
    rows = evaluate(replace(p, present=present, label_mask=everybody), resamples=20).tasks["death"]["made_up"].patterns
    # what is left of all events beside the large pattern would be those of thirteen patients
    assert [(r.group, r.n) for r in rows] == [("other patterns, each with few outcomes", 1000)]

    present[13:500, 2] = False
    rows = evaluate(replace(p, present=present, label_mask=everybody), resamples=20).tasks["death"]["made_up"].patterns
    assert [r.group for r in rows] == ["a + b + c", "other patterns, each with few outcomes"]
    assert [(r.n, r.events) for r in rows] == [(500, int(y[500:].sum())), (500, int(y[:500].sum()))]
    for row in rows:
        assert row.observed_rate.value == pytest.approx(row.events / row.n)
        assert row.calibration_bias.value == pytest.approx(row.observed_rate.value - row.mean_risk.value)

    rare = replace(p, present=present, label_mask=everybody, labels=p.labels & (np.arange(1000) < 20)[:, None])
    (row,) = evaluate(rare, resamples=20).tasks["death"]["made_up"].patterns
    assert (row.n, row.events, row.auroc.value, row.mean_risk.reason) == (None, None, None, FEW_OUTCOMES)


def test_counts_of_groups_tell_no_small_count_with_the_total(draw):
    """Attack: whoever knows how many were asked and how many had the event subtracts what is shown."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        p = draw(300, Test, tasks=("death",), seed=int(rng.integers(1 << 30)))
        present = np.ones((300, 3), dtype=bool)
        present[rng.random(300) < rng.choice([0.01, 0.1]), 0] = False
        present[rng.random(300) < 0.05, 1] = False
        result = evaluate(replace(p, present=present, label_mask=np.ones_like(p.label_mask)), resamples=2)
        rows, y = result.tasks["death"]["made_up"].patterns, p.labels[:, 0]
        for total, shown in (
            (300, [r.n for r in rows]),
            (int(y.sum()), [r.events for r in rows]),
            (int((~y).sum()), [None if r.events is None else r.n - r.events for r in rows]),
        ):
            left = total - sum(n for n in shown if n is not None)
            assert left == 0 or left >= 10, (total, shown)
            assert all(n >= 10 for n in shown if n is not None), shown


def test_nine_patients_with_many_rows_are_still_nine(draw):
    p = draw(900, Test, tasks=("death",), rows_per_subject=100)
    rows = evaluate(p, resamples=20).tasks["death"]["made_up"].patterns
    assert [r.n for r in rows] == [None]


def test_holm_against_statsmodels(draw):
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = np.round(rng.random(rng.integers(1, 8)) ** 3, 3)
        np.testing.assert_allclose(holm(p.tolist()), multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_holm_counts_every_comparison_of_a_metric_of_a_task(draw):
    a = draw(400, Test)
    models = [a, noisy(a, 0.5, model="x"), noisy(a, 1.0, 1, model="y")]
    result = evaluate(*models, controls=["x", "y"], resamples=60)
    for task, metric in product(a.tasks, ("auroc", "brier", "log_loss")):
        mine = [c for c in result.comparisons if (c.task, c.metric) == (task, metric)]
        assert len(mine) == 2
        np.testing.assert_allclose([c.p_holm for c in mine], multipletests([c.p for c in mine], method="holm")[1])


def test_equal_models_do_not_differ(draw):
    a = draw(300, Test)
    result = evaluate(a, a.with_proba(a.proba, model="twin"), controls=["twin"], resamples=50)
    assert all(c.difference.value == 0 and c.p == 1.0 for c in result.comparisons)


def test_p_values_are_uniform_where_models_are_equally_bad(draw):
    p_auroc, p_brier = [], []
    for seed in range(60):
        a = draw(200, Test, seed=seed, tasks=("death",))
        result = evaluate(
            noisy(a, 0.7, seed), noisy(a, 0.7, seed + 1000, "other"), controls=["other"], resamples=99, seed=seed
        )
        p = {c.metric: c.p for c in result.comparisons}
        p_auroc.append(p["auroc"])
        p_brier.append(p["brier"])
    assert np.mean(np.array(p_auroc) < 0.1) < 0.24
    assert np.mean(np.array(p_brier) < 0.1) < 0.24
    assert 0.3 < np.mean(p_brier) < 0.7


def test_sign_flips_by_enumeration():
    d = np.array([0.5, -0.2, 0.9, 0.4, 0.1, 0.3])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert sign_flip_p(d, 20_000, 0) == pytest.approx(exact, abs=0.01)


def test_bootstrap_p_is_two_sided():
    d = np.random.default_rng(0).normal(1, 1, 999)
    assert bootstrap_p(d) == bootstrap_p(-d)


def test_curves_are_those_of_their_metrics(draw):
    y = (np.random.default_rng(0).random(3000) < 0.3).astype(float)
    p = np.clip(0.3 + 0.15 * y + np.random.default_rng(1).normal(0, 0.2, 3000), 0, 1)
    fold = np.zeros(3000, dtype=np.int64)
    drawn = curves(y, p, fold, np.arange(3000))
    roc, pr, calibration = drawn.roc, drawn.pr, drawn.calibration
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc_auc_score(y, p), abs=0.003)
    assert pr.y[-1] == pytest.approx(y.mean(), abs=0.02)
    assert 8 <= len(calibration.x) <= 10
    assert all(a <= b <= c for a, b, c in zip(calibration.low, calibration.y, calibration.high, strict=True))
    assert curves(y, p, fold, np.zeros(3000, dtype=np.int64)) == Curves()


def test_evaluation_needs_no_torch():
    code = "import sys, mmnar.evaluation, mmnar.posthoc; sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from mmnar.evaluation.intervals import Resampling, estimate, point
from mmnar.evaluation.metrics import (
    METRICS,
    Auroc,
    FoldMean,
    Mean,
    UndefinedMetricError,
    auroc,
    average_precision,
    brier,
    ece,
    log_loss,
)
from mmnar.evaluation.patterns import split_metrics
from mmnar.evaluation.simulated import excess_brier, excess_kl, simulated_metrics

FUNCTIONS = {"auroc": auroc, "auprc": average_precision, "brier": brier, "log_loss": log_loss, "ece": ece}


def sample(seed, n=300, ties=True):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    p = np.clip(0.3 + 0.2 * y + rng.normal(0, 0.25, n), 0.01, 0.99)
    return y, np.clip(np.round(p, 1), 0.05, 0.95) if ties else p, rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_against_scikit_learn(ties, weighted):
    for seed in range(5):
        y, p, w = sample(seed, ties=ties)
        w = w if weighted else np.ones_like(w)
        assert auroc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
        assert average_precision(y, p, w) == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)
        assert brier(y, p, w) == pytest.approx(brier_score_loss(y, p, sample_weight=w), abs=1e-12)
        assert log_loss(y, p, w) == pytest.approx(sklearn_log_loss(y, p, sample_weight=w), abs=1e-12)


def brute(y, p, allowed):
    right = total = 0.0
    for i in range(len(y)):
        for j in range(len(y)):
            if i != j and allowed(i, j):
                pair = y[i] * (1 - y[j])
                total += pair
                right += pair * ((p[i] > p[j]) + 0.5 * (p[i] == p[j]))
    return right / total, total


def test_auroc_is_the_share_of_pairs():
    y, p, _ = sample(0, 120)
    assert auroc(y, p) == pytest.approx(brute(y, p, lambda i, j: True)[0], abs=1e-14)


def test_soft_auroc_is_the_share_of_pairs_without_a_patient_and_itself():
    _, p, _ = sample(0, 80)
    truth = np.clip(p + np.random.default_rng(1).normal(0, 0.1, 80), 0.01, 0.99)
    assert point(Auroc(truth, p), 80) == pytest.approx(brute(truth, p, lambda i, j: True)[0], abs=1e-14)


def test_soft_auroc_is_the_mean_over_labels():
    rng = np.random.default_rng(0)
    p = rng.random(400)
    truth = np.clip(p + rng.normal(0, 0.2, 400), 0.02, 0.98)
    drawn = [auroc((rng.random(400) < truth).astype(float), p) for _ in range(400)]
    assert point(Auroc(truth, p), 400) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 20)


@pytest.mark.parametrize("seed", range(3))
def test_pattern_split_is_exact(seed):
    y, p, _ = sample(seed, 120)
    g = np.random.default_rng(seed).integers(0, 5, 120)
    values = {k: point(m, 120) for k, m in split_metrics(y, p, g, np.zeros(120, dtype=np.int64)).items()}
    within, n_within = brute(y, p, lambda i, j: g[i] == g[j])
    between, n_between = brute(y, p, lambda i, j: g[i] != g[j])
    w = values["pattern_pair_share"]
    assert values["auroc_within_pattern"] == pytest.approx(within, abs=1e-13)
    assert values["auroc_between_pattern"] == pytest.approx(between, abs=1e-13)
    assert w == pytest.approx(n_within / (n_within + n_between), abs=1e-13)
    assert w * values["auroc_within_pattern"] + (1 - w) * values["auroc_between_pattern"] == pytest.approx(auroc(y, p))


def test_a_model_that_reads_the_pattern_ranks_nothing_within():
    g = np.arange(200) % 4
    y = (np.random.default_rng(0).random(200) < 0.2 + 0.15 * g).astype(float)
    values = {k: point(m, 200) for k, m in split_metrics(y, g / 4, g, np.zeros(200, dtype=np.int64)).items()}
    assert values["auroc_within_pattern"] == 0.5
    assert values["auroc_between_pattern"] > 0.6


@pytest.mark.parametrize("name", METRICS)
def test_integer_weights_are_copies(name):
    y, p, w = sample(3)
    copies = np.repeat(np.arange(len(y)), w.astype(int))
    assert FUNCTIONS[name](y, p, w) == pytest.approx(FUNCTIONS[name](y[copies], p[copies]), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_order_of_rows_does_not_matter(name):
    y, p, w = sample(4)
    order = np.random.default_rng(0).permutation(len(y))
    assert FUNCTIONS[name](y, p, w) == pytest.approx(FUNCTIONS[name](y[order], p[order], w[order]), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("y", "why"), [([0, 0], "no events"), ([1, 1], "only events"), ([], "no rows")])
def test_one_class_is_refused_with_the_reason(name, y, why):
    with pytest.raises(UndefinedMetricError, match=why):
        FUNCTIONS[name](y, [0.5] * len(y))


def test_ece_by_hand():
    p = np.arange(1000) / 1000
    y = (np.arange(1000) % 2).astype(float)
    by_hand = np.mean([abs(y[b].mean() - p[b].mean()) for b in np.arange(1000).reshape(10, 100)])
    assert ece(y, p) == pytest.approx(by_hand)


def test_ece_bins_ties_by_their_middle():
    """5 % and 10 % of the rows, middles at .025 and .10: bins 0 and 1, so their errors do not cancel."""
    p = np.repeat([0.2, 0.5, 0.8], [50, 100, 850])
    y = np.concatenate([np.arange(50) < 35, np.zeros(100), np.arange(850) < 680]).astype(float)
    assert ece(y, p) == pytest.approx(0.05 * 0.5 + 0.10 * 0.5)


def test_certain_and_wrong_costs_a_finite_amount():
    assert log_loss([0, 1], [1.0, 1.0]) == pytest.approx(34.54 / 2, abs=0.01)


risks = st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 3)), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(risks)
def test_bounds(rows):
    y, p, w = (np.array(c, dtype=float) for c in zip(*rows, strict=True))
    counted = y[w > 0]
    if len(counted) == 0 or counted.min() == counted.max():
        for f in FUNCTIONS.values():
            with pytest.raises(UndefinedMetricError):
                f(y, p, w)
        return
    assert 0 <= auroc(y, p, w) <= 1
    assert auroc(y, 1 - np.round(p, 6), w) == pytest.approx(1 - auroc(y, np.round(p, 6), w), abs=1e-9)
    assert 0 < average_precision(y, p, w) <= 1 + 1e-12
    assert 0 <= brier(y, p, w) <= 1
    assert 0 <= log_loss(y, p, w) <= 35
    assert 0 <= ece(y, p, w) <= 1
    assert ece(y, p, w) >= abs(np.average(y - p, weights=w)) - 1e-12


def test_folds_are_never_ranked_against_each_other():
    y, p, _ = sample(5, 400, ties=False)
    fold = np.arange(400) % 2
    shifted = np.where(fold == 1, p / 10, p)
    whole = np.mean([roc_auc_score(y[fold == k], p[fold == k]) for k in (0, 1)])
    assert point(FoldMean(Auroc, fold, y, shifted), 400) == pytest.approx(whole)
    assert auroc(y, shifted) != pytest.approx(whole, abs=1e-3)


def test_true_risks_have_no_gap():
    rng = np.random.default_rng(0)
    truth, fold = rng.random(200), np.zeros(200, dtype=np.int64)
    for metric in simulated_metrics(truth, truth, fold).values():
        assert point(metric, 200) == pytest.approx(0, abs=1e-15)
    other = np.clip(truth + rng.normal(0, 0.2, 200), 0.01, 0.99)
    for metric in simulated_metrics(truth, other, fold).values():
        assert point(metric, 200) > 0
    y = (rng.random((20_000, 200)) < truth).astype(float)
    gain = [np.mean((other - row) ** 2) - np.mean((truth - row) ** 2) for row in y]
    assert np.mean(gain) == pytest.approx(excess_brier(truth, other).mean(), abs=1e-3)
    gain = [log_loss(row, other) - log_loss(row, truth) for row in y[:4000]]
    assert np.mean(gain) == pytest.approx(excess_kl(truth, other).mean(), abs=4e-3)


# --- intervals ------------------------------------------------------------------------------------------------------


def test_a_resample_is_a_copy_of_patients():
    """The weights of a resample give what scikit-learn gives on the copied rows."""
    y, p, _ = sample(6, 120)
    subject = np.arange(120) // 3 * 7
    resampling = Resampling.draw(subject, 20, seed=1)
    rows = np.arange(120)
    values = resampling.values(Auroc(y, p), rows)
    counts = np.concatenate(resampling.counts, axis=1)
    assert (counts.sum(axis=0) == 40).all()
    for b in range(20):
        copies = np.concatenate([np.tile(np.flatnonzero(subject == s * 7), counts[s, b]) for s in range(40)])
        assert values[b] == pytest.approx(roc_auc_score(y[copies], p[copies]), abs=1e-12)


def test_patients_not_rows_are_resampled():
    """Ten copies of every row must not narrow the interval."""
    y, p, _ = sample(7, 200, ties=False)
    one, _ = estimate(Auroc(y, p), np.arange(200), Resampling.draw(np.arange(200), 400, 0), "")
    rep = np.repeat(np.arange(200), 10)
    ten, _ = estimate(Auroc(y[rep], p[rep]), np.arange(2000), Resampling.draw(rep, 400, 0), "")
    assert (ten.low, ten.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_coverage_of_a_rate_and_of_an_auroc():
    rng = np.random.default_rng(0)
    truth_auroc = 0.7602  # Phi(1 / sqrt 2)
    rate_in = auroc_in = 0
    for seed in range(200):
        y = (rng.random(150) < 0.3).astype(float)
        p = rng.normal(y, 1)
        resampling, rows = Resampling.draw(np.arange(150), 200, seed), np.arange(150)
        rate, _ = estimate(Mean(y), rows, resampling, "")
        area, _ = estimate(Auroc(y, p), rows, resampling, "")
        rate_in += rate.low <= 0.3 <= rate.high
        auroc_in += area.low <= truth_auroc <= area.high
    assert 175 <= rate_in <= 199
    assert 175 <= auroc_in <= 199


def test_the_same_seed_gives_the_same_interval():
    y, p, _ = sample(8)
    rows = np.arange(300)
    a, _ = estimate(Auroc(y, p), rows, Resampling.draw(rows, 100, 5), "")
    assert a == estimate(Auroc(y, p), rows, Resampling.draw(rows, 100, 5), "")[0]
    assert a != estimate(Auroc(y, p), rows, Resampling.draw(rows, 100, 6), "")[0]


def test_no_interval_where_resamples_lack_a_class():
    y = np.zeros(50)
    y[0] = 1
    e, _ = estimate(Auroc(y, np.arange(50) / 50), np.arange(50), Resampling.draw(np.arange(50), 200, 0), "")
    assert e.value == 0
    assert e.low is None
    assert "resamples" in e.reason


def test_twenty_thousand_patients_take_a_second():
    rng = np.random.default_rng(0)
    y, p, rows = (rng.random(20_000) < 0.2).astype(float), rng.random(20_000), np.arange(20_000)
    start = time.process_time()
    estimate(Auroc(y, p), rows, Resampling.draw(rows, 1000, 0), "")
    assert time.process_time() - start < 4  # about .7 s on an idle core

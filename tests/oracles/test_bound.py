"""The alarm: silent for honest rectifiers, loud for one that saw the labels it is scored on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from mmnar.evaluation import evaluate
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.metrics import auroc
from mmnar.evaluation.oracle import corrected_by_halves
from mmnar.evaluation.scored import score
from mmnar.posthoc import LatticeRectifier
from mmnar.posthoc.rectify import residual_means
from mmnar.roles import Calibration, Test

BIAS = np.array([0.0, 1.0, -1.0])


def cheat(p):
    """Pattern mean residuals of the very labels that are scored, added back."""
    index, patterns = p.pattern_ids()
    columns = []
    for task in p.tasks:
        proba, labels, asked = p.task(task)
        tau = residual_means(proba[asked], labels[asked].astype(float), index[asked], len(patterns))
        columns.append(np.clip(proba + tau[index], 0, 1))
    return p.with_proba(np.stack(columns, axis=1), model="made_up+rectifier")


def honest(draw, seed, bias=None, modalities=3):
    c = draw(2000, Calibration, seed=seed, first_subject=50_000, bias=bias, modalities=modalities)
    t = draw(1000, Test, seed=seed + 100, bias=bias, modalities=modalities)
    return t, LatticeRectifier().fit(c).apply(t)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("modalities", [3, 10])
def test_honest_rectifiers_raise_no_alarm(draw, known, modalities):
    alarms = []
    for seed in range(6):
        bias = None if modalities == 10 else BIAS
        models = honest(draw, seed, bias, modalities)
        models = models if known else tuple(replace(m, bayes=None) for m in models)
        result = evaluate(*models, resamples=60, seed=seed)
        alarms += [result.tasks[t]["made_up+rectifier"].oracle.alarm for t in result.tasks]
    assert sum(alarms) <= 1


@pytest.mark.parametrize("known", [True, False])
def test_a_rectifier_that_saw_its_labels_raises_the_alarm(draw, known):
    t = draw(1000, Test, modalities=10)
    t = t if known else replace(t, bayes=None)
    result = evaluate(t, cheat(t), resamples=60)
    for task in t.tasks:
        oracle = result.tasks[task]["made_up+rectifier"].oracle
        assert oracle.alarm
        assert oracle.reported_gain > 0.03
        assert "look for labels" in oracle.words


def test_the_bound_is_the_gain_of_the_exact_correction(draw):
    t = draw(6000, Test, bias=BIAS, tasks=("death",))
    exact = t.with_proba(expit(logit(t.proba) + (t.present @ BIAS)[:, None]), model="exact")
    result = evaluate(t, exact, resamples=50).tasks["death"]
    gain = result["exact"].metrics["auroc"].value - result["made_up"].metrics["auroc"].value
    assert gain > 0.01
    assert result["made_up"].oracle.bound.value == pytest.approx(gain, abs=0.004)
    without_truth = evaluate(replace(t, bayes=None), resamples=50).tasks["death"]["made_up"].oracle
    assert without_truth.bound.value == pytest.approx(gain, abs=0.01)
    assert without_truth.reported_gain is None
    assert not without_truth.alarm


def test_exact_risks_have_nothing_to_gain(draw):
    t = draw(2000, Test, bias=BIAS, tasks=("death",))
    bayes = t.with_proba(t.bayes)
    assert abs(evaluate(bayes, resamples=20).tasks["death"]["made_up"].oracle.bound.value) < 1e-9


def test_too_few_events_give_no_bound(draw):
    t = replace(draw(150, Test), bayes=None)
    oracle = evaluate(t, resamples=20).tasks["death"]["made_up"].oracle
    assert oracle.bound.value is None
    assert "needed for two halves" in oracle.bound.reason


def test_one_patient_has_no_halves(draw):
    t = draw(400, Test, rows_per_subject=400)
    oracle = evaluate(t, resamples=5).tasks["death"]["made_up"].oracle
    assert oracle.bound.reason == "fewer than 10 patients, at least 20 needed for two halves"


def test_hard_risks_have_a_bound(draw):
    t = draw(800, Test, tasks=("death",))
    hard = t.with_proba((t.proba > 0.3).astype(float))
    assert np.isfinite(evaluate(hard, resamples=10).tasks["death"]["made_up"].oracle.bound.value)


def test_the_bound_is_neither_shy_nor_flattered(draw):
    """Ten modalities, 2000 patients: the other half alone says too little, the own half alone too much."""
    bias = np.concatenate([BIAS, np.zeros(7)])
    bounds, exact, own, other = [], [], [], []
    for seed in range(10):
        t = replace(draw(2000, Test, bias=bias, tasks=("death",), modalities=10, seed=seed), bayes=None)
        best = t.with_proba(expit(logit(t.proba) + (t.present @ bias)[:, None]), model="exact")
        result = evaluate(t, best, resamples=5).tasks["death"]
        before = result["made_up"].metrics["auroc"].value
        bounds.append(result["made_up"].oracle.bound.value)
        exact.append(result["exact"].metrics["auroc"].value - before)
        scored = score(t, "death", Resampling.draw(t.subject_id, 5, 0))
        by_other, by_own, _ = corrected_by_halves(t, scored)
        other.append(auroc(scored.y, by_other) - before)
        own.append(auroc(scored.y, by_own) - before)
    assert np.mean(other) < np.mean(bounds) < np.mean(own)
    assert abs(np.mean(bounds) - np.mean(exact)) < 0.5 * abs(np.mean(own) - np.mean(exact))
    assert abs(np.mean(bounds) - np.mean(exact)) < 0.006

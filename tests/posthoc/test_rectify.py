from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from mmnar.errors import ConfigError, LeakageError, SchemaError
from mmnar.posthoc import LatticeRectifier, Platt, ThresholdRectifier, restore
from mmnar.posthoc.rectify import SCALES, fit_lattice, shift, threshold
from mmnar.roles import Calibration, Test, Train, Tune, subject_keys

RECIPES = [
    ThresholdRectifier(),
    ThresholdRectifier(folds=5, seed=3),
    LatticeRectifier(),
    Platt(),
]
BIAS = np.array([0.0, 0.8, -0.8])


def slow_lattice(p, y, g, patterns, p0):
    """The same posterior in plain loops, with columns dropped by hand and no change of variables."""
    G = len(patterns)
    l = [math.log(q / (1 - q)) for q in np.clip(p, 1e-4, 1 - 1e-4)]  # noqa: E741
    a = [0.0] * G
    for _ in range(2):
        z, v = [0.0] * G, [0.0] * G
        for k in range(G):
            U = I = 0.0  # noqa: E741
            for i in range(len(p)):
                if g[i] == k:
                    q = 1 / (1 + math.exp(-(l[i] + a[k])))
                    U, I = U + y[i] - q, I + q * (1 - q)  # noqa: E741
            I = max(I, 1e-4)  # noqa: E741
            z[k], v[k] = a[k] + U / I, 1 / I
        mean, sd, coefficients, null = slow_grid(np.array(z), np.array(v), patterns, p0)
        a = list(mean)
    return mean, sd, coefficients, null


def slow_grid(z, v, patterns, p0):
    G, M = patterns.shape
    bits = [m for m in range(M) if len(set(patterns[:, m])) > 1]
    means, variances, logs, coefficients, nulls = [], [], [], [], []
    for s0 in SCALES:
        for s1 in SCALES:
            for s2 in SCALES:
                columns, prior, where = [], [], []
                if s0 > 0:
                    columns, prior, where = [np.ones(G)], [s0**2], [0]
                if s1 > 0:
                    for m in bits:
                        columns.append(np.where(patterns[:, m], 1.0, -1.0))
                        prior.append(s1**2 / len(bits))
                        where.append(m + 1)
                W = np.diag(1 / (v + s2**2))
                X = np.array(columns).T.reshape(G, len(columns))
                P = X.T @ W @ X + np.diag([1 / q for q in prior])
                b = np.linalg.solve(P, X.T @ W @ z) if columns else np.zeros(0)
                log_det = np.linalg.slogdet(P)[1] + sum(math.log(q) for q in prior) if columns else 0.0
                log_m = -0.5 * (np.log(v + s2**2).sum() + z @ W @ z - b @ (X.T @ W @ z) + log_det)
                for s in (s0, s1, s2):
                    log_m += math.log(p0 if s == 0 else (1 - p0) / 5)
                f, h = X @ b, s2**2 / (v + s2**2)
                spread = np.array([x @ np.linalg.inv(P) @ x for x in X]) if columns else np.zeros(G)
                means.append(f + h * (z - f))
                variances.append((1 - h) ** 2 * spread + h * v)
                logs.append(log_m)
                full = np.zeros(M + 1)
                full[where] = b
                coefficients.append(full)
                nulls.append(s1 == 0 and s2 == 0)
    w = np.exp(np.array(logs) - max(logs))
    w /= w.sum()
    mean = w @ np.array(means)
    variance = w @ np.array(variances) + w @ (np.array(means) - mean) ** 2
    return np.clip(mean, -3, 3), np.sqrt(variance), w @ np.array(coefficients), float(w[np.array(nulls)].sum())


@pytest.mark.parametrize("p0", [0.8, 0.5])
def test_lattice_is_the_plain_loop(draw, p0):
    c = draw(600, bias=BIAS, seed=4)
    c = replace(c, present=c.present & (np.arange(3) != 0))  # the first bit never varies
    index, patterns = c.pattern_ids()
    p, y, _ = c.task("death")
    y = y.astype(float)
    fast = fit_lattice(p, y, index, patterns, p0)
    mean, sd, coefficients, null = slow_lattice(p, y, index, patterns, p0)
    np.testing.assert_allclose(fast.mean, mean, atol=1e-10)
    np.testing.assert_allclose(fast.sd, sd, atol=1e-8)
    np.testing.assert_allclose(fast.coefficients, coefficients, atol=1e-10)
    assert fast.no_effect == pytest.approx(null, abs=1e-12)
    assert abs(fast.mean).max() > 0.1


def test_first_pass_is_the_rescaled_mean_residual(draw):
    """With p nearly constant, z is the logit difference of observed and predicted rate."""
    rng = np.random.default_rng(0)
    n = 200_000
    lattice = fit_lattice(
        np.full(n, 0.2), (rng.random(n) < 0.3).astype(float), np.zeros(n, dtype=np.int64), np.array([[True]]), 0.5
    )
    assert lattice.mean[0] == pytest.approx(logit(0.3) - logit(0.2), abs=0.03)


def test_worked_example_of_the_paper(draw):
    """Mean residual .08 of patients without notes, κ = .05: a risk of .30 becomes .38."""
    c, t = (
        draw(1000, tasks=("death",), modalities=2),
        draw(10, Test, tasks=("death",), modalities=2, first_subject=5000),
    )
    c = replace(c, present=np.tile([True, False], (1000, 1)), label_mask=np.ones((1000, 1), bool))
    c = replace(c, proba=np.full((1000, 1), 0.42), labels=(np.arange(1000) % 2 == 0)[:, None])
    t = replace(t, present=np.tile([True, False], (10, 1)), proba=np.full((10, 1), 0.30))
    fitted = ThresholdRectifier(kappas=(0.05,)).fit(c)
    assert fitted.offsets["death"][0].value == pytest.approx(0.08)
    np.testing.assert_allclose(fitted.apply(t).proba, 0.38)


def test_threshold_stays_in_range():
    assert threshold(np.array([0.01, 0.99]), np.array([-0.2, 0.2]), 0.0).tolist() == [0.0, 1.0]


def test_kappa_is_chosen_out_of_fold(draw):
    """The published swap by hand: τ of one half on the other, the κ with the smallest Brier score."""
    recipe = ThresholdRectifier()
    for seed in range(5):
        c = draw(200, seed=seed, tasks=("death",), bias=BIAS / 4)
        p, y, asked = c.task("death")
        half = subject_keys(c.subject_id, recipe.seed) % np.uint64(2)
        brier = {}
        for kappa in recipe.kappas:
            total = 0.0
            for i in np.flatnonzero(asked):
                other = [
                    j for j in np.flatnonzero(asked) if half[j] != half[i] and (c.present[i] == c.present[j]).all()
                ]
                tau = sum(y[j] - p[j] for j in other) / len(other) if other else 0.0
                total += (min(max(p[i] + tau * (abs(tau) > kappa), 0), 1) - y[i]) ** 2
            brier[kappa] = total
        assert recipe.fit(c).kappa["death"] == min(brier, key=lambda k: (round(brier[k], 9), -k))


def test_large_errors_are_let_through(draw):
    biased = ThresholdRectifier().fit(draw(4000, bias=np.array([0.0, 1.5, -1.5]), seed=1))
    assert any(o.applied for o in biased.offsets["death"])


def test_kappa_folds_follow_subjects(draw):
    """Every subject's rows are copies: folds by row would see through them, folds by subject cannot."""
    c = draw(600, rows_per_subject=1, seed=5)
    copies = np.repeat(np.arange(600), 2)
    twice = replace(
        c,
        **{
            name: getattr(c, name)[copies]
            for name in (
                "proba",
                "labels",
                "label_mask",
                "present",
                "subject_id",
                "subject_digest",
                "hadm_id",
                "stay_id",
                "fold",
            )
        },
        prediction_time=np.arange(1200),
        attributes={},
        bayes=None,
    )
    assert ThresholdRectifier().fit(c).kappa == ThresholdRectifier().fit(twice).kappa


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_labels_that_were_asked_count(draw, recipe):
    c = draw(800, bias=BIAS)
    lies = replace(c, labels=c.labels | ~c.label_mask)
    test = draw(100, Test, first_subject=9000)
    np.testing.assert_array_equal(recipe.fit(c).apply(test).proba, recipe.fit(lies).apply(test).proba)


@pytest.mark.parametrize("recipe", RECIPES)
def test_order_of_rows_does_not_matter(draw, recipe):
    c, order = draw(800, bias=BIAS), np.random.default_rng(1).permutation(800)
    rows = {
        name: getattr(c, name)[order]
        for name in (
            "proba",
            "labels",
            "label_mask",
            "present",
            "subject_id",
            "subject_digest",
            "hadm_id",
            "stay_id",
            "prediction_time",
        )
    }
    shuffled = replace(c, **rows, attributes={"sex": c.attributes["sex"][order]}, bayes=c.bayes[order])
    test = draw(100, Test, first_subject=9000)
    np.testing.assert_allclose(recipe.fit(c).apply(test).proba, recipe.fit(shuffled).apply(test).proba, atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_json_round_trip_is_exact(draw, recipe):
    fitted = recipe.fit(draw(800, bias=BIAS))
    again = restore(json.loads(json.dumps(fitted.to_dict())))
    assert again.to_dict() == fitted.to_dict()
    assert again.fitted_on.dtype == np.uint64
    test = draw(100, Test, first_subject=9000)
    np.testing.assert_array_equal(again.apply(test).proba, fitted.apply(test).proba)
    assert again.apply(test).provenance == fitted.apply(test).provenance


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="lattice"):
        restore({"kind": "latice"})


@pytest.mark.parametrize("recipe", RECIPES)
def test_leaks_are_refused(draw, recipe):
    c = draw(500)
    fitted = recipe.fit(c)
    with pytest.raises(LeakageError, match="calibration predictions"):
        fitted.apply(draw(50, Calibration, first_subject=9000))
    with pytest.raises(LeakageError, match="subjects shared"):
        fitted.apply(draw(50, Test, first_subject=499))
    for role in (Train, Tune, Test):
        with pytest.raises(LeakageError, match="calibration"):
            recipe.fit(draw(500, role))
    in_sample = replace(c, fitted_subjects=(c.subjects(),))
    with pytest.raises(LeakageError, match="seen during fitting"):
        recipe.fit(in_sample)
    with pytest.raises(SchemaError):
        fitted.apply(draw(50, Test, first_subject=9000, modalities=2))


@pytest.mark.parametrize("recipe", RECIPES)
def test_apply_records_whom_it_was_fitted_on(draw, recipe):
    c, t = draw(500), draw(50, Test, first_subject=9000)
    out = recipe.fit(c).apply(t)
    assert np.isin(c.subjects(), out.fitted_subjects[0]).all()
    assert out.provenance["model"] == ("made_up" if isinstance(recipe, Platt) else "made_up+rectifier")
    out.refuse_overlap()


def test_too_few_events_change_nothing(draw):
    c, t = draw(60), draw(50, Test, first_subject=9000)
    assert c.labels.sum() < 40
    lattice = LatticeRectifier().fit(c)
    np.testing.assert_array_equal(lattice.apply(t).proba, t.proba)
    assert "at least 40 needed" in lattice.reasons["death"]
    assert str(c.labels[:, 0].sum()) not in lattice.reasons["death"], "less everyone's it tells the test fold's"
    assert lattice.offsets["death"] == ()
    platt = Platt().fit(c)
    np.testing.assert_array_equal(platt.apply(t).proba, t.proba)
    assert "at least 40 needed" in platt.lines["death"].reason


def test_unseen_pattern_gets_its_main_effects(draw):
    c = draw(20_000, bias=np.array([0.0, 1.0, 1.0]), tasks=("death",))
    both = c.present[:, 1] & c.present[:, 2]
    without = replace(c, label_mask=c.label_mask & ~both[:, None])
    fitted = LatticeRectifier(p0=0.8).fit(without)
    new = np.array([[True, True, True]])
    assert ("a", "b", "c") not in {o.pattern for o in fitted.offsets["death"]}
    assert 0.8 < fitted.offset("death", new)[0] < 3
    threshold_rule = ThresholdRectifier().fit(without)
    t = draw(40, Test, first_subject=90_000, tasks=("death",))
    t = replace(t, present=np.ones_like(t.present))
    np.testing.assert_array_equal(threshold_rule.apply(t).proba, t.proba)


def test_order_within_a_pattern_is_kept_and_no_risk_leaves_the_unit_interval(draw):
    c, t = draw(3000, bias=BIAS), draw(400, Test, first_subject=9000)
    t = replace(t, proba=np.concatenate([t.proba[:-2], [[0.0, 1.0], [1e-9, 1 - 1e-9]]]))
    out = LatticeRectifier().fit(c).apply(t)
    index, patterns = t.pattern_ids()
    for g in range(len(patterns)):
        rows = index == g
        before, after = t.proba[rows, 0], out.proba[rows, 0]
        order = np.argsort(before, kind="stable")
        assert (np.diff(after[order]) >= 0).all()
    assert ((out.proba > 0) & (out.proba < 1)).all()


@pytest.mark.parametrize("saturated", [1e-9, 1 - 1e-9])
def test_saturated_risks_stay_bounded(draw, saturated):
    c = draw(2000, tasks=("death",))
    c = replace(c, proba=np.full_like(c.proba, saturated))
    fitted = LatticeRectifier().fit(c)
    values = np.array([o.value for o in fitted.offsets["death"]])
    assert (np.abs(values) <= 3).all()
    assert np.isfinite([o.high for o in fitted.offsets["death"]]).all()


def test_shift_by_nothing_changes_nothing():
    p = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(shift(p, np.zeros(3)), p, rtol=1e-12)


def test_lattice_recovers_offsets_and_says_so(draw):
    fitted = LatticeRectifier().fit(draw(20_000, bias=BIAS, tasks=("death",)))
    offsets = {o.pattern: o for o in fitted.offsets["death"]}
    assert fitted.no_effect["death"] < 0.01
    assert offsets[("a", "b")].value == pytest.approx(0.8, abs=0.25)
    assert offsets[("a", "c")].value == pytest.approx(-0.8, abs=0.25)
    null = LatticeRectifier().fit(draw(20_000, tasks=("death",)))
    assert null.no_effect["death"] > 0.64  # its prior
    assert max(abs(o.value) for o in null.offsets["death"]) < 0.05


@pytest.mark.parametrize("recipe", [LatticeRectifier(), ThresholdRectifier()])
def test_honest_rectifier_makes_nothing_out_of_nothing(draw, recipe):
    """Labels independent of everything: AUROC of fresh rectified risks is a half."""
    values = []
    for seed in range(8):
        c, t = draw(1500, seed=seed, modalities=6), draw(1500, Test, seed=100 + seed, first_subject=9000, modalities=6)
        coin = np.random.default_rng(seed)
        c = replace(c, labels=(coin.random(c.labels.shape) < 0.2) & c.label_mask)
        t = replace(t, labels=(coin.random(t.labels.shape) < 0.2) & t.label_mask)
        p, y, asked = recipe.fit(c).apply(t).task("death")
        values.append(roc_auc_score(y[asked], p[asked]))
    assert abs(np.mean(values) - 0.5) < 4 * np.std(values, ddof=1) / math.sqrt(8)
    assert abs(np.mean(values) - 0.5) < 0.03


def test_platt_is_the_referee_of_scikit_learn(draw):
    from sklearn.calibration import _SigmoidCalibration

    c = draw(3000, tasks=("death",))
    p, y, asked = c.task("death")
    line = Platt().fit(c).lines["death"]
    referee = _SigmoidCalibration().fit(logit(p[asked]), y[asked])
    assert line.slope == pytest.approx(-referee.a_, abs=1e-4)
    assert line.intercept == pytest.approx(-referee.b_, abs=1e-4)


def test_platt_leaves_a_reversed_model_alone(draw):
    c = draw(3000, tasks=("death",))
    line = Platt().fit(replace(c, proba=1 - c.proba)).lines["death"]
    assert (line.intercept, line.slope) == (0.0, 1.0)
    assert "reverse" in line.reason


def test_platt_leaves_the_rectifier_what_patterns_do(draw):
    """Halved logits, as a focal loss leaves them: Platt undoes them, the offsets are then those of proper risks."""
    c = draw(20_000, bias=BIAS, tasks=("death",))
    flat = replace(c, proba=expit(logit(c.proba) / 2))
    line = Platt().fit(flat)
    assert line.lines["death"].slope == pytest.approx(2, abs=0.25)
    rectifier = LatticeRectifier().fit(flat.with_proba(line.risks(flat)))
    t = draw(5000, Test, bias=BIAS, tasks=("death",), first_subject=90_000, seed=9)
    raw = replace(t, proba=expit(logit(t.proba) / 2))
    out = rectifier.apply(line.apply(raw))
    assert np.mean((out.proba - t.bayes) ** 2) < 0.1 * np.mean((raw.proba - t.bayes) ** 2)


@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError):
        LatticeRectifier(p0=bad)
    with pytest.raises(ConfigError):
        ThresholdRectifier(folds=1)
    with pytest.raises(ConfigError):
        ThresholdRectifier(kappas=(-0.1,))


def test_ten_tasks_of_a_thousand_patterns_take_a_second():
    rng = np.random.default_rng(0)
    patterns = np.unique(rng.random((3000, 10)) < 0.6, axis=0)
    g = rng.integers(0, len(patterns), 20_000)
    g[: len(patterns)] = np.arange(len(patterns))
    p = expit(rng.normal(-1.5, 1, 20_000))
    y = (rng.random(20_000) < p).astype(float)
    start = time.process_time()
    for _ in range(10):
        fit_lattice(p, y, g, patterns, 0.8)
    assert time.process_time() - start < 3  # the bar is one second on an idle core; see benchmarks/rectifier.py


@pytest.mark.parametrize("recipe", [ThresholdRectifier(), LatticeRectifier()])
def test_offsets_count_patients_and_tell_no_small_count(draw, recipe):
    p = draw(1200, rows_per_subject=4, tasks=("death",))
    present = np.tile([True, True, True], (1200, 1))
    present[:36, 0] = False  # nine patients, 36 labels
    present[36:400, 1] = False
    p = replace(p, present=present, label_mask=np.ones_like(p.label_mask))
    offsets = {o.pattern: o for o in recipe.fit(p).offsets["death"]}
    assert {pattern: o.n for pattern, o in offsets.items()} == {
        ("b", "c"): None,
        ("a", "c"): None,  # with the total it would tell of the nine
        ("a", "b", "c"): 800,
    }
    assert offsets["a", "b", "c"].events == p.labels[400:].sum()
    assert offsets["a", "c"].events is None

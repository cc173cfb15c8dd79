"""Calibration against statsmodels, a spline written another way, and sums over patients."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline
from scipy.special import expit, logit

from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.recalibration import KNOTS, PARTED, calibrated, knots_of, newton, spline


def patients(n: int, seed: int = 0, a: float = 0.3, b: float = 0.7, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and risks with a known miscalibration; ``levels``: of how many risks."""
    rng = np.random.default_rng(seed)
    l = rng.normal(-1.5, 1, n)  # noqa: E741
    if levels:
        l = np.round(l * levels / 8) * 8 / levels  # noqa: E741
    return (rng.random(n) < expit(a + b * l)).astype(float), expit(l)


def test_slope_and_intercept_against_statsmodels():
    y, p = patients(600)
    found = calibrated(y, p, np.arange(600), Resampling.draw(np.arange(600), 600, 0))
    both = sm.GLM(y, sm.add_constant(logit(p)), family=sm.families.Binomial()).fit()
    alone = sm.GLM(y, np.ones(600), family=sm.families.Binomial(), offset=logit(p)).fit()
    assert found.slope.value == pytest.approx(both.params[1], abs=1e-6)
    assert found.intercept.value == pytest.approx(alone.params[0], abs=1e-6)
    assert found.o_to_e.value == pytest.approx(y.sum() / p.sum())
    # of large samples, the bootstrap's interval and the likelihood's are about the same
    for ours, theirs in ((found.slope, both.conf_int()[1]), (found.intercept, alone.conf_int()[0])):
        assert ours.high - ours.low == pytest.approx(theirs[1] - theirs[0], rel=0.15)


def test_resamples_are_weighted_fits():
    """With few distinct risks the bins are the risks themselves, and a resample is statsmodels' weighted fit."""
    y, p = patients(300, levels=20)
    assert len(np.unique(p)) < 32
    resampling = Resampling.draw(np.arange(300), 40, 1)
    found = calibrated(y, p, np.arange(300), resampling)
    slopes = [
        sm.GLM(y, sm.add_constant(logit(p)), family=sm.families.Binomial(), freq_weights=w).fit().params[1]
        for W in resampling.weights(np.arange(300))
        for w in W.T
    ]
    assert (found.slope.low, found.slope.high) == pytest.approx(np.quantile(slopes, [0.025, 0.975]), abs=1e-6)


def test_the_spline_is_straight_outside_and_smooth_at_its_knots():
    knots = np.array([-2.0, -0.5, 0.4, 1.5])
    x = np.linspace(-6, 6, 4001)
    columns = spline(x, knots)
    assert columns.shape == (4001, 4)
    bend = np.diff(columns, 2, axis=0)
    outside = (x[1:-1] < knots[0]) | (x[1:-1] > knots[-1])
    np.testing.assert_allclose(bend[outside], 0, atol=1e-9)
    # every natural cubic spline with these knots is a mixture of the columns
    natural = CubicSpline(knots, [0.3, -1.0, 2.0, 0.5], bc_type="natural")(x)
    inside = ~np.concatenate([[True], outside, [True]])
    left = np.linalg.lstsq(columns[inside], natural[inside], rcond=None)
    assert left[1].item() < 1e-12


def test_the_curve_and_its_distances_against_statsmodels():
    y, p = patients(800, seed=4)
    knots = np.quantile(logit(p), KNOTS[5])
    assert min(y.sum(), (1 - y).sum()) >= 200
    np.testing.assert_allclose(knots_of(logit(p), y), knots)
    fit = sm.GLM(y, spline(logit(p), knots), family=sm.families.Binomial()).fit()
    distance = np.abs(p - fit.predict(spline(logit(p), knots)))
    found = calibrated(y, p, np.arange(800), Resampling.draw(np.arange(800), 100, 0))
    assert found.ici.value == pytest.approx(distance.mean(), abs=1e-6)
    assert found.e50.value == pytest.approx(np.median(distance), abs=1e-6)
    assert found.e90.value == pytest.approx(np.quantile(distance, 0.9), abs=1e-6)
    expected = fit.predict(spline(logit(np.array(found.smooth.x)), knots))
    np.testing.assert_allclose(found.smooth.y, expected, atol=1e-6)
    assert all(a < b < c for a, b, c in zip(found.smooth.low, found.smooth.y, found.smooth.high, strict=True))


def test_knots_follow_the_rarer_outcome():
    l = np.linspace(-3, 3, 1000)  # noqa: E741
    for events, count in ((30, 3), (150, 4), (400, 5), (950, 3)):
        assert len(knots_of(l, (np.arange(1000) < events).astype(float))) == count
    assert len(knots_of(np.repeat([-1.0, 0.0, 1.0], 300), np.arange(900) % 2.0)) == 0


def test_a_distance_can_be_nothing_and_can_be_something():
    zero = something = 0
    for seed in range(20):
        y, p = patients(500, seed, a=0.0, b=1.0)
        ici = calibrated(y, p, np.arange(500), Resampling.draw(np.arange(500), 100, 0)).ici
        zero += ici.low < 1e-4
        assert ici.low <= ici.value <= ici.high
        y, p = patients(500, seed, a=0.8, b=0.6)
        something += calibrated(y, p, np.arange(500), Resampling.draw(np.arange(500), 100, 0)).ici.low > 0.02
    assert zero >= 17
    assert something >= 17


def test_outcomes_that_risks_part_have_no_slope():
    p = np.linspace(0.01, 0.99, 200)
    found = calibrated((p > 0.5).astype(float), p, np.arange(200), Resampling.draw(np.arange(200), 20, 0))
    assert found.slope.reason == found.ici.reason == PARTED
    assert found.smooth is None
    assert found.o_to_e.value == pytest.approx(1.0, abs=0.05)


def test_newton_against_statsmodels_with_an_offset():
    rng = np.random.default_rng(0)
    X, offset = np.column_stack([np.ones(60), rng.normal(size=60)]), rng.normal(size=60)
    total = rng.integers(1, 30, (3, 60)).astype(float)
    events = rng.binomial(total.astype(int), expit(0.2 + 0.5 * X[:, 1] + offset)).astype(float)
    found = newton(X, events, total, offset)
    for b in range(3):
        sides = np.column_stack([events[b], total[b] - events[b]])
        np.testing.assert_allclose(
            found[b], sm.GLM(sides, X, family=sm.families.Binomial(), offset=offset).fit().params, atol=1e-7
        )

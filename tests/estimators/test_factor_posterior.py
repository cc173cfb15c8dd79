"""The factor model against Gaussian conditioning by the book, in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.errors import ConfigError
from mmnar.estimators.tabular.factor_posterior import (
    FactorDesign,
    FactorModel,
    FactorPosterior,
    _regressors,
    pairwise_correlation,
)
from mmnar.simulation.planted import planted
from tests.populations import population

Float = NDArray[np.float64]
SPLIT = Split(tune=0.2, test=0.3)


def model(columns: int = 7, factors: int = 3, seed: int = 0) -> FactorModel:
    """Of columns of variance 1."""
    rng = np.random.default_rng(seed)
    loadings, noise = rng.normal(size=(columns, factors)), rng.uniform(0.5, 2, columns)
    scale = np.sqrt((loadings**2).sum(axis=1) + noise)
    return FactorModel(loadings / scale[:, None], noise / scale**2)


def covariance(m: FactorModel) -> Float:
    return m.loadings @ m.loadings.T + np.diag(m.noise)


def drawn(m: FactorModel, n: int, share: float, seed: int = 1) -> tuple[Float, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    c, q = m.loadings.shape
    x = rng.normal(size=(n, q)) @ m.loadings.T + rng.normal(size=(n, c)) * np.sqrt(m.noise)
    observed = rng.random((n, c)) < share
    return np.where(observed, x, 0.0), observed


def test_the_posterior_mean_is_gaussian_conditioning_on_the_observed_cells() -> None:
    m = model()
    z, observed = drawn(m, 2100, 0.6)  # more than one step's rows
    observed[0] = False
    z[0] = 0
    got = m.posterior(z, observed)
    joint = covariance(m)
    for i in [*range(40), 2047, 2048, 2099]:
        o = observed[i]
        want = m.loadings[o].T @ np.linalg.solve(joint[np.ix_(o, o)], z[i, o]) if o.any() else np.zeros(3)
        np.testing.assert_allclose(got[i], want, atol=1e-12)


def test_em_finds_the_covariance_of_a_factor_model() -> None:
    true = model(columns=12, factors=2)
    found = FactorModel.fit(covariance(true), 2)
    np.testing.assert_allclose(covariance(found), covariance(true), atol=5e-3)
    # the likelihood is nowhere better near by, so it is a maximum of the right function
    best = _log_likelihood(found, covariance(true))
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = FactorModel(found.loadings + 0.1 * rng.normal(size=(12, 2)), found.noise)
        assert _log_likelihood(other, covariance(true)) < best


def _log_likelihood(m: FactorModel, s: Float) -> float:
    joint = covariance(m)
    return float(-np.linalg.slogdet(joint)[1] - np.trace(np.linalg.solve(joint, s)))


def test_pairs_of_columns_that_go_missing_at_random_give_their_correlation() -> None:
    true = model()
    z, observed = drawn(true, 40_000, 0.6)
    found = pairwise_correlation(z, observed)
    np.testing.assert_allclose(found, covariance(true), atol=0.03)


def test_the_correlation_is_positive_semidefinite_whatever_the_pairs() -> None:
    """Three columns, any two of them observed together, with correlations that no three columns can have."""
    rng = np.random.default_rng(0)
    n = 900
    shared, pair = rng.normal(size=n), rng.integers(0, 3, n)
    z = np.zeros((n, 3))
    observed = np.ones((n, 3), dtype=bool)
    observed[np.arange(n), pair] = False
    for left, right, absent, sign in ((0, 1, 2, 1), (1, 2, 0, 1), (0, 2, 1, -1)):
        rows = pair == absent
        z[rows, left], z[rows, right] = shared[rows], sign * shared[rows]
    seen = observed.astype(float)
    assert np.linalg.eigvalsh(z.T @ z / (seen.T @ seen)).min() < -0.5
    found = pairwise_correlation(z, observed)
    assert np.linalg.eigvalsh(found).min() > -1e-12
    np.testing.assert_allclose(np.diag(found), 1)
    never = pairwise_correlation(z[pair == 0], observed[pair == 0])  # column 0 is never seen
    np.testing.assert_allclose(never[0], [1, 0, 0], atol=1e-12)


def test_the_regression_sees_factors_products_pattern_and_pattern_times_factor() -> None:
    f = np.array([[2.0, 3.0]])
    present = np.array([[True, False, True]])
    want = [2, 3, 4, 6, 9, 1, 0, 1, 2, 3, 0, 0, 2, 3, 1]
    np.testing.assert_array_equal(_regressors(f, present, np.array([[1.0]]), None), [want])
    np.testing.assert_array_equal(_regressors(f, present, np.array([[1.0]]), np.array([[7.0]])), [[*want, 7]])


def test_columns_are_standardised_numbers_and_indicators() -> None:
    train = population(500).fold(SPLIT, "train")
    z, observed, indicators = FactorDesign.of(train).columns(train)
    assert z.shape == observed.shape == (len(train), 6)
    assert indicators.shape == (len(train), 3)
    assert (z[~observed] == 0).all()
    for j in range(6):
        np.testing.assert_allclose([z[observed[:, j], j].mean(), z[observed[:, j], j].std()], [0, 1], atol=1e-9)
    kind = train.values("unit")[:, 0]
    np.testing.assert_array_equal(indicators, kind[:, None] == np.arange(3))


def test_a_constant_and_an_unseen_column_change_nothing() -> None:
    data = population(500)
    values = {**data.values, "labs": np.array(data.values["labs"])}
    values["labs"][:, 0] = np.where(data.present[:, 1], 3.0, np.nan)
    values["vitals"] = np.array(values["vitals"])
    values["vitals"][data.fold(SPLIT, "train").rows, 0] = np.nan
    odd = dataclasses.replace(data, values=values)
    test = odd.fold(SPLIT, "test")
    fitted = FactorPosterior().fit(odd.fold(SPLIT, "train"), odd.fold(SPLIT, "tune"))
    moved = dataclasses.replace(odd, values={**values, "vitals": values["vitals"] + np.float32([9, 0, 0])})
    p = fitted.predict_proba(test)
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(fitted.predict_proba(moved.fold(SPLIT, "test")), p)


def test_it_is_close_to_the_exact_risk_where_severity_drives_everything() -> None:
    """y, the contents and which modalities there are all follow one factor."""
    train, fresh = planted("severity", 4000), planted("severity", 4000, seed=1)
    split = Split(tune=0.2, test=0.0)
    fitted = FactorPosterior(factors=(1, 3)).fit(train.fold(split, "train"), train.fold(split, "tune"))
    p = fitted.predict_proba(fresh.fold(Split.external(), "test"))[:, 0]
    y = fresh.labels[:, 0]
    assert roc_auc_score(y, p) > roc_auc_score(y, fresh.bayes[:, 0]) - 0.02
    assert np.corrcoef(p, fresh.bayes[:, 0])[0, 1] > 0.93


def test_what_one_column_tells_and_no_factor_is_added_from_the_contents() -> None:
    train, fresh = planted("single", 3000), planted("single", 3000, seed=1)
    split = Split(tune=0.2, test=0.0)
    fitted = FactorPosterior(factors=(1, 3)).fit(train.fold(split, "train"), train.fold(split, "tune"))
    p = fitted.predict_proba(fresh.fold(Split.external(), "test"))[:, 0]
    assert fitted.contents
    assert roc_auc_score(fresh.labels[:, 0], p) > roc_auc_score(fresh.labels[:, 0], fresh.bayes[:, 0]) - 0.02


@pytest.mark.parametrize("settings", [{"factors": ()}, {"factors": (0,)}, {"inverse_penalties": (-1.0,)}])
def test_impossible_settings_are_refused(settings: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError, match="factor-posterior"):
        FactorPosterior(**settings)  # type: ignore[arg-type]

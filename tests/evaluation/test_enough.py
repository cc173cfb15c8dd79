"""Sample sizes against an example that was published, and against the errors of samples of that size."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit, ndtri
from sklearn.metrics import roc_auc_score

from mmnar.evaluation.enough import (
    coefficients,
    enough,
    explained,
    to_judge_auroc,
    to_judge_o_to_e,
    to_judge_slope,
    to_learn,
    to_learn_rate,
)

RATE, AUROC = 0.15, 0.75


def sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    sigma = np.sqrt(2) * ndtri(AUROC)
    y = (rng.random(n) < RATE).astype(float)
    return y, rng.normal(logit(RATE) + (2 * y - 1) * sigma**2 / 2, sigma)


def test_the_published_example() -> None:
    """24 parameters, R² .288, rate .174: 623 for the shrinkage alone, 221 for the rate, 662 in all (BMJ 2020)."""
    assert to_learn(24, 0.174, 0.288) == 662
    assert to_learn_rate(0.174) == 221


def test_the_model_that_is_assumed_is_calibrated_and_has_that_auroc() -> None:
    y, l = sample(400_000, np.random.default_rng(0))  # noqa: E741
    fit = sm.GLM(y, sm.add_constant(l), family=sm.families.Binomial()).fit()
    np.testing.assert_allclose(fit.params, [0, 1], atol=0.02)
    assert roc_auc_score(y, l) == pytest.approx(AUROC, abs=0.004)
    assert explained(RATE, AUROC) == pytest.approx(1 - np.exp((fit.deviance - fit.null_deviance) / len(y)), abs=0.003)


def test_samples_of_that_size_err_as_much_as_was_asked() -> None:
    rng = np.random.default_rng(1)
    n = to_judge_slope(RATE, AUROC)
    slopes = []
    for _ in range(300):
        y, l = sample(n, rng)  # noqa: E741
        slopes.append(sm.GLM(y, sm.add_constant(l), family=sm.families.Binomial()).fit().params[1])
    assert 1.96 * np.std(slopes) == pytest.approx(0.2, rel=0.15)
    aurocs = [roc_auc_score(*sample(to_judge_auroc(RATE, AUROC), rng)) for _ in range(300)]
    assert 1.96 * np.std(aurocs) == pytest.approx(0.05, rel=0.15)
    ratios = []
    for _ in range(2000):
        y, l = sample(to_judge_o_to_e(RATE), rng)  # noqa: E741
        ratios.append(np.log(y.sum() / expit(l).sum()))
    # that the sum of risks varies, too, makes the ratio of a calibrated model steadier than the formula says
    assert 0.15 < 1.96 * np.std(ratios) < 0.21


def test_what_is_enough_follows_from_size() -> None:
    few, many = enough(RATE, AUROC, 200, 300), enough(RATE, AUROC, 100_000, 100_000)
    assert not any(e.suffices for e in few[:3])
    assert all(e.suffices for e in many)
    assert len(enough(RATE, AUROC, 200, None)) == 3
    r2 = explained(RATE, AUROC)
    parameters = coefficients(RATE, AUROC, 2000)
    assert to_learn(parameters, RATE, r2) <= 2000 < to_learn(parameters + 1, RATE, r2)

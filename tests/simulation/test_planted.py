"""Planted risks are exact: they are calibrated, and no better than what is known of each mechanism."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmnar.errors import ConfigError
from mmnar.simulation.planted import MECHANISMS, planted


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_risks_are_calibrated(name: str) -> None:
    data = planted(name, 60_000)
    assert data.bayes is not None
    asked = data.label_mask[:, 0]
    y, p = data.labels[asked, 0], data.bayes[asked, 0]
    edges = np.quantile(p, np.linspace(0, 1, 9))
    group = np.clip(np.searchsorted(edges, p, "right") - 1, 0, 7)
    for g in np.unique(group):
        mine = group == g
        z = (y[mine] - p[mine]).sum() / np.sqrt((p * (1 - p))[mine].sum())
        assert abs(z) < 4


def test_what_each_mechanism_hides() -> None:
    pattern = planted("pattern", 5000)
    per_pattern = {tuple(d): set() for d in pattern.present.tolist()}
    for d, p in zip(pattern.present.tolist(), pattern.bayes[:, 0], strict=True):
        per_pattern[tuple(d)].add(round(float(p), 12))
    assert all(len(risks) == 1 for risks in per_pattern.values())  # nothing but the pattern tells
    product = planted("product", 5000)
    assert set(product.bayes[~product.present[:, :2].all(1), 0]) == {0.5}
    recover = planted("recover", 5000)
    assert 0.08 < recover.label_mask.mean() < 0.12
    assert 0.27 < recover.present[:, 1].mean() < 0.33


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_two_that_tell_as_much_one_is_learnt_at_once(seed: int) -> None:
    data = planted("imbalance", 12_000, seed=seed)
    both = data.present[:, :2].all(1)
    y, exact = data.labels[both, 0], data.bayes[both, 0]
    easy, film = (data.values[m][both] for m in ("m0", "m1"))
    hard = np.sign(film[:, 0] * film[:, 1])
    rows = np.arange(len(y)) < 400
    fast = LogisticRegression(C=0.1).fit(easy[rows], y[rows]).decision_function(easy)
    assert 0.77 < roc_auc_score(y, fast) < 0.85
    assert roc_auc_score(y, LogisticRegression().fit(film, y).decision_function(film)) < 0.55
    assert 0.70 < roc_auc_score(y, hard) < 0.78
    assert roc_auc_score(y, exact) > 0.90
    # what is told by a modality alone, where the other is absent
    alone = ~data.present[:, 0] & data.present[:, 1]
    q = np.sign(data.values["m1"][alone, 0] * data.values["m1"][alone, 1])
    z = np.random.default_rng(5).standard_normal(200_000)
    for sign in (-1.0, 1.0):
        np.testing.assert_allclose(data.bayes[alone, 0][q == sign], expit(2.5 * z + 2 * sign).mean(), atol=0.004)


def test_a_new_mechanism_leaves_the_old_ones_as_they_were() -> None:
    # Σ labels of 500 patients, noted before ``imbalance`` came
    counts = {name: int(planted(name, 500).labels.sum()) for name in sorted(MECHANISMS) if name != "imbalance"}
    assert counts == {"pattern": 271, "single": 259, "product": 260, "recover": 34, "severity": 158}


def test_seeds_are_other_patients_of_one_mechanism() -> None:
    a, b = planted("single", 300, seed=0), planted("single", 300, seed=1)
    assert not set(a.subject_id) & set(b.subject_id)
    assert not np.array_equal(a.present, b.present)
    with pytest.raises(ConfigError, match="did you mean 'single'"):
        planted("singel", 10)

"""Planted risks are exact: they are calibrated, and no better than what is known of each mechanism."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_seeds_are_other_patients_of_one_mechanism() -> None:
    a, b = planted("single", 300, seed=0), planted("single", 300, seed=1)
    assert not set(a.subject_id) & set(b.subject_id)
    assert not np.array_equal(a.present, b.present)
    with pytest.raises(ConfigError, match="did you mean 'single'"):
        planted("singel", 10)

"""Pattern submodels against regressions made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from mmnar.cohort.split import Split
from mmnar.estimators.tabular.pattern_submodels import FittedSubmodels, PatternSubmodels, columns_of, submodel_of
from tests.populations import population

SPLIT = Split(tune=0.2, test=0.2)


def test_a_pattern_is_scored_by_the_regression_on_its_own_patients_and_contents() -> None:
    data = population(3000, signal=1.0)
    train, tune, test = (data.fold(SPLIT, role) for role in ("train", "tune", "test"))
    fitted = PatternSubmodels(inverse_penalties=(0.1,)).fit(train, tune)
    x, modality = columns_of(fitted.design, train)
    x_test, _ = columns_of(fitted.design, test)
    risks = fitted.predict_proba(test)
    tried = 0
    for pattern in np.unique(train.present, axis=0):
        if not pattern.any():
            continue
        own, asked = pattern[modality], train.label_mask[:, 0]
        rows = asked & (train.present == pattern).all(1)
        y = train.labels[:, 0]
        if min(y[rows].sum(), (~y[rows]).sum()) < 20:
            rows = asked & (train.present >= pattern).all(1)
        byhand = LogisticRegression(C=0.1, max_iter=5000).fit(x[rows][:, own], y[rows])
        mine = (test.present == pattern).all(1)
        if mine.any():
            np.testing.assert_allclose(risks[mine, 0], byhand.predict_proba(x_test[mine][:, own])[:, 1], rtol=1e-6)
            tried += 1
    assert tried >= 3


def test_an_unseen_pattern_takes_the_largest_within_it_and_nobodys_content_the_rate() -> None:
    patterns = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=bool)
    asked = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    assert submodel_of(asked, patterns).tolist() == [3, 1, 1, 0, 0]
    data = population(1500)
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    fitted = PatternSubmodels().fit(train, tune)
    assert isinstance(fitted, FittedSubmodels)
    blank = replace(
        data,
        present=np.zeros_like(data.present),
        values={name: np.full_like(content, np.nan) for name, content in data.values.items()},
    )
    risk = fitted.predict_proba(blank.fold(SPLIT, "test"))
    asked_of = train.label_mask
    rates = [train.labels[asked_of[:, k], k].mean() for k in range(2)]
    np.testing.assert_allclose(risk, np.tile(rates, (len(risk), 1)), rtol=1e-9)


def test_a_pattern_of_few_has_no_submodel() -> None:
    data = population(1500)
    fitted = PatternSubmodels(least=10**6).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
    assert fitted.patterns.tolist() == [[False] * 3]

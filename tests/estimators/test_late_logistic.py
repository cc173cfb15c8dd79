"""Evidence of each modality, out of fold, and how the pattern weighs it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.dataset.store import divided
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.tabular import late_logistic
from mmnar.estimators.tabular.late_logistic import LateLogistic, evidence, out_of_fold, stacker_columns
from mmnar.simulation.planted import planted
from tests.populations import population

SPLIT = Split(tune=0.2, test=0.3)


def seen_by_stacker(monkeypatch: pytest.MonkeyPatch, data: Any) -> list[NDArray[np.float64]]:
    """(n, M) evidence that each task's stacker is fitted on."""
    scores: list[NDArray[np.float64]] = []

    def watch(s: Any, present: Any, patterns: Any) -> Any:
        scores.append(s)
        return stacker_columns(s, present, patterns)

    monkeypatch.setattr(late_logistic, "stacker_columns", watch)
    LateLogistic(inverse_penalties=(0.1,)).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
    return scores[::2]  # the others are the tune fold's


def test_evidence_of_a_subject_never_comes_from_their_own_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = population(600, subjects=250)
    train = data.fold(SPLIT, "train")
    subject = train.subject_id[train.label_mask[:, 0] & train.present[:, 0]][0]
    own = train.subject_id == subject
    assert own.sum() > 1
    before = seen_by_stacker(monkeypatch, data)[0]
    labels = data.labels.copy()
    rows = train.rows[own]
    labels[rows, 0] = ~labels[rows, 0] & data.label_mask[rows, 0]
    after = seen_by_stacker(monkeypatch, dataclasses.replace(data, labels=labels))[0]
    np.testing.assert_array_equal(after[own], before[own])
    fold = divided(train.subject_id, 5, late_logistic.INNER)
    parts = [fold == f for f in range(5)]
    (together,) = [part for part in parts if part[own].any()]  # a subject's samples are in one fold
    np.testing.assert_array_equal(after[together], before[together])
    assert not np.allclose(after[~together], before[~together], atol=1e-6)


def test_evidence_is_that_of_a_regression_on_the_other_folds() -> None:
    rng = np.random.default_rng(0)
    x, fold_of = rng.normal(size=(200, 3)), rng.integers(0, 4, 200)
    y, used = rng.random(200) < 0.5, rng.random(200) < 0.7
    got = out_of_fold(x, y, used, fold_of, 0.5)
    for f in range(4):
        others = used & (fold_of != f)
        beta = LogisticRegression(C=0.5, max_iter=5000).fit(x[others], y[others]).coef_[0]
        np.testing.assert_allclose(got[fold_of == f], x[fold_of == f] @ beta, atol=1e-12)


def test_noise_looks_like_knowledge_in_the_fold_and_like_nothing_out_of_it() -> None:
    """What the stacker would learn from, were it shown fitted residuals."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 60)), rng.random(200) < 0.5
    fitted = x @ late_logistic.coefficients(x, y, 1.0)
    assert roc_auc_score(y, fitted) > 0.75
    honest = out_of_fold(x, y, np.ones(200, dtype=bool), np.arange(200) % 5, 1.0)
    assert 0.35 < roc_auc_score(y, honest) < 0.6


def test_absent_modalities_say_nothing_and_weights_follow_the_pattern() -> None:
    scores = np.array([[0.5, -2.0, 0.0]])
    present = np.array([[True, True, False]])
    patterns = np.array([[True, True, True], [True, True, False]])
    got = stacker_columns(scores, present, patterns)
    # δ, patterns, s, then δ_other s_m for (other, m) = (0,1) (0,2) (1,0) (1,2) (2,0) (2,1)
    np.testing.assert_array_equal(got, [[1, 1, 0, 0, 1, 0.5, -2, 0, -2, 0, 0.5, 0, 0, 0]])
    train = population(300).fold(SPLIT, "train")
    fitted = LateLogistic().fit(train, population(300).fold(SPLIT, "tune"))
    s = evidence(late_logistic.blocks_of(fitted.design, train), fitted.modality[0])
    assert (s[~train.present] == 0).all()
    assert (s[train.present] != 0).any(axis=0).all()


def test_a_modality_that_only_one_class_has_says_nothing() -> None:
    data = population(400)
    labels = data.labels.copy()
    labels[data.present[:, 1], 0] = False
    odd = dataclasses.replace(data, labels=labels)
    fitted = LateLogistic().fit(odd.fold(SPLIT, "train"), odd.fold(SPLIT, "tune"))
    assert not fitted.modality[0][1].any()
    assert fitted.modality[1][1].any()
    assert np.isfinite(fitted.predict_proba(odd.fold(SPLIT, "test"))).all()


@pytest.mark.parametrize(("mechanism", "gap"), [("single", 0.02), ("pattern", 0.02)])
def test_it_is_close_to_the_exact_risk_where_one_modality_or_the_pattern_tells(mechanism: str, gap: float) -> None:
    train, fresh = planted(mechanism, 4000), planted(mechanism, 4000, seed=1)
    split = Split(tune=0.2, test=0.0)
    fitted = LateLogistic().fit(train.fold(split, "train"), train.fold(split, "tune"))
    p = fitted.predict_proba(fresh.fold(Split.external(), "test"))[:, 0]
    y = fresh.labels[:, 0]
    assert roc_auc_score(y, p) > roc_auc_score(y, fresh.bayes[:, 0]) - gap


def test_cross_fitting_from_outside_leaves_every_inner_fold_somebody() -> None:
    data = population(600)
    development = data.fold(Split(test=0.2), "development")
    scored = cross_fit(LateLogistic(), development, 2, tune=0.2).out_of_fold
    assert len(scored) == len(development)

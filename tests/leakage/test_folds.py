"""Subjects never cross folds, and what was seen in fitting is never scored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnar.cohort.split import Split
from mmnar.dataset.store import cross_folds
from mmnar.errors import ConfigError, LeakageError
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator
from mmnar.evaluation.evaluate import evaluate
from mmnar.posthoc.rectify import LatticeRectifier
from mmnar.predictions import Predictions
from mmnar.roles import Test
from tests.populations import population


@given(st.integers(0, 1000), st.integers(2, 10), st.floats(0.05, 0.3))
def test_every_subject_has_one_role_and_test_folds_partition(seed: int, folds: int, tune: float) -> None:
    subjects = np.random.default_rng(seed).integers(0, 60, 300)
    times_tested = np.zeros(300, dtype=int)
    for fold in range(folds):
        roles = Split(seed, tune, 0.0, 1 / folds, fold, folds).roles(subjects)
        for s in np.unique(subjects):
            assert len(set(roles[subjects == s])) == 1
        times_tested += roles == "test"
    assert (times_tested == 1).all()


@given(st.integers(0, 100))
def test_adding_patients_never_moves_the_others(seed: int) -> None:
    split = Split(seed)
    few, many = np.arange(50), np.arange(500)
    assert (split.roles(many)[:50] == split.roles(few)).all()


def test_cross_folds_hold_every_development_subject_out_once_and_share_no_subject_within_a_fit() -> None:
    data = population(400, subjects=150)
    development = data.fold(Split(), "development")
    assert not set(development.subject_id) & set(data.fold(Split(), "test").subject_id)
    held_rows: list[int] = []
    learned: set[int] = set()
    for train, tune, held in cross_folds(development, 4):
        ids = [set(fold.subject_id) for fold in (train, tune, held)]
        assert not ids[0] & ids[1]
        assert not (ids[0] | ids[1]) & ids[2]
        assert sorted([*train.rows, *tune.rows, *held.rows]) == development.rows.tolist()
        held_rows += held.rows.tolist()
        learned |= ids[0]
    assert sorted(held_rows) == development.rows.tolist()
    assert learned == set(development.subject_id)  # together the fits learn from everybody


def test_evaluate_raises_when_a_scored_subject_was_seen() -> None:
    data = population(500)
    split = Split()
    fitted = estimator("pattern-only").fit(data.fold(split, "train"), data.fold(split, "tune"))
    evaluate(fitted.predict(data.fold(split, "test")), resamples=20)
    other = Split(seed=5)
    with pytest.raises(LeakageError, match="seen during fitting"):
        evaluate(fitted.predict(data.fold(other, "test")), resamples=20)


def test_evaluate_takes_test_predictions_only() -> None:
    data = population(500)
    split = Split()
    fitted = estimator("pattern-only").fit(data.fold(split, "train"), data.fold(split, "tune"))
    with pytest.raises(LeakageError):
        evaluate(fitted.predict(data.fold(split, "tune")), resamples=20)  # type: ignore[arg-type]


def test_the_rectifier_is_fed_out_of_fold_and_applied_elsewhere() -> None:
    data = population(1500)
    split = Split()
    development, test = data.fold(split, "development"), data.fold(split, "test")
    recipe = estimator("pattern-only")
    crossed = cross_fit(recipe, development, 3)
    calibration = crossed.out_of_fold
    fitted = LatticeRectifier().fit(calibration)
    scored = crossed.predictor.predict(test)
    rectified = fitted.apply(scored)
    assert set(development.subjects()) <= set(rectified.fitted_subjects[0])
    with pytest.raises(LeakageError):
        fitted.apply(calibration)
    with pytest.raises(LeakageError):
        LatticeRectifier().fit(scored)  # type: ignore[arg-type]
    own: Predictions[Test] = recipe.fit(data.fold(split, "tune"), data.fold(split, "tune")).predict(
        data.fold(split, "train")
    )  # type: ignore[arg-type,assignment]
    with pytest.raises(LeakageError):
        fitted.apply(own)


def test_ids_of_two_sources_are_not_confused() -> None:
    here, there = population(300, source="here"), population(300, seed=1, source="there")
    split = Split()
    fitted = estimator("pattern-only").fit(here.fold(split, "train"), here.fold(split, "tune"))
    evaluate(fitted.predict(there.keyed_like(here).fold(Split.external(), "test")), resamples=20)
    with pytest.raises(LeakageError, match="other keys"):  # nobody can tell
        evaluate(fitted.predict(there.fold(Split.external(), "test")), resamples=20)
    with pytest.raises(LeakageError):
        evaluate(fitted.predict(here.fold(Split.external(), "test")), resamples=20)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ConfigError, match="count folds from 0"):
        Split(fold=5, folds=5)
    with pytest.raises(ConfigError, match="shares"):
        Split(tune=0.5, test=0.6)
    with pytest.raises(LeakageError, match="at least one subject"):
        Split.by_subject(population(3))

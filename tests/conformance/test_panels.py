"""Panels of outcomes, beyond what ``mmnar.testing`` asks: stacks, ensembles, corrections, tasks nobody can learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator
from mmnar.evaluation.metrics import log_terms
from mmnar.posthoc import LatticeRectifier, ThresholdRectifier
from mmnar.posthoc.platt import Platt
from tests.populations import paneled
from tests.recipes import quick

SPLIT = Split(tune=0.2, test=0.3)
STAY = slice(4, 7)


@pytest.mark.parametrize("name", ["zero-fill", "logistic-pattern", "stack"])
def test_cross_fitted_and_in_an_ensemble_they_do_too(name: str) -> None:
    data = paneled(300)
    recipe = estimator(name, *quick(name), ensemble=1 if name == "stack" else 2)
    crossed = cross_fit(recipe, data.fold(SPLIT, "development"), 3)
    for p in (crossed.out_of_fold, crossed.predictor.predict(data.fold(SPLIT, "test"))):
        assert np.allclose(p.proba[:, STAY].sum(1), 1, atol=1e-6)
        assert p.panels == data.schema.panels


def test_no_correction_touches_an_exclusive_panel() -> None:
    data = paneled(1500, signal=1.0)
    crossed = cross_fit(estimator("pattern-only"), data.fold(SPLIT, "development"), 3)
    test = crossed.predictor.predict(data.fold(SPLIT, "test"))
    for rule in (Platt(), LatticeRectifier(), ThresholdRectifier()):
        fitted = rule.fit(crossed.out_of_fold)
        after = type(fitted).from_dict(fitted.to_dict()).apply(test).proba
        assert np.array_equal(after[:, STAY], test.proba[:, STAY])
    assert not np.array_equal(Platt().fit(crossed.out_of_fold).apply(test).proba[:, 0], test.proba[:, 0])


def test_a_rare_outcome_that_a_fit_cannot_learn_is_left_out_of_that_fit_alone() -> None:
    data = paneled(300)
    labels = data.labels.copy()
    labels[:, 3] = False
    labels[data.fold(SPLIT, "development").rows[:1], 3] = True  # whose held-out fold has a fit that never saw it
    data = replace(data, labels=labels)
    with pytest.warns(UserWarning, match="do not show task 'asthma' both ways; left out"):
        crossed = cross_fit(estimator("logistic-pattern"), data.fold(SPLIT, "development"), 5, seed=1)
    known = crossed.predictor.predict(data.fold(SPLIT, "test"))
    assert len(known.tasks) == 7
    kept = crossed.out_of_fold.label_mask[:, 3]
    assert not kept.all()  # patients of folds whose fit did not know it
    assert (crossed.out_of_fold.label_mask[:, 0] == data.fold(SPLIT, "development").label_mask[:, 0]).all()


def test_an_outcome_that_nobody_has_is_never_learned_and_an_exclusive_panel_is_learned_whole() -> None:
    data = paneled(300)
    labels, mask = data.labels.copy(), data.label_mask.copy()
    labels[:, 3] = False
    mask[labels[:, 6]] &= np.arange(7) < 4  # nobody is known to be of the last class
    labels[labels[:, 6]] &= np.arange(7) < 4
    data = replace(data, labels=labels, label_mask=mask)
    for name in ("zero-fill", "logistic-pattern", "stack"):
        with pytest.warns(UserWarning, match="tasks 'asthma', 'short', 'medium', 'long' both ways"):
            crossed = cross_fit(estimator(name, *quick(name)), data.fold(SPLIT, "development"), 3)
        assert crossed.predictor.schema.task_names == ("mortality", "sepsis", "stroke")
        assert [panel.name for panel in crossed.predictor.schema.panels] == ["phenotypes"]
        scored = crossed.predictor.predict(data.fold(SPLIT, "test"))
        assert scored.tasks == data.schema.task_names
        assert not scored.label_mask[:, 3:].any()
        assert scored.label_mask[:, 1].all()


def test_a_stack_weighs_a_panel_as_one_and_by_what_its_members_know() -> None:
    data = paneled(1200, signal=3.0)
    members = "model.members=logistic-pattern,pattern-only"
    crossed = cross_fit(estimator("stack", members), data.fold(SPLIT, "development"), 3)
    test = data.fold(SPLIT, "test")
    weights = crossed.predictor.weighed()
    assert weights["short"]["logistic-pattern"] == weights["long"]["logistic-pattern"]
    assert weights["short"]["logistic-pattern"] > 2 * weights["short"]["pattern-only"]
    assert abs(sum(weights[task]["intercept"] for task in ("short", "medium", "long"))) < 1e-9
    loss = {n: _cross_entropy(test, p) for n, p in _risks(crossed.predictor, test).items()}
    assert loss["stack"] < min(loss["logistic-pattern"], loss["pattern-only"]) + 0.01


def _risks(stack: object, test: object) -> dict[str, np.ndarray]:
    members = {name: member.predict_proba(test) for name, member in stack.members.items()}  # type: ignore[attr-defined]
    return {**members, "stack": stack.predict_proba(test)}  # type: ignore[attr-defined]


def _cross_entropy(test: object, p: np.ndarray) -> float:
    asked = test.label_mask[:, 4]  # type: ignore[attr-defined]
    y = test.labels[asked, STAY].astype(float)  # type: ignore[attr-defined]
    return float((y * log_terms(np.ones_like(y), p[asked, STAY])).sum(1).mean())

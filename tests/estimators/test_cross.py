"""The cross-fitted fit and the stack: who is learned from, who is scored by whom, what is weighed by what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, cross_folds, write_store
from mmnar.errors import ConfigError, LeakageError, TrainingError
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator
from mmnar.estimators.stack import StackPredictor, fit_weights, stacked_out_of_fold
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.posthoc import Platt
from mmnar.posthoc.base import corrected_out_of_fold
from mmnar.predictions import Predictions
from mmnar.report.build import build_report
from mmnar.report.terminal import result_text
from mmnar.roles import Calibration
from mmnar.workflow import evaluate_runs, open_run, train_run
from tests.populations import population

SPLIT = Split(test=0.3)
MEMBERS = "model.members=boosting-pattern,logistic-pattern,pattern-only"


def test_a_patient_is_scored_by_the_fit_that_never_saw_them_and_others_by_the_mean_of_all() -> None:
    data = population(500, subjects=300)
    development, test = data.fold(SPLIT, "development"), data.fold(SPLIT, "test")
    recipe = estimator("logistic-pattern")
    crossed = cross_fit(recipe, development, 3, tune=0.2, seed=4)
    by_row = dict(zip(crossed.out_of_fold.stay_id, crossed.out_of_fold.proba, strict=True))
    each = []
    for train, tune, held in cross_folds(development, 3, 0.2, 4):
        fitted = recipe.fit(train, tune, seed=4)
        each.append(fitted.predict_proba(test))
        for stay, risk in zip(data.stay_id[held.rows], fitted.predict_proba(held), strict=True):
            assert np.array_equal(by_row[stay], risk)
    assert len(by_row) == len(development)
    np.testing.assert_allclose(crossed.predictor.predict_proba(test), np.mean(each, axis=0), rtol=1e-12)
    assert set(crossed.predictor.fitted_subjects) == set(development.subjects())
    crossed.out_of_fold.refuse_overlap()


def test_only_the_development_fold_is_divided_and_only_risks_out_of_fold_stand_for_a_test() -> None:
    data = population(300)
    with pytest.raises(LeakageError, match="the train fold"):
        cross_fit(estimator("pattern-only"), data.fold(SPLIT, "train"))  # type: ignore[arg-type]
    crossed = cross_fit(estimator("pattern-only"), data.fold(SPLIT, "development"), 3)
    with pytest.raises(LeakageError, match="calibration predictions"):
        crossed.predictor.predict(data.fold(SPLIT, "test")).as_validation()  # type: ignore[misc]
    own = crossed.predictor.predict(data.fold(SPLIT, "development"))
    own = replace(own, role=Calibration)
    with pytest.raises(LeakageError, match="seen during fitting"):
        own.as_validation()
    with pytest.raises(LeakageError, match="use fewer folds"):
        cross_fit(estimator("pattern-only"), population(40, subjects=3).fold(SPLIT, "development"), 5)


def test_a_task_that_a_fit_cannot_learn_is_left_out_of_it_and_said() -> None:
    data = population(400)
    development, test = data.fold(SPLIT, "development"), data.fold(SPLIT, "test")
    first = next(cross_folds(development, 3))[2].rows
    labels, mask = data.labels.copy(), data.label_mask.copy()
    mask[:, 1] = True
    labels[:, 1] = np.isin(np.arange(len(data)), [*first[:8], *test.rows[:9]])  # all events in what fit 1 holds out
    data = replace(data, labels=labels & mask, label_mask=mask)
    development, test = data.fold(SPLIT, "development"), data.fold(SPLIT, "test")
    with pytest.warns(UserWarning, match=r"fit 1 of 3: .*'readmission'.* left out"):
        crossed = cross_fit(estimator("logistic-pattern"), development, 3)
    asked = crossed.out_of_fold.label_mask
    assert not asked[crossed.out_of_fold.fold == 0, 1].any()
    assert asked[crossed.out_of_fold.fold != 0, 1].all()
    one, two, three = crossed.predictor.members  # type: ignore[attr-defined]
    assert one.schema.task_names == ("mortality",)
    risks = crossed.predictor.predict_proba(test)
    np.testing.assert_allclose(risks[:, 1], (two.predict_proba(test)[:, 1] + three.predict_proba(test)[:, 1]) / 2)
    nobody = replace(data, labels=np.zeros_like(data.labels))
    with pytest.raises(TrainingError, match="with and without the outcome"):
        cross_fit(estimator("logistic-pattern"), nobody.fold(SPLIT, "development"), 3)


def test_a_run_without_a_test_fold_is_judged_out_of_fold_and_says_so(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", population(600))
    run = train_run(store, "stack", tmp_path / "run", ("split.test=0", "fits=3", MEMBERS))
    assert run.rectified is None
    assert run.rectifier() is not None
    assert run.judged == "samples out of fold"
    assert len(run.test) == 600
    assert np.array_equal(open_run(tmp_path / "run").test.proba, run.test.proba)
    result = evaluate_runs([run], resamples=50)
    assert result.out_of_fold
    assert result_text(result).startswith("Judged out of fold")
    page = build_report([run], tmp_path / "report", resamples=50).read_text(encoding="utf-8")
    assert "No test fold was set apart" in page
    assert "stack: log odds of its risk" in page
    assert "Test patients" not in page
    with pytest.raises(LeakageError):
        evaluate_runs([run], on=store, resamples=50)
    fresh = population(300, seed=9)
    other = write_store(tmp_path / "other", replace(fresh, subject_id=fresh.subject_id + 10_000))
    assert not evaluate_runs([run], on=other, store=store, resamples=50).out_of_fold
    assert set(run.record["weights"]) == {"mortality", "readmission"}


def weights_of(x: np.ndarray, y: np.ndarray, spread: float) -> np.ndarray:
    """Another optimiser, without gradients, on the same penalised loss: intercept, then weights ≥ 0 as squares."""

    def loss(theta: np.ndarray) -> float:
        eta = theta[0] + (theta[1:] ** 2) @ x
        penalty = ((theta[1:] ** 2 - 1 / len(x)) ** 2).sum() / (2 * spread**2)
        return float(-(y * np.log(expit(eta)) + (1 - y) * np.log(expit(-eta))).sum() + penalty)

    best = min(
        (minimize(loss, [0, *start], method="Nelder-Mead", options={"maxiter": 20_000, "xatol": 1e-9, "fatol": 1e-10})
         for start in ([0.5, 0.5], [0.9, 0.1], [0.1, 0.9])),
        key=lambda found: found.fun,
    )  # fmt: skip
    return np.array([best.x[0], *best.x[1:] ** 2])


def two_members(data: PatientDataset, seed: int, worse: float) -> list[Predictions[Calibration]]:
    """Out-of-fold risks: one by a real fit, one that is noise but for ``worse`` of it."""
    crossed = cross_fit(estimator("logistic-pattern"), data.fold(SPLIT, "development"), 4)
    one = crossed.out_of_fold
    noise = np.random.default_rng(seed).normal(size=one.proba.shape)
    return [one, one.with_proba(expit(worse * logit(one.proba) + noise))]


def test_weights_are_those_of_least_penalised_loss() -> None:
    parts = two_members(population(900, signal=1.5), 0, 0.5)
    for spread in (0.1, 1.0):
        found = fit_weights(parts, spread)
        for k in range(2):
            rows = parts[0].label_mask[:, k]
            x = logit(np.stack([p.proba[rows, k] for p in parts]))
            wanted = weights_of(x, parts[0].labels[rows, k].astype(float), spread)
            np.testing.assert_allclose([found.intercept[k], *found.weight[k]], wanted, atol=2e-3)


def test_a_member_that_errs_gets_no_weight_and_few_events_leave_all_equal() -> None:
    parts = two_members(population(900, signal=1.5), 1, -2.0)
    assert fit_weights(parts, 5.0).weight[0, 1] == 0
    few = [replace(p, labels=p.labels & (np.cumsum(p.labels, axis=0) <= 39)) for p in parts]
    weights = fit_weights(few)
    assert np.array_equal(weights.weight, np.full((2, 2), 0.5))
    assert np.array_equal(weights.intercept, [0, 0])


def test_no_label_of_a_fold_moves_its_own_stacked_risks() -> None:
    parts = two_members(population(900), 2, 0.5)
    before = stacked_out_of_fold(parts)
    here = parts[0].fold == 2
    turned = [replace(p, labels=np.where(here[:, None], ~p.labels & p.label_mask, p.labels)) for p in parts]
    after = stacked_out_of_fold(turned)
    assert np.array_equal(after.proba[here], before.proba[here])
    assert not np.allclose(after.proba[~here], before.proba[~here])
    before.refuse_overlap()


def test_a_stack_survives_saving_and_names_the_member_that_failed(tmp_path: Path) -> None:
    data = population(400)
    crossed = cross_fit(estimator("stack", MEMBERS), data.fold(SPLIT, "development"), 3)
    test = data.fold(SPLIT, "test")
    loaded = load_predictor(save_predictor(crossed.predictor, tmp_path / "stack"))
    assert isinstance(loaded, StackPredictor)
    assert np.array_equal(loaded.predict_proba(test), crossed.predictor.predict_proba(test))
    members = np.stack([m.predict_proba(test) for m in loaded.members.values()])
    w = loaded.weighed()["readmission"]
    byhand = expit(w["intercept"] + sum(w[n] * logit(members[m, :, 1]) for m, n in enumerate(loaded.members)))
    np.testing.assert_allclose(loaded.predict_proba(test)[:, 1], byhand, rtol=1e-6)
    nobody = replace(data, labels=np.zeros_like(data.labels))
    with pytest.raises(TrainingError, match=r"stack, member 'boosting-pattern'.*leave it out"):
        cross_fit(estimator("stack", MEMBERS), nobody.fold(SPLIT, "development"), 3)
    for members_word in ("stack,zero-fill", "zero-fill", "zero-fill,zero-fill"):
        with pytest.raises(ConfigError, match="two or more different methods"):
            estimator("stack", f"model.members={members_word}")
    with pytest.raises(ConfigError, match="did you mean"):
        estimator("stack", "model.members=zero-fil,pattern-only")


def test_no_label_of_a_fold_moves_the_line_by_which_it_is_judged(tmp_path: Path) -> None:
    one = two_members(population(900, signal=1.5), 3, 0.5)[0]
    before = corrected_out_of_fold(Platt(), one)
    here = one.fold == 2
    turned = replace(one, labels=np.where(here[:, None], ~one.labels & one.label_mask, one.labels))
    after = corrected_out_of_fold(Platt(), turned)
    assert np.array_equal(after.proba[here], before.proba[here])
    assert not np.allclose(after.proba[~here], before.proba[~here])
    others = replace(one, label_mask=one.label_mask & ~here[:, None])
    assert np.array_equal(before.proba[here], Platt().fit(others).risks(one)[here])

    store = write_store(tmp_path / "store", population(400, signal=1.5))
    words = (
        "split.test=0",
        "fits=3",
        "train.label_loss=focal",
        "train.max_epochs=2",
        "train.min_steps=0",
        "model.width=8",
    )
    run = train_run(store, "zero-fill", tmp_path / "run", words)
    in_sample, judged = run.calibration(), run.test
    assert in_sample is not None
    assert not np.array_equal(judged.proba, in_sample.proba)

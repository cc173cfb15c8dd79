"""Folds as small or foreign data sets have them: what one fold never saw, another has. No traceback, no chance numbers.

Fitting, correcting, judging and reporting are gone through by every method without a network, and by one with a network
that stands for the training loop.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, make_dataset, write_store
from mmnar.errors import TrainingError
from mmnar.estimators.registry import TABULAR, estimator
from mmnar.report.build import build_report
from mmnar.workflow import evaluate_runs, train_run
from tests.populations import population

METHODS = ("zero-fill", *TABULAR)
QUICK = ("train.min_steps=0", "train.max_epochs=2", "model.width=16")
SPLIT = Split()
DATA = population(240, signal=1.5)
ROLE = SPLIT.roles(DATA.subject_id)


def _recipe(name: str) -> tuple[str, ...]:
    return QUICK if name == "zero-fill" else ()


def _changed(labels: np.ndarray | None = None, mask: np.ndarray | None = None, **values: np.ndarray) -> PatientDataset:
    mask = DATA.label_mask if mask is None else mask
    labels = (DATA.labels if labels is None else labels) & mask
    ids = (DATA.subject_id, DATA.hadm_id, DATA.stay_id, DATA.prediction_time)
    manifest = {"source": "test", "source_version": "1", "id_space": "test", "warnings": [], "options": {}}
    manifest |= {"attrition": {}, "source_fingerprint": "0"}
    return make_dataset(DATA.schema, {**DATA.values, **values}, labels, mask, *ids, DATA.attributes, manifest)


def _values() -> dict[str, np.ndarray]:
    return {name: np.array(content) for name, content in DATA.values.items()}


def _one_class(role: str) -> np.ndarray:
    labels = DATA.labels.copy()
    labels[role == ROLE, 0] = False
    return labels


def _torn() -> PatientDataset:
    """Each fold lacks a modality; a feature is constant and one is empty; the test fold knows one class."""
    v = _values()
    v["labs"][ROLE == "train"] = np.nan
    v["vitals"][ROLE == "tune"] = np.nan
    v["unit"][ROLE == "test"] = np.nan
    v["vitals"][:, 0] = np.where(np.isnan(v["vitals"][:, 0]), np.nan, 37.0)
    v["vitals"][:, 2] = np.nan
    return _changed(_one_class("test"), **v)


def _foreign() -> PatientDataset:
    """A category that training never saw; nobody has a modality; the tune fold knows one class."""
    v = _values()
    v["labs"][:] = np.nan
    kind = v["unit"][:, 0]
    kind[(ROLE != "test") & (kind == 2)] = 0
    kind[(ROLE == "test") & ~np.isnan(kind)] = 2
    return _changed(_one_class("tune"), **v)


@pytest.mark.parametrize("name", METHODS)
def test_values_of_which_training_knows_nothing_move_no_risk(name: str) -> None:
    data = _torn()
    fitted = estimator(name, *_recipe(name)).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
    risks = fitted.predict_proba(data.fold(SPLIT, "test"))
    assert ((risks > 0) & (risks < 1)).all()
    moved = {key: np.array(content) for key, content in data.values.items()}
    moved["labs"] *= 10  # absent in training
    moved["vitals"][:, 0] += 1  # constant in training
    other = _changed(data.labels, data.label_mask, **moved)
    assert np.array_equal(fitted.predict_proba(other.fold(SPLIT, "test")), risks)


@pytest.mark.parametrize("name", METHODS)
def test_an_unseen_category_is_scored(name: str) -> None:
    data = _foreign()
    test = data.fold(SPLIT, "test")
    assert np.nanmin(test.values("unit")[:, 0]) == 2
    fitted = estimator(name, *_recipe(name)).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
    risks = fitted.predict_proba(test)
    assert ((risks > 0) & (risks < 1)).all()


def test_such_runs_are_judged_and_reported(tmp_path: Path) -> None:
    for make in (_torn, _foreign):
        data, place = make(), tmp_path / make.__name__
        store = write_store(place / "store", data)
        runs = [
            train_run(store, name, place / "runs" / name, ("fits=2", *_recipe(name)))
            for name in ("zero-fill", "logistic-pattern", "pattern-only")
        ]
        result = evaluate_runs(runs, resamples=50)
        text = json.dumps(result.to_dict(), allow_nan=False)
        assert "auroc" in text
        page = build_report(runs, place / "report", resamples=50)
        assert page.exists()
        if data.labels[data.fold(SPLIT, "test").rows, 0].any():
            continue
        assert all(of.metrics["auroc"].value is None for of in result.tasks["mortality"].values())


def test_a_refusal_tells_no_small_count() -> None:
    mask = DATA.label_mask.copy()
    mask[np.flatnonzero(ROLE == "train")[3:], 0] = False
    data = _changed(_one_class("train"), mask)
    with pytest.raises(TrainingError, match=r"got 0 with, (0|fewer than 10) without"):
        estimator("pattern-only").fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))


@pytest.mark.parametrize("name", TABULAR)
def test_a_task_of_one_class_in_training_is_refused_in_one_line(name: str) -> None:
    data = _changed(_one_class("train"))
    with pytest.raises(TrainingError, match="with and without the outcome") as caught:
        estimator(name).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_a_task_that_the_tune_fold_was_not_asked_is_fitted_or_refused(name: str) -> None:
    mask = DATA.label_mask.copy()
    mask[ROLE == "tune", 0] = False
    data = _changed(mask=mask)
    fit = estimator(name, *_recipe(name)).fit
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    if name in ("zero-fill", "pattern-only"):
        assert np.isfinite(fit(train, tune).predict_proba(data.fold(SPLIT, "test"))).all()
    else:
        with pytest.raises(TrainingError, match="raise the tune share"):
            fit(train, tune)

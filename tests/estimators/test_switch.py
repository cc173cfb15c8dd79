"""The switch equals one member or the other, by what the patient has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.store import Fold, PatientDataset, write_store
from mmnar.errors import ConfigError, TrainingError
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import build_estimator, estimator, model_settings
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.estimators.switch import Switch, SwitchPredictor
from mmnar.study.plan import targets_of
from mmnar.workflow import train_run
from tests.populations import mixed_population, paneled, population
from tests.recipes import SHORT

SPLIT = Split(tune=0.2, test=0.3)
PAIR = ("model.complete=zero-fill", "model.other=logistic-pattern", "model.complete_with=width=16,dropout=0.1")


def switch(*overrides: str) -> Switch:
    recipe = estimator("switch-ensemble", *SHORT, *PAIR, *overrides)
    assert isinstance(recipe, Switch)
    return recipe


def folds(data: PatientDataset) -> tuple[Any, Any, Any]:
    return data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), data.fold(SPLIT, "test")


def having(fold: Fold[Any], *names: str) -> Fold[Any]:
    at = [fold.schema.modality_names.index(name) for name in names]
    return replace(fold, rows=fold.rows[fold.present[:, at].all(axis=1)])


def test_each_patient_is_scored_by_the_member_of_those_like_them(tmp_path: Path) -> None:
    train, tune, test = folds(population(600))
    pair = ("vitals", "labs")
    fitted = switch("model.modalities=vitals,labs").fit(train, tune, seed=3)
    alone = estimator("zero-fill", *SHORT, "model.width=16", "model.dropout=0.1")
    complete = alone.fit(having(train, *pair), having(tune, *pair), seed=3).predict_proba(test)
    other = estimator("logistic-pattern").fit(train, tune, seed=3).predict_proba(test)
    mask = test.present[:, :2].all(axis=1)
    assert 0 < mask.sum() < len(mask)
    want = np.where(mask[:, None], complete, other)
    assert np.array_equal(fitted.predict_proba(test), want)
    loaded = load_predictor(save_predictor(fitted, tmp_path / "model"))
    assert np.array_equal(loaded.predict_proba(test), want)
    for rows in (test.rows[mask], test.rows[~mask], test.rows[:0]):  # of one kind alone, or nobody
        part = replace(test, rows=rows)
        np.testing.assert_allclose(fitted.predict_proba(part), want[np.isin(test.rows, rows)], atol=1e-7)
    assert set(fitted.fitted_subjects) == set(train.subjects()) | set(tune.subjects())


def test_who_is_complete_without_names_is_who_has_all_that_anybody_in_training_has() -> None:
    train, tune, _ = folds(population(600))
    fitted = switch().fit(train.hiding("unit"), tune.hiding("unit"))
    assert fitted.needed.tolist() == [True, True, False]
    assert switch().fit(train, tune).needed.tolist() == [True] * 3


def test_a_task_that_complete_patients_do_not_show_both_ways_is_the_others() -> None:
    data = paneled(600)
    labels, whole = data.labels.copy(), data.present[:, :2].all(axis=1)
    labels[whole, 3] = False
    labels[whole, 4:] = data.label_mask[whole, 4:] & (np.arange(3) == 0)  # one class alone of the exclusive panel
    data = replace(data, labels=labels)
    train, tune, test = folds(data)
    with pytest.warns(UserWarning, match="patients with all modalities.*'asthma'.*left out"):
        fitted = switch("model.modalities=vitals,labs").fit(train, tune)
    risks, other = fitted.predict_proba(test), fitted.members["other"].predict_proba(test)
    mask = test.present[:, :2].all(axis=1)
    assert fitted.members["complete"].schema.task_names == ("mortality", "sepsis", "stroke")
    assert np.array_equal(risks[:, 3:], other[:, 3:])
    assert (risks[mask, :3] != other[mask, :3]).all()
    assert np.allclose(risks[:, 4:].sum(axis=1), 1)


def test_cross_fitted_and_with_several_seeds() -> None:
    data = population(600)
    recipe = estimator("switch-ensemble", *SHORT, *PAIR, "model.modalities=vitals,labs", ensemble=2)
    crossed = cross_fit(recipe, data.fold(SPLIT, "development"), 2)
    assert np.isfinite(crossed.out_of_fold.proba).all()
    assert len(crossed.predictor.predict(data.fold(SPLIT, "test")).proba) == len(data.fold(SPLIT, "test"))


def test_by_default_medfuse_and_an_lstm_with_settings_of_their_own() -> None:
    own = ("model.complete_with=width=8,image.backbone=tiny", "model.other_with=width=8,step=4")
    recipe = estimator("switch-ensemble", *SHORT, *own, "model.modalities=course,film")
    train, tune, test = folds(mixed_population(200))
    fitted = recipe.fit(train, tune)
    assert isinstance(fitted, SwitchPredictor)
    assert {which: of.name for which, of in fitted.members.items()} == {"complete": "medfuse", "other": "lstm"}
    assert np.isfinite(fitted.predict_proba(test)).all()
    assert fitted.parameters == sum(of.parameters for of in fitted.members.values())  # type: ignore[attr-defined]
    settings = model_settings(recipe)
    assert settings["modalities"] == ["course", "film"]
    assert settings["complete"]["model"] == "medfuse"
    assert settings["complete"]["settings"]["image"]["backbone"] == "tiny"
    assert settings["other"]["settings"]["step"] == 4
    assert targets_of("switch-ensemble", settings) == [
        "mmnar.estimators.switch:Switch",
        "mmnar.models.medfuse:MedFuse",
        "mmnar.models.lstm:LSTM",
    ]


def test_what_cannot_be_is_refused() -> None:
    train, tune, _ = folds(population(300))
    for word, said in (
        ("model.complete=stack", "a method by itself"),
        ("model.other=switch-ensemble", "a method by itself"),
        ("model.other=tabicl-pattern", "a method that needs no file of weights"),
        ("model.complete=zero-fil", "did you mean 'zero-fill'"),
        ("model.complete_with=widht=3", r"did you mean 'model\.width'"),
        ("model.complete_with=width", "no '='"),
    ):
        with pytest.raises(ConfigError, match=said):
            switch(word)
    with pytest.raises(ConfigError, match=r"model\.modalities: 'lab'.*did you mean 'labs'"):
        switch("model.modalities=lab").fit(train, tune)
    refusal = estimator("switch-ensemble").refuses(train.schema)
    assert refusal == "model.other, 'lstm', needs a modality of kind series, the data has static"
    nobody = [replace(fold, rows=fold.rows[~fold.present[:, :2].all(axis=1)]) for fold in (train, tune)]
    with pytest.raises(TrainingError, match="patients with all modalities"):
        switch("model.modalities=vitals,labs").fit(*nobody)
    with pytest.raises(ConfigError, match=r"preset=original of 'switch-ensemble'"):
        estimator("switch-ensemble", "preset=original")
    stack = build_estimator("stack", {"members": "switch-ensemble,pattern-only"}, TrainConfig())
    assert isinstance(stack.members["switch-ensemble"], Switch)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("loss", "lined"), [("bce", False), ("focal", True)])
def test_a_run_lays_platts_line_over_risks_of_a_focal_loss(loss: str, lined: bool, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", population(600))
    words = (*SHORT, *PAIR, "model.modalities=vitals,labs", "fits=2", f"train.label_loss={loss}")
    run = train_run(store, "switch-ensemble", tmp_path / "run", words)
    assert (run.platt() is not None) == lined

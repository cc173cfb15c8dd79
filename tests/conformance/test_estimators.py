"""Every registered method as an Estimator, deep or not, alone and in an ensemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.dataset.content import HashedArrays, gather
from mmnar.dataset.store import Fold, PatientDataset
from mmnar.errors import ConfigError, SchemaError, StoreError
from mmnar.estimators.base import Estimator
from mmnar.estimators.registry import estimator, model_names
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.files import read_sealed, write_sealed
from mmnar.models.registry import MODELS
from mmnar.schema import Schema, Task
from tests.populations import mixed_population, population
from tests.recipes import quick

SPLIT = Split(tune=0.2, test=0.3)


def recipe(name: str, ensemble: int = 1) -> Estimator:
    return estimator(name, *quick(name), ensemble=ensemble)


def folds(data: PatientDataset) -> tuple[Any, Any, Any]:
    return data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), data.fold(SPLIT, "test")


RECIPES = [(name, 1) for name in model_names()] + [("zero-fill", 2), ("boosting-pattern", 2)]


@pytest.mark.parametrize(("name", "members"), RECIPES)
def test_risks_are_risks_repeat_to_the_bit_and_survive_saving(name: str, members: int, tmp_path: Path) -> None:
    train, tune, test = folds(mixed_population(200))
    fitted = recipe(name, members).fit(train, tune, seed=3)
    p = fitted.predict_proba(test)
    assert p.shape == (len(test), 2)
    assert ((p > 0) & (p < 1)).all()
    assert np.array_equal(p, recipe(name, members).fit(train, tune, seed=3).predict_proba(test))
    loaded = load_predictor(save_predictor(fitted, tmp_path / "model"))
    assert np.array_equal(p, loaded.predict_proba(test))
    assert np.array_equal(loaded.fitted_subjects, fitted.fitted_subjects)
    assert loaded.name == fitted.name
    represented = loaded.represent(test)
    assert (represented is not None) == (name in MODELS and members == 1)
    assert represented is None or (len(represented) == len(test) and np.isfinite(represented).all())
    assert not list(tmp_path.rglob("*.pkl")) + list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("name", model_names())
def test_a_patients_risk_does_not_depend_on_who_is_scored_beside_them(name: str) -> None:
    train, tune, test = folds(mixed_population(200))
    fitted = recipe(name).fit(train, tune)
    together = fitted.predict_proba(test)
    for i in (0, 7, 20):
        alone = replace(test, rows=test.rows[i : i + 1])
        assert np.allclose(fitted.predict_proba(alone)[0], together[i], atol=1e-6)
    backwards = replace(test, rows=test.rows[::-1])
    assert np.allclose(fitted.predict_proba(backwards)[::-1], together, atol=1e-6)


@pytest.mark.parametrize("name", model_names())
def test_tampering_with_the_test_fold_moves_no_fitted_state(name: str, tmp_path: Path) -> None:
    data = mixed_population(200)
    train, tune, test = folds(data)
    recipe(name).fit(train, tune)
    files = []
    for version, source in (("clean", data), ("tampered", _tampered(data, test))):
        fitted = recipe(name).fit(source.fold(SPLIT, "train"), source.fold(SPLIT, "tune"))
        folder = save_predictor(fitted, tmp_path / version)
        files.append({p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
    clean, tampered = ({k: v for k, v in f.items() if k.suffix != ".json"} for f in files)
    skops = {k for k in clean if k.suffix == ".skops"}  # an archive of dates and ids; its trees are compared below
    assert {k: v for k, v in clean.items() if k not in skops} == {k: v for k, v in tampered.items() if k not in skops}
    same = load_predictor(tmp_path / "clean").predict_proba(test)
    assert np.array_equal(same, load_predictor(tmp_path / "tampered").predict_proba(test))


def _tampered(data: PatientDataset, test: Fold[Any]) -> PatientDataset:
    values = dict(data.values)
    for name, content in data.values.items():
        if isinstance(content, np.ndarray):
            values[name] = content.copy()
            values[name][test.rows] = np.where(np.isnan(content[test.rows]), np.nan, 1.0)
        else:
            part = "weights" if isinstance(content, HashedArrays) else "values"
            changed = getattr(content, part).copy()
            own = gather(content.offsets, test.rows)[1]
            changed[gather(content.starts, own)[1] if part == "weights" else own] = 7
            values[name] = replace(content, **{part: changed})
    labels = data.labels.copy()
    labels[test.rows] = ~labels[test.rows] & data.label_mask[test.rows]
    return replace(data, values=values, labels=labels)


@pytest.mark.parametrize("name", model_names())
def test_another_schema_is_refused(name: str) -> None:
    data = mixed_population(200)
    train, tune, _ = folds(data)
    fitted = recipe(name).fit(train, tune)
    schema = Schema(data.schema.modalities, (*data.schema.tasks[:1], Task("icu", "", "")), data.schema.attributes)
    with pytest.raises(SchemaError, match="tasks mortality, icu, not mortality, readmission"):
        fitted.predict(replace(data, schema=schema).fold(SPLIT, "test"))


def test_unknown_names_and_keys_offer_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'crl-mmnar'"):
        estimator("crl-mnar")
    with pytest.raises(ConfigError, match=r"did you mean 'model\.width'"):
        estimator("crl-mmnar", "model.widht=64")
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        estimator("crl-mmnar", "train.lrr=1")
    with pytest.raises(ConfigError, match="type float"):
        estimator("crl-mmnar", "train.lr=fast")
    with pytest.raises(ConfigError, match="concat"):
        estimator("crl-mmnar", "model.pattern_input=gates")


def test_a_model_file_cannot_choose_foreign_code(tmp_path: Path) -> None:
    train, tune, _ = folds(population())
    folder = save_predictor(recipe("pattern-only").fit(train, tune), tmp_path / "m")
    path = folder / "predictor.json"
    record = read_sealed(path, "", "")
    write_sealed(path, {**record, "loader": record["loader"].replace("mmnar.estimators.", "os.path.")})
    with pytest.raises(StoreError, match="do not trust"):
        load_predictor(folder)


@pytest.mark.parametrize("name", ["crl-mmnar", "stack"])
def test_a_fold_is_scored_part_by_part_to_the_same_risks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory must not grow with the records that are scored."""
    from mmnar.dataset.preprocess import Preprocessor
    from mmnar.estimators import fusion

    train, tune, test = folds(mixed_population(200))
    fitted = recipe(name).fit(train, tune)
    whole = fitted.predict_proba(test)
    rows: list[int] = []
    transform = Preprocessor.transform
    monkeypatch.setattr(Preprocessor, "transform", lambda self, fold: rows.append(len(fold)) or transform(self, fold))
    monkeypatch.setattr(fusion, "PREDICT_ROWS", 7)
    assert np.allclose(fitted.predict_proba(test), whole, atol=1e-6)
    assert max(rows) == 7
    assert sum(rows) == len(test)

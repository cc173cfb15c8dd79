"""Every registered method as an Estimator, deep or not, alone and in an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset
from mmnar.errors import ConfigError, StoreError
from mmnar.estimators.base import Estimator
from mmnar.estimators.registry import estimator, model_names
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.files import read_sealed, write_sealed
from mmnar.models.registry import MODELS
from mmnar.testing.estimators import PROMISES, Method
from tests.populations import mixed_population, population
from tests.recipes import quick

SPLIT = Split(tune=0.2, test=0.3)


def recipe(name: str, ensemble: int = 1) -> Estimator:
    return estimator(name, *quick(name), ensemble=ensemble)


def folds(data: PatientDataset) -> tuple[Any, Any, Any]:
    return data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), data.fold(SPLIT, "test")


RECIPES = [(name, 1) for name in model_names()] + [("zero-fill", 2), ("boosting-pattern", 2)]


@pytest.mark.parametrize(("name", "members"), RECIPES)
def test_every_promise(name: str, members: int) -> None:
    method = Method(recipe(name, members))
    for promise in PROMISES.values():
        promise(method)
    represented = method.fitted.represent(method.test)
    assert (represented is not None) == (name in MODELS and members == 1)


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

"""What every recipe promises, deep or not, checked on populations that are made here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.content import HashedArrays, gather
from mmnar.dataset.store import Fold, PatientDataset
from mmnar.errors import SchemaError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.registry import estimator as recipe_of
from mmnar.estimators.storage import check_predictor, load_predictor, save_predictor
from mmnar.roles import Test
from mmnar.schema import Schema, Task
from mmnar.testing.checks import Check, must
from mmnar.testing.populations import mixed_population, paneled

SPLIT: Final = Split(tune=0.2, test=0.3)
OURS: Final = "mmnar.estimators."
RUNS: Final = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
"""Endings of files that run code when they are read."""


def check_estimator(estimator: Estimator | str, *overrides: str) -> None:
    """Refuse a recipe that breaks a promise of ``estimators.base``: folds, seeds, files, panels. Needs no data and no
    pytest; a network is trained four times, so make it short (``train.max_epochs=2``).

    Args:
        estimator: A recipe, a registered name, or ``"module:Class"`` of a model.
        overrides: Of a name, such as ``model.width=16``.

    Raises:
        AssertionError: The first promise that is broken, by name.
        ConfigError: No such method or key.
    """
    for check in estimator_checks(estimator, *overrides):
        check()


def estimator_checks(estimator: Estimator | str, *overrides: str) -> Iterator[Check]:
    """The same check by check, for ``pytest.mark.parametrize("check", estimator_checks(Mine()), ids=str)``."""
    method = Method(recipe_of(estimator, *overrides) if isinstance(estimator, str) else estimator)
    for name, promise in PROMISES.items():
        yield Check(name, method.recipe.name, partial(promise, method))


@dataclass(frozen=True)
class Method:
    """A recipe, fitted once for all that is asked of it."""

    recipe: Estimator

    @cached_property
    def data(self) -> PatientDataset:
        return mixed_population(200)

    @property
    def test(self) -> Fold[Test]:
        return self.data.fold(SPLIT, "test")

    def fit(self, data: PatientDataset) -> Predictor:
        return self.recipe.fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), seed=3)

    @cached_property
    def fitted(self) -> Predictor:
        return self.fit(self.data)

    @cached_property
    def risks(self) -> NDArray[np.float64]:
        return self.fitted.predict_proba(self.test)


def _risks_are_risks_and_repeat_to_the_bit(method: Method) -> None:
    p, n = method.risks, len(method.test)
    must(p.shape == (n, 2), f"risks of shape {p.shape}, not one for each of {n} samples and 2 tasks")
    must(((p > 0) & (p < 1)).all(), "risks outside (0, 1)")
    must(np.array_equal(p, method.fitted.predict_proba(method.test)), "one fit, asked twice: other risks")
    again = method.fit(method.data).predict_proba(method.test)
    must(np.array_equal(p, again), "one seed, two fits: other risks")
    represented = method.fitted.represent(method.test)
    if represented is not None:
        must(len(represented) == n and np.isfinite(represented).all(), "a representation of others, or not finite")


def _what_is_fitted_survives_saving(method: Method) -> None:
    fitted, test = method.fitted, method.test
    with tempfile.TemporaryDirectory() as folder:
        loaded = _saved_and_loaded(fitted, Path(folder) / "model")
        code = [p.name for p in Path(folder).rglob("*") if p.suffix in RUNS]
    must(not code, f"files of a kind that runs code when it is read: {', '.join(code)}")
    must(np.array_equal(method.risks, loaded.predict_proba(test)), "saved and read again it gives other risks")
    must(np.array_equal(loaded.fitted_subjects, fitted.fitted_subjects), "it forgets whom it was fitted on")
    must(loaded.name == fitted.name, "it has another name")
    must(loaded.schema == fitted.schema, "it has another schema")
    a, b = fitted.represent(test), loaded.represent(test)
    same = a is b if a is None or b is None else np.array_equal(a, b)
    must(same, "saved and read again it has another representation")


def _saved_and_loaded(fitted: Predictor, folder: Path) -> Predictor:
    save_predictor(fitted, folder)
    if type(fitted).__module__.startswith(OURS):
        return load_predictor(folder)
    record = check_predictor(folder)  # load_predictor runs no code that a file names, but for this package's
    subjects = np.load(folder / "fitted_subjects.npy", allow_pickle=False)
    return type(fitted).load_state(folder, Schema.from_dict(record["schema"]), subjects, record["state"])


def _remembers_whom_it_was_fitted_on(method: Method) -> None:
    seen = [method.data.fold(SPLIT, "train").subjects(), method.data.fold(SPLIT, "tune").subjects()]
    must(np.array_equal(method.fitted.fitted_subjects, np.union1d(*seen)), "not the training and the tune fold")
    predictions = method.fitted.predict(method.test)
    must(predictions.role is Test, "predictions of the test fold do not say so")
    predictions.refuse_overlap()


def _a_risk_does_not_depend_on_who_is_scored_beside(method: Method) -> None:
    fitted, test = method.fitted, method.test
    for i in (0, 7, 20):
        alone = fitted.predict_proba(replace(test, rows=test.rows[i : i + 1]))[0]
        must(np.allclose(alone, method.risks[i], atol=1e-6), "alone, a patient has another risk")
    backwards = fitted.predict_proba(replace(test, rows=test.rows[::-1]))
    must(np.allclose(backwards[::-1], method.risks, atol=1e-6), "the order of the samples moves a risk")


def _tampering_with_the_test_fold_moves_no_fitted_state(method: Method) -> None:
    tampered = method.fit(_tampered(method.data, method.test))
    with tempfile.TemporaryDirectory() as at:
        clean, after = _files(method.fitted, Path(at) / "clean"), _files(tampered, Path(at) / "tampered")
    must(clean == after, "values or labels of the test fold move what is fitted")
    must(np.array_equal(method.risks, tampered.predict_proba(method.test)), "they move a risk")


def _files(fitted: Predictor, folder: Path) -> dict[str, bytes]:
    """Records have dates, and so have archives of trees: the risks tell of what is in these."""
    save_predictor(fitted, folder)
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".json", ".skops"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def _tampered(data: PatientDataset, test: Fold[Any]) -> PatientDataset:
    values = dict(data.values)
    for name, content in data.values.items():
        if isinstance(content, np.ndarray):
            static = content.copy()
            static[test.rows] = np.where(np.isnan(content[test.rows]), np.nan, 1.0)
            values[name] = static
        else:
            part = "weights" if isinstance(content, HashedArrays) else "values"
            changed = getattr(content, part).copy()
            own = gather(content.offsets, test.rows)[1]
            changed[gather(content.starts, own)[1] if isinstance(content, HashedArrays) else own] = 7
            values[name] = replace(content, **{part: changed})
    labels = data.labels.copy()
    labels[test.rows] = ~labels[test.rows] & data.label_mask[test.rows]
    return replace(data, values=values, labels=labels)


def _another_schema_is_refused(method: Method) -> None:
    own = method.data.schema
    schema = Schema(own.modalities, (*own.tasks[:1], Task("icu", "", "")), own.attributes)
    try:
        method.fitted.predict(replace(method.data, schema=schema).fold(SPLIT, "test"))
    except SchemaError as error:
        must("tasks mortality, icu, not mortality, readmission" in str(error), "it does not say what differs")
    else:
        must(False, "data of other tasks are scored")


def _risks_of_an_exclusive_panel_sum_to_one(method: Method) -> None:
    data = paneled(300)
    if method.recipe.refuses(data.schema) is not None:
        return
    fitted, test = method.fit(data), data.fold(SPLIT, "test")
    p = fitted.predict_proba(test)
    must(p.shape[1] == 7, f"{p.shape[1]} risks for 7 tasks")
    must(np.allclose(p[:, 4:7].sum(1), 1, atol=1e-6), "risks of outcomes of which exactly one is true do not sum to 1")
    must(np.ptp(p[:, 1:4].sum(1)) > 1e-3, "risks of outcomes that may come together have one sum for everybody")
    with tempfile.TemporaryDirectory() as folder:
        loaded = _saved_and_loaded(fitted, Path(folder) / "model")
    must(np.array_equal(loaded.predict_proba(test), p), "saved and read again it gives other risks")
    must(loaded.schema == fitted.schema, "saved and read again it has another schema")


PROMISES: Final[dict[str, Callable[[Method], None]]] = {
    promise.__name__.removeprefix("_"): promise
    for promise in (
        _risks_are_risks_and_repeat_to_the_bit,
        _what_is_fitted_survives_saving,
        _remembers_whom_it_was_fitted_on,
        _a_risk_does_not_depend_on_who_is_scored_beside,
        _tampering_with_the_test_fold_moves_no_fitted_state,
        _another_schema_is_refused,
        _risks_of_an_exclusive_panel_sum_to_one,
    )
}
"""Name → promise, in the order in which they are looked at."""

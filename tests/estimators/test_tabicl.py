"""TabICL beside training patients: what reaches the library, what is kept of patients, what is refused.

A small object stands for the library; the last test runs the library itself, on weights drawn at random, where it is
installed.
"""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.errors import ConfigError, RequirementError, StoreError, TrainingError
from mmnar.estimators.registry import OWN_WEIGHTS, build_estimator, estimator, known_names, model_names, model_settings
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.roles import subject_keys
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.study.plan import targets_of
from tests.conformance.test_kept_patients import arrays_of_everyone, values_of_one, with_a_stranger
from tests.populations import mixed_population, paneled, population

SPLIT = Split(tune=0.2, test=0.3)


class LinearInContext:
    """As if TabICLClassifier: a linear rule of the table it is shown; each row from itself alone.

    Means stand for NaN as in the library. What it was made with, and the tables it saw, are kept for the tests.
    """

    made: list[LinearInContext]

    def __init__(self, **settings: Any) -> None:
        self.settings, self.scored = settings, []  # type: ignore[var-annotated]
        self.made.append(self)

    def fit(self, x: np.ndarray, y: np.ndarray) -> LinearInContext:
        assert self.settings["model_path"].is_file()
        self.x, self.y = x.copy(), y.copy()
        self.mean = np.nan_to_num(np.nanmean(np.where(np.isnan(x).all(0), 0.0, x), axis=0))
        z = np.where(np.isnan(x), self.mean, x)
        gap, spread = z[y == 1].mean(0) - z[y == 0].mean(0), z.var(0) + 1e-3
        self.slope = gap / spread / len(gap)
        self.offset = np.log(y.mean() / (1 - y.mean()))
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        self.scored.append(x.copy())
        z = np.where(np.isnan(x), self.mean, x) - self.mean
        p = expit(self.offset + (z * self.slope).sum(axis=1))
        return np.column_stack([1 - p, p])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LinearInContext]]:
    """The classifiers that were made of a library that is there as if installed."""
    library = ModuleType("tabicl")
    made: list[LinearInContext] = []
    library.TabICLClassifier = type("TabICLClassifier", (LinearInContext,), {"made": made})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tabicl", library)
    return made


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "weights.ckpt")


def checkpoint(file: Path, seed: int = 0, **config: Any) -> Path:
    torch.save({"config": config, "state_dict": {"w": torch.full((3,), float(seed))}}, file)
    return file


def recipe(weights: Path, *more: str) -> Any:
    return estimator("tabicl-pattern", f"model.weights={weights}", *more)


def fit(data: PatientDataset, weights: Path, *more: str, seed: int = 0) -> Any:
    return recipe(weights, *more).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), seed=seed)


def by_hand() -> PatientDataset:
    """Twelve patients of whom every value is written down; the second half is scored."""
    nan = np.nan
    schema = Schema(
        (
            ModalitySpec("labs", (Feature("ph"), Feature("same"), Feature("kind", "categorical", ("a", "b", "c")))),
            ModalitySpec("scan", (Feature("size"),)),
        ),
        (Task("death", "at admission", "death"), Task("again", "at discharge", "again")),
    )
    labs = np.array([[7.1, 3, 0], [nan, 3, 2], [7.3, 3, nan], [nan, nan, nan], [7.5, 3, 1], [7.6, 3, 2]], np.float32)
    scan = np.array([[1], [nan], [3], [4], [nan], [6]], np.float32)
    labels = np.array([[0, 1], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=bool)
    asked = np.array([[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [0, 1]], dtype=bool)
    ids = np.arange(12)
    return make_dataset(
        schema,
        {"labs": np.concatenate([labs, labs]), "scan": np.concatenate([scan, scan])},
        np.concatenate([labels, labels]),
        np.concatenate([asked, asked]),
        ids,
        ids,
        ids,
        np.zeros(12, dtype=np.int64),
        {},
    )


def test_columns_reach_the_library_as_written_down(made: list[LinearInContext], weights: Path) -> None:
    data, nan = by_hand(), np.nan
    fold = data.fold(Split(tune=0.2, test=0.3), "train")
    train, test = replace(fold, rows=np.arange(6)), replace(fold, rows=np.arange(6, 12))
    fitted = recipe(weights).fit(train, test)
    fitted.predict_proba(test)
    # ph, kind (-1: not known), size, labs there, scan there; 'same' has one value alone
    x = np.array(
        [
            [7.1, 0, 1, 1, 1],
            [nan, 2, nan, 1, 0],
            [7.3, -1, 3, 1, 1],
            [nan, -1, 4, 0, 1],
            [7.5, 1, nan, 1, 0],
            [7.6, 2, 6, 1, 1],
        ]
    ).astype(np.float32)
    death, again = made
    np.testing.assert_array_equal(death.x.astype(np.float32), x[[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(death.y, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(again.x.astype(np.float32), x[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(again.y, [1, 0, 0, 1, 0])
    (scored,) = death.scored
    np.testing.assert_array_equal(scored.astype(np.float32), x)
    assert death.settings["model_path"] == weights
    assert death.settings["allow_auto_download"] is False
    assert death.settings["use_amp"] is False
    assert death.settings["n_estimators"] == 8


@pytest.mark.parametrize("kind", [population, mixed_population])
def test_it_learns_and_a_risk_is_the_same_alone_and_in_company(
    kind: Any, made: list[LinearInContext], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = kind(600)
    fitted, test = fit(data, weights), data.fold(SPLIT, "test")
    together = fitted.predict_proba(test)
    p, y, asked = fitted.predict(test).task("mortality")
    assert roc_auc_score(y[asked], p[asked]) > 0.7
    for i in (0, 11, 40):
        assert np.array_equal(fitted.predict_proba(replace(test, rows=test.rows[i : i + 1]))[0], together[i])
    assert np.array_equal(fitted.predict_proba(replace(test, rows=test.rows[::-1]))[::-1], together)
    assert fitted.predict_proba(replace(test, rows=test.rows[:0])).shape == (0, 2)
    monkeypatch.setattr("mmnar.estimators.tabular.tabicl_pattern.ROWS", 7)
    assert np.array_equal(fitted.predict_proba(test), together)
    assert max(len(x) for x in made[-1].scored) == 7


def test_what_was_saved_loads_to_the_same_bits(made: list[LinearInContext], weights: Path, tmp_path: Path) -> None:
    data = mixed_population(300)
    fitted, test = fit(data, weights, "model.members=3", seed=5), data.fold(SPLIT, "test")
    p = fitted.predict_proba(test)
    folder = save_predictor(fitted, tmp_path / "model")
    assert {path.suffix for path in folder.iterdir()} == {".npz", ".npy", ".json", ".txt"}
    loaded = load_predictor(folder)
    assert np.array_equal(loaded.predict_proba(test), p)
    assert np.array_equal(loaded.fitted_subjects, fitted.fitted_subjects)
    assert {(m.settings["n_estimators"], m.settings["random_state"]) for m in made} == {(3, 5)}
    assert np.array_equal(fit(data, weights, "model.members=3", seed=5).predict_proba(test), p)


def test_a_folder_says_that_it_holds_patients(made: list[LinearInContext], weights: Path, tmp_path: Path) -> None:
    data, unique = with_a_stranger(mixed_population(331))
    fitted = fit(replace(data, label_mask=np.ones_like(data.label_mask)), weights)
    folder = save_predictor(fitted, tmp_path / "model")
    assert arrays_of_everyone(folder, len(data.fold(SPLIT, "train")))
    assert values_of_one(folder, unique)
    assert fitted.keeps_patients
    assert recipe(weights).card["keeps_patients"]
    assert "patient data" in (folder / "README.txt").read_text()


def test_it_keeps_nobody_of_tune_and_test(made: list[LinearInContext], weights: Path) -> None:
    data = population(300)
    train = set(data.fold(SPLIT, "train").rows)
    elsewhere = np.array([row not in train for row in range(300)])
    values = {m: np.where(elsewhere[:, None], np.nan_to_num(v) + 1, v) for m, v in data.values.items()}
    tampered = replace(data, values=values, labels=np.where(elsewhere[:, None], ~data.labels, data.labels))
    one, other = fit(data, weights).context, fit(tampered, weights).context
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def test_labels_that_were_not_asked_and_values_behind_absent_modalities_leave_no_trace(
    made: list[LinearInContext], weights: Path
) -> None:
    data = population(300)
    behind = {
        spec.name: np.where(data.present[:, [m]], data.values[spec.name], np.float32(1e6))
        for m, spec in enumerate(data.schema.modalities)
    }
    poisoned = replace(data, values=behind, labels=np.where(data.label_mask, data.labels, ~data.labels))
    test = data.fold(SPLIT, "test")
    fitted, other = fit(data, weights), fit(poisoned, weights)
    p = fitted.predict_proba(test)
    assert np.array_equal(other.predict_proba(test), p)
    assert np.array_equal(fitted.predict_proba(poisoned.fold(SPLIT, "test")), p)
    assert np.array_equal(other.context.y, fitted.context.y)  # nor in the folder


def test_whom_a_capped_context_shows(made: list[LinearInContext], weights: Path) -> None:
    data = population(600, subjects=400)
    train = data.fold(SPLIT, "train")
    with pytest.warns(UserWarning, match=r"at most 50 training patients \(model\.most_patients\)"):
        fitted = fit(data, weights, "model.most_patients=50", seed=3)
    fitted.predict_proba(data.fold(SPLIT, "test"))
    keys = subject_keys(train.subject_digest().view(np.int64), 3)
    for k, model in enumerate(made):
        asked = train.label_mask[:, k]
        first = sorted(set(keys[asked].tolist()))[:50]
        rows = asked & np.isin(keys, np.array(first, dtype=np.uint64))
        assert len(model.y) == rows.sum() > 50  # several samples of a patient come together
        assert np.array_equal(model.y, train.labels[rows, k])
    with pytest.warns(UserWarning, match="at most 50"):
        again = fit(data, weights, "model.most_patients=50", seed=4)
    assert again.context.x.tobytes() != fitted.context.x.tobytes()


def test_a_patient_who_comes_pushes_out_one_at_most(made: list[LinearInContext], weights: Path) -> None:
    data = population(300)
    data = replace(data, label_mask=np.ones_like(data.label_mask))
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    drawn_first = subject_keys(train.subject_digest().view(np.int64), 0).argmin()
    fewer = replace(train, rows=np.delete(train.rows, drawn_first))
    with pytest.warns(UserWarning, match="at most 60"):
        one, other = (recipe(weights, "model.most_patients=60").fit(f, tune).context.x for f in (train, fewer))
    both = Counter(row.tobytes() for row in one) & Counter(row.tobytes() for row in other)
    assert len(one) == len(other) == 60
    assert both.total() == 59


def test_of_many_columns_the_best_known_are_shown(made: list[LinearInContext], weights: Path) -> None:
    data, most = mixed_population(300), 9
    whole = fit(data, weights)
    with pytest.warns(UserWarning, match=rf"shows 9 of {len(whole.design.columns)} columns"):
        capped = fit(data, weights, f"model.most_columns={most}")
    known = (~np.isnan(whole.context.x)).sum(axis=0)
    left = np.isin(whole.design.columns, capped.design.columns)
    assert left.sum() == most
    assert known[left].min() >= known[~left].max()
    assert np.array_equal(capped.context.x, whole.context.x[:, left], equal_nan=True)


def test_a_draw_of_one_outcome_is_refused(made: list[LinearInContext], weights: Path) -> None:
    data = population(300)
    train = data.fold(SPLIT, "train")
    labels = np.zeros_like(data.labels)
    labels[:, 0] = data.labels[:, 0]
    last = np.where(train.label_mask[:, 1], subject_keys(train.subject_digest().view(np.int64), 0), np.uint64(0))
    labels[train.rows[last.argmax()], 1] = True
    data = replace(data, labels=labels)
    assert fit(data, weights).context.y[1].sum() == 1
    with pytest.raises(TrainingError, match=r"task 'readmission'.*raise model\.most_patients"):
        fit(data, weights, "model.most_patients=50")
    with pytest.raises(TrainingError, match=r"task 'readmission'.*0 with"):
        fit(replace(data, labels=labels & [True, False]), weights)


def test_risks_of_an_exclusive_panel_sum_to_one(made: list[LinearInContext], weights: Path) -> None:
    data = paneled(300)
    p = fit(data, weights).predict_proba(data.fold(SPLIT, "test"))
    assert np.allclose(p[:, 4:].sum(axis=1), 1, atol=1e-12)
    assert np.ptp(p[:, 1:4].sum(axis=1)) > 1e-3
    assert np.ptp(p[:, 4]) > 1e-3


def test_without_weights_it_says_where_they_are(made: list[LinearInContext], tmp_path: Path) -> None:
    data = population(100)
    for setting in ("", str(tmp_path / "none.ckpt"), str(tmp_path)):
        told = r"expected a local file of TabICL's weights; nothing is downloaded.*tabicl-classifier-v2.*Hugging Face"
        for ask in (lambda s: fit(data, s), lambda s: model_settings(recipe(s))):
            with pytest.raises(ConfigError, match=told) as refusal:
                ask(setting)
            assert "\n" not in str(refusal.value)
    assert not made


@pytest.mark.parametrize(
    ("held", "fact"),
    [
        ({"config": {"max_classes": 0}, "state_dict": {"w": torch.ones(1)}}, "no classifier"),
        ({"w": torch.ones(1)}, "KeyError"),
        ({"config": {}, "state_dict": {}, "run": SimpleNamespace()}, "UnpicklingError"),
    ],
)
def test_a_file_of_something_else_is_refused(held: Any, fact: str, made: list[LinearInContext], tmp_path: Path) -> None:
    torch.save(held, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=rf"weights 'other\.ckpt'.*{fact}"):
        fit(population(100), tmp_path / "other.ckpt")


def test_changed_weights_are_refused(made: list[LinearInContext], weights: Path, tmp_path: Path) -> None:
    data = population(200)
    test, before = data.fold(SPLIT, "test"), weights.read_bytes()
    fitted = fit(data, weights)
    folder = save_predictor(fitted, tmp_path / "model")
    checkpoint(weights, 1)
    for ask in (lambda: load_predictor(folder), lambda: fitted.predict_proba(test)):
        with pytest.raises(StoreError, match=r"weights 'weights\.ckpt'.*expected the file it was fitted with.*another"):
            ask()
    weights.unlink()
    with pytest.raises(StoreError, match=r"got none in.*put it back"):
        load_predictor(folder)
    weights.write_bytes(before)
    assert np.array_equal(load_predictor(folder).predict_proba(test), fitted.predict_proba(test))


def test_settings_name_the_file_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, same, other = (checkpoint(tmp_path / n, s) for n, s in (("w", 0), ("elsewhere/w", 0), ("elsewhere/v", 1)))
    said = model_settings(recipe(one))
    assert re.fullmatch(r"w sha256:[0-9a-f]{64}", said["weights"])
    assert (
        said
        == model_settings(recipe(same))
        == model_settings(estimator("tabicl-pattern", f"model.weights={one}", ensemble=2))
    )
    assert said["weights"][2:] != model_settings(recipe(other))["weights"][2:]
    assert said["most_patients"] == 10_000


def test_without_the_library_the_extra_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabicl", None)
    with pytest.raises(RequirementError, match=r"mmnar\[tabicl\]"):
        fit(population(100), weights)


def test_it_is_known_but_not_among_those_that_run_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from mmnar.cli.run import models

    assert set(known_names()) - set(model_names()) == set(OWN_WEIGHTS) == {"tabicl-pattern"}
    models()
    told = capsys.readouterr().out.partition("\ntabicl-pattern")[2]
    assert re.search(r"Needs a file of weights.*pip install '\.\[tabicl\]'", told)
    assert targets_of("tabicl-pattern", {}) == ["mmnar.estimators.tabular.tabicl_pattern:TabICLPattern"]
    with pytest.raises(ConfigError, match=r"'train\.lr' of 'tabicl-pattern'"):
        estimator("tabicl-pattern", "train.lr=1")
    with pytest.raises(ConfigError, match=r"model\.members: expected methods that need no file"):
        build_estimator("stack", {"members": "pattern-only,tabicl-pattern"}, Any)
    for setting in ("members=0", "most_patients=1", "most_columns=0"):
        with pytest.raises(ConfigError, match="tabicl-pattern"):
            estimator("tabicl-pattern", f"model.{setting}")


def test_the_library_itself_takes_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small network of random weights, cut off from any network."""
    pytest.importorskip("tabicl")
    from tabicl._model.tabicl import TabICL

    def refuse(*_: Any) -> None:
        raise AssertionError("the library calls somewhere")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    heads = {"col_nhead": 2, "row_nhead": 2, "icl_nhead": 2, "row_num_cls": 2}
    small = {"embed_dim": 16, "col_num_blocks": 1, "col_num_inds": 4, "row_num_blocks": 1, "icl_num_blocks": 1}
    torch.manual_seed(0)
    network = TabICL(**heads, **small)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    file = tmp_path / "random.ckpt"
    torch.save({"config": {**heads, **small}, "state_dict": network.state_dict()}, file)
    data = mixed_population(200)
    fitted, test = fit(data, file, "model.members=2"), data.fold(SPLIT, "test")
    p = fitted.predict_proba(test)
    assert ((p > 0) & (p < 1)).all()
    assert (np.ptp(p, axis=0) > 0.01).all()
    assert np.array_equal(load_predictor(save_predictor(fitted, tmp_path / "model")).predict_proba(test), p)
    for i in (0, 7):
        assert np.allclose(fitted.predict_proba(replace(test, rows=test.rows[i : i + 1]))[0], p[i], atol=1e-6)

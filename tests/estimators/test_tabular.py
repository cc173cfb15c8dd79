import dataclasses
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, PatientDataset, make_dataset
from mmnar.errors import RequirementError, SchemaError, StoreError, TrainingError
from mmnar.estimators.registry import TABULAR, estimator
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.estimators.tabular.boosting_pattern import BoostingPattern, FittedBoosting
from mmnar.estimators.tabular.lightgbm_pattern import LightGBMPattern
from mmnar.estimators.tabular.linear import LinearDesign, _clearly_less
from mmnar.estimators.tabular.logistic_pattern import LogisticPattern
from mmnar.estimators.tabular.pattern_only import PatternOnly
from mmnar.estimators.tabular.trees import DRAWS, TreeDesign
from mmnar.roles import Test, key_mark, subject_digests
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.simulation.planted import planted
from mmnar.simulation.population import Simulation, simulate
from tests.populations import mixed_population, population

SPLIT = Split(tune=0.2, test=0.3)


def schema_of(sim: Simulation, categories: int = 3) -> Schema:
    features = tuple(Feature(f"x{f}") for f in range(4))
    kind = Feature("kind", "categorical", tuple(str(c) for c in range(categories)))
    modalities = tuple(ModalitySpec(f"m{m}", (*features, kind)) for m in range(sim.present.shape[1]))
    return Schema(modalities, tuple(Task(t, "at admission", t) for t in ("a", "b", "c")))


def dataset_of(sim: Simulation, labels: NDArray[np.bool_] | None = None, **changes: Any) -> PatientDataset:
    """Contents with the last dimension cut into three categories, x3 missing here and there, some labels not asked."""
    rng = np.random.default_rng(0)
    values = sim.observed_content().astype(np.float32)
    values[..., 4] = np.where(np.isnan(values[..., 4]), np.nan, np.digitize(values[..., 4], [-1, 1]))
    values[..., 3][rng.random(values.shape[:2]) < 0.2] = np.nan
    ids = np.arange(len(sim)) + sim.seed * 10_000_000
    schema = changes.pop("schema", schema_of(sim))
    return make_dataset(
        schema,
        {spec.name: values[:, m] for m, spec in enumerate(schema.modalities)},
        sim.labels if labels is None else labels,
        changes.pop("label_mask", rng.random(sim.labels.shape) < 0.9),
        ids,
        ids,
        ids,
        np.zeros(len(sim), dtype=np.int64),
        {},
    )


@pytest.fixture(scope="module")
def data() -> PatientDataset:
    return dataset_of(simulate(2500, 4, seed=1))


@pytest.fixture(scope="module")
def fitted(data: PatientDataset) -> dict[str, Any]:
    return {name: fit(name, data) for name in TABULAR}


def fit(name: str, data: PatientDataset, split: Split = SPLIT, seed: int = 0) -> Any:
    return estimator(name).fit(data.fold(split, "train"), data.fold(split, "tune"), seed=seed)


def poisoned(data: PatientDataset) -> PatientDataset:
    """The same patients with numbers behind their absent modalities."""
    values = {
        spec.name: np.where(data.present[:, [m]], data.values[spec.name], np.float32(1e6 * (m + 1)))
        for m, spec in enumerate(data.schema.modalities)
    }
    return dataclasses.replace(data, values=values)


every_control = pytest.mark.parametrize("name", list(TABULAR))


def test_pattern_only_is_the_table_made_by_hand(data: PatientDataset, fitted: dict[str, Any]) -> None:
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    proba = fitted["pattern-only"].predict_proba(test)
    for k in range(3):
        asked = train.label_mask[:, k]
        prevalence = train.labels[asked, k].mean()
        for i in range(0, len(test), 50):
            alike = asked & (train.present == test.present[i]).all(axis=1)
            rate = (train.labels[alike, k].sum() + 10 * prevalence) / (alike.sum() + 10)
            assert proba[i, k] == pytest.approx(rate, abs=1e-12)


def test_a_pattern_never_seen_gets_the_prevalence(data: PatientDataset) -> None:
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    odd = (train.present == [True, True, False, False]).all(axis=1)
    predictor = PatternOnly().fit(dataclasses.replace(train, rows=train.rows[~odd]), data.fold(SPLIT, "tune"))
    unseen = (test.present == [True, True, False, False]).all(axis=1)
    assert unseen.any()
    np.testing.assert_array_equal(
        predictor.predict_proba(test)[unseen], predictor.prevalence[None].repeat(sum(unseen), 0)
    )


@every_control
def test_predictions_carry_role_and_who_was_seen(name: str, data: PatientDataset, fitted: dict[str, Any]) -> None:
    predictions = fitted[name].predict(data.fold(SPLIT, "test"))
    assert predictions.role is Test
    assert predictions.provenance["model"] == name
    predictions.refuse_overlap()
    seen = np.concatenate([data.fold(SPLIT, "train").subject_id, data.fold(SPLIT, "tune").subject_id])
    digests = np.append(subject_digests(seen, data.secret, data.id_space), key_mark(data.secret))
    np.testing.assert_array_equal(fitted[name].fitted_subjects, np.unique(digests))


@every_control
def test_it_learns(name: str, data: PatientDataset, fitted: dict[str, Any]) -> None:
    predictions = fitted[name].predict(data.fold(SPLIT, "test"))
    p, y, asked = predictions.task("a")
    assert roc_auc_score(y[asked], p[asked]) > (0.58 if name == "pattern-only" else 0.63)


@every_control
def test_fitting_twice_gives_the_same_bits(name: str, data: PatientDataset, fitted: dict[str, Any]) -> None:
    test = data.fold(SPLIT, "test")
    np.testing.assert_array_equal(fit(name, data).predict_proba(test), fitted[name].predict_proba(test))


@every_control
def test_what_was_saved_loads_to_the_same_bits(
    name: str, data: PatientDataset, fitted: dict[str, Any], tmp_path: Path
) -> None:
    predictor = fitted[name]
    state = predictor._state(tmp_path)
    loaded = type(predictor).load_state(tmp_path, predictor.schema, predictor.fitted_subjects, state)
    test = data.fold(SPLIT, "test")
    np.testing.assert_array_equal(loaded.predict_proba(test), predictor.predict_proba(test))
    assert loaded.name == name
    assert {p.suffix for p in tmp_path.iterdir()} <= {".npz", ".skops", ".txt"}
    assert json.loads(json.dumps(state)) == state


@every_control
def test_numbers_behind_absent_modalities_never_move_a_risk(
    name: str, data: PatientDataset, fitted: dict[str, Any]
) -> None:
    test, bad = data.fold(SPLIT, "test"), poisoned(data)
    expected = fitted[name].predict_proba(test)
    np.testing.assert_array_equal(fitted[name].predict_proba(bad.fold(SPLIT, "test")), expected)
    np.testing.assert_array_equal(fit(name, bad).predict_proba(test), expected)


@every_control
def test_a_risk_is_the_same_alone_and_in_company(name: str, data: PatientDataset, fitted: dict[str, Any]) -> None:
    test = data.fold(SPLIT, "test")
    together = fitted[name].predict_proba(test)
    for i in range(0, len(test), 40):
        alone = Fold(data, test.rows[i : i + 1], Test)
        np.testing.assert_array_equal(fitted[name].predict_proba(alone)[0], together[i])
    shuffled = np.random.default_rng(0).permutation(len(test))
    np.testing.assert_array_equal(fitted[name].predict_proba(Fold(data, test.rows[shuffled], Test)), together[shuffled])
    assert fitted[name].predict_proba(Fold(data, test.rows[:0], Test)).shape == (0, 3)


@every_control
def test_the_test_fold_and_labels_that_were_not_asked_leave_no_trace(
    name: str, data: PatientDataset, fitted: dict[str, Any]
) -> None:
    held = np.isin(np.arange(len(data)), data.fold(SPLIT, "test").rows)
    values = {m: np.where(held[:, None], v * 3 + 1, v).astype(np.float32) for m, v in data.values.items()}
    tampered = dataclasses.replace(
        data, values=values, labels=np.where(held[:, None] | ~data.label_mask, ~data.labels, data.labels)
    )
    test = data.fold(SPLIT, "test")
    np.testing.assert_array_equal(fit(name, tampered).predict_proba(test), fitted[name].predict_proba(test))


@every_control
def test_permuted_labels_cannot_be_predicted(name: str) -> None:
    sim = simulate(6000, 4, seed=2)
    labels = sim.labels[np.random.default_rng(1).permutation(len(sim))]
    data = dataset_of(sim, labels)
    p, y, asked = fit(name, data).predict(data.fold(SPLIT, "test")).task("a")
    assert 0.45 < roc_auc_score(y[asked], p[asked]) < 0.55


@every_control
def test_another_schema_is_refused(name: str, fitted: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="schema it was fitted on"):
        fitted[name].predict(dataset_of(simulate(100, 5, seed=1)).fold(Split.external(), "test"))


@every_control
def test_a_task_of_one_class_is_refused(name: str) -> None:
    sim = simulate(400, 4, seed=1)
    labels = sim.labels.copy()
    labels[:, 1] = False
    with pytest.raises(TrainingError, match=r"task 'b'.*0 with"):
        fit(name, dataset_of(sim, labels))


@pytest.mark.parametrize("name", ["logistic-pattern", "boosting-pattern"])
def test_a_task_the_tune_fold_was_never_asked_is_refused(name: str) -> None:
    sim = simulate(400, 4, seed=1)
    asked = np.ones_like(sim.labels)
    asked[dataset_of(sim).fold(SPLIT, "tune").rows, 2] = False
    with pytest.raises(TrainingError, match=r"task 'c'.*tune"):
        fit(name, dataset_of(sim, label_mask=asked))


def test_logistic_columns_are_what_the_docstring_says(data: PatientDataset) -> None:
    train = data.fold(SPLIT, "train")
    design = LinearDesign.of(train, min_patients=50)
    x = design.columns(train)
    assert np.isfinite(x).all()
    # per modality: 4 numbers, 1 flag (x3), 3 categories; then 4 bits and the frequent patterns
    assert x.shape[1] == 4 * (4 + 1 + 3) + 4 + len(design.patterns)
    assert design.flagged.reshape(4, 5).tolist() == [[False, False, False, True, False]] * 4
    present = train.present[:, 1]
    np.testing.assert_allclose(x[present, 8].mean(), 0, atol=1e-9)
    np.testing.assert_allclose(x[present, 8].std(), 1, atol=1e-9)
    assert (x[~present, 8:16] == 0).all()
    np.testing.assert_array_equal(x[:, 32:36], train.present)
    assert (x[:, 36:].sum(axis=1) <= 1).all()


def test_a_column_that_training_never_saw_moves_nothing(data: PatientDataset) -> None:
    train = data.fold(SPLIT, "train")
    values = {m: v.copy() for m, v in data.values.items()}
    values["m1"][train.rows, 0] = np.nan
    values["m1"][train.rows, 4] = np.nan
    blind = dataclasses.replace(data, values=values)
    changed = {**values, "m1": values["m1"] + np.array([100, 0, 0, 0, 0], dtype=np.float32)}
    for name in ("logistic-pattern", "boosting-pattern"):
        predictor = fit(name, blind)
        test = blind.fold(SPLIT, "test")
        other = dataclasses.replace(blind, values=changed).fold(SPLIT, "test")
        np.testing.assert_array_equal(predictor.predict_proba(other), predictor.predict_proba(test))


def test_logistic_takes_the_penalty_the_tune_fold_likes(data: PatientDataset) -> None:
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")

    def loss(penalties: tuple[float, ...]) -> tuple[NDArray[np.float64], list[float]]:
        predictor = LogisticPattern(penalties, pattern_weights=(1.0,)).fit(train, tune)
        p, y, asked = predictor.predict_proba(tune), tune.labels, tune.label_mask
        return -(np.log(np.where(y, p, 1 - p)) * asked).sum(axis=0) / asked.sum(axis=0), predictor.chosen

    chosen, penalties = loss((1e-6, 0.01, 1.0))
    assert set(penalties) <= {1e-6, 0.01, 1.0}
    for c in (1e-6, 0.01, 1.0):
        assert (chosen <= loss((c,))[0] + 1e-12).all()


def test_a_weight_is_a_weaker_penalty_of_the_patterns_columns(data: PatientDataset) -> None:
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    fitted = LogisticPattern((0.01,), pattern_weights=(10.0,)).fit(train, tune)
    x = LinearDesign.of(train, min_patients=50).columns(train)
    x[:, 32:] *= 10  # the pattern's, see above
    for k, asked in enumerate(train.label_mask.T):
        by_hand = LogisticRegression(C=0.01, max_iter=5000).fit(x[asked], train.labels[asked, k])
        np.testing.assert_allclose(fitted.coefficients[k, :32], by_hand.coef_[0, :32], rtol=0, atol=1e-9)
        np.testing.assert_allclose(fitted.coefficients[k, 32:], by_hand.coef_[0, 32:] * 10, rtol=0, atol=1e-9)


def test_where_only_the_pattern_tells_its_columns_are_spared() -> None:
    """Forty columns of noise want a penalty that takes the pattern's with them."""
    data = planted("pattern", 4000)
    losses = []
    for weights in ((1.0,), (1.0, 3.0, 10.0)):
        few = LogisticPattern((0.001,), pattern_weights=weights)
        predictor = few.fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"))
        test = data.fold(SPLIT, "test")
        p, exact = predictor.predict_proba(test)[:, 0], data.bayes[test.rows, 0]
        losses.append(-(exact * np.log(p) + (1 - exact) * np.log1p(-p)).mean())
    assert losses[1] < losses[0] - 0.005


def test_a_bolder_weight_must_be_clearly_better() -> None:
    terms = np.array([0.3, 0.5, 0.1, 0.7])
    assert not _clearly_less(terms, terms)
    assert not _clearly_less(terms - np.array([0.4, -0.3, 0.4, -0.3]), terms)  # better by .05, error .20
    assert _clearly_less(terms - np.array([0.05, 0.04, 0.06, 0.05]), terms)
    assert not _clearly_less(terms[:1] - 1, terms[:1])


class Recorder:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def start(self, what: str, total: int) -> None:
        return

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def step(self, loss: float) -> None:
        return

    def stop(self) -> None:
        return


def test_boosting_stops_at_the_lowest_tune_loss(data: PatientDataset, tmp_path: Path) -> None:
    recorder = Recorder()
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    predictor = BoostingPattern(learning_rate=0.2, step=10).fit(train, tune, monitor=recorder)
    trees = predictor._state(tmp_path)["trees"]
    for k, task in enumerate("abc"):
        records = [r for r in recorder.records if r["fit"].endswith(task)]
        best = min(records, key=lambda r: r["tune"]["log_loss"])
        assert trees[k] == best["epoch"]
        assert records[-1]["epoch"] == best["epoch"] + 30 < 500
        asked = tune.label_mask[:, k]
        p, y = predictor.predict_proba(tune)[asked, k], tune.labels[asked, k]
        assert -np.log(np.where(y, p, 1 - p)).mean() == pytest.approx(best["tune"]["log_loss"])


def test_boosting_refuses_more_categories_than_it_can_bin() -> None:
    sim = simulate(200, 4, seed=1)
    with pytest.raises(RequirementError, match=r"m0\.kind.*300"):
        fit("boosting-pattern", dataset_of(sim, schema=schema_of(sim, categories=300)))


def test_a_model_file_with_something_else_in_it_is_refused(
    data: PatientDataset, fitted: dict[str, Any], tmp_path: Path
) -> None:
    predictor = fitted["boosting-pattern"]
    state = predictor._state(tmp_path)
    skops.io.dump({"model": DecisionTreeClassifier(), "more": Recorder()}, tmp_path / "boosting-b.skops")
    with pytest.raises(StoreError, match="boosting-b"):
        FittedBoosting.load_state(tmp_path, predictor.schema, predictor.fitted_subjects, state)


def test_boosting_where_a_column_is_empty_among_those_a_task_is_asked_of() -> None:
    data = population(600)
    values = {**data.values}
    labs = np.array(values["labs"])
    labs[data.label_mask[:, 0], 0] = np.nan  # never known when the first question is asked
    values["labs"] = labs
    data = dataclasses.replace(data, values=values)
    split = Split(tune=0.2, test=0.2)
    fitted = BoostingPattern(max_trees=20).fit(data.fold(split, "train"), data.fold(split, "tune"))
    assert np.isfinite(fitted.predict_proba(data.fold(split, "test"))).all()
    assert fitted.kept.sum(axis=1).tolist() == [9, 10]


def test_what_a_blind_linear_model_sees_of_an_absent_modality_is_a_mean(data: PatientDataset) -> None:
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    design = LinearDesign.of(train, min_patients=50, append_pattern=False)
    x, x_test = design.columns(train), design.columns(test)
    assert x.shape[1] == 4 * (4 + 1 + 3)
    for m in range(4):
        own = slice(8 * m, 8 * m + 8)
        typical = x[train.present[:, m], own].mean(axis=0)
        np.testing.assert_allclose(x_test[~test.present[:, m], own], np.tile(typical, (sum(~test.present[:, m]), 1)))
        assert (typical[4:] > 0.1).all()  # the flag and the categories too


def test_a_blind_tree_sees_training_values_of_an_absent_modality(data: PatientDataset) -> None:
    train, tune, test = (data.fold(SPLIT, role) for role in ("train", "tune", "test"))
    design = TreeDesign.of(train, append_pattern=False, seed=0)
    (told,) = TreeDesign.of(train, append_pattern=True, seed=0).versions(test)
    versions = list(design.versions(test))
    assert len(versions) == DRAWS
    there = np.repeat(test.present, 5, axis=1)
    values = np.concatenate([train.values(f"m{m}") for m in range(4)], axis=1).astype(np.float64)
    for x in versions:
        assert x.shape[1] == told.shape[1] - 4 == len(design.categorical()) == 20
        np.testing.assert_array_equal(x[there], told[:, :20][there])  # a single missing value stays missing
        assert all(
            len(np.unique(column[~seen])) == 1 for column, seen in zip(x.T, there.T, strict=True) if not seen.all()
        )
        assert all(
            np.isin(column[~seen], known).all() for column, seen, known in zip(x.T, there.T, values.T, strict=True)
        )
    for fold, x in zip((train, tune), design.fitting(train, tune, 0), strict=True):
        own = np.concatenate([fold.values(f"m{m}") for m in range(4)], axis=1)
        seen = np.repeat(fold.present, 5, axis=1)
        np.testing.assert_array_equal(x[seen], own[seen])
        for m in range(4):  # whole modalities of training samples
            block, absent = slice(5 * m, 5 * m + 5), ~fold.present[:, m]
            known = {row.tobytes() for row in values[train.present[:, m], block]}
            assert {row.tobytes() for row in x[absent, block]} <= known


@pytest.mark.parametrize("name", ["logistic-pattern", "boosting-pattern", "lightgbm-pattern"])
def test_only_with_the_pattern_can_the_pattern_be_used(name: str) -> None:
    data = planted("pattern", 3000)
    split = Split(tune=0.2, test=0.3)
    test = data.fold(split, "test")

    def auroc(append: str) -> float:
        fitted = estimator(name, f"model.append_pattern={append}")
        p = fitted.fit(data.fold(split, "train"), data.fold(split, "tune")).predict_proba(test)
        return float(roc_auc_score(test.labels[:, 0], p[:, 0]))

    assert auroc("true") > 0.75
    assert 0.44 < auroc("false") < 0.56


@pytest.mark.parametrize("name", ["logistic-pattern", "boosting-pattern", "lightgbm-pattern"])
def test_a_blind_control_survives_saving(name: str, data: PatientDataset, tmp_path: Path) -> None:
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    predictor = estimator(name, "model.append_pattern=false").fit(train, data.fold(SPLIT, "tune"))
    loaded = load_predictor(save_predictor(predictor, tmp_path / "m"))
    np.testing.assert_array_equal(loaded.predict_proba(test), predictor.predict_proba(test))
    seeing = estimator(name).fit(train, data.fold(SPLIT, "tune")).predict_proba(test)
    assert not np.allclose(seeing, predictor.predict_proba(test), atol=1e-3)


def test_one_value_of_c_replaces_the_choice(data: PatientDataset) -> None:
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    fixed, chosen = LogisticPattern(c=0.3).fit(train, tune), LogisticPattern((0.3,)).fit(train, tune)
    assert fixed.chosen == [0.3] * 3
    np.testing.assert_array_equal(fixed.coefficients, chosen.coefficients)


def test_lightgbm_stops_at_the_lowest_tune_loss(data: PatientDataset, tmp_path: Path) -> None:
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    predictor = LightGBMPattern(learning_rate=0.2, patience=30).fit(train, tune)
    trees = predictor._state(tmp_path)["trees"]
    asked, (x,) = tune.label_mask[:, 0], predictor.design.versions(tune)
    y = tune.labels[asked, 0]

    def loss(count: int) -> float:
        p = predictor.boosters[0].predict(x[asked], num_iteration=count)
        return float(-np.log(np.where(y, p, 1 - p)).mean())

    assert 1 < trees[0] < 1000
    losses = [loss(count) for count in range(1, trees[0] + 1)]
    assert int(np.argmin(losses)) + 1 == trees[0]
    longer = LightGBMPattern(learning_rate=0.2, patience=60).fit(train, tune)._state(tmp_path)["trees"]
    assert longer[0] == trees[0]  # kept is the best, not the last


def test_without_lightgbm_the_extra_is_named(data: PatientDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(RequirementError, match=r"mmnar\[lightgbm\]"):
        fit("lightgbm-pattern", data)


def test_a_damaged_lightgbm_file_is_refused(data: PatientDataset, fitted: dict[str, Any], tmp_path: Path) -> None:
    folder = save_predictor(fitted["lightgbm-pattern"], tmp_path / "m")
    (folder / "lightgbm-b.txt").write_text("something else")
    with pytest.raises(StoreError, match=r"lightgbm-b\.txt: expected the file that train wrote"):
        load_predictor(folder)


@pytest.mark.parametrize("append_pattern", [True, False])
@pytest.mark.parametrize("name", ["boosting_pattern", "lightgbm_pattern"])
def test_without_its_counts_a_tree_predicts_the_same_bits(
    name: str, append_pattern: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mixed_population(300)
    train, tune, test = (data.fold(SPLIT, role) for role in ("train", "tune", "test"))
    recipe = estimator(name.replace("_", "-"), f"model.append_pattern={append_pattern}", "model.max_trees=40")
    without = recipe.fit(train, tune)
    module = import_module(f"mmnar.estimators.tabular.{name}")
    monkeypatch.setattr(module, "_without_training", lambda model: model)
    assert np.array_equal(without.predict_proba(test), recipe.fit(train, tune).predict_proba(test))


def test_a_lightgbm_file_holds_no_count_and_no_range(data: PatientDataset) -> None:
    for text in fit("lightgbm-pattern", data).texts:
        lines = [line.partition("=")[::2] for line in text.splitlines()]
        found = {key: {v for k, value in lines if k == key for v in value.split()} for key, _ in lines}
        told = ("leaf_count", "leaf_weight", "internal_count", "internal_weight", "internal_value", "split_gain")
        assert all(found[key] == {"0"} for key in told)
        assert found["feature_infos"] == {"none"}
        assert len(found["leaf_value"]) > 1


def test_a_boosting_file_holds_no_count_and_no_bin(data: PatientDataset, tmp_path: Path) -> None:
    predictor = fit("boosting-pattern", data)
    save_predictor(predictor, tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    assert isinstance(loaded, FittedBoosting)
    for model in loaded.models:
        for (tree,) in model._predictors:
            assert not any(tree.nodes[column].any() for column in ("count", "gain", "bin_threshold"))
            assert tree.nodes["value"].any()
        bins = model._bin_mapper
        for edges, categorical in zip(bins.bin_thresholds_, bins.is_categorical_, strict=True):
            assert bool(len(edges)) == bool(categorical)

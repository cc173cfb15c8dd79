"""Tests of informative missingness: float64 brute force, scikit-learn's regression, size and power on the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.errors import ConfigError, RequirementError
from mmnar.evaluation import informative
from mmnar.evaluation.informative import (
    ALL_ALWAYS,
    NO_ANCHOR,
    conditional,
    covariance_test,
    fold_auroc,
    informativeness,
    permuted_labels,
    ridge_logistic,
    subject_folds,
    table_columns,
)
from mmnar.privacy import FEW_OUTCOMES
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.simulation.population import simulate
from tests.populations import mixed_population

TASK = (Task("first", "at once", "the first outcome"),)


def dataset_of(
    content: np.ndarray, present: np.ndarray, y: np.ndarray, subject: np.ndarray | None = None
) -> PatientDataset:
    n, m, f = content.shape
    names = [f"m{i}" for i in range(m)]
    schema = Schema(tuple(ModalitySpec(name, tuple(Feature(f"x{j}") for j in range(f))) for name in names), TASK)
    seen = np.where(present[:, :, None], content, np.nan).astype(np.float32)
    ids = np.arange(n)
    values = {name: seen[:, i] for i, name in enumerate(names)}
    subject = ids if subject is None else subject
    return make_dataset(schema, values, y[:, None], np.ones((n, 1), dtype=bool), subject, ids, ids, ids, {}, {})


def simulated(n: int, seed: int, gamma: float, mar: bool = False) -> PatientDataset:
    s = simulate(n, 4, seed, gamma=gamma, eta=0.0)
    present = s.present
    if mar:  # presence follows the first modality's content alone
        score = s.content[:, 0] @ s.world.loadings[0, :, 0]
        rates = expit(logit(s.world.rates[1:]) + ((score - score.mean()) / score.std())[:, None])
        ordered = np.random.default_rng([seed, 1]).random((n, 3)) < rates
        present = np.column_stack([present[:, :1], ordered])
    return dataset_of(s.content, present, s.labels[:, 0])


def rejections(n: int, gamma: float, mar: bool, replications: int) -> int:
    hits = 0
    for seed in range(replications):
        found = informativeness(simulated(n, seed, gamma, mar), permutations=200, resamples=1, seed=seed)
        assert found.tasks["first"].conditional is not None
        hits += found.tasks["first"].conditional.p <= 0.05
    return hits


def repeated(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, pattern number, subject, fold): one to three rows a subject."""
    rng = np.random.default_rng(seed)
    subject = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 4, n)))
    group = rng.integers(0, 6, len(subject))
    y = (rng.random(len(subject)) < 0.2 + 0.05 * group).astype(np.float64)
    return y, group, subject, subject_folds(subject, 3)


def test_the_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6))
    y = (rng.random(400) < expit(x[:, 0] - 2)).astype(np.float64)
    theirs = LogisticRegression(C=1 / informative.RIDGE, tol=1e-10, max_iter=10_000).fit(x, y)
    ours = ridge_logistic(x, y, np.zeros(7))
    np.testing.assert_allclose(ours, np.r_[theirs.intercept_, theirs.coef_[0]], atol=2e-4)
    # a start far away ends at the same place
    np.testing.assert_allclose(ridge_logistic(x, y, np.full(7, 3.0)), ours, atol=1e-4)


def test_the_pattern_auroc_is_the_brute_force_one() -> None:
    y, group, _, fold = repeated()
    right = total = 0.0
    for f in range(informative.FOLDS):
        held, rest = np.flatnonzero(fold == f), np.flatnonzero(fold != f)
        mean = y[rest].mean()
        rate = []
        for i in held:
            same = [j for j in rest if group[j] == group[i]]
            rate.append((sum(y[j] for j in same) + 10 * mean) / (len(same) + 10))
        pairs = y[held].sum() * (1 - y[held]).sum()
        right += roc_auc_score(y[held], rate) * pairs
        total += pairs
    assert fold_auroc(y[:, None], group, fold)[0] == pytest.approx(right / total, abs=1e-12)


def test_permuted_patients_keep_their_outcomes_together() -> None:
    y, _, subject, _ = repeated()
    sizes = np.bincount(subject)
    before = sorted((sizes[s], tuple(y[subject == s])) for s in range(len(sizes)))
    blocks = permuted_labels(y, subject, 60, seed=1, block=25)
    assert [b.shape[1] for b in blocks] == [25, 25, 10]
    moved = 0
    for labels in (blocks[0][:, 3], blocks[2][:, 9]):
        assert sorted((sizes[s], tuple(labels[subject == s])) for s in range(len(sizes))) == before
        moved += (labels != y).sum()
    assert moved > 0


def test_the_covariance_measure_is_the_brute_force_one() -> None:
    rng = np.random.default_rng(5)
    y, group, subject, fold = repeated(seed=5)
    x = rng.normal(size=(len(y), 3))
    delta = np.column_stack([rng.random(len(y)) < expit(x[:, 0]), group > 2]).astype(np.float64)
    found = conditional(y, delta, x, subject, fold, ["a", "b"])

    def out_of_fold(inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        p = np.empty(len(target))
        for f in range(informative.FOLDS):
            model = LogisticRegression(C=1 / informative.RIDGE, tol=1e-10, max_iter=10_000)
            p[fold == f] = model.fit(inputs[fold != f], target[fold != f]).predict_proba(inputs[fold == f])[:, 1]
        return p

    p0 = out_of_fold(x, y)
    e = [out_of_fold(x, d) for d in delta.T]
    patients = sorted(set(subject.tolist()))
    r = np.zeros((len(patients), 2))
    for i in range(len(y)):
        for m in range(2):
            r[patients.index(subject[i]), m] += (delta[i, m] - e[m][i]) * (y[i] - p0[i])
    mean = r.mean(axis=0)
    t = len(r) * mean @ np.linalg.inv(np.cov(r.T)) @ mean
    assert found.statistic == pytest.approx(t, rel=2e-3)
    assert found.df == 2
    assert found.p == pytest.approx(chi2.sf(t, 2), rel=2e-3)
    for m in range(2):
        assert found.modalities[m].z == pytest.approx(np.sqrt(len(r)) * mean[m] / r[:, m].std(ddof=1), abs=2e-3)
    z = (delta - delta.mean(axis=0)) / delta.std(axis=0)
    p1 = out_of_fold(np.column_stack([x, z]), y)
    gain = [y[i] * np.log(p1[i] / p0[i]) + (1 - y[i]) * np.log((1 - p1[i]) / (1 - p0[i])) for i in range(len(y))]
    assert found.gain.value == pytest.approx(np.mean(gain), abs=2e-5)
    assert found.bits == pytest.approx(np.mean(gain) / np.log(2), abs=3e-5)


def test_bits_that_repeat_each_other_count_once() -> None:
    r = np.random.default_rng(2).normal(0.1, 1, (500, 2))
    once, twice = covariance_test(r), covariance_test(np.column_stack([r, r[:, 0]]))
    assert (once[1], twice[1]) == (2, 2)
    assert twice[0] == pytest.approx(once[0], rel=1e-6)


def test_the_level_is_kept_and_the_effect_found() -> None:
    replications = 30
    for mar in (False, True):
        hits = rejections(800, 0.0, mar, replications)
        # below what a true rate of .05 gives once in 500 tries; the full study is benchmarks/informative.py
        assert binomtest(hits, replications, 0.05, alternative="greater").pvalue > 0.002
    assert rejections(2000, 1.0, False, 5) == 5


def test_missing_at_random_moves_the_pattern_but_not_the_test_given_x0() -> None:
    found = informativeness(simulated(2000, 3, 0.0, mar=True), permutations=200, resamples=50)
    signal = found.tasks["first"]
    assert signal.pattern_p is not None
    assert signal.pattern_p < 0.01
    assert signal.conditional is not None
    assert signal.conditional.p > 0.01
    assert found.always == ("m0",)


def test_columns_tell_what_is_missing_within_the_anchor() -> None:
    content = np.random.default_rng(0).normal(size=(200, 2, 2))
    content[:50, 0, 1] = np.nan
    data = dataset_of(content, np.ones((200, 2), dtype=bool), np.arange(200) % 2 == 0)
    x = table_columns(data, ["m0"])
    assert x.shape == (200, 5)  # two numbers, their squares, one flag
    assert np.isfinite(x).all()
    flag = next(c for c in x.T if len(np.unique(c)) == 2)
    assert (flag[:50] == flag[0]).all()
    assert (flag[50:] == flag[-1]).all()


def test_columns_of_a_series_are_its_last_value_and_mean() -> None:
    data = mixed_population(300, seed=2)
    x = table_columns(data, ["course"])
    assert x.shape == (300, 2 * (2 + 1) * 2)  # two measured features: last, mean, each squared and flagged
    course = data.values["course"]
    assert isinstance(course, SeriesArrays)
    has = [i for i in range(300) if 0 in course.feature[course.offsets[i] : course.offsets[i + 1]]]
    last = []
    for i in has:
        items = range(course.offsets[i], course.offsets[i + 1])
        last.append(next(course.values[e] for e in reversed(items) if course.feature[e] == 0))
    varying = [c for c in x[has].T if c.std() > 0]
    assert max(abs(np.corrcoef(c, last)[0, 1]) for c in varying) > 0.99
    with pytest.raises(RequirementError, match="note"):
        table_columns(data, ["note"])


def test_the_anchor_may_be_a_set_that_most_samples_have() -> None:
    rng = np.random.default_rng(1)
    present = rng.random((1000, 4)) < np.array([0.97, 0.96, 0.93, 0.5])
    data = dataset_of(rng.normal(size=(1000, 4, 2)), present, rng.random(1000) < 0.3)
    found = informativeness(data, permutations=200, resamples=20)
    assert found.always == ("m0", "m1")  # .97 x .96 = .93; with m2 it would be .87
    assert found.kept == pytest.approx(present[:, :2].all(axis=1).mean(), abs=0.0051)
    assert "90%" in found.rule


def test_what_cannot_be_tested_says_why() -> None:
    rng = np.random.default_rng(4)
    content, y = rng.normal(size=(300, 2, 2)), rng.random(300) < 0.3
    nobody = dataset_of(content, rng.random((300, 2)) < 0.5, y)
    signal = informativeness(nobody, permutations=200, resamples=20).tasks["first"]
    assert signal.conditional is None
    assert signal.reason == NO_ANCHOR
    assert signal.pattern_p is not None
    everybody = dataset_of(content, np.ones((300, 2), dtype=bool), y)
    assert informativeness(everybody, permutations=200, resamples=20).tasks["first"].reason == ALL_ALWAYS
    rare = dataset_of(content, np.ones((300, 2), dtype=bool), np.arange(300) < 9)
    refused = informativeness(rare, permutations=200, resamples=20).tasks["first"]
    assert (refused.samples, refused.pattern_auroc.value, refused.reason) == (None, None, FEW_OUTCOMES)
    with pytest.raises(ConfigError, match="200"):
        informativeness(rare, permutations=10)


def test_small_cells_are_left_out_and_named() -> None:
    rng = np.random.default_rng(6)
    present = np.column_stack([np.ones(400), rng.random(400) < 0.5, np.arange(400) >= 7]).astype(bool)
    # seven patients of 400 lack m2: it would be an anchor, were it not for the list of what may be one
    data = dataset_of(rng.normal(size=(400, 3, 2)), present, rng.random(400) < 0.3)
    signal = informativeness(data, permutations=200, resamples=20, anchors=["m0"]).tasks["first"]
    assert signal.left_out == ("m2",)
    assert signal.conditional is not None
    assert [m.modality for m in signal.conditional.modalities] == ["m1"]


def test_a_large_dataset_is_represented_by_whole_subjects() -> None:
    rng = np.random.default_rng(7)
    subject = np.repeat(np.arange(300), 2)
    present = np.column_stack([np.ones(600), rng.random(600) < 0.5]).astype(bool)
    data = dataset_of(rng.normal(size=(600, 2, 2)), present, rng.random(600) < 0.4, subject)
    found = informativeness(data, permutations=200, resamples=20, most_subjects=100)
    assert (found.subjects_used, found.subjects) == (100, 300)
    assert found.tasks["first"].samples == 200
    again = informativeness(data, permutations=200, resamples=20, most_subjects=100)
    assert found == again
    rows = informative.sampled_rows(subject, 100, 0)
    assert (np.bincount(subject[rows])[np.unique(subject[rows])] == 2).all()


def test_repeats_of_a_patient_are_no_evidence() -> None:
    """Every row five times: a test that took rows as independent would reject far too often."""
    hits = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n = 200
        content = np.repeat(rng.normal(size=(n, 2, 2)), 5, axis=0)
        present = np.repeat(np.column_stack([np.ones(n), rng.random(n) < 0.5]).astype(bool), 5, axis=0)
        y = np.repeat(rng.random(n) < 0.3, 5)
        found = informativeness(
            dataset_of(content, present, y, np.repeat(np.arange(n), 5)), permutations=200, resamples=1, seed=seed
        ).tasks["first"]
        assert found.conditional is not None
        assert found.pattern_p is not None
        hits += (found.conditional.p <= 0.05) + (found.pattern_p <= 0.05)
    assert binomtest(hits, 60, 0.05, alternative="greater").pvalue > 0.002

"""Statistics come from the training fold alone and equal numpy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats
from sklearn.preprocessing import QuantileTransformer

from mmnar.cohort.split import Split
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.preprocess import CLIP, NormalScores, Preprocessor
from mmnar.dataset.store import PatientDataset
from tests.populations import population

SPLIT = Split()


def test_standardised_with_the_training_folds_mean_and_sd() -> None:
    data = population(500)
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    batch = Preprocessor.fit(train).transform(test)
    for name in ("vitals", "labs"):
        raw = test.values(name).astype(np.float64)
        seen = train.values(name).astype(np.float64)
        want = (raw - np.nanmean(seen, 0)) / np.nanstd(seen, 0)
        got = batch.modalities[name]
        assert np.array_equal(got.observed.numpy(), ~np.isnan(raw))
        assert np.allclose(got.values.numpy()[~np.isnan(raw)], want[~np.isnan(raw)], atol=1e-5)
    kinds = batch.modalities["unit"]
    cells = kinds.observed[:, 0].numpy()
    assert np.array_equal(kinds.values[:, 0].numpy()[cells], test.values("unit")[cells, 0])


def test_other_folds_change_nothing() -> None:
    data = population(500)
    fitted = Preprocessor.fit(data.fold(SPLIT, "train"))
    values = {k: v.copy() for k, v in data.values.items()}
    for role in ("tune", "test"):
        rows = data.fold(SPLIT, role).rows  # type: ignore[call-overload]
        for v in values.values():
            v[rows] *= 1000
    again = Preprocessor.fit(replace(data, values=values).fold(SPLIT, "train"))
    for name, array in fitted.arrays().items():
        assert np.array_equal(array, again.arrays()[name])


def rarely_observed(data: PatientDataset, share: float) -> PatientDataset:
    values = {k: v.copy() for k, v in data.values.items()}
    has = np.flatnonzero(data.present[:, 1])
    values["labs"][has[int(share * len(has)) :], 0] = np.nan
    return replace(data, values=values)


def test_a_column_rarely_observed_is_dropped_but_keeps_its_place() -> None:
    data = population(2000)
    for share, kept in ((0.1, False), (0.4, True)):
        changed = rarely_observed(data, share)
        batch = Preprocessor.fit(changed.fold(SPLIT, "train")).transform(changed.fold(SPLIT, "test"))
        assert bool(batch.modalities["labs"].observed[:, 0].any()) is kept
        assert batch.modalities["labs"].values.shape[1] == 2


def test_what_training_never_saw_is_not_known() -> None:
    data = population(500)
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    values = {k: v.copy() for k, v in data.values.items()}
    fitted_on = np.isin(np.arange(len(data)), test.rows, invert=True)
    kind, constant = values["unit"][:, 0], values["vitals"][:, 1]
    kind[fitted_on & (kind == 2)] = 0
    constant[fitted_on & ~np.isnan(constant)] = 1e6 + 0.1
    changed = replace(data, values=values)
    fitted = Preprocessor.fit(changed.fold(SPLIT, "train"))
    again = Preprocessor.from_arrays(data.schema, fitted.arrays())
    for one in (fitted, again):
        batch = one.transform(changed.fold(SPLIT, "test"))
        observed = batch.modalities["unit"].observed[:, 0].numpy()
        asked = kind[test.rows]
        assert np.array_equal(observed, (asked == 0) | (asked == 1))
        assert (asked == 2).sum() > 10
        # the others are as they were: a constant is 0 in training and stays so, whatever it becomes
        assert float(batch.modalities["vitals"].values[:, 1].abs().max()) == 0
        assert float(one.transform(train).modalities["vitals"].values[:, 0].std()) > 0.5
    assert Preprocessor.fit(train).arrays()["unit/seen"].tolist() == [[True] * 3, [False] * 3]


def test_one_mistyped_number_is_clipped() -> None:
    data = population(500)
    values = {k: v.copy() for k, v in data.values.items()}
    test = data.fold(SPLIT, "test")
    row = test.rows[np.flatnonzero(test.present[:, 0])[0]]
    values["vitals"][row] = 1e30
    changed = replace(data, values=values)
    batch = Preprocessor.fit(changed.fold(SPLIT, "train")).transform(changed.fold(SPLIT, "test"))
    assert float(batch.modalities["vitals"].values.abs().max()) == CLIP


def test_measurements_become_normal_scores_of_the_training_fold() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    feature = rng.integers(0, 3, n).astype(np.int16)
    raw = np.where(feature == 0, np.exp(rng.normal(size=n)), rng.integers(0, 2, n)).astype(np.float32)
    series = SeriesArrays(np.array([0, n]), np.zeros(n, dtype=np.float32), feature, raw)
    fitted = NormalScores.fit(series, 4)
    z = fitted.transform(series)
    skewed = feature == 0
    want = QuantileTransformer(n_quantiles=101, output_distribution="normal").fit_transform(raw[skewed, None])[:, 0]
    middle = np.abs(want) < 2
    assert np.allclose(z[skewed][middle], want[middle], atol=0.03)
    assert stats.kstest(z[skewed], "norm").statistic < 0.03
    zero, one = (set(z[(feature > 0) & (raw == v)].tolist()) for v in (0, 1))
    assert max(zero) < 0 < min(one)  # ties share one score
    assert fitted.used.tolist()[3] == 0
    unseen = SeriesArrays(
        np.array([0, 2]), np.zeros(2, np.float32), np.array([3, 0], np.int16), np.array([5, 1e9], np.float32)
    )
    assert fitted.transform(unseen).tolist() == [0.0, float(z[skewed].max())]

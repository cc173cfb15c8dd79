"""Spread over fits and hidden modalities, counted one by one; whoever would be told of by a few is not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.probes import FLIPS, hidden, spread
from mmnar.privacy import BY_GROUP, FEW_WITH, FEW_WITHOUT


def made_up(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, Resampling]:
    rng = np.random.default_rng(0)
    fits = rng.beta(2, 6, (3, n))
    return (rng.random(n) < fits.mean(0)).astype(float), fits.mean(0), fits, Resampling.draw(np.arange(n), 100, 0)


def test_the_spread_of_fits_one_by_one() -> None:
    _, risks, fits, resampling = made_up()
    found = spread(risks, list(fits), np.arange(400), 0.25, resampling)
    sds = [np.std([fit[i] for fit in fits], ddof=1) for i in range(400)]
    assert found.fits == 3
    assert found.mean.value == pytest.approx(np.mean(sds))
    assert found.ninth.value == pytest.approx(np.quantile(sds, 0.9))
    divided = [len({bool(fit[i] >= 0.25) for fit in fits}) == 2 for i in range(400)]
    assert found.divided.value == pytest.approx(np.mean(divided))
    against = [np.mean([(fit[i] >= 0.25) != (risks[i] >= 0.25) for fit in fits]) for i in range(400)]
    assert found.otherwise.value == pytest.approx(np.mean(against))
    assert found.divided.low < found.divided.value < found.divided.high


def test_few_who_are_decided_otherwise_are_not_told_of() -> None:
    _, risks, fits, resampling = made_up()
    steady = np.tile(risks, (3, 1))
    steady[0, :9] = 1 - steady[0, :9].round()
    few = spread(risks, list(steady), np.arange(400), 0.25, resampling)
    assert few.divided.reason == few.otherwise.reason == FLIPS
    none = spread(risks, [risks] * 3, np.arange(400), 0.25, resampling)
    assert none.divided.value == 0
    named = spread(risks, list(fits), np.arange(400), 0.25, resampling, tied=True)
    assert named.divided.reason == named.otherwise.reason == BY_GROUP


def test_what_hiding_a_modality_changes() -> None:
    y, risks, fits, resampling = made_up()
    has = np.arange(400) % 3 > 0
    without = np.where(has, fits[0], risks)
    found = hidden("note", y, risks, without, has, np.arange(400), 0.25, resampling)
    assert found.auroc.value == pytest.approx(roc_auc_score(y, without) - roc_auc_score(y, risks))
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert found.moved.value == pytest.approx(np.mean(np.abs(without - risks)[has]))
    flipped = [(without[i] >= 0.25) != (risks[i] >= 0.25) for i in np.flatnonzero(has)]
    assert found.flipped.value == pytest.approx(np.mean(flipped))


@pytest.mark.parametrize(("how_many", "reason"), [(9, FEW_WITH), (391, FEW_WITHOUT), (0, FEW_WITH)])
def test_a_modality_that_few_have_or_lack_is_not_told_of(how_many: int, reason: str) -> None:
    y, risks, fits, resampling = made_up()
    found = hidden("note", y, risks, fits[0], np.arange(400) < how_many, np.arange(400), 0.25, resampling)
    assert found.auroc.reason == found.moved.reason == found.flipped.reason == reason
    everybody = hidden("note", y, risks, fits[0], np.ones(400, bool), np.arange(400), 0.25, resampling)
    assert everybody.moved.value is not None

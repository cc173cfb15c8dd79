"""Seeds judged as one: every number is the mean of the seeds' numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmnar.errors import SchemaError
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.metrics import METRICS, FoldMean, brier_terms
from mmnar.evaluation.repeated import mean_over_seeds
from mmnar.evaluation.result import Estimate
from mmnar.evaluation.scored import Scored, fold_shares


def scored(seed: int, resampling: Resampling, y: np.ndarray, fold: np.ndarray) -> Scored:
    rng = np.random.default_rng(seed)
    p = np.clip(0.3 + 0.3 * y + rng.normal(0, 0.2, len(y)), 0.01, 0.99)
    losses = {"brier": brier_terms(y, p) * fold_shares(fold)}
    made = Scored("m", "death", np.arange(len(y)), y, p, fold, "", {}, {}, losses)
    made.add({name: FoldMean(METRICS[name], fold, y, p) for name in ("auroc", "brier")}, resampling)
    return made


@pytest.fixture
def seeds() -> list[Scored]:
    y = (np.arange(200) % 3 == 0).astype(np.float64)
    resampling = Resampling.draw(np.arange(200) // 2, 100, 0)
    return [scored(seed, resampling, y, np.arange(200) % 2) for seed in range(3)]


def test_the_mean_over_seeds_by_hand(seeds: list[Scored]) -> None:
    mean, spread = mean_over_seeds(seeds, "recipe")
    for metric in ("auroc", "brier"):
        values = np.array([s.metrics[metric].value for s in seeds])
        draws = sum(s.draws[metric] for s in seeds) / 3
        estimate = mean.metrics[metric]
        assert estimate.value == pytest.approx(values.sum() / 3)
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
        assert spread[metric] == pytest.approx(np.sqrt(((values - values.mean()) ** 2).sum() / 2))
    assert mean.model == "recipe"
    # the losses still sum to the metric, so that paired tests hold
    assert mean.losses["brier"].sum() == pytest.approx(mean.metrics["brier"].value)


def test_the_mean_of_scores_is_not_the_score_of_mean_risks(seeds: list[Scored]) -> None:
    mean, _ = mean_over_seeds(seeds, "recipe")
    ensemble = float(((mean.p - mean.y) ** 2).mean())
    assert ensemble < (mean.metrics["brier"].value or 0.0) - 0.005


def test_one_seed_has_no_spread(seeds: list[Scored]) -> None:
    mean, spread = mean_over_seeds(seeds[:1], "m")
    assert mean.metrics == seeds[0].metrics
    assert set(spread.values()) == {0.0}


def test_a_metric_that_one_seed_lacks_is_refused(seeds: list[Scored]) -> None:
    lacking = replace(seeds[1], metrics={**seeds[1].metrics, "auroc": Estimate(None, reason="one class only")})
    mean, spread = mean_over_seeds([seeds[0], lacking], "m")
    assert mean.metrics["auroc"] == Estimate(None, reason="undefined for a seed")
    assert "auroc" not in spread
    assert mean.metrics["brier"].value is not None


def test_seeds_of_other_rows_are_refused(seeds: list[Scored]) -> None:
    with pytest.raises(SchemaError, match="the same rows"):
        mean_over_seeds([seeds[0], replace(seeds[1], rows=seeds[1].rows[::-1])], "m")

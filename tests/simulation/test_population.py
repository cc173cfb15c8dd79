import dataclasses

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from mmnar.errors import ConfigError
from mmnar.simulation import population as simulator
from mmnar.simulation.population import PREVALENCES, Simulation, pattern_number, simulate


@pytest.fixture(scope="module", params=[4, 10])
def large(request: pytest.FixtureRequest) -> Simulation:
    return simulate(20_000, request.param, seed=11)


def test_rates_and_prevalences_are_those_of_the_specification(large: Simulation) -> None:
    m = large.present.shape[1]
    rates = [1, 0.26, 0.755, 0.85] if m == 4 else [1, *np.linspace(0.35, 0.95, 9)]
    assert np.abs(large.present.mean(axis=0) - rates).max() < 0.015
    assert np.abs(large.labels.mean(axis=0) - PREVALENCES).max() < 0.012
    assert np.abs(large.bayes.mean(axis=0) - PREVALENCES).max() < 0.006


def test_bayes_risks_have_the_reference_auroc(large: Simulation) -> None:
    reference = 0.754 if large.present.shape[1] == 4 else 0.783
    assert abs(roc_auc_score(large.labels[:, 0], large.bayes[:, 0]) - reference) < 0.02


def test_bayes_risks_are_calibrated_within_patterns_and_within_deciles(large: Simulation) -> None:
    for k in range(3):
        risk, y = large.bayes[:, k], large.labels[:, k]
        decile = np.searchsorted(np.quantile(risk, np.arange(1, 10) / 10), risk)
        for group in (pattern_number(large.present), decile):
            size = np.bincount(group)
            deviation = np.bincount(group, y - risk)
            variance = np.bincount(group, risk * (1 - risk))
            z = (deviation / np.sqrt(np.maximum(variance, 1e-12)))[size >= 100]
            assert np.abs(z).max() < 4
            # z² sums to a chi-square with len(z) degrees of freedom
            assert (z**2).sum() < len(z) + 4 * np.sqrt(2 * len(z))


def test_ignoring_the_pattern_loses(large: Simulation) -> None:
    def expected_loss(q: np.ndarray) -> float:
        p = large.bayes
        return float(-(p * np.log(q) + (1 - p) * np.log(1 - q)).mean())

    assert expected_loss(large.bayes) < expected_loss(large.ignorable) - 2e-4
    assert log_loss(large.labels[:, 0], large.bayes[:, 0]) < log_loss(large.labels[:, 0], large.ignorable[:, 0])


def test_bayes_risk_is_the_posterior_integral_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    # a million draws from the prior, weighed by contents and pattern, formulas written out again
    sim = simulate(6, 4, seed=3, gamma=1.5, mcar=0.3, sites=3)
    world, policy = sim.world, sim.policy
    normal_points = simulator._normal_points
    monkeypatch.setattr(simulator, "_normal_points", lambda count: normal_points(2**14))
    risks, _ = simulator.bayes_risks(world, policy, sim.content, sim.present)
    h = np.random.default_rng(0).standard_normal((1_000_000, 3))
    for i in range(len(sim)):
        weight = np.ones(len(h))
        for m in np.flatnonzero(sim.present[i]):
            weight *= np.exp(-((sim.content[i, m] - h @ world.loadings[m].T) ** 2).sum(axis=1) / (2 * 2.0**2))
        chance = np.zeros(len(h))
        for s in range(3):
            heed, blind = np.ones(len(h)), 1.0
            for m in range(1, 4):
                p = expit(policy.offsets[s, m] + policy.slopes[s] * (h @ world.directions[m]))
                heed *= p if sim.present[i, m] else 1 - p
                blind *= p.mean() if sim.present[i, m] else 1 - p.mean()
            chance += (0.3 * blind + 0.7 * heed) / 3
        weight *= chance
        d = world.effects[:, pattern_number(sim.present[i : i + 1])[0]]
        for k in range(3):
            eta = world.intercepts[k] + h @ world.slopes[k] + 0.4 * h[:, 0] * h[:, 1] + 0.5 * d[k]
            y = expit(eta)
            exact = (weight * y).sum() / weight.sum()
            error = np.sqrt((weight**2 * (y - exact) ** 2).sum()) / weight.sum()
            assert abs(risks[i, k] - exact) < 5 * error + 0.0001


def test_labels_follow_the_latent_law() -> None:
    sim = simulate(20_000, 4, seed=5)
    truth = expit(sim.world.linear_predictor(sim.latent, pattern_number(sim.present)))
    z = (sim.labels - truth).sum(axis=0) / np.sqrt((truth * (1 - truth)).sum(axis=0))
    assert np.abs(z).max() < 4
    residual = sim.continuous - sim.world.linear_predictor(sim.latent, pattern_number(sim.present))
    assert abs(residual.std() - 0.5) < 0.01


def test_pattern_effects_have_unit_spread_in_the_population(large: Simulation) -> None:
    d = large.world.effects[:, pattern_number(large.present)]
    assert np.abs(d.mean(axis=1)).max() < 0.03
    assert np.abs(d.std(axis=1) - 1).max() < 0.03


def test_patients_follow_from_the_seed_and_the_world_from_the_world_seed() -> None:
    a, again, other = simulate(300, seed=1), simulate(300, seed=1), simulate(300, seed=2)
    for field in ("latent", "content", "present", "site", "labels", "continuous", "bayes", "ignorable"):
        np.testing.assert_array_equal(getattr(a, field), getattr(again, field))
    assert not np.array_equal(a.latent, other.latent)
    np.testing.assert_array_equal(a.world.loadings, other.world.loadings)
    elsewhere = simulate(300, seed=1, world_seed=1)
    assert not np.array_equal(a.world.loadings, elsewhere.world.loadings)
    np.testing.assert_array_equal(a.latent, elsewhere.latent)


def test_a_policy_changes_what_is_measured_and_nothing_else() -> None:
    a = simulate(1500, seed=1)
    for policy in ({"gamma": -1.0}, {"mcar": 1.0}, {"rate_shift": -1.0}, {"rate_shift": [0, 1, -1, 0.5]}, {"rare": 1}):
        b = simulate(1500, seed=1, **policy)
        assert not np.array_equal(a.present, b.present)
        assert b.present[:, 0].all()
        np.testing.assert_array_equal(a.content, b.content)
        np.testing.assert_array_equal(a.world.intercepts, b.world.intercepts)


def test_mcar_keeps_rates_and_cuts_the_link_with_severity() -> None:
    mnar, mcar = simulate(8000, seed=2), simulate(8000, seed=2, mcar=1.0)
    np.testing.assert_allclose(mcar.present.mean(axis=0), [1, 0.26, 0.755, 0.85], atol=0.018)
    for m in (1, 2, 3):
        assert np.corrcoef(mnar.present[:, m], mnar.latent[:, 0])[0, 1] > 0.2
        assert abs(np.corrcoef(mcar.present[:, m], mcar.latent[:, 0])[0, 1]) < 0.045
    np.testing.assert_allclose(mcar.bayes, mcar.ignorable, atol=1e-12)


def test_rare_makes_rates_more_extreme_and_rate_shift_moves_them() -> None:
    rare = simulate(8000, seed=2, rare=1.0).present.mean(axis=0)
    np.testing.assert_allclose(rare, [1, 0.11, 0.905, 0.97], atol=0.018)
    shifted = simulate(8000, seed=2, rate_shift=-1.0).present.mean(axis=0)
    assert (shifted[1:] < np.array([0.26, 0.755, 0.85]) - 0.08).all()


def test_sites_have_habits_and_the_average_rate_stays() -> None:
    sim = simulate(8000, seed=2, sites=4)
    assert np.bincount(sim.site).min() > 1800
    by_site = np.stack([sim.present[sim.site == s].mean(axis=0) for s in range(4)])
    assert by_site[:, 1:].std(axis=0).min() > 0.01
    np.testing.assert_allclose(sim.present.mean(axis=0), [1, 0.26, 0.755, 0.85], atol=0.018)
    # a site keeps its habits when others join; only the common offset moves
    more = simulate(10, seed=2, sites=6).policy
    np.testing.assert_array_equal(more.slopes[:4], sim.policy.slopes)


def test_risks_do_not_depend_on_who_else_is_simulated() -> None:
    sim = simulate(3000, seed=4)
    rows = np.array([5, 17, 2999])
    alone, _ = simulator.bayes_risks(sim.world, sim.policy, sim.content[rows], sim.present[rows])
    np.testing.assert_allclose(alone, sim.bayes[rows], rtol=1e-12)


def test_risks_never_read_absent_content() -> None:
    sim = simulate(500, seed=4)
    hidden, _ = simulator.bayes_risks(sim.world, sim.policy, sim.observed_content(), sim.present)
    np.testing.assert_array_equal(hidden, sim.bayes)


def test_quadrature_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = simulate(300, seed=6)
    normal_points = simulator._normal_points
    monkeypatch.setattr(simulator, "_normal_points", lambda count: normal_points(8192))
    finer, _ = simulator.bayes_risks(sim.world, sim.policy, sim.content, sim.present)
    assert np.abs(finer - sim.bayes).max() < 0.006
    assert np.sqrt(((finer - sim.bayes) ** 2).mean()) < 0.001


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"modalities": 1}, {"mcar": 1.5}, {"sites": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"simulate\\({next(iter(wrong))}\\)"):
        simulate(**{"patients": 10, **wrong})


def test_a_simulation_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        simulate(10).seed = 3  # type: ignore[misc]

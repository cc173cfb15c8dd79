"""Label sets: by hand, where the truth is known, and without telling of few."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from mmnar.cli import main
from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError, LeakageError, SchemaError, StoreError
from mmnar.evaluation.abstain import EVERYBODY, set_rows
from mmnar.posthoc.sets import BORROWED, FittedSets, LabelSets, limit, weights
from mmnar.predictions import Predictions
from mmnar.privacy import SMALL_CELL, few
from mmnar.roles import Calibration, Role, Test
from mmnar.simulation.planted import planted
from mmnar.simulation.population import simulate
from mmnar.workflow import open_run, train_run
from mmnar.workflow.abstain import abstain
from tests.conftest import draw_predictions


def test_limits_are_those_of_a_search_over_every_score() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, alpha = int(rng.integers(1, 40)), float(rng.choice([0.1, 0.25]))
        scores, weight = rng.random(n).round(1), rng.choice([0.25, 0.5, 1.0], n)
        wanted = (1 - alpha) * (weight.sum() + 1)
        reached = [s for s in scores if weight[scores <= s].sum() >= wanted - 1e-9]
        assert limit(scores, weight, alpha) == min(reached, default=np.inf)
    scores = rng.random(99)
    assert limit(scores, np.ones(99), 0.1) == np.sort(scores)[89]  # the ⌈.9 · 100⌉th


def test_weights_halve_by_modality_and_borrow_no_more_than_forty() -> None:
    rng = np.random.default_rng(1)
    present, pattern = rng.random((500, 4)) < 0.6, np.array([True, False, True, True])
    w = weights(present, pattern)
    apart = (present ^ pattern).sum(1)
    assert (w[apart == 0] == 1).all()
    assert w[apart > 0].sum() == pytest.approx(BORROWED)
    one, two = w[apart == 1][0], w[apart == 2][0]
    assert one == pytest.approx(2 * two)
    assert weights(present, pattern, 0.0).tolist() == (apart == 0).astype(float).tolist()


def test_sets_are_what_the_limits_of_a_patients_own_pattern_say() -> None:
    calibration = draw_predictions(800, Calibration, tasks=("death",))
    fresh = draw_predictions(100, Test, seed=1, first_subject=10_000, tasks=("death",))
    possible = LabelSets(exact=True).fit(calibration).possible(fresh)[:, 0]
    p, y, asked = calibration.task("death")
    for row in range(100):
        alike = asked & (calibration.present == fresh.present[row]).all(1)
        own, kept = fresh.proba[row, 0], []
        for label, score in ((False, p), (True, 1 - p)):
            others = score[alike & (y == label)]
            mine = 1 - own if label else own
            # conformal p-value: how many are at least as strange
            kept.append(((others >= mine - 1e-12).sum() + 1) / (len(others) + 1) > 0.1)
        assert possible[row].tolist() == (kept if any(kept) else [True, True])


def of_simulation(seed: int, patients: int, role: type[Role], first: int) -> Predictions[Role]:
    sim = simulate(patients, 4, seed)
    made = draw_predictions(patients, role, first_subject=first, tasks=("a", "b", "c"), modalities=4)
    asked = np.ones((patients, 3), dtype=bool)
    return replace(made, proba=sim.bayes, labels=sim.labels, label_mask=asked, present=sim.present, bayes=None)


def test_each_label_is_covered_overall_and_by_pattern_where_the_truth_is_known() -> None:
    """B8: with the exact risks; the mean over draws, pattern by pattern, and for the rare outcome as well."""
    fresh = of_simulation(100, 4000, Test, 10_000)
    draws: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for seed in range(4):
        calibration = of_simulation(seed, 2000, Calibration, 0)
        for exact, found in draws.items():
            found.append(LabelSets(exact=exact).fit(calibration).possible(fresh))
    index, patterns = fresh.pattern_ids()
    for exact, found in draws.items():
        held = np.mean(found, axis=0)  # (N, K, 2)
        for k in range(3):
            y = fresh.labels[:, k]
            assert 0.88 < held[y, k, 1].mean() < 0.94, (exact, k)
            assert 0.88 < held[~y, k, 0].mean() < 0.94, (exact, k)
            for g in range(len(patterns)):
                mine = (index == g) & y
                if mine.sum() > 100:
                    assert 0.83 < held[mine, k, 1].mean() < 0.965, (exact, k, g)
    size = np.mean([of.sum(2).mean() for of in draws[False]])
    assert 1.4 < size < 1.9


def test_what_is_borrowed_is_a_place_among_its_own_patterns_risks() -> None:
    """A pattern of ill patients lends to one of healthy ones: the latter's limits are those of its own risks."""
    calibration = draw_predictions(3000, Calibration, tasks=("death",), centre=-1.0)
    ill = calibration.present[:, 2]
    moved = expit(logit(calibration.proba) + 2.0 * ill[:, None])
    labels = (np.random.default_rng(2).random((3000, 1)) < moved) & calibration.label_mask
    healthy = np.flatnonzero(~ill)[120:]  # few of them are left
    keep = np.setdiff1d(np.arange(3000), healthy)
    scarce = replace(
        calibration,
        proba=moved,
        labels=labels,
        label_mask=calibration.label_mask & np.isin(np.arange(3000), keep)[:, None],
    )
    fresh = draw_predictions(4000, Test, seed=3, first_subject=10_000, tasks=("death",), centre=-1.0)
    fresh = replace(fresh, present=fresh.present & np.array([True, True, False]))
    truth = np.random.default_rng(4).random((4000, 1)) < fresh.proba
    held = LabelSets().fit(scarce).possible(fresh)[:, 0, 1][truth[:, 0]]
    assert 0.8 < held.mean() < 0.98


def test_what_nothing_is_known_of_stays_possible() -> None:
    calibration = draw_predictions(400, Calibration, tasks=("death",))
    fresh = draw_predictions(50, Test, seed=1, first_subject=10_000, tasks=("death",))
    lonely = replace(fresh, present=np.ones((50, 3), dtype=bool))
    nobody = replace(calibration, present=calibration.present & np.array([True, True, False]))
    assert LabelSets(exact=True).fit(nobody).possible(lonely).all()
    assert not LabelSets().fit(nobody).possible(lonely).all()


def test_who_was_calibrated_on_gets_no_set() -> None:
    calibration = draw_predictions(200, Calibration)
    fitted = LabelSets().fit(calibration)
    with pytest.raises(LeakageError, match="200 subjects shared"):
        fitted.possible(draw_predictions(200, Test))
    with pytest.raises(LeakageError, match="calibration predictions"):
        fitted.possible(calibration)
    with pytest.raises(LeakageError, match="calibration predictions"):
        LabelSets().fit(draw_predictions(200, Test))
    with pytest.raises(SchemaError, match="tasks"):
        fitted.possible(draw_predictions(50, Test, first_subject=900, tasks=("other",)))
    with pytest.raises(ConfigError, match="alpha"):
        LabelSets(alpha=1.0)


def test_figures_by_hand_and_none_of_few() -> None:
    calibration = draw_predictions(1500, Calibration, tasks=("death",))
    fresh = draw_predictions(1500, Test, seed=1, first_subject=10_000, tasks=("death",))
    fitted: FittedSets = LabelSets().fit(calibration)
    (total, *rows) = set_rows(fitted, fresh, resamples=50)["death"]
    possible = fitted.possible(fresh)[:, 0]
    _, y, asked = fresh.task("death")
    assert total.group == EVERYBODY
    assert total.both.value == pytest.approx(possible[asked].all(1).mean(), abs=6e-3)
    assert total.size.value == pytest.approx(possible[asked].sum(1).mean(), abs=6e-3)
    assert total.with_event.value == pytest.approx(possible[asked & y, 1].mean(), abs=6e-3)
    assert total.without.value == pytest.approx(possible[asked & ~y, 0].mean(), abs=6e-3)
    names = [" + ".join(np.array(fresh.modalities)[row]) or "nothing observed" for row in fresh.present]
    alone = {row.group: row for row in rows if row.group in names}
    assert alone
    hidden = 0
    for name, row in alone.items():
        mine = asked & (np.array(names) == name) & y
        missed = int((~possible[mine, 1]).sum())
        assert not (few(missed) and row.with_event.value is not None)
        hidden += row.with_event.value is None
        if row.with_event.value is not None:
            assert row.with_event.value == pytest.approx(1 - missed / mine.sum(), abs=6e-3)
    missed_by = {row.group: row.with_event.value for row in rows}
    assert hidden != 1 or sum(v is None for v in missed_by.values()) > 1  # one alone would be the total less the rest
    scarce = replace(fresh, labels=fresh.labels & (np.cumsum(fresh.labels, axis=0) < SMALL_CELL))
    assert set_rows(fitted, scarce, resamples=5)["death"] == ()


def test_the_command_writes_a_page_and_refuses_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store(tmp_path / "store", planted("pattern", 1200))
    train_run(store, "pattern-only", tmp_path / "run", ("fits=2",))
    with pytest.raises(SystemExit) as ended:
        main(["abstain", str(tmp_path / "run"), "--alpha", "0.2", "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert "of samples are decided" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "abstain.json").read_text())["alpha"] == 0.2
    assert "for 80 % of the patients" in (tmp_path / "out" / "abstain.html").read_text()
    train_run(store, "pattern-only", tmp_path / "single", ("fit=single", "rectifier.rule=none"))
    with pytest.raises(StoreError, match="risks out of fold"):
        abstain(open_run(tmp_path / "single"))
    train_run(store, "pattern-only", tmp_path / "none", ("fits=2", "split.test=0"))
    with pytest.raises(StoreError, match="a test fold"):
        abstain(open_run(tmp_path / "none"))

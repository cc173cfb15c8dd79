"""The ω-tilt: by hand, where the truth is known, and as a verb that refuses a "blind" run which can see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import log_loss, roc_auc_score

from mmnar.cli import main
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import ConfigError, StoreError
from mmnar.evaluation.result import Estimate
from mmnar.evaluation.shift import Shift
from mmnar.evaluation.simulated import excess_kl
from mmnar.evaluation.thresholds import stated
from mmnar.evaluation.tilt import FEW_FLIPS, OMEGAS, advised, tilted, tilts
from mmnar.predictions import Predictions
from mmnar.render.blocks import Heading
from mmnar.report.choosing import first_named
from mmnar.report.inputs import ReportInputs, StoreFacts
from mmnar.report.ordering import sets_of, tilts_of
from mmnar.report.runs import report_page, shown_data
from mmnar.report.tilt import tilt_text
from mmnar.report.titles import entitled
from mmnar.roles import Test
from mmnar.schema import Panel
from mmnar.simulation.planted import planted
from mmnar.simulation.population import bayes_risks, simulate
from mmnar.workflow import evaluate_runs, open_run, train_run
from mmnar.workflow.tilt import tilt
from tests.conftest import draw_predictions


@pytest.fixture(scope="module")
def pair() -> tuple[Predictions[Test], Predictions[Test]]:
    """Risks with and without the pattern of 600 made-up samples."""
    blind = draw_predictions(600, Test, bias=np.array([0.8, -0.6, 0.5]), tasks=("death",))
    aware = logit(blind.proba) + (blind.present @ np.array([0.8, -0.6, 0.5]))[:, None]
    return blind.with_proba(expit(aware), model="aware"), blind


def test_every_figure_by_hand(pair: tuple[Predictions[Test], Predictions[Test]]) -> None:
    aware, blind = pair
    of = tilts(aware, blind, {"death": stated([0.2, 0.4], "death")}, also=0.6, resamples=50)["death"]
    assert [p.omega for p in of.points] == sorted([*OMEGAS, 0.6])
    p0, _, asked = blind.task("death")
    p1, y, _ = aware.task("death")
    p0, p1, y = p0[asked], p1[asked], y[asked]
    for point in of.points:
        w = (p1 / (1 - p1)) ** point.omega * (p0 / (1 - p0)) ** (1 - point.omega)
        p = w / (1 + w)
        assert point.moved.value == pytest.approx(np.mean(np.abs(p - p1)), abs=6e-4)
        assert point.auroc.value == pytest.approx(roc_auc_score(y, p), abs=6e-5)
        assert point.log_loss.value == pytest.approx(log_loss(y, p), abs=6e-5)
        assert point.log_loss_change.value == pytest.approx(log_loss(y, p) - log_loss(y, p1), abs=6e-5)
        for t, share in point.flips:
            assert share.value is None or share.value == pytest.approx(np.mean((p >= t) != (p1 >= t)), abs=6e-3)
    shares = [share.value for point in of.points for _, share in point.flips]
    assert sum(s is not None for s in shares) > 8
    assert of.points[-1].moved.value == 0
    assert of.band.value == of.points[0].moved.value


def test_in_an_exclusive_panel_risks_sum_to_one_at_every_omega() -> None:
    rng = np.random.default_rng(0)
    blind, aware = (np.column_stack([rng.dirichlet([2, 1, 1], 50), rng.random(50)]) for _ in range(2))
    for omega in OMEGAS:
        p = tilted(blind, aware, omega, [(0, 1, 2)])
        assert np.allclose(p[:, :3].sum(1), 1)
        assert np.allclose(p[:, 3], tilted(blind[:, 3:], aware[:, 3:], omega)[:, 0])
        by_hand = blind[:, :3] ** (1 - omega) * aware[:, :3] ** omega
        assert np.allclose(p[:, :3], by_hand / by_hand.sum(1, keepdims=True))
    # of two outcomes a panel is a single risk
    two = tilted(np.array([[0.2, 0.8]]), np.array([[0.5, 0.5]]), 0.5, [(0, 1)])
    assert two[0, 0] == pytest.approx(tilted(np.array([[0.2]]), np.array([[0.5]]), 0.5)[0, 0])


def test_a_panel_passes_through_the_whole(pair: tuple[Predictions[Test], Predictions[Test]]) -> None:
    one, other = (
        replace(
            of,
            tasks=("lives", "dies"),
            proba=np.column_stack([1 - of.proba, of.proba]),
            labels=np.column_stack([~of.labels & of.label_mask, of.labels]),
            label_mask=np.repeat(of.label_mask, 2, axis=1),
            panels=(Panel("end", ("lives", "dies"), exclusive=True),),
            bayes=None,
        )
        for of in pair
    )
    at = {"lives": stated([0.5], "lives"), "dies": stated([0.5], "dies")}
    found = tilts(one, other, at, resamples=20)
    single = tilts(*pair, {"death": stated([0.5], "death")}, resamples=20)["death"]
    assert [p.auroc.value for p in found["dies"].points] == pytest.approx([p.auroc.value for p in single.points])


def test_where_the_truth_is_known_it_lies_where_the_theory_says() -> None:
    """Without a direct effect the exact risk of a policy that ignores illness is that of ω = 0, of the same, ω = 1."""
    home = simulate(10, eta=0.0)
    for policy, best, worst in (({}, 1.0, -0.5), ({"mcar": 1.0}, 0.0, 1.0), ({"gamma": -1.0}, -0.5, 1.0)):
        there = simulate(1500, seed=1, eta=0.0, **policy)  # type: ignore[arg-type]
        aware, blind = bayes_risks(home.world, home.policy, there.content, there.present)
        kl = {w: float(excess_kl(there.bayes, tilted(blind, aware, w)).mean()) for w in OMEGAS}
        assert min(kl, key=lambda w: kl[w]) == best, policy
        assert kl[worst] > 2 * kl[best] + 1e-4, policy


def test_few_who_change_sides_are_not_told(pair: tuple[Predictions[Test], Predictions[Test]]) -> None:
    aware, blind = pair
    rows = np.flatnonzero(blind.label_mask[:, 0])
    p0, p1 = np.full((600, 1), 0.1), np.full((600, 1), 0.1)
    p1[rows[:9]] = 0.5  # they alone change sides, all at once
    p0[rows[20:40]], p1[rows[20:40]] = 0.7, 0.7
    p1[rows[40:60]] = 0.6
    at = {"death": stated([0.4, 0.55], "death")}
    of = tilts(aware.with_proba(p1), blind.with_proba(p0), at, resamples=20)["death"]
    low, high = zip(*(point.flips for point in of.points), strict=True)
    # at .55 twenty change; at .4 nine more do, later than those twenty or with them
    assert [share.value is not None for _, share in high].count(False) == 0
    changed = np.array([((tilted(p0, p1, w) >= 0.4) != (p1 >= 0.4))[rows, 0].sum() for w in OMEGAS])
    assert {9, 29} <= {*changed.tolist()}
    told = [round(share.value * len(rows)) for _, share in low if share.value is not None]
    assert not any(abs(a - b) in range(4, 15) and n == 9 for a, b, n in zip(told, told[1:], changed, strict=False))
    refused = [w for w, (_, share) in zip(OMEGAS, low, strict=True) if share.value is None]
    assert refused == [w for w, n in zip(OMEGAS, changed, strict=True) if n == 9]
    assert all(share.reason == FEW_FLIPS for _, share in low if share.value is None)


def test_advice_is_rho_where_a_change_is_shown_and_one_where_none_is() -> None:
    def of(rho: float | None, own: float, shown: tuple[str, ...]) -> float | None:
        estimate = Estimate(None, reason="nothing left to ask") if rho is None else Estimate(rho, rho - 0.1, rho + 0.1)
        return advised(Shift((), 0.1, 0.5, estimate, Estimate(own), 0.01, shown, Estimate(0.0), (), "", (9, 9))).omega

    assert of(0.45, 0.9, ("selection",)) == 0.5
    assert of(-0.9, 0.9, ("selection",)) == OMEGAS[0]
    assert of(1.4, 0.9, ("selection", "law")) == 1.0
    assert of(0.45, 0.9, ("law",)) == 1.0
    assert of(None, 0.9, ()) is None
    assert of(0.3, -0.1, ("selection",)) is None


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(two_policies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blind runs of the same store, one of another split."""
    folder = tmp_path_factory.mktemp("blind")
    for name, words in (("blind", ()), ("elsewise", ("split.seed=1",))):
        given = ("fits=2", "model.append_pattern=false", *words)
        train_run(two_policies / "home", "logistic-pattern", folder / name, given)
    return folder


def test_at_one_it_is_the_run_and_at_zero_the_blind_one(two_policies: Path, runs: Path) -> None:
    aware, blind = open_run(two_policies / "run"), open_run(runs / "blind")
    found = tilt(aware, blind, resamples=50)
    assert found.advice is None
    assert aware.rectified is not None
    for task, of in found.tasks.items():
        at = {p.omega: p for p in of.points}
        for omega, said in ((1.0, aware.rectified), (0.0, blind.test)):
            p, y, asked = said.task(task)
            assert at[omega].log_loss.value == pytest.approx(log_loss(y[asked], p[asked]), abs=6e-5)
    assert "no data of this site can tell" in tilt_text(found)


def test_the_verb_advises_for_another_store_and_writes_a_page(
    two_policies: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tilt", str(two_policies / "run"), "--blind", str(runs / "blind"), "--on", str(two_policies / "reversed")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert "is what the other store's ordering speaks for" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "tilt.json").read_text())
    assert record["advice"]["omega"] == OMEGAS[0]
    first = next(iter(record["tasks"].values()))["points"]
    assert first[0]["log_loss"]["value"] < first[-1]["log_loss"]["value"]  # the policy is reversed there
    assert "chosen by them and flatters itself" in (tmp_path / "out" / "tilt.html").read_text()


def test_a_blind_run_that_can_see_is_refused(two_policies: Path, runs: Path, tmp_path: Path) -> None:
    aware, blind = open_run(two_policies / "run"), open_run(runs / "blind")
    few = write_store(tmp_path / "store", planted("single", 120))
    short = ("fit=single", "train.max_epochs=1", "train.min_steps=0", "model.width=8", "rectifier.rule=none")
    for name, word in (("zero-fill", "append_pattern=false"), ("crl-mmnar", "pattern_input=mask")):
        seeing = train_run(few, name, tmp_path / name, (*short, f"model.{word}"))
        with pytest.raises(ConfigError, match="cannot tell which modalities are there"):
            tilt(aware, seeing)
    unseeing = train_run(few, "crl-mmnar", tmp_path / "blind", (*short, "model.pattern_input=blind"))
    with pytest.raises(StoreError, match="another store"):
        tilt(aware, unseeing)
    with pytest.raises(ConfigError, match="one that knows the pattern"):
        tilt(blind, blind)
    with pytest.raises(StoreError, match="another split"):
        tilt(aware, open_run(runs / "elsewise"))


def test_a_report_beside_a_blind_run_says_it_of_the_model_chosen(two_policies: Path, runs: Path) -> None:
    """Sections are folded and titled; a blind run of another split is passed over."""
    run, blind, elsewise = open_run(two_policies / "run"), open_run(runs / "blind"), open_run(runs / "elsewise")
    found = tilts_of([run], [elsewise, run, blind], None, None, 5, None)
    assert [(of.aware, of.blind) for of in found] == [("logistic-pattern+rectifier", "logistic-pattern")]
    assert (
        tilts_of([blind], [run, blind], None, None, 5, None) == tilts_of([run], [elsewise], None, None, 5, None) == ()
    )
    sets = sets_of([run], [run], None, None, 5)
    facts = StoreFacts(open_store(two_policies / "home").manifest)
    inputs = ReportInputs("", facts, evaluate_runs([run], resamples=5), abstentions=sets, tilts=found)
    inputs = entitled(replace(inputs, choices=first_named(inputs.result, "")))
    titles = {"ICU admission", "Mortality", "Readmission"}
    assert {*inputs.tilts[0].tasks} == {*inputs.abstentions[0].tasks} == titles
    page = report_page(inputs, shown_data(inputs))
    sections = {section.title: section for section in page.sections}
    for name in ("If the model may say undecided", "If the pattern meant something else"):
        assert sections[name].folded
        assert titles < {block.text for block in sections[name].blocks if isinstance(block, Heading)}
    assert json.loads(json.dumps(shown_data(inputs)))["tilts"][0]["blind"] == "logistic-pattern"

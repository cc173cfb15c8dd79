"""The rectifier on another site's outcomes: what it wins where the truth is known, and who is then judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmnar.cli import main
from mmnar.cohort.split import Split
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import ConfigError, LeakageError, RequirementError, StoreError
from mmnar.evaluation.simulated import excess_kl
from mmnar.posthoc import LatticeRectifier
from mmnar.posthoc.refit import EAGER, EAGER_FROM, Refit
from mmnar.predictions import Predictions
from mmnar.roles import Calibration
from mmnar.simulation.population import Simulation, bayes_risks, simulate
from mmnar.workflow import evaluate_runs, open_run, scored_predictions
from mmnar.workflow.refit import refit_run
from tests.conftest import draw_predictions


def of_home(there: Simulation, home: Simulation) -> Predictions[Calibration]:
    """What home's exact risks say of patients who are ordered for by another policy."""
    n = len(there)
    made = draw_predictions(n, Calibration, tasks=("a", "b", "c"), modalities=4)
    proba, _ = bayes_risks(home.world, home.policy, there.content, there.present)
    asked = np.ones((n, 3), dtype=bool)
    return replace(made, proba=proba, labels=there.labels, label_mask=asked, present=there.present, bayes=there.bayes)


@pytest.mark.parametrize("gamma", [-1.0, 1.0])
def test_a_thousand_outcomes_win_most_of_what_a_reversal_costs(gamma: float) -> None:
    """B7, against the exact risks of the other policy; where nothing has changed next to nothing is lost."""
    home, fresh = simulate(10), simulate(2000, seed=9, gamma=gamma)
    base = of_home(fresh, home)
    before = float(excess_kl(fresh.bayes, base.proba).mean())
    after = []
    for seed in range(2):
        fitted = Refit().fit(of_home(simulate(1000, seed=seed, gamma=gamma), home))
        after.append(float(excess_kl(fresh.bayes, fitted.risks(base)).mean()))
    if gamma < 0:
        assert before > 0.01
        assert np.mean(after) < 0.5 * before
    else:
        assert before == pytest.approx(0, abs=1e-9)
        assert np.mean(after) < 0.002


def test_the_prior_is_eager_from_five_hundred_labels_on_task_by_task() -> None:
    calibration = draw_predictions(700, Calibration, bias=np.array([0.8, -0.8, 0.5]))
    some = calibration.label_mask & (np.cumsum(calibration.label_mask, axis=0) <= np.array([EAGER_FROM, 499]))
    calibration = replace(calibration, label_mask=some, labels=calibration.labels & some)
    fitted, safe = Refit().fit(calibration), LatticeRectifier().fit(calibration)
    eager = LatticeRectifier(EAGER).fit(calibration)
    assert fitted.offsets["death"] == eager.offsets["death"] != safe.offsets["death"]
    assert fitted.offsets["los"] == safe.offsets["los"] != eager.offsets["los"]


def test_few_events_leave_a_task_as_it_is() -> None:
    calibration = draw_predictions(700, Calibration)
    scarce = calibration.labels & (np.cumsum(calibration.labels, axis=0) <= np.array([39, 700]))
    fitted = Refit().fit(replace(calibration, labels=scarce))
    assert "at least 40 needed" in fitted.reasons["death"]
    assert not fitted.reasons["los"]
    assert np.array_equal(fitted.risks(calibration)[:, 0], calibration.proba[:, 0])


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(two_policies: Path) -> Path:
    refit_run(open_run(two_policies / "run"), two_policies / "reversed", two_policies / "refit")
    return two_policies


def test_it_is_judged_on_others_than_it_was_fitted_on_and_every_run_beside_it_too(made: Path) -> None:
    run, refit, on = open_run(made / "run"), open_run(made / "refit"), made / "reversed"
    rectifier = refit.rectifier()
    assert rectifier is not None
    everybody = scored_predictions(run, on)[0]
    judged, after = scored_predictions(refit, on)
    used = np.isin(everybody.subject_digest, rectifier.fitted_on)
    assert 0.4 < used.mean() < 0.6
    assert judged.subject_id.tolist() == everybody.subject_id[~used].tolist()
    with pytest.raises(LeakageError, match="subjects it was not fitted on"):
        rectifier.apply(everybody)
    result = evaluate_runs([run, refit], on=on, resamples=20)
    models = next(iter(result.tasks.values()))
    assert list(models) == [f"logistic-pattern{w}" for w in ("", "+rectifier", "-refit", "-refit+rectifier")]
    same = [models[f"logistic-pattern{w}"].metrics["log_loss"] for w in ("", "-refit")]
    assert same[0] == same[1]
    kl = {name: of.metrics["kl_to_bayes"].value for name, of in models.items()}
    assert kl["logistic-pattern-refit+rectifier"] < 0.7 * kl["logistic-pattern+rectifier"]  # type: ignore[operator]
    assert after.provenance["model"] == "logistic-pattern-refit+rectifier"


def test_it_is_the_run_but_for_the_rectifier(made: Path) -> None:
    run, refit = open_run(made / "run"), open_run(made / "refit")
    refit.check()
    assert np.array_equal(run.test.proba, refit.test.proba)
    assert refit.rectified is not None
    assert not np.array_equal(refit.rectified.proba, refit.test.proba)
    calibration = run.predictor().predict(
        open_store(made / "reversed")
        .keyed_like(open_store(made / "home"))
        .fold(Split(tune=0.0, calibration=0.5, test=0.0), "calibration")
    )
    again, written = Refit().fit(calibration), json.loads((made / "refit" / "rectifier.json").read_text())
    assert written == json.loads(json.dumps(again.to_dict()))
    assert refit.refit["data"] == open_store(made / "reversed").fingerprint
    assert refit.record["data"] == run.record["data"]
    assert "another store" in refit.refit_told[0]


def test_outcomes_of_the_others_do_not_reach_it(made: Path, tmp_path: Path) -> None:
    data = open_store(made / "reversed")
    others = Split(tune=0.0, calibration=0.5, test=0.0).roles(data.subject_id) != "calibration"
    changed = replace(data, labels=np.where(others[:, None], ~data.labels & data.label_mask, data.labels))
    refit_run(open_run(made / "run"), write_store(tmp_path / "changed", changed), tmp_path / "refit")
    assert (tmp_path / "refit" / "rectifier.json").read_text() == (made / "refit" / "rectifier.json").read_text()


def test_what_cannot_be_is_refused_and_nothing_is_written(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = open_run(made / "run"), tmp_path / "out"
    with pytest.raises(ConfigError, match="share"):
        refit_run(run, made / "reversed", out, share=1.0)
    with pytest.raises(LeakageError, match="seen during fitting"):
        refit_run(run, made / "home", out)
    data = open_store(made / "reversed")
    some = data.labels & (np.cumsum(data.labels, axis=0) <= 30)
    scarce = write_store(tmp_path / "scarce", replace(data, labels=some))
    with pytest.raises(RequirementError, match="40 events") as refused:
        refit_run(run, scarce, out)
    assert "30" not in str(refused.value)
    with pytest.raises(StoreError, match="new or empty"):
        refit_run(run, made / "reversed", made / "run")
    assert not out.exists()
    with pytest.raises(SystemExit) as ended:
        main(["refit", str(made / "run"), "--on", str(made / "reversed"), "--out", str(out), "--share", "0.3"])
    assert not ended.value.code
    assert "fitted on about" in capsys.readouterr().out
    assert open_run(out).refit["share"] == 0.3

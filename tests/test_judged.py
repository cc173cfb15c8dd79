"""From runs to alerts: thresholds come from patients learned from, and from what the user says, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar import cli
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import ConfigError
from mmnar.evaluation.thresholds import LADDER
from mmnar.workflow import Run, evaluate_runs, train_run
from mmnar.workflow.judge import thresholds_of
from mmnar.workflow.probe import with_probes
from tests.populations import population


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("judged") / "store", population(900))


@pytest.fixture(scope="module")
def run(store: Path) -> Run:
    return train_run(store, "logistic-pattern", store.parent / "run", ("fits=2",))


@pytest.fixture(scope="module")
def whole(store: Path) -> Run:
    """Without a test fold: judged out of fold."""
    return train_run(store, "logistic-pattern", store.parent / "whole", ("fits=2", "split.test=0"))


def test_thresholds_are_those_of_the_patients_learned_from(run: Run) -> None:
    learned = run.calibration()
    assert learned is not None
    found = thresholds_of([run], {})
    for task in run.test.tasks:
        risks, labels, asked = learned.task(task)
        at = found[task]
        near = min(
            LADDER, key=lambda t: abs(np.log(t / (1 - t)) - np.log(labels[asked].mean() / (~labels[asked]).mean()))
        )
        assert at.main == near
        for k, t in at.per_100["logistic-pattern"].items():
            assert np.mean(risks[asked] >= t) == pytest.approx(k / 100, abs=0.01)
        assert set(at.per_100) == {"logistic-pattern", "logistic-pattern+rectifier"}
        assert abs(at.learned - asked.sum()) <= 5
    # the test fold has no say
    other = replace(run, test=replace(run.test, labels=~run.test.labels & run.test.label_mask))
    assert thresholds_of([other], {}) == found


def test_risks_that_are_judged_choose_no_threshold(whole: Run) -> None:
    found = thresholds_of([whole], {})
    assert all(at.stated == (0.05, 0.1, 0.2) and not at.per_100 and at.learned is None for at in found.values())
    result = evaluate_runs([whole], resamples=5)
    assert {p.kind for p in result.tasks[whole.test.tasks[0]]["logistic-pattern"].decided.points} == {"stated", "curve"}
    # nor is the model scored again on whom it was fitted on
    assert with_probes(result, [whole]) == result


def test_a_user_says_where_alerts_begin(run: Run) -> None:
    task = run.test.tasks[0]
    found = evaluate_runs([run], resamples=5, thresholds={task: [0.3, 0.15]}).decisions
    assert (found[task].main, found[task].stated) == (0.3, (0.15, 0.3))
    assert found[run.test.tasks[1]].source != found[task].source


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{}=1.2",), "risks between 0 and 1, got 1.2"),
        (("{}=0.1,0",), "risks between 0 and 1, got 0"),
        (("{}=ten",), "--thresholds: expected TASK=RISK,RISK"),
        (("{}",), "--thresholds: expected TASK=RISK,RISK"),
        (("nobody=0.1",), "names of tasks"),
    ],
)
def test_what_is_no_threshold_is_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cli.run.evaluate(run.folder, thresholds=tuple(w.format(run.test.tasks[0]) for w in words), resamples=5)


def test_a_model_is_scored_again_with_each_modality_hidden(run: Run, store: Path) -> None:
    result = with_probes(evaluate_runs([run], resamples=5), [run])
    data = open_store(store)
    has = {name: data.present[:, i] for i, name in enumerate(data.schema.modality_names)}
    for task in run.test.tasks:
        decided = result.tasks[task]["logistic-pattern"].decided
        assert decided.spread.fits == 2
        assert [h.modality for h in decided.hidden] == [name for name in has if has[name].any()]
        assert max(h.moved.value for h in decided.hidden) > 0.01
        assert result.tasks[task]["logistic-pattern+rectifier"].decided.hidden == ()
    predictor: Any = run.predictor()
    fold = data.fold(split_of(run), "test")
    first = decided.hidden[0]
    changed = predictor.predict(fold.hiding(first.modality)).proba[:, 1] - run.test.proba[:, 1]
    asked = run.test.label_mask[:, 1] & fold.present[:, 0]
    assert first.moved.value == pytest.approx(np.abs(changed[asked]).mean(), abs=1e-9)


def split_of(run: Run) -> Any:
    from mmnar.cohort.split import Split

    return Split(**run.record["config"]["split"])


def test_another_hospital_is_judged_at_the_thresholds_of_the_patients_learned_from(
    run: Run, store: Path, tmp_path: Path
) -> None:
    theirs = population(500, seed=5, signal=1.0, source="test")
    other = write_store(tmp_path / "other", replace(theirs, subject_id=theirs.subject_id + 10_000))
    result = with_probes(evaluate_runs([run], on=other, store=store, resamples=5), [run], other, store)
    own = thresholds_of([run], {})
    for task, models in result.tasks.items():
        assert result.decisions[task].stated == own[task].stated
        decided = models["logistic-pattern"].decided
        per_100 = {p.per_100: p.threshold for p in decided.points if p.kind == "per 100"}
        stated = own[task].stated
        assert per_100 == {k: t for k, t in own[task].per_100["logistic-pattern"].items() if t not in stated}
        assert decided.spread is not None
        assert decided.hidden

"""A row that is the best of others is chosen by risks out of fold, question by question, and never by who is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError, StoreError
from mmnar.predictions import Predictions
from mmnar.roles import Calibration, Test
from mmnar.simulation.planted import planted
from mmnar.study.choosing import best_of, question_losses
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.spec import study_of
from mmnar.workflow import open_run
from tests.conftest import draw_predictions
from tests.inline import Inline
from tests.populations import PANELS

RAW: dict[str, Any] = {
    "title": "Best of two",
    "rows": {"pattern-only": {}, "logistic-pattern": {}, "best": {"best_of": ["pattern-only", "logistic-pattern"]}},
    "folds": 2,
    "set": {"rectifier.rule": "none", "fits": 2},
    "controls": ["best"],
    "resamples": 50,
}


def test_the_loss_of_an_exclusive_panel_is_its_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    tasks = ("sepsis", "stroke", "asthma", "short", "medium", "long", "death")
    proba = rng.uniform(0.05, 0.95, (50, 7))
    proba[:, 3:6] /= proba[:, 3:6].sum(1, keepdims=True)
    labels = rng.random((50, 7)) < 0.4
    stay = rng.integers(0, 3, 50)
    labels[:, 3:6] = np.eye(3, dtype=bool)[stay]
    mask = np.ones((50, 7), dtype=bool)
    mask[:20, 6] = False
    labels &= mask
    found = question_losses(predictions(Calibration, proba, labels, mask, tasks))
    assert found["stay"] == pytest.approx(log_loss(stay, proba[:, 3:6], labels=[0, 1, 2]))
    assert found["phenotypes"] == pytest.approx(np.mean([log_loss(labels[:, k], proba[:, k]) for k in range(3)]))
    assert found["death"] == pytest.approx(log_loss(labels[20:, 6], proba[20:, 6], labels=[False, True]))


def test_each_question_has_its_best_and_outcomes_of_the_scored_do_not_matter() -> None:
    tasks = ("sepsis", "stroke", "asthma", "short", "medium", "long", "death")
    labels = np.zeros((40, 7), dtype=bool)
    labels[::2, [0, 1, 2, 6]] = True
    labels[:, 3] = True
    right, wrong = np.where(labels, 0.9, 0.1), np.where(labels, 0.3, 0.7)
    for risks in (right, wrong):
        risks[:, 3:6] /= risks[:, 3:6].sum(1, keepdims=True)
    # a knows the phenotypes, b all else
    a = np.hstack([right[:, :3], wrong[:, 3:]])
    b = np.hstack([wrong[:, :3], right[:, 3:]])
    mask = np.ones_like(labels)
    for outcomes in (labels, np.roll(labels, 1, axis=0)):
        scored = {name: predictions(Test, of, outcomes, mask, tasks) for name, of in (("a", a), ("b", b))}
        runs = {
            name: [
                SimpleNamespace(
                    test=scored[name], calibration=lambda of=of: predictions(Calibration, of, labels, mask, tasks)
                )
            ]
            for name, of in (("a", a), ("b", b))
        }
        best, chosen = best_of("best", runs, scored)  # type: ignore[arg-type]
        assert chosen == {"phenotypes": ("a",), "stay": ("b",), "death": ("b",)}
        assert np.array_equal(best.proba, right)


def test_runs_without_risks_out_of_fold_are_refused() -> None:
    scored = draw_predictions(30, Test)
    run = SimpleNamespace(test=scored, calibration=lambda: None)
    with pytest.raises(StoreError, match="risks out of fold of 'a'"):
        best_of("best", {"a": [run], "b": [run]}, {"a": scored, "b": scored})  # type: ignore[dict-item]


def test_a_study_has_such_a_row_without_runs_of_its_own(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", planted("single", 1500))
    engine = Inline()
    done = run_study(study_of({**RAW, "data": {"planted": {"store": str(store)}}}), tmp_path / "s", engine, Quiet())
    assert not any("best" in label for label in engine.done)
    table = judge(done).tables[0]
    numbers = table.tasks["outcome"]
    chosen = table.best["best"]["outcome"]
    losses = [
        min(
            ("pattern-only", "logistic-pattern"),
            key=lambda row: question_losses(_run(done, row, fold).calibration())["outcome"],  # type: ignore[arg-type]
        )
        for fold in (0, 1)
    ]
    assert chosen == tuple(losses) == ("logistic-pattern", "logistic-pattern")
    assert numbers["best"].metrics == numbers["logistic-pattern"].metrics
    assert {(c.model, c.control) for c in table.comparisons} == {
        (m, "best") for m in ("pattern-only", "logistic-pattern")
    }


def _run(done: Any, row: str, fold: int) -> Any:
    (cell,) = (c for c in done.plan.cells if (c.row, c.fold) == (row, fold))
    return open_run(done.plan.jobs[cell.job].folder)


@pytest.mark.parametrize("others", [["pattern-only"], ["pattern-only", "unknown"], ["pattern-only", "best"]])
def test_a_best_of_one_or_of_no_row_is_refused(others: list[str]) -> None:
    rows = {**RAW["rows"], "best": {"best_of": others}}
    with pytest.raises(ConfigError, match="best_of"):
        study_of({**RAW, "rows": rows, "data": {"planted": {"planted": {"mechanism": "single", "patients": 100}}}})


def predictions(role: Any, proba: Any, labels: Any, mask: Any, tasks: tuple[str, ...]) -> Predictions[Any]:
    made = draw_predictions(len(proba), role)
    return replace(
        made, role=role, tasks=tasks, proba=proba, labels=labels & mask, label_mask=mask, panels=PANELS, bayes=None
    )

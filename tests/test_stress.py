"""A run under stress: what is hidden is hidden as if it had not been there, from the test patients alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmnar.cli import main
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import ConfigError, StoreError
from mmnar.report.stress import stress_text
from mmnar.simulation.planted import planted
from mmnar.workflow import open_run, train_run
from mmnar.workflow.stress import Stress, stress

SHORT = ("fits=2", "rectifier.rule=none")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    store = write_store(folder / "store", planted("single", 1600))
    train_run(store, "logistic-pattern", folder / "run", SHORT)
    return folder / "run"


@pytest.fixture(scope="module")
def found(run: Path) -> Stress:
    return stress(open_run(run), shares=(0.5, 1.0), resamples=100)


def test_at_a_share_of_one_nobody_has_it_and_the_rest_is_as_before(run: Path, found: Stress) -> None:
    opened = open_run(run)
    fold = open_store(run.parent / "store").fold(opened.split, "test")
    for modality in ("m0", "m2"):
        without = opened.predictor().predict_proba(fold.hiding(modality))[:, 0]
        (row,) = (r for r in found.rows if (r.modality, r.share) == (modality, 1.0))
        assert row.metrics["auroc"].value == pytest.approx(roc_auc_score(fold.labels[:, 0], without), abs=5e-5)
    p, y, _ = opened.test.task("outcome")
    assert found.whole["outcome"]["auroc"].value == pytest.approx(roc_auc_score(y, p), abs=5e-5)
    assert found.whole["outcome"]["brier"].value == pytest.approx(np.mean((p - y) ** 2), abs=5e-5)


def test_what_tells_is_missed_more_the_more_of_it_is_hidden_and_the_others_are_not(found: Stress) -> None:
    assert {r.modality for r in found.rows} == {"m0", "m1", "m2", "m3"}
    by = {(r.modality, r.share): r.change["auroc"] for r in found.rows}
    assert by["m0", 1.0].high < 0  # type: ignore[operator]
    assert by["m0", 1.0].value < by["m0", 0.5].value < 0  # type: ignore[operator]
    assert abs(by["m2", 1.0].value) < 0.02  # type: ignore[arg-type]
    said = stress_text(found)
    assert "m0 hidden from 100" in said
    assert "costs most" in said


def test_the_command_writes_a_page(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stress", str(run), "--modality", "m0", "--share", "0.4", "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert "What is lost" in capsys.readouterr().out
    assert "Share hidden" in (tmp_path / "out" / "stress.html").read_text()
    record = json.loads((tmp_path / "out" / "stress.json").read_text())
    assert [(r["modality"], r["share"]) for r in record["rows"]] == [("m0", 0.4)]


def test_mistakes_are_refused_with_names(run: Path, tmp_path: Path) -> None:
    opened = open_run(run)
    for shares in ((), (0.0,), (1.2,)):
        with pytest.raises(ConfigError, match="shares"):
            stress(opened, shares=shares)
    with pytest.raises(ConfigError, match="a modality of the store"):
        stress(opened, modalities=("m11",))
    train_run(run.parent / "store", "pattern-only", tmp_path / "none", (*SHORT, "split.test=0"))
    with pytest.raises(StoreError, match="a test fold"):
        stress(open_run(tmp_path / "none"))

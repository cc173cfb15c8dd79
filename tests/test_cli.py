"""The command from end to end, and what happens when something goes wrong on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import logit

from mmnar import cli
from mmnar.cohort.split import Split
from mmnar.config import RunConfig
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import ConfigError, LeakageError, StoreError
from mmnar.predictions import Predictions
from mmnar.simulation.planted import planted
from mmnar.study.spec import read_study
from mmnar.training.monitor import Silent
from mmnar.workflow import open_run, scored_predictions, train_run

FIVE = ("crl-mmnar", "zero-fill", "pattern-only", "logistic-pattern", "boosting-pattern")
QUICK = ("train.checkpoint_seconds=0", "train.max_epochs=2", "train.min_steps=0", "model.width=16", "fits=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "store"
    cli.prepare.synthetic(out=path, patients=900, seed=3)
    return path


@pytest.fixture(scope="module")
def runs(store: Path) -> list[Path]:
    folders = []
    for name in FIVE:
        words = QUICK if name in ("crl-mmnar", "zero-fill") else ("fits=2",)
        train_run(store, name, store.parent / name, words)
        folders.append(store.parent / name)
    return folders


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom mmnar.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'polars', 'numpy', 'sklearn', 'scipy', 'lightning', 'plotly'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "heavy: []" in out
    for verb in ("demo", "prepare", "describe", "train", "evaluate", "report", "models", "doctor"):
        assert verb in out


def test_help_shows_no_option_that_nobody_needs(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = [[verb] for verb in ("demo", "describe", "audit", "doctor", "train", "report", "models", "study")]
    doors = ("eicu", "mimic-iv", "carebench", "medfuse", "physionet2012", "meds", "table", "synthetic")
    verbs += [["prepare", door] for door in doors]
    for verb in verbs:
        cli.app([*verb, "--help"], result_action="return_value")
    shown = capsys.readouterr().out
    assert "--seed INT" in shown
    assert "[default: 0]" in shown
    for noise in ("--empty-", "default: ()", 'default: ""', "default: False", "--no-resume", "--no-demo"):
        assert noise not in shown
    assert "--no-planned" in shown
    assert "--no-apache-prediction" in shown


def test_every_verb_from_store_to_report(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.inspect.describe(runs[0].parent / "store")
    cli.run.models()
    cli.inspect.doctor(store=runs[0].parent / "store")
    cli.run.evaluate(*runs, out=tmp_path / "evaluated", resamples=50)
    table = tmp_path / "private" / "predictions.parquet"
    cli.run.report(*runs, out=tmp_path / "report", resamples=50, predictions=table)
    printed = capsys.readouterr().out
    assert "CRL-MMNAR" in printed
    assert "every file's hash matches" in printed
    result = json.loads((tmp_path / "report" / "result.json").read_text())
    assert set(result["tasks"]) == {"icu_admission", "mortality", "readmission"}
    for name in FIVE:
        for scored in (name, f"{name}+rectifier"):
            auroc = result["tasks"]["mortality"][scored]["auroc"]
            assert auroc["low"] <= auroc["value"] <= auroc["high"]
    html = (tmp_path / "report" / "report.html").read_text()
    assert all(name in html for name in FIVE)
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"report.html", "result.json"}
    assert set(pl.read_parquet(table)["model"].unique()) == {n + s for n in FIVE for s in ("", "+rectifier")}
    again = json.loads((tmp_path / "evaluated" / "result.json").read_text())
    assert again["tasks"]["mortality"]["crl-mmnar"]["auroc"] == result["tasks"]["mortality"]["crl-mmnar"]["auroc"]


def test_external_validation_on_another_store(runs: list[Path], tmp_path: Path) -> None:
    cli.prepare.synthetic(out=tmp_path / "elsewhere", patients=500, seed=4)
    cli.run.evaluate(*runs[:2], on=tmp_path / "elsewhere", out=tmp_path, resamples=50)
    assert json.loads((tmp_path / "result.json").read_text())["counts"]["mortality"]["n"] == 500
    with pytest.raises(LeakageError, match="seen during fitting"):
        cli.run.evaluate(*runs[:2], on=runs[0].parent / "store", resamples=50)


class StopError(Exception):
    pass


class Killed(Silent):
    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopError


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_killed_run_resumes_to_the_same_numbers(store: Path, tmp_path: Path, after: int) -> None:
    words = (*QUICK, "ensemble=2")
    whole = train_run(store, "crl-mmnar", tmp_path / "whole", words)
    with pytest.raises(StopError):
        train_run(store, "crl-mmnar", tmp_path / "killed", words, monitor=Killed(after))
    with pytest.raises(StoreError, match="unfinished"):
        open_run(tmp_path / "killed")
    with pytest.raises(StoreError, match="--resume"):
        train_run(store, "crl-mmnar", tmp_path / "killed", words)
    with pytest.raises(StoreError, match="changed: config"):
        train_run(store, "crl-mmnar", tmp_path / "killed", (*words, "seed=9"), resume=True)
    resumed = train_run(store, "crl-mmnar", tmp_path / "killed", words, resume=True)
    assert np.array_equal(whole.test.proba, resumed.test.proba)
    assert whole.rectified is not None
    assert resumed.rectified is not None
    assert np.array_equal(whole.rectified.proba, resumed.rectified.proba)


def test_a_rectifier_is_not_praised_for_undoing_a_focal_loss(tmp_path: Path) -> None:
    """Where only content tells, focal risks lie far from calibrated and patterns do nothing: both rows carry Platt's
    line, and the rectifier has nothing left to gain."""
    store = write_store(tmp_path / "store", planted("single", 1500))
    focal = ("train.label_loss=focal", "train.max_epochs=8", "train.lr=2e-3", "train.batch_size=64", "model.width=16")
    words = (*focal, "train.min_steps=0", "fits=2")
    run = train_run(store, "zero-fill", tmp_path / "focal", words)
    assert run.rectified is not None
    assert (run.name, f"{run.name}+rectifier") == (run.test.provenance["model"], run.rectified.provenance["model"])
    raw = run.predictor().predict(open_store(store).fold(Split(), "test"))
    gains = [distance(p) for p in (raw, run.test, run.rectified)]
    assert gains[0] - gains[1] > 4 * abs(gains[1] - gains[2])
    bare = train_run(store, "zero-fill", tmp_path / "bare", (*words, "rectifier.rule=none"))
    assert bare.rectified is None
    assert np.array_equal(bare.test.proba, run.test.proba)
    # another store of the same schema is scored by the whole model, its line included
    again = scored_predictions(run, write_store(tmp_path / "elsewhere", planted("single", 200, seed=1)))
    assert run.platt() is not None
    raw = run.predictor().predict(open_store(tmp_path / "elsewhere").fold(Split.external(), "test"))
    slopes = np.diff(logit(again[0].proba[:3, 0])) / np.diff(logit(raw.proba[:3, 0]))
    assert np.ptp(slopes) < 1e-6
    assert slopes[0] > 1.2


def distance(predictions: Predictions[Any]) -> float:
    """Mean squared distance from the exact risks: the Brier score without the labels' luck."""
    assert predictions.bayes is not None
    return float(np.mean((predictions.proba - predictions.bayes) ** 2))


def test_mistakes_cost_nothing(runs: list[Path], tmp_path: Path) -> None:
    store = runs[0].parent / "store"
    before = open_store(store).fingerprint
    with pytest.raises(ConfigError, match="did you mean 'crl-mmnar'"):
        train_run(store, "crl-mnar", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        train_run(store, "crl-mmnar", tmp_path / "a", ["train.lrr=1"])
    with pytest.raises(ConfigError, match=r"did you mean 'split\.seed'"):
        train_run(store, "crl-mmnar", tmp_path / "a", ["splitt.seed=1"])
    for word in ("split.folds=0", "split.test=2", "split.by=nowhere", "train.lr=-1", "ensemble=0", "fits=1"):
        with pytest.raises(ConfigError):
            train_run(store, "pattern-only", tmp_path / "a", [word])
    assert not (tmp_path / "a").exists()
    with pytest.raises(StoreError, match="a finished run"):
        train_run(store, "pattern-only", runs[0])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("precious")
    with pytest.raises(StoreError, match="other files"):
        train_run(store, "pattern-only", tmp_path / "full")
    with pytest.raises(StoreError, match="other files"):
        cli.prepare.synthetic(out=tmp_path / "full", patients=300)
    assert (tmp_path / "full" / "thesis.docx").read_text() == "precious"
    with pytest.raises(StoreError, match="a new or empty folder"):
        cli.run.demo(out=tmp_path / "full", patients=50)
    with pytest.raises(StoreError, match="mmnar prepare"):
        cli.inspect.describe(tmp_path / "nowhere")
    assert open_store(store).fingerprint == before


def test_the_command_prints_one_line_and_exit_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmnar", "describe", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mmnar: ")
    assert "Traceback" not in done.stderr


HEAVY = """
import sys
import tomllib
from mmnar.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("status", end.code, "torch", "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nowhere", "--model", "crl-mnar", "--out", "new"], "did you mean 'crl-mmnar'"),
        (["train", "nowhere", "--model", "nonsense", "--out", "new"], "known: aug, boosting-pattern"),
        (["train", "nowhere", "--model", "crl-mmnar", "--out", "new", "train.lr=fast"], "type float"),
        (["train", "nowhere", "--model", "crl-mmnar", "--out", "new"], "a store"),
        (["train", "STORE", "--model", "crl-mmnar", "--out", "FULL"], "other files"),
        (["train", "STORE", "--model", "crl-mmnar", "--out", "FULL/thesis.docx"], "a file"),
        (["models", "crl-mnar"], "did you mean 'crl-mmnar'"),
        (["report", "--out", "new"], "one or more run folders"),
        (["evaluate"], "one or more run folders"),
        (["report", "nowhere", "--out", "new"], "mmnar train"),
    ],
)
def test_cheap_refusals_come_before_torch(store: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "thesis.docx").write_text("precious")
    (tmp_path / "STORE").symlink_to(store)
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.split() == ["status", "2", "torch", "False"]
    assert not (tmp_path / "new").exists()


def test_a_piped_train_writes_a_line_an_epoch(store: Path, tmp_path: Path) -> None:
    words = ["train.max_epochs=3", "train.min_steps=0", "train.patience=3", "model.width=16", "fits=2"]
    done = subprocess.run(
        [sys.executable, "-m", "mmnar", "train", str(store), *words, "--model", "zero-fill", "--out", "run"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    lines = [line for line in done.stderr.splitlines() if "epoch" in line]
    assert len(lines) == len(history) == 6
    for record, line in zip(history, lines, strict=True):
        assert f"epoch {record['epoch']} of 3" in line
        assert f"tune loss {record['tune']['task']:.4f}" in line
    assert [line.split("fit ")[1][0] for line in lines] == ["1"] * 3 + ["2"] * 3
    assert len(done.stdout.splitlines()) == 1


def test_a_prepare_says_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.simulate.eicu(patients=120, out=tmp_path / "raw")
    command = [
        sys.executable,
        "-m",
        "mmnar",
        "prepare",
        "eicu",
        "--root",
        "raw/eicu-collaborative-research-database/2.0",
        "--out",
        "store",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    wanted = ["patient: reading", "lab: reading", "samples: gathering", "writing the store", "describing"]
    places = [done.stderr.index(words) for words in wanted]
    assert places == sorted(places)
    assert "Modalities" in done.stdout


def test_a_library_says_nothing() -> None:
    code = "import logging, mmnar.progress as p; p.say('reading'); p.SECONDS = 0; p.Pace().say('still')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_models_lists_settings_presets_and_what_data_a_method_needs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run.models("gru-d")
    text = capsys.readouterr().out
    assert "Needs a modality of kind series" in text
    assert "preset=original" in text
    assert re.search(r"model\.max_steps = 300 +Patients with more observation times", text)
    assert re.search(r"train\.lr = 0\.0005 +Peak learning rate", text)
    assert "One of: lattice, threshold, none" in " ".join(text.split())
    cli.run.models("pattern-only")
    text = capsys.readouterr().out
    assert "Takes every kind of modality" in text
    assert "Has no preset" in text
    assert "train.lr" not in text, "it has no training loop"


def test_every_configuration_key_is_written_into_the_run(runs: list[Path]) -> None:
    record = json.loads((runs[0] / "run.json").read_text())
    assert set(record["config"]) == set(RunConfig.__dataclass_fields__)
    assert record["config"]["train"]["max_epochs"] == 2
    assert record["data"] == open_store(runs[0].parent / "store").fingerprint
    assert record["versions"]["torch"]


REPOSITORY = Path(__file__).parents[1]


def test_every_file_beside_the_code_is_in_the_wheel() -> None:
    patterns = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mmnar"]
    package = REPOSITORY / "src" / "mmnar"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    beside = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert {path.name for path in beside} >= {
        "table1.yaml",
        "crl_mmnar_table1.csv",
        "diabetes130.yaml",
        "constraints.txt",
    }
    assert beside == packed


def test_studies_and_examples_are_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table1").mkdir()  # the results of an earlier run are not the study
    cli.study.study()
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(path.stem for path in (REPOSITORY / "studies").glob("*.yaml"))
    assert "table1" in listed
    for name in listed:
        cli.study.study(name, show=True)
        Path(f"my_{name}.yaml").write_text(capsys.readouterr().out)
        assert read_study(Path(f"my_{name}.yaml")) == read_study(REPOSITORY / "studies" / f"{name}.yaml")
    cli.prepare.table()
    assert "diabetes130" in capsys.readouterr().out
    cli.prepare.table("diabetes130", show=True)
    assert capsys.readouterr().out == (REPOSITORY / "examples" / "diabetes130.yaml").read_text()
    for call, said in (
        (lambda: cli.study.study("tabel1", out=Path("o")), "did you mean 'table1'"),
        (lambda: cli.study.study("table1"), "--out"),
        (lambda: cli.prepare.table("diabetes130", out=Path("o")), "--root"),
        (lambda: cli.prepare.table("diabetes130", root=Path()), "--dry-run"),
        (lambda: cli.prepare.table("diabtes130", out=Path("o")), "did you mean 'diabetes130'"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()


def test_a_shipped_study_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.study.study("figure1", demo=True, out=Path("figure1"))
    cli.study.study("figure1", demo=True, out=Path("figure1"))
    assert (tmp_path / "figure1" / "report.html").is_file()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_completion_offers_verbs_and_options(tmp_path: Path) -> None:
    (tmp_path / "mmnar").write_text(cli.app.generate_completion(shell="bash"))
    script = """
source "$1/mmnar"
words="${2}"; COMP_WORDS=($words); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
$(complete -p mmnar | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${COMPREPLY[@]}"
"""
    for typed, wanted in (("mmnar tr", "train"), ("mmnar prepare mi", "mimic-iv"), ("mmnar train --mo", "--model")):
        done = subprocess.run(
            ["bash", "-c", script, "-", str(tmp_path), typed], capture_output=True, text=True, check=True
        )
        assert wanted in done.stdout.split()
    assert "--install-completion" in cli.app


def test_threads_sleep_while_they_wait_unless_told_otherwise() -> None:
    for given, wanted in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        words = [sys.executable, "-c", "import mmnar.cli, os; print(os.environ['OMP_WAIT_POLICY'])"]
        done = subprocess.run(words, env=clean | given, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == wanted

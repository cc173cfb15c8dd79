"""Runs of a study: made once each, resumed, isolated, never mixed; searches that cannot see the test fold."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.errors import ConfigError, StoreError
from mmnar.files import read_sealed, write_sealed
from mmnar.simulation.planted import planted
from mmnar.study import code, plan
from mmnar.study.driver import claimed, run_study
from mmnar.study.engines.base import Ended
from mmnar.study.engines.local import LocalEngine
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.spec import StudySpec, study_of
from mmnar.workflow import evaluate_runs, open_run
from tests.inline import Inline


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store"), planted("single", 400))


def spec_of(store: Path, **changes: Any) -> StudySpec:
    raw = {
        "title": "Two controls",
        "data": {"planted": {"store": str(store)}},
        "rows": {"pattern-only": {}, "logistic-pattern": {}},
        "folds": 2,
        "set": {"rectifier.rule": "none"},
        "controls": ["pattern-only"],
        "resamples": 50,
    }
    return study_of({**raw, **changes})


def test_nothing_is_repeated_and_the_table_equals_evaluate(store: Path, tmp_path: Path) -> None:
    first, again = Inline(), Inline()
    done = run_study(spec_of(store), tmp_path / "s", first, Quiet())
    assert len(first.done) == 4
    assert not done.failures
    run_study(spec_of(store, folds=2, seeds=[0]), tmp_path / "s", again, Quiet())
    assert again.done == []
    table = judge(done).tables[0]
    # the same numbers as evaluate gives for one fold at a time, averaged
    by_hand = [
        evaluate_runs([open_run(done.plan.jobs[c.job].folder)], resamples=10).tasks["outcome"]["logistic-pattern"]
        for c in done.plan.cells
        if c.row == "logistic-pattern"
    ]
    want = np.mean([m.metrics["auroc"].value for m in by_hand])  # type: ignore[arg-type]
    assert table.tasks["outcome"]["logistic-pattern"].metrics["auroc"].value == pytest.approx(want, abs=1e-12)
    assert table.samples == 400
    assert {(c.model, c.control) for c in table.comparisons} == {("logistic-pattern", "pattern-only")}
    assert table.bayes["outcome"]["auroc"].value > 0.7
    assert json.loads((tmp_path / "s" / "study.json").read_text())["cells"]


def test_what_a_kill_after_its_last_word_left_of_a_run_is_swept(store: Path, tmp_path: Path) -> None:
    spec, out = spec_of(store, rows={"pattern-only": {}}, folds=2, controls=[]), tmp_path / "s"
    done = run_study(spec, out, Inline(), Quiet())
    folder = Path(next(iter(done.plan.jobs.values())).folder)
    before = sorted(folder.rglob("*"))
    (folder / "work" / "fitted").mkdir(parents=True)
    for left in (".lock", "work/fitted/model", ".tmp-run.json-0a1b2c3d"):
        (folder / left).touch()
    engine = Inline()
    run_study(spec, out, engine, Quiet())
    assert not engine.done
    assert sorted(folder.rglob("*")) == before


def test_more_folds_seeds_or_rows_add_runs_and_keep_the_others(store: Path, tmp_path: Path) -> None:
    run_study(spec_of(store), tmp_path / "s", Inline(), Quiet())
    more = Inline()
    rows = {
        "pattern-only": {},
        "logistic-pattern": {},
        "smooth": {"model": "pattern-only", "set": {"model.strength": 50}},
    }
    run_study(spec_of(store, rows=rows), tmp_path / "s", more, Quiet())
    assert [label.split(" · ")[1] for label in more.done] == ["smooth", "smooth"]


def test_changed_code_or_data_is_said_and_not_mixed(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(spec_of(store), tmp_path / "s", Inline(), Quiet())
    monkeypatch.setattr(plan, "code_fingerprint", lambda target: "other" if "tabular" in target else "")
    engine = Inline()
    done = run_study(spec_of(store), tmp_path / "s", engine, Quiet())
    assert (len(engine.done), done.stale) == (4, 4)
    assert "belong to other code" in judge(done).notices[-1]
    other = write_store(tmp_path / "other", planted("single", 300))
    engine = Inline()
    assert run_study(spec_of(other), tmp_path / "s", engine, Quiet()).stale == 8
    assert len(engine.done) == 4


def test_a_failure_is_isolated_tried_once_more_and_shown(store: Path, tmp_path: Path) -> None:
    rows = {"pattern-only": {}, "zero-fill": {"set": {"train.lr": 1e30, "train.min_steps": 0, "train.max_epochs": 3}}}
    engine = Inline()
    done = run_study(spec_of(store, rows=rows), tmp_path / "s", engine, Quiet())
    assert [("zero-fill" in label) for label in engine.done] == [
        False,
        True,
        False,
        True,
        True,
        True,
    ]  # fold by fold, then again
    assert len(done.failures) == 2
    assert "TrainingError" in done.failures[0].error
    assert done.failures[0].traceback == ""  # nothing is wrong with the code
    result = judge(done)
    assert list(result.tables[0].tasks["outcome"]) == ["pattern-only"]  # half a row is no row
    assert len(result.failures) == 2


def test_two_studies_cannot_write_one_folder(store: Path, tmp_path: Path) -> None:
    with claimed(tmp_path / "s"), ThreadPoolExecutor(1) as other, pytest.raises(StoreError, match="nobody else"):
        other.submit(run_study, spec_of(store), tmp_path / "s", Inline(), Quiet()).result()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        run_study(spec_of(store), tmp_path / "full", Inline(), Quiet())


def test_what_cannot_run_there_is_said(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmnar.models.zero_fill import ZeroFill

    monkeypatch.setattr(ZeroFill, "card", replace(ZeroFill.card, needs=("series",)))
    engine = Inline()
    done = run_study(spec_of(store, rows={"pattern-only": {}, "zero-fill": {}}), tmp_path / "s", engine, Quiet())
    assert not any("zero-fill" in label for label in engine.done)
    assert judge(done).refused == (("planted", "zero-fill", "needs a modality of kind series, the data has static"),)


def test_impossible_settings_and_folds_are_refused_before_anything_runs(store: Path, tmp_path: Path) -> None:
    engine = Inline()
    for change, words in (
        ({"rows": {"zero-fill": {"set": {"model.widht": 3}}}}, "did you mean 'model.width'"),
        ({"settings": {"fast": {"train.lrr": 1}}}, "'train.lrr': expected a known key"),
        (
            {"rows": {"zero-fill": {}}, "search": {"trials": 2, "space": {"model.widht": [3]}}},
            "did you mean 'model.width'",
        ),
        ({"data": {"few": {"store": str(store), "subjects": 8}}}, "use fewer folds"),
    ):
        with pytest.raises(ConfigError, match=words):
            run_study(spec_of(store, controls=[], **change), tmp_path / "s", engine, Quiet())
    assert engine.done == []


def test_a_part_of_a_store_is_stated_and_has_a_fingerprint_of_its_own(store: Path, tmp_path: Path) -> None:
    data = {"part": {"store": str(store), "subjects": 150}}
    done = run_study(spec_of(store, data=data, controls=[]), tmp_path / "s", Inline(), Quiet())
    part = open_store(done.stores["part"])
    assert len(np.unique(part.subject_id)) == 150
    assert part.manifest["subjects_kept"] == 150
    assert part.fingerprint != open_store(store).fingerprint
    assert judge(done).tables[0].samples == 150


def test_rows_with_fewer_modalities_are_held_against_the_others_on_the_same_samples(
    store: Path, tmp_path: Path
) -> None:
    """Only the first modality tells of the outcome; who has fewer loses just that."""
    rows = {
        "all": {"model": "logistic-pattern"},
        "first": {"model": "logistic-pattern", "modalities": ["m0"]},
        "rest": {"model": "logistic-pattern", "modalities": ["m3", "m1", "m2"]},
    }
    spec = spec_of(store, rows=rows, controls=["all"], layout="configurations")
    done = run_study(spec, tmp_path / "s", Inline(), Quiet())
    rest = next(c.job for c in done.plan.cells if c.row == "rest")
    assert open_run(done.plan.jobs[rest].folder).predictor().schema.modality_names == ("m1", "m2", "m3")
    table = judge(done).tables[0]
    auroc = {row: n.metrics["auroc"].value or 0 for row, n in table.tasks["outcome"].items()}
    assert auroc["first"] > auroc["all"] - 0.03
    assert auroc["rest"] < 0.6
    (lost,) = [c for c in table.comparisons if (c.model, c.metric) == ("rest", "auroc")]
    assert (lost.difference.high or 0) < 0
    assert table.patterns["outcome"]["all"]


def test_a_search_never_sees_the_test_fold(tmp_path: Path) -> None:
    """Other test contents and labels, same choice and same trials."""
    data = planted("single", 400)
    test = data.fold(plan.split_of(spec_of(Path("x")), spec_of(Path("x")).data[0], 0), "test").rows
    records = []
    for name, dataset in (("a", data), ("b", _tampered(data, test))):
        store = write_store(tmp_path / name, dataset)
        search = {"trials": 4, "spaces": {"pattern-only": {"model.strength": {"low": 0.1, "high": 500.0, "log": True}}}}
        spec = spec_of(store, rows={"pattern-only": {}}, search=search, controls=[])
        done = run_study(spec, tmp_path / f"study-{name}", Inline(), Quiet())
        (best,) = (tmp_path / f"study-{name}" / "searches").glob("*/best.json")
        record = read_sealed(best, "", "")
        for trial in record["trials"]:
            del trial["seconds"]
        records.append(record)
        assert record["trials"][0]["values"] == {}  # the defaults come first
        assert len(record["trials"]) == 4
        assert record["tune_loss"] == min(t["tune_loss"] for t in record["trials"])
        config = json.loads((Path(next(iter(done.plan.jobs.values())).folder) / "run.json").read_text())["model"]
        assert config["strength"] == record["chosen"].get("model.strength", config["strength"])
    assert records[0] == records[1]


def test_who_chose_settings_is_scored_in_no_fold(store: Path, tmp_path: Path) -> None:
    """All folds share what the tune patients of one chose, and some of these are test patients of another."""
    search = {"trials": 2, "sampler": "grid", "spaces": {"pattern-only": {"model.strength": [1.0, 40.0]}}}
    spec = spec_of(store, folds=3, search=search, controls=[])
    done = run_study(spec, tmp_path / "searched", Inline(), Quiet())
    data = open_store(store)
    deciders = data.fold(plan.split_of(spec, spec.data[0], 0), "tune").subject_id
    table = judge(done).tables[0]
    assert table.patients == len(np.setdiff1d(data.subject_id, deciders))
    for row in ("pattern-only", "logistic-pattern"):  # searched or not: all rows on the same samples
        by_fold = []
        for cell in (c for c in done.plan.cells if c.row == row):
            test = open_run(done.plan.jobs[cell.job].folder).test
            p, y, asked = test.task("outcome")
            kept = asked & ~np.isin(test.subject_id, deciders)
            assert kept.all() == (cell.fold == 0)
            by_fold.append(roc_auc_score(y[kept], p[kept]))
        assert table.tasks["outcome"][row].metrics["auroc"].value == pytest.approx(np.mean(by_fold))
    unsearched = spec_of(store, folds=3, controls=[])
    assert judge(run_study(unsearched, tmp_path / "plain", Inline(), Quiet())).tables[0].patients == len(data)


def test_rows_that_share_runs_share_the_search(store: Path, tmp_path: Path) -> None:
    own = {"model": "pattern-only", "set": {"rectifier.rule": "lattice", "fits": 2}}
    rows = {"plain": own, "rectified": {**own, "rectified": True}}
    spaces = {name: {"model.strength": [1.0, 40.0]} for name in rows}
    engine = Inline()
    spec = spec_of(store, rows=rows, controls=[], search={"trials": 3, "sampler": "grid", "spaces": spaces})
    done = run_study(spec, tmp_path / "s", engine, Quiet())
    assert [label.split(" · ")[2] for label in engine.done] == ["search", "default", "default"]
    assert set(judge(done).tables[0].tasks["outcome"]) == {"plain", "rectified"}


def _tampered(data: PatientDataset, rows: np.ndarray) -> PatientDataset:
    labels = data.labels.copy()
    labels[rows] = ~labels[rows]
    values = {name: np.array(content) for name, content in data.values.items()}
    for content in values.values():
        content[rows] = np.where(np.isnan(content[rows]), np.nan, 9.0)
    return replace(data, labels=labels, values=values)


def test_a_killed_search_goes_on(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmnar.study import search as module

    calls = []

    def dies(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    real = module.tune_loss
    monkeypatch.setattr(module, "tune_loss", dies)
    searched = {"trials": 5, "spaces": {"pattern-only": {"model.strength": [1.0, 5.0, 25.0]}}, "sampler": "grid"}
    spec = spec_of(store, rows={"pattern-only": {}}, search=searched, controls=[])
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, tmp_path / "s", Inline(), Quiet())
    run_study(spec, tmp_path / "s", Inline(), Quiet())
    (best,) = (tmp_path / "s" / "searches").glob("*/best.json")
    trials = json.loads(best.read_text())["trials"]
    complete = [t for t in trials if t["state"] == "complete"]
    tried = [t["values"].get("model.strength") for t in complete]
    assert sorted(tried, key=str) == [1.0, 25.0, 5.0, None]  # the grid and the defaults, each once
    assert sum(t["state"] == "fail" for t in trials) == 1


def test_a_gaussian_process_closes_in_on_the_best_value(store: Path, tmp_path: Path) -> None:
    from mmnar.study.search import _journal, suggested

    study = _journal(tmp_path / "journal.log", False, "gp")
    space = {"x": {"low": 1.0, "high": 100.0}}
    study.optimize(lambda trial: (suggested(trial, space)["x"] - 30) ** 2, n_trials=14)
    assert abs(study.best_params["x"] - 30) < 2
    spaces = {"pattern-only": {"model.strength": {"low": 1.0, "high": 100.0}}}
    search = {"trials": 6, "sampler": "gp", "spaces": spaces}
    run_study(spec_of(store, rows={"pattern-only": {}}, search=search, controls=[]), tmp_path / "s", Inline(), Quiet())
    (best,) = (tmp_path / "s" / "searches").glob("*/best.json")
    tried = [t["values"].get("model.strength") for t in json.loads(best.read_text())["trials"]]
    assert tried[0] is None
    assert all(1 <= value <= 100 for value in tried[1:])


def test_a_worker_that_is_killed_is_taken_up_again(store: Path, tmp_path: Path) -> None:
    rows = {
        "zero-fill": {"set": {"fits": 2, "train.min_steps": 600, "model.width": 16, "train.patience": 999}},
        "pattern-only": {},
    }
    killed = []

    def kill() -> None:
        while not killed:
            for child in multiprocessing.active_children():
                if "zero-fill" in child.name and list(tmp_path.glob("s/runs/*/identity.json")):
                    os.kill(child.pid or 0, signal.SIGKILL)
                    killed.append(child.name)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = run_study(spec_of(store, rows=rows, folds=2, controls=[]), tmp_path / "s", LocalEngine(2), Quiet())
    assert killed
    assert not done.failures
    assert all(job.finished for job in done.plan.jobs.values())


def test_a_run_that_another_version_began_is_begun_anew(store: Path, tmp_path: Path) -> None:
    class Upgraded(Inline):
        def run(self, jobs: list[plan.Job], ended: Ended) -> None:
            for job in jobs:
                folder = Path(job.folder)
                (folder / "work" / "old").mkdir(parents=True)
                write_sealed(folder / "identity.json", {"name": "of another version", "mmnar": "0.0.1"})
            super().run(jobs, ended)

    done = run_study(spec_of(store), tmp_path / "s", Upgraded(), Quiet())
    assert not done.failures
    assert {
        read_sealed(Path(job.folder) / "identity.json", "a run", "none")["name"] for job in done.plan.jobs.values()
    } == {
        "pattern-only",
        "logistic-pattern",
    }


def test_workers_end_with_a_killed_driver(store: Path, tmp_path: Path) -> None:
    long = {"rectifier.rule": "none", "train.min_steps": 50_000, "train.max_epochs": 50_000, "train.patience": 50_000}
    study = tmp_path / "study.yaml"
    data = {"planted": {"store": str(store)}}
    study.write_text(yaml.safe_dump({"title": "Long", "data": data, "rows": {"zero-fill": {"set": long}}, "folds": 1}))
    program = "import sys; from mmnar.cli import main\nif __name__ == '__main__': main(sys.argv[1:])"
    (tmp_path / "run.py").write_text(program)
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), "study", str(study), "--out", str(tmp_path / "s")],
        env={**os.environ, "MMNAR_TEST": str(tmp_path / "run.py")},
    )
    _wait_until(lambda: bool(list(tmp_path.glob("s/runs/*/identity.json"))), 120)
    driver.kill()
    driver.wait()
    _wait_until(lambda: not _who_uses(tmp_path / "run.py"), 20)


def _who_uses(program: Path) -> list[str]:
    """Processes started by the program, directly or not: they inherit what it was told."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"MMNAR_TEST={program}" in entry.read_text(errors="replace"):
                found.append(entry.parent.name)
    return found


def _wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_the_fingerprint_of_code_ignores_words_and_other_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "mmnar.models.zero_fill:ZeroFill"
    before = code.code_fingerprint(target)
    reached = code.reached(("mmnar.models.zero_fill", "mmnar.estimators.fusion"))
    assert "mmnar.training.loop" in reached
    assert "mmnar.models.crl_mmnar" not in reached
    assert "mmnar.render.page" not in reached
    real = code._tree

    def changed(name: str) -> Any:
        import ast

        source = code._file(name).read_text()  # type: ignore[union-attr]
        if name == "mmnar.ops.losses":
            source = source.replace("clamp(min=1)", "clamp(min=2)")
        return ast.parse("# a comment\n" + source)

    control = code.code_fingerprint("mmnar.estimators.tabular.pattern_only:PatternOnly")
    for patched, same in ((lambda name: real(name), True), (changed, False)):
        for cached in (code._meaning, code.code_fingerprint):
            cached.cache_clear()
        monkeypatch.setattr(code, "_tree", patched)
        assert (code.code_fingerprint(target) == before) is same
        # a loss of networks is nothing to a control
        assert code.code_fingerprint("mmnar.estimators.tabular.pattern_only:PatternOnly") == control
    for cached in (code._meaning, code.code_fingerprint):
        cached.cache_clear()

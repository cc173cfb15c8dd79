"""Risks made elsewhere: judged as a run's are, beside runs, of the scored samples and no others."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mmnar import cli
from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError, LeakageError, MmnarError, SourceError
from mmnar.workflow import Run, evaluate_runs, train_run
from mmnar.workflow.judge import judged_predictions
from tests.populations import paneled, population

TASKS = ("mortality", "readmission")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A patient has several samples."""
    at = tmp_path_factory.mktemp("outside")
    data = population(600, subjects=300)
    return train_run(write_store(at / "store", data), "logistic-pattern", at / "run", ("fits=2",))


@pytest.fixture(scope="module")
def other(run: Run) -> Run:
    """No control."""
    store = run.folder.parent / "store"
    members = ("fits=2", "model.members=logistic-pattern,pattern-only", "rectifier.rule=none")
    return train_run(store, "stack", run.folder.parent / "stack", members)


def table(run: Run, risks: np.ndarray | None = None) -> pl.DataFrame:
    """Of the asked samples, as somebody else would write it."""
    p = run.test
    risks = p.proba if risks is None else risks
    parts = []
    for k, task in enumerate(p.tasks):
        asked = p.label_mask[:, k]
        columns = {"subject_id": p.subject_id[asked], "prediction_time": p.prediction_time[asked]}
        rows = pl.DataFrame({**columns, "task": [task] * int(asked.sum()), "risk": risks[asked, k]})
        parts.append(rows.with_columns(pl.col("prediction_time").cast(pl.Datetime("us"))))
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=1)


def written(rows: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        rows.write_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(rows.write_csv().encode()))
    else:
        rows.write_csv(path)
    return path


@pytest.mark.parametrize("name", ["risks.csv", "risks.csv.gz", "risks.parquet"])
def test_a_runs_own_risks_from_a_table_have_the_runs_own_numbers(run: Run, tmp_path: Path, name: str) -> None:
    result = evaluate_runs([run], resamples=50, outside={"theirs": written(table(run), tmp_path / name)})
    alone = evaluate_runs([run], resamples=50)
    for task in TASKS:
        got, want = result.tasks[task]["theirs"], alone.tasks[task]["logistic-pattern"]
        assert got.metrics == want.metrics == result.tasks[task]["logistic-pattern"].metrics
        assert (got.calibration, got.patterns, got.subgroups) == (want.calibration, want.patterns, want.subgroups)
        assert alone.counts[task] == result.counts[task]
    against = [c for c in result.comparisons if (c.model, c.control) == ("theirs", "logistic-pattern")]
    assert {c.task for c in against} == set(TASKS)
    assert all(c.difference.value == 0 for c in against)
    assert result.outside == ["theirs"]


def test_a_score_of_one_task_is_compared_both_ways_and_judged_on_it_alone(run: Run, other: Run, tmp_path: Path) -> None:
    noisy = np.clip(run.test.proba + np.random.default_rng(0).normal(0, 0.1, run.test.proba.shape), 0, 1)
    rows = table(run, noisy).filter(pl.col("task") == TASKS[1])
    path = written(rows, tmp_path / "risks.csv")
    result = evaluate_runs([run, other], resamples=50, outside={"score": path}, thresholds={TASKS[1]: [0.2]})
    assert list(result.tasks) == [TASKS[1]]
    asked = run.test.label_mask[:, 1]
    auroc = result.tasks[TASKS[1]]["score"].metrics["auroc"].value
    assert auroc == pytest.approx(roc_auc_score(run.test.labels[asked, 1], noisy[asked, 1]), abs=1e-12)
    pairs = {(c.model, c.control) for c in result.comparisons}
    assert pairs == {("stack", "logistic-pattern"), ("score", "logistic-pattern"), ("stack", "score")}
    difference = {
        c.metric: c.difference.value for c in result.comparisons if (c.model, c.control) == ("stack", "score")
    }
    assert difference["auroc"] == pytest.approx(result.tasks[TASKS[1]]["stack"].metrics["auroc"].value - auroc)
    with pytest.raises(ConfigError, match="thresholds: expected names of tasks, got 'mortality'"):
        evaluate_runs([run], resamples=5, outside={"score": path}, thresholds={TASKS[0]: [0.2]})


def test_on_another_store_its_patients_are_to_be_covered(run: Run, tmp_path: Path) -> None:
    theirs = population(200, seed=7)
    moved = type(theirs)(**{**vars(theirs), "subject_id": theirs.subject_id + 10_000})
    there = write_store(tmp_path / "there", moved)
    (scored,) = [p for p in judged_predictions([run], on=there) if p.provenance["model"] == "logistic-pattern"]
    path = written(table(replace(run, test=scored)), tmp_path / "risks.csv")
    result = evaluate_runs([run], on=there, resamples=5, outside={"score": path})
    assert result.elsewhere
    for task in TASKS:
        assert result.tasks[task]["score"].metrics == result.tasks[task]["logistic-pattern"].metrics
    with pytest.raises(SourceError, match="rows of no scored sample"):
        evaluate_runs([run], resamples=5, outside={"score": path})


def test_samples_of_one_moment_are_told_apart_by_stay(run: Run, tmp_path: Path) -> None:
    at = tmp_path / "store"
    data = population(300, subjects=100)
    same = type(data)(**{**vars(data), "prediction_time": np.zeros(300, dtype=np.int64)})
    short = train_run(write_store(at, same), "pattern-only", tmp_path / "run", ("fits=2",))
    rows = table(short)
    with pytest.raises(SourceError, match="samples that differ in stay_id alone; add the column stay_id"):
        evaluate_runs([short], resamples=5, outside={"score": written(rows, tmp_path / "a.csv")})
    p = short.test
    stays = [p.stay_id[p.label_mask[:, k]] for k in range(2)]
    plain = pl.concat([pl.DataFrame({"stay_id": of, "task": [TASKS[k]] * len(of)}) for k, of in enumerate(stays)])
    both = plain.join(
        pl.DataFrame({"stay_id": p.stay_id, "subject_id": p.subject_id, **dict(zip(TASKS, p.proba.T, strict=True))}),
        on="stay_id",
    ).select(
        "stay_id",
        "subject_id",
        "task",
        prediction_time=pl.lit("1970-01-01 00:00"),
        risk=pl.when(pl.col("task") == TASKS[0]).then(pl.col(TASKS[0])).otherwise(pl.col(TASKS[1])),
    )
    result = evaluate_runs([short], resamples=5, outside={"score": written(both, tmp_path / "b.csv")})
    for task in TASKS:
        assert result.tasks[task]["score"].metrics["auroc"] == result.tasks[task]["pattern-only"].metrics["auroc"]


def patients_learned_from(run: Run, n: int) -> pl.DataFrame:
    learned = run.calibration()
    assert learned is not None
    people = np.unique(learned.subject_id)[:n]
    rows = {"subject_id": people, "prediction_time": ["2180-01-01 00:00:00"] * n}
    return pl.DataFrame({**rows, "task": [TASKS[0]] * n, "risk": [0.5] * n})


def strangers(n: int) -> pl.DataFrame:
    rows = {"subject_id": np.arange(n) + 10**6, "prediction_time": ["2180-01-01 00:00:00"] * n}
    return pl.DataFrame({**rows, "task": [TASKS[0]] * n, "risk": [0.5] * n})


def with_cells(rows: pl.DataFrame, column: str, cell: object, n: int = 1) -> pl.DataFrame:
    text = rows.with_columns(pl.col(column).cast(pl.String)).with_row_index("i")
    return text.with_columns(pl.when(pl.col("i") < n).then(pl.lit(cell)).otherwise(pl.col(column)).alias(column)).drop(
        "i"
    )


def and_more(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows.with_columns(pl.col("prediction_time").cast(pl.String)), more], how="vertical_relaxed")


Change = Callable[[pl.DataFrame, Run], pl.DataFrame]
WRONG: dict[str, tuple[Change, type[MmnarError], str]] = {
    "a few learned from": (
        lambda t, run: and_more(t, patients_learned_from(run, 3)),
        LeakageError,
        "expected patients of the test fold, got fewer than 10 patients whom the split has to learn from; ",
    ),
    "many learned from": (
        lambda t, run: and_more(t, patients_learned_from(run, 12)),
        LeakageError,
        "got 12 patients whom the split has to learn from; ",
    ),
    "strangers": (
        lambda t, run: and_more(t, strangers(11)),
        SourceError,
        "got 11 rows of no scored sample; keep the scored samples alone",
    ),
    "a twin": (lambda t, run: pl.concat([t, t[:1]]), SourceError, "got fewer than 10 rows more; "),
    "one left out": (lambda t, run: t[1:], SourceError, "got none for fewer than 10 of [0-9]+; score them"),
    "above one": (
        lambda t, run: with_cells(t, "risk", "1.01"),
        SourceError,
        r"column 'risk': expected risks in \[0, 1\], got fewer than 10 of [0-9]+ rows",
    ),
    "below zero": (lambda t, run: with_cells(t, "risk", "-1e-9"), SourceError, "column 'risk'"),
    "in percent": (lambda t, run: with_cells(t, "risk", "57 %", 20), SourceError, "column 'risk'.*got 20 of"),
    "not a number": (lambda t, run: with_cells(t, "risk", "nan"), SourceError, "column 'risk'"),
    "no risk": (lambda t, run: with_cells(t, "risk", None), SourceError, "column 'risk'"),
    "a name": (lambda t, run: with_cells(t, "subject_id", "Smith"), SourceError, "column 'subject_id': expected whole"),
    "a half": (lambda t, run: with_cells(t, "subject_id", "7.5"), SourceError, "column 'subject_id': expected whole"),
    "no time": (
        lambda t, run: with_cells(t, "prediction_time", "noon"),
        SourceError,
        "column 'prediction_time': expected times",
    ),
    "another task": (
        lambda t, run: with_cells(t, "task", "sepsis"),
        SourceError,
        "expected tasks among mortality, readmission, got fewer than 10 rows of another",
    ),
    "no task": (lambda t, run: t.drop("task"), SourceError, "got no 'task'"),
    "nobody": (lambda t, run: t.clear(), SourceError, "got no row"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_table_that_is_not_of_the_scored_samples_is_refused_in_one_line(run: Run, tmp_path: Path, fault: str) -> None:
    change, kind, said = WRONG[fault]
    path = written(change(table(run), run), tmp_path / "risks.csv")
    with pytest.raises(kind, match=said) as refused:
        evaluate_runs([run], resamples=5, outside={"score": path})
    message = str(refused.value)
    assert "\n" not in message
    assert not any(cell in message for cell in ("Smith", "noon", "sepsis", "57 %", "1.01", "7.5"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("risks.csv",), "--outside: expected NAME=FILE"),
        (("a=",), "--outside: expected NAME=FILE"),
        (("a=x.csv", "a=y.csv"), "each name once"),
        (("logistic-pattern={}",), "a name that no run has"),
        (("a+rectifier={}",), "a name that no run has"),
        (("a=missing.csv",), "file 'missing.csv': expected a file, got none"),
        (("a=missing.json",), "another kind"),
    ],
)
def test_what_is_no_name_or_file_is_refused(run: Run, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    path = written(table(run), tmp_path / "risks.csv")
    with pytest.raises(MmnarError, match=said):
        cli.run.evaluate(run.folder, outside=tuple(w.format(path) for w in words), resamples=5)


def test_risks_of_an_exclusive_panel_must_sum_to_one(tmp_path: Path) -> None:
    at = write_store(tmp_path / "store", paneled(300))
    run = train_run(at, "pattern-only", tmp_path / "run", ("fits=2", "rectifier.rule=none"))
    rows = table(run)
    whole = evaluate_runs([run], resamples=5, outside={"score": written(rows, tmp_path / "a.csv")})
    assert whole.panels["stay"]["score"].metrics == whole.panels["stay"]["pattern-only"].metrics
    halved = rows.with_columns(
        pl.when(pl.col("task") == "short").then(0.5).otherwise(1).mul(pl.col("risk")).alias("risk")
    )
    with pytest.raises(MmnarError, match="expected risks that sum to 1"):
        evaluate_runs([run], resamples=5, outside={"score": written(halved, tmp_path / "b.csv")})
    part = rows.filter(pl.col("task") != "short")
    with pytest.raises(MmnarError, match="panel 'stay': expected all of its tasks or none"):
        evaluate_runs([run], resamples=5, outside={"score": written(part, tmp_path / "c.csv")})


def test_a_report_says_that_they_were_made_elsewhere(
    run: Run, other: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(table(run), tmp_path / "risks.csv")
    rows = tmp_path / "rows.parquet"
    said = ("score was made elsewhere: whom it learned from is not known here", ">made elsewhere<")
    cli.run.report(other.folder, out=tmp_path / "report", outside=(f"score={path}",), resamples=20, predictions=rows)
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(words in page for words in said)
    assert "the control score" not in page
    saved = json.loads((tmp_path / "report" / "result.json").read_text())
    assert saved["provenance"]["models"]["score"]["origin"] == "made elsewhere"
    assert saved["provenance"]["report"]["runs"][1]["card"]["learned from"] == "not known here"
    assert set(pl.read_parquet(rows)["model"]) == {"stack", "score"}
    cli.run.evaluate(other.folder, outside=(f"score={path}",), resamples=20)
    assert all(words in capsys.readouterr().out for words in said[:1])

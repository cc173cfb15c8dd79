"""Pages of many outcomes: the panel first, its outcomes folded below it; own tables that declare panels, to the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from mmnar.cli import main
from mmnar.dataset.store import open_store, write_store
from mmnar.report.build import build_report
from mmnar.report.study.page import study_html, study_text
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.spec import study_of
from mmnar.workflow import open_run, train_run
from tests.inline import Inline
from tests.populations import paneled
from tests.recipes import quick

CONTROLS = ("logistic-pattern", "pattern-only")


def heading_order(page: str) -> list[str]:
    return re.findall(r"<h3[^>]*>([^<]+)</h3>", page)


def test_a_report_shows_a_panel_first_and_folds_its_outcomes(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", paneled(900))
    runs = [train_run(store, name, tmp_path / name, ["fits=2", *quick(name)]) for name in ("crl-mmnar", *CONTROLS)]
    page = build_report(runs, tmp_path / "report", resamples=30).read_text()
    result = json.loads((tmp_path / "report" / "result.json").read_text())
    assert list(result["panels"]) == ["phenotypes", "stay"]
    assert {c["task"] for c in result["panel_comparisons"]} == {"phenotypes", "stay"}
    assert {c["task"] for c in result["comparisons"]} == {"mortality"}
    answers = page[page.index("Answers</h2>") : page.index("How to read this</h2>")]
    rows = re.findall(r'<tr><th scope="row">(\w+)', answers)
    assert rows == ["Mortality", "Phenotypes", "Stay"]
    assert answers.count("on average over outcomes") == 2
    chosen = page[page.index("The chosen model</h2>") : page.index("Who was asked, and what is missing</h2>")]
    assert heading_order(chosen) == ["Mortality: crl-mmnar", "Phenotypes: crl-mmnar", "Stay: crl-mmnar"]
    assert "A panel of 3 outcomes, of which 3 enter its means." in chosen
    assert "AUROC, Stay" in chosen  # the picture by outcome
    shown = page[page.index("Performance</h2>") : page.index("curves</h2>")]
    assert shown.index("Performance on the panel Stay.") < shown.index("Each outcome of Stay")
    assert re.search(r"<details[^>]*>\s*<summary>Each outcome of Phenotypes", shown)
    assert "Quadratic kappa" in shown


def test_a_study_ranks_and_compares_by_panel_and_a_rare_outcome_does_not_refuse_it(tmp_path: Path) -> None:
    data = paneled(700)
    labels = data.labels.copy()
    labels[:, 3] = False
    labels[::50, 3] = True  # fourteen patients
    data.labels[:] = labels
    store = write_store(tmp_path / "store", data)
    raw = {
        "title": "Panels",
        "layout": "comparison",
        "data": {"ours": {"store": str(store)}},
        "rows": {
            "stronger": {"model": "logistic-pattern", "set": {"model.min_patients": 500}},
            "logistic-pattern": {},
            "pattern-only": {},
        },
        "controls": list(CONTROLS),
        "folds": 2,
        "seeds": [0],
        "set": {"rectifier.rule": "none", "fits": 2},
        "metrics": ["auroc", "auprc"],
        "resamples": 60,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    result = judge(run_study(study_of(raw), tmp_path / "out", Inline(), Quiet()))
    assert not result.failures
    (table,) = result.tables
    assert list(table.ranks) == ["", "phenotypes", "stay"]
    assert table.ranks["phenotypes"]["auroc"].blocks <= 6  # three outcomes, two folds
    assert table.ranks[""]["auroc"].blocks == 2
    assert {c.task for c in table.comparisons} == {"mortality"}
    assert {(c.task, c.model) for c in table.panel_comparisons} == {
        ("phenotypes", "stronger"),
        ("stay", "stronger"),
    }
    page = study_html(result)
    assert "phenotypes: Mean AUROC" in heading_order(page)
    assert "phenotypes: Mean AUROC" in study_text(result)
    assert json.loads(json.dumps(result.to_dict(), default=str))["tables"][0]["panels"]["stay"]["pattern-only"]


def table_of(folder: Path, n: int = 400) -> Path:
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    los = np.array(["short", "medium", "long"])[np.digitize(x + rng.normal(size=n), [-0.4, 0.7])]
    frame = pl.DataFrame(
        {
            "patient": np.arange(n) + 100,
            "lactate": pl.Series(x.round(3)).set(pl.Series(rng.random(n) < 0.3), None),
            "age": rng.integers(20, 90, n),
            "sepsis": (x + rng.normal(size=n) > 0.5).astype(int),
            "stroke": np.zeros(n, dtype=int),
            "los": los,
        },
        strict=False,
    )
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / "stays.csv")
    spec = {
        "name": "ours",
        "files": ["stays.csv"],
        "subject": "patient",
        "modalities": {"labs": ["lactate"], "background": ["age"]},
        "outcomes": {
            "sepsis": "sepsis",
            "stroke": "stroke",
            **{f"los_{word}": {"column": "los", "positive": [word]} for word in ("short", "medium", "long")},
        },
        "panels": {
            "phenotypes": ["sepsis", "stroke"],
            "los": {"outcomes": ["los_short", "los_medium", "los_long"], "exclusive": True},
        },
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder / "spec.yaml"


def run(*words: object) -> int:
    """Exit status of the command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_an_own_table_with_panels_from_file_to_risks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = table_of(tmp_path / "raw")
    run("prepare", "table", spec, "--root", tmp_path / "raw", "--out", tmp_path / "store")
    assert "task 'stroke' of panel 'phenotypes': nobody has it, so no model can learn it" in capsys.readouterr().out
    panels = open_store(tmp_path / "store").schema.panels
    assert [(p.name, p.exclusive, len(p.tasks)) for p in panels] == [("phenotypes", False, 2), ("los", True, 3)]
    with pytest.warns(UserWarning, match="do not show task 'stroke' both ways"):
        run("train", tmp_path / "store", "--model", "logistic-pattern", "fits=3", "--out", tmp_path / "run")
    assert not open_run(tmp_path / "run").test.label_mask[:, 1].any()
    new = pl.read_csv(tmp_path / "raw" / "stays.csv").select("patient", "lactate", "age").head(20)
    new.write_csv(tmp_path / "new.csv")
    run("predict", tmp_path / "run", "--table", tmp_path / "new.csv", "--out", tmp_path / "risks.parquet")
    risks = pl.read_parquet(tmp_path / "risks.parquet")
    total = risks.select(pl.sum_horizontal(f"los_{word}.risk" for word in ("short", "medium", "long"))).to_series()
    assert np.allclose(total.to_numpy(), 1)
    assert risks["stroke.risk"].null_count() == 20
    assert risks["sepsis.risk"].null_count() == 0
    run("evaluate", tmp_path / "run", "--resamples", 20)
    assert "panel los" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("two", "several, 0 with none"),
        ("none", "0 samples with several, fewer than 10 with none"),
        ("one outcome", "panel 'los': expected at least 2 tasks, each once"),
        ("unknown", "panel 'los': expected tasks of the schema"),
    ],
)
def test_panels_that_cannot_be_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, words: str
) -> None:
    spec = table_of(tmp_path / "raw")
    raw = yaml.safe_load(spec.read_text())
    if change == "two":
        raw["outcomes"]["los_medium"]["positive"] = ["medium", "long"]
    elif change == "none":
        stays = pl.read_csv(tmp_path / "raw" / "stays.csv")
        odd = pl.when(pl.col("patient") < 103).then(pl.lit("odd")).otherwise("los").alias("los")
        stays.with_columns(odd).write_csv(tmp_path / "raw" / "stays.csv")
    elif change == "one outcome":
        raw["panels"]["los"]["outcomes"] = ["los_short"]
    else:
        raw["panels"]["los"]["outcomes"][0] = "los_tiny"
    spec.write_text(yaml.safe_dump(raw, sort_keys=False))
    assert run("prepare", "table", spec, "--root", tmp_path / "raw", "--out", tmp_path / "store") == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "store" / "manifest.json").exists()

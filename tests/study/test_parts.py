"""Tables by kind of outcome and by group of patients: their numbers by hand, on the page and in the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmnar.dataset.store import PatientDataset, write_store
from mmnar.errors import ConfigError
from mmnar.predictions import Predictions, concat
from mmnar.report.study.page import study_html, study_text
from mmnar.study.driver import Done, run_study
from mmnar.study.parts import NO_KIND
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.saved import load_result, save_slim
from mmnar.study.spec import study_of
from mmnar.workflow import open_run
from tests.inline import Inline
from tests.populations import paneled, population
from tests.study.test_page import Tables

KINDS = (("sepsis", "acute"), ("stroke", "acute"))


def raw_of(store: Path, **changes: Any) -> dict[str, Any]:
    rows = {"pattern-only": {}, "logistic": {"model": "logistic-pattern"}}
    own = {"rectifier.rule": "none", "fit": "single"}
    raw = {"title": "Parts", "data": {"made up": {"store": str(store), "reference": "here"}}, "rows": rows}
    return {**raw, "controls": ["pattern-only"], "folds": 2, "set": own, "resamples": 60, **changes}


def run(data: PatientDataset, folder: Path, **changes: Any) -> Done:
    store = write_store(folder / "store", data)
    return run_study(study_of(raw_of(store, **changes)), folder / "s", Inline(), Quiet())


def scored(done: Done, row: str) -> Predictions[Any]:
    jobs = [done.plan.jobs[c.job] for c in done.plan.cells if c.row == row]
    return concat([open_run(job.folder).test for job in jobs])


def by_fold(predictions: Predictions[Any], metric: Any, task: str, mine: np.ndarray) -> float:
    """The metric of some rows in each fold, and the mean over folds."""
    p, y, asked = predictions.task(task)
    rows = [asked & mine & (predictions.fold == fold) for fold in (0, 1)]
    return float(np.mean([metric(y[at], p[at]) for at in rows]))


def test_kinds_of_outcomes_are_judged_by_themselves(tmp_path: Path) -> None:
    data = paneled(600)
    panels = tuple(replace(p, kinds=KINDS) if p.name == "phenotypes" else p for p in data.schema.panels)
    figure = {"data": "here", "task": "acute", "row": "logistic", "metric": "macro_auroc", "value": "0.87"}
    reference = [{**figure, "spread": "", "low": "0.81", "high": "0.93"}]
    data = replace(data, schema=replace(data.schema, panels=panels))
    done = run(data, tmp_path, layout="kinds", reference=reference)
    result = judge(done)
    (table,) = result.tables
    assert list(table.parts) == ["phenotypes"]
    parts = table.parts["phenotypes"]
    assert {label: part.outcomes for label, part in parts.items()} == {
        "acute": ("sepsis", "stroke"),
        NO_KIND: ("asthma",),
    }
    risks = scored(done, "logistic")
    everybody = np.ones(len(risks), dtype=bool)
    each = [by_fold(risks, roc_auc_score, task, everybody) for task in ("sepsis", "stroke")]
    assert parts["acute"].rows["logistic"]["macro_auroc"].value == pytest.approx(np.mean(each), abs=6e-4)
    alone = by_fold(risks, average_precision_score, "asthma", everybody)
    assert parts[NO_KIND].rows["logistic"]["auprc"].value == pytest.approx(alone, abs=6e-4)
    assert {c.task for c in parts["acute"].comparisons} == {"acute"}
    tables = Tables(study_html(result))
    head, *body = tables.found["phenotypes: Mean AUROC of each row."]
    assert head == ["Mean AUROC", "acute (2 outcomes)", NO_KIND]
    assert body[1][1].startswith(f"{parts['acute'].rows['logistic']['macro_auroc'].value:.3f} (")
    assert tables.found["phenotypes: published Mean AUROC."] == [
        ["Published Mean AUROC", "acute", NO_KIND],
        ["logistic", "0.870 (0.810 to 0.930)", ""],
    ]
    save_slim(result, tmp_path / "slim.json")
    assert load_result(tmp_path / "slim.json").tables[0].parts["phenotypes"]["acute"].outcomes == ("sepsis", "stroke")


def test_groups_of_patients_are_judged_by_themselves(tmp_path: Path) -> None:
    done = run(population(500), tmp_path, layout="groups", by="sex")
    result = judge(done)
    (table,) = result.tables
    assert list(table.parts) == ["mortality", "readmission"]
    risks = scored(done, "logistic")
    for label in ("Female", "Male"):
        part = table.parts["mortality"][label]
        expected = by_fold(risks, roc_auc_score, "mortality", risks.attributes["sex"] == label)
        assert part.rows["logistic"]["auroc"].value == pytest.approx(expected, abs=6e-4)
        assert [(c.model, c.control, c.metric) for c in part.comparisons] == [
            ("logistic", "pattern-only", "auroc"),
            ("logistic", "pattern-only", "auprc"),
        ]
    every = [c for part in table.parts["mortality"].values() for c in part.comparisons if c.metric == "auroc"]
    assert sorted(c.p_holm for c in every) >= sorted(c.p for c in every)  # type: ignore[type-var]
    assert "By sex" in study_text(result)
    assert "mortality: difference of AUROC from pattern-only." in Tables(study_html(result)).found


def test_what_makes_the_groups_is_named_and_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by: expected an attribute, of layout: groups, got none"):
        study_of(raw_of(tmp_path, layout="groups"))
    with pytest.raises(ConfigError, match="of layout: groups, got sex"):
        study_of(raw_of(tmp_path, layout="gaps", by="sex"))
    with pytest.raises(ConfigError, match="did you mean 'sex'"):
        run(population(60), tmp_path, layout="groups", by="sxe")

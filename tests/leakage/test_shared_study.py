"""Attack on what a study passes on: its result, page and tables, held beside the report of the same test fold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.dataset.store import write_store
from mmnar.predictions import Predictions
from mmnar.report.study.page import study_html, study_markdown
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.spec import study_of
from mmnar.workflow import open_run
from tests.inline import Inline
from tests.leakage.test_small_cells import planted_store
from tests.populations import paneled


def studied(store: Path, out: Path, **changes: Any) -> tuple[dict[str, Any], str, Predictions[Any]]:
    """A study's result as saved, all its text, and the test predictions of its first run."""
    raw = {
        "title": "Attack",
        "layout": "configurations",
        "data": {"ours": {"store": str(store), **changes.pop("data", {})}},
        "rows": {"logistic-pattern": {}, "pattern-only": {}},
        "controls": ["pattern-only"],
        "seeds": [0],
        "set": {"rectifier.rule": "none", "fits": 2},
        "metrics": ["auroc", "auprc", "brier"],
        "resamples": 40,
        **changes,
    }
    done = run_study(study_of(raw), out, Inline(), Quiet())
    result = judge(done)
    first = next(iter(done.plan.jobs.values()))
    return (
        json.loads(json.dumps(result.to_dict(), default=str)),
        study_html(result.disclosed()) + study_markdown(result.disclosed()),
        open_run(first.folder).test,
    )


def numbers(of: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of plain JSON with where it stands."""
    if isinstance(of, dict):
        for key, value in of.items():
            yield from numbers(value, f"{path}/{key}")
    elif isinstance(of, list):
        for value in of:
            yield from numbers(value, path)
    elif isinstance(of, (int, float)) and not isinstance(of, bool):
        yield path, of


def test_a_studys_result_tells_no_small_count_and_no_more_digits_than_a_report(tmp_path: Path) -> None:
    whole = {"split": {"by": "part", "held_out": "test"}}
    result, text, test = studied(planted_store(tmp_path / "store"), tmp_path / "out", data=whole)
    (table,) = result["tables"]
    for path, value in numbers(table):
        if path.rsplit("/", 1)[-1] in ("n", "events", "patients", "samples"):
            assert value == 0 or value >= 10, path
    for task, rows in table["tasks"].items():
        for row, of in rows.items():
            digits = 2 if of["coarse"] else 4
            for name, estimate in of["metrics"].items():
                shown = [estimate[key] for key in ("value", "low", "high") if estimate[key] is not None]
                most = 2 if name == "pattern_pair_share" else digits if "auroc" in name or name == "auprc" else 4
                assert all(value == round(value, most) for value in shown), (task, row, name)
    assert table["tasks"]["death"]["pattern-only"]["coarse"]  # its risk is a name of the pattern
    groups = table["patterns"]["death"]["logistic-pattern"]
    shown = [g for g in groups if g["events"] is not None and g["n"] is not None]
    y, asked = test.labels[:, 0], test.label_mask[:, 0]
    assert sum(g["n"] for g in shown) in {int(asked.sum())} | set(range(int(asked.sum()) - 9))
    left = int((y & asked).sum()) - sum(g["events"] for g in shown)
    assert left == 0 or left >= 10
    identifiers = {str(i) for i in np.unique(test.subject_id) if i >= 1000}
    assert not identifiers & set(re.findall(r"\d+", text))


def test_decisions_of_a_panel_with_few_on_one_side_are_coarse_in_a_study(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", paneled(260))
    result, _, test = studied(store, tmp_path / "out", layout="comparison", folds=2)
    of = result["tables"][0]["panels"]["stay"]["logistic-pattern"]
    assert of["few"]  # the attack has teeth: a cell of the confusion matrix is small
    for name in ("accuracy", "macro_f1", "kappa", "quadratic_kappa"):
        value = of["metrics"][name]["value"]
        assert value == round(value, 2)
    differences = [c for c in result["tables"][0]["panel_comparisons"] if c["metric"] == "accuracy"]
    assert differences
    assert all(c["difference"]["value"] == round(c["difference"]["value"], 2) for c in differences)
    # so that the number of patients decided rightly is not told
    n = int(test.label_mask[:, 4].sum())
    right = {k for k in range(2 * n) if round(k / (2 * n), 2) == of["metrics"]["accuracy"]["value"]}
    assert len(right) > 1


@pytest.mark.parametrize("layout", ["comparison", "cost", "sensitivity"])
def test_every_layout_keeps_the_digits(tmp_path: Path, layout: str) -> None:
    store = write_store(tmp_path / "store", paneled(260))
    rows = {"default": {"model": "pattern-only"}, "model.strength = 3": {"model": "pattern-only"}}
    result, _, _ = studied(store, tmp_path / "out", layout=layout, folds=2, rows=rows, controls=["default"])
    for path, value in numbers(result["tables"][0]["tasks"]):
        assert value == round(value, 4), path

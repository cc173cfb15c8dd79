"""A study that asks for gaps between groups: they reach its page, its file and its Markdown."""

from __future__ import annotations

from pathlib import Path

from mmnar.dataset.store import write_store
from mmnar.report.study.page import study_html, study_markdown
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.saved import load_result, save_slim
from mmnar.study.spec import study_of
from tests.inline import Inline
from tests.populations import population


def test_a_study_shows_gaps_between_groups(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", population(500))
    raw = {
        "title": "Gaps",
        "layout": "gaps",
        "data": {"made up": {"store": str(store)}},
        "rows": {"pattern-only": {}, "logistic-pattern": {}},
        "controls": ["pattern-only"],
        "folds": 2,
        "set": {"rectifier.rule": "none", "fits": 2},
        "resamples": 60,
    }
    result = judge(run_study(study_of(raw), tmp_path / "s", Inline(), Quiet()))
    (table,) = result.tables
    assert {q for of in table.gaps.values() for q in of} == {"mortality", "readmission"}
    found = table.gaps["logistic-pattern"]["mortality"]["sex"]
    assert [g.group for g in found.groups] == ["Female", "Male"]
    page, text = study_html(result), study_markdown(result)
    assert "Gaps between groups" in page
    assert "mortality by sex: gaps between groups" in page
    assert "Gap of calibration error" in text
    save_slim(result, tmp_path / "slim.json")
    again = load_result(tmp_path / "slim.json")
    assert again.tables[0].gaps["logistic-pattern"]["mortality"]["sex"].outcomes == ("mortality",)

"""Every study that comes with the project can be read, and planned at demo size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmnar.errors import StoreError
from mmnar.models.registry import CAREBENCH_MODELS
from mmnar.sources.mimic_iv.phenotypes import phenotypes
from mmnar.study.driver import run_study
from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.progress import Quiet
from mmnar.study.spec import StudySpec, read_study

AGES = {"18-39", "40-59", "60-79", "80+"}
CAREBENCH = {"phenotypes", "length_of_stay", *(p.name for p in phenotypes())}
STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


class Nowhere:
    """Runs nothing."""

    def run(self, jobs: list[Job], ended: Ended) -> None:
        return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all studies, so that the same data are made once."""
    return tmp_path_factory.mktemp("studies") / "all"


def fewer(spec: StudySpec) -> StudySpec:
    """With fewer of the patients whose records take longest to make; enough for every choice of them."""
    data = [replace(d, medfuse={**d.medfuse, "patients": 200}) if d.medfuse else d for d in spec.data]
    return replace(spec, data=tuple(data))


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_it_can_be_planned(path: Path, tmp_path: Path, folder: Path) -> None:
    whole, demo = read_study(path), fewer(read_study(path, demo=True))
    assert whole.layout == demo.layout
    done = run_study(demo, folder, Nowhere(), Quiet())
    assert {cell.row for cell in done.plan.cells} == {row.name for row in demo.trained}
    if any(data.store for data in whole.data):  # which are not here
        with pytest.raises(StoreError, match="mmnar prepare"):
            run_study(whole, tmp_path / "whole", Nowhere(), Quiet())


def test_published_figures_belong_to_rows_and_tasks() -> None:
    for path in STUDIES:
        spec = read_study(path)
        for figure in spec.reference:
            assert figure["row"] in {row.name for row in spec.rows}, (path, figure)
            parts = {"kinds": {p.kind for p in phenotypes()}, "groups": AGES}.get(spec.layout, set())
            assert figure["task"] in {"readmission", "icu_admission", "mortality", *CAREBENCH, *parts}
            assert figure.get("setting", "") in {"", *spec.settings}
            assert not figure.get("low") or float(figure["low"]) <= float(figure["value"]) <= float(figure["high"])
            assert 0 < float(figure["value"]) < 1


def test_the_seventeen_are_there_with_the_controls_the_paper_omits() -> None:
    for name in ("rq1", "rq2", "base", "rq4", "search"):
        rows = [row.name for row in read_study(STUDIES[0].parent / f"carebench_{name}.yaml").rows]
        assert set(CAREBENCH_MODELS) < set(rows)
        assert {"pattern-only", "logistic-pattern", "boosting-pattern", "stack"} < set(rows)

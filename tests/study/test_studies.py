"""Every study that comes with the project can be read, and planned at demo size."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmnar.errors import StoreError
from mmnar.study.driver import run_study
from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.progress import Quiet
from mmnar.study.spec import read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


class Nowhere:
    """Runs nothing."""

    def run(self, jobs: list[Job], ended: Ended) -> None:
        return


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_it_can_be_planned(path: Path, tmp_path: Path) -> None:
    whole, demo = read_study(path), read_study(path, demo=True)
    assert whole.layout == demo.layout
    done = run_study(demo, tmp_path / "s", Nowhere(), Quiet())
    assert {cell.row for cell in done.plan.cells} == {row.name for row in demo.rows}
    if any(data.store for data in whole.data):  # which are not here
        with pytest.raises(StoreError, match="mmnar prepare"):
            run_study(whole, tmp_path / "whole", Nowhere(), Quiet())


def test_published_figures_belong_to_rows_and_tasks() -> None:
    for path in STUDIES:
        spec = read_study(path)
        for figure in spec.reference:
            assert figure["row"] in {row.name for row in spec.rows}, (path, figure)
            assert figure["task"] in {"readmission", "icu_admission", "mortality"}
            assert 0 < float(figure["value"]) < 1

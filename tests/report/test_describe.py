"""A store described: the terminal's text and the page, with the same numbers and no small cell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmnar.dataset.store import PatientDataset, write_store
from mmnar.errors import StoreError
from mmnar.evaluation.atlas import availability
from mmnar.evaluation.informative import NO_ANCHOR, Conditional, TaskSignal
from mmnar.evaluation.result import Estimate
from mmnar.report.atlas import describe
from mmnar.report.parts.missingness import CANNOT_TELL, signal_verdict
from mmnar.report.titles import title
from tests.report.test_render import NUMBER, browse, printed_forms, visible_text


@pytest.fixture(scope="module")
def store(patients: PatientDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("describe") / "store", patients)


@pytest.fixture(scope="module")
def described(store: Path) -> tuple[str, Path]:
    text, page = describe(store, store.parent / "atlas")
    assert page is not None
    return text, page


def test_the_page_stands_alone(described: tuple[str, Path]) -> None:
    _, page = described
    assert sorted(p.name for p in page.parent.iterdir()) == ["describe.html", "describe.json"]
    text = page.read_text()
    for words in ("Availability atlas", "Cohort", "Availability of modalities", "Is missingness informative?"):
        assert words in text
    first = visible_text(text[text.index("In short</h2>") : text.index("Cohort</h2>")])
    for words in ("5,000 samples of 5,000 patients", "the rarest first: cxr", "Mortality: ", "Chosen by hindsight"):
        assert words in first
    assert "Performance" not in visible_text(text)
    assert "test fold" not in visible_text(text)
    assert CANNOT_TELL in visible_text(text)


def test_every_number_of_the_page_is_in_its_json(described: tuple[str, Path]) -> None:
    _, page = described
    known = printed_forms(json.loads(page.with_suffix(".json").read_text())) | {"95", "10", "99", "0.001"}
    found = {m.group() for m in NUMBER.finditer(visible_text(page.read_text()))}
    assert len(found) > 60
    assert not found - known


def test_the_text_says_what_the_page_says(described: tuple[str, Path], patients: PatientDataset) -> None:
    text, page = described
    for task in patients.schema.task_names:
        sentence = next(line for line in text.splitlines() if line.startswith(f"  {task}: ")).strip()
        assert f"{title(task)}{sentence.removeprefix(task)}" in visible_text(page.read_text())
    assert "Is missingness informative?" in text


def test_rare_groups_stay_hidden(patients: PatientDataset, tmp_path: Path) -> None:
    sex = patients.attributes["sex"].astype("<U12")
    sex[:4] = "hermaphrodit"
    data = PatientDataset(**{**vars(patients), "attributes": {**patients.attributes, "sex": sex}})
    _, page = describe(write_store(tmp_path / "store", data), tmp_path / "out")
    assert page is not None
    for file in page.parent.iterdir():
        assert "hermaphrodit" not in file.read_text()
    assert np.sum([r.n for b in availability(data).breakdowns if b.name == "sex" for r in b.rows]) == len(data)


def test_the_browser_is_content(described: tuple[str, Path], tmp_path: Path) -> None:
    assert browse(described[1], tmp_path / "profile") == ([], [])


def test_no_store_no_page(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="mmnar prepare"):
        describe(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("alone", "beyond", "words"),
    [
        (0.001, 0.001, "informative"),
        (0.001, 0.4, "nothing beyond"),
        (0.4, 0.4, "no sign that missingness is informative"),
        (0.001, None, NO_ANCHOR),
    ],
)
def test_verdicts(alone: float, beyond: float | None, words: str) -> None:
    c = None if beyond is None else Conditional(9.0, 2, beyond, (), Estimate(0.01), 0.1, p_holm=beyond)
    answer = TaskSignal(500, 500, Estimate(0.6), alone, alone, c, "" if c else NO_ANCHOR)
    assert words in signal_verdict("death", answer)

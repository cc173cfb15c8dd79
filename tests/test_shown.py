"""What a notebook shows of an object may be pasted anywhere: attacked with patients whose values nobody else has."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmnar
from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import PatientDataset, write_store
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator, model_names
from mmnar.evaluation.evaluate import evaluate
from mmnar.shown import Shown
from mmnar.workflow import train_run
from tests.populations import population

SPLIT = Split(test=0.3)
NOUNS = ("PatientDataset", "Fold", "Predictions", "Result", "Predictor", "PatientBatch", "Run")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each noun, of patients with large identifiers."""
    plain = population(300, subjects=150)
    data = PatientDataset(**{**vars(plain), "subject_id": plain.subject_id + 7_700_000})
    train, test = data.fold(SPLIT, "train"), data.fold(SPLIT, "test")
    crossed = cross_fit(estimator("logistic-pattern"), data.fold(SPLIT, "development"), 2)
    scored = crossed.predictor.predict(test)
    at = tmp_path_factory.mktemp("shown")
    run = train_run(write_store(at / "store", data), "pattern-only", at / "run", ("fits=2", "rectifier.rule=none"))
    return {
        "PatientDataset": data,
        "Fold": test,
        "Predictions": scored,
        "Result": evaluate(scored, resamples=20),
        "Predictor": crossed.predictor,
        "PatientBatch": Preprocessor.fit(train).transform(train),
        "Run": run,
    }


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_is_one_short_line_and_a_small_table(seen: dict[str, Any], noun: str) -> None:
    line, page = repr(seen[noun]), seen[noun]._repr_html_()
    assert "\n" not in line
    assert len(line) < 400
    assert line.startswith("<")
    assert "array(" not in line
    assert "tensor(" not in line
    parser = Text()
    parser.feed(page)
    assert not parser.open
    assert len(parser.cells) > 6
    # nothing of a patient: identifiers are of seven digits, values of more decimals than a metric's
    assert not re.search(r"77\d{5}", line + page)
    assert not re.search(r"\d\.\d{4}", line + page)


def test_sizes_are_those_of_the_data(seen: dict[str, Any]) -> None:
    data, test = seen["PatientDataset"], seen["Fold"]
    for noun, rows in (("PatientDataset", data), ("Fold", test), ("Predictions", test)):
        size = f"size {len(rows)} samples of {len(np.unique(rows.subject_id))} patients"
        assert size in repr(seen[noun])
        assert size.removeprefix("size ") in seen[noun]._repr_html_()
    learned = len(np.unique(data.fold(SPLIT, "development").subject_id))
    assert f"fitted on about {round(learned, -1)} patients" in repr(seen["Predictor"])
    metrics = seen["Result"].tasks["mortality"]["logistic-pattern"].metrics
    auroc = metrics["auroc"]
    shown = f"<td>{auroc.value:.2f} ({auroc.low:.2f} to {auroc.high:.2f})</td>"
    assert shown in seen["Result"]._repr_html_()


def test_small_parts_and_small_rests_are_withheld(seen: dict[str, Any]) -> None:
    data = seen["PatientDataset"]
    people = np.unique(data.subject_id)
    for few, said in ((4, "size fewer than 10 patients"), (len(people) - 4, "size all but fewer than 10 of ")):
        mine = np.isin(data.subject_id, people[:few])
        fold = type(seen["Fold"])(data, np.flatnonzero(mine), seen["Fold"].role)
        assert said in repr(fold)
        assert not re.search(rf"\b{mine.sum()}\b", repr(fold))
    scored = seen["Predictor"].predict(data.fold(SPLIT, "test"))
    rest = scored.without(np.union1d(np.unique(scored.subject_digest)[4:], np.uint64(scored.key_mark)))
    assert "size fewer than 10 patients" in repr(rest)
    nobody = evaluate(replace(scored, labels=np.zeros_like(scored.labels)), resamples=5)
    reason = nobody.tasks["mortality"]["logistic-pattern"].metrics["auroc"].reason
    assert reason
    assert f"<td>{reason}</td>" in nobody._repr_html_()


def test_names_are_escaped(seen: dict[str, Any]) -> None:
    scored = seen["Predictions"].with_proba(seen["Predictions"].proba, model="<script>")
    assert "<script>" not in scored._repr_html_()
    assert "<script>" not in evaluate(scored, resamples=5)._repr_html_()


def test_every_public_noun_and_every_predictor_says_what_it_is() -> None:
    for noun in NOUNS:
        assert getattr(mmnar, noun).__repr__ is Shown.__repr__, noun

    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(k) for k in kind.__subclasses__()))

    for name in model_names():
        type(estimator(name))  # its module is imported, and with it its predictor
    assert all(kind.__repr__ is Shown.__repr__ for kind in below(mmnar.Predictor))


def test_a_path_of_a_run_is_the_users_own(seen: dict[str, Any]) -> None:
    assert str(Path(seen["Run"].folder)) in repr(seen["Run"])

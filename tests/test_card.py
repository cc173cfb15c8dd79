"""The card of a run: what it fills, what it leaves blank and to whom, what it must never tell."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from mmnar import cli
from mmnar.dataset.store import PatientDataset, make_dataset, write_store
from mmnar.errors import LeakageError, SchemaError, StoreError
from mmnar.files import read_sealed, write_sealed
from mmnar.render.page import html_of
from mmnar.report.build import _told, record_of
from mmnar.report.model_card.answers import answers
from mmnar.report.model_card.blanks import Blank
from mmnar.report.model_card.build import FILES, build_card, card_of
from mmnar.report.model_card.chai import chai_xml
from mmnar.report.model_card.inputs import CardInputs
from mmnar.report.model_card.limits import limits
from mmnar.report.model_card.page import card_page
from mmnar.report.model_card.traits import traits_of
from mmnar.report.model_card.tripod import BLANKS, ITEMS, UNASKED, answered
from mmnar.workflow import Run, open_run, train_run
from tests import chai
from tests.populations import SCHEMA, paneled, population

FIRST = 900_000_000
RARE = "Intersex"


def people(n: int, seed: int = 0, source: str = "north", few: int = 4) -> PatientDataset:
    """``population`` with identifiers that cannot be anything else, and a group of four patients."""
    data = population(n, seed, source=source)
    ids = FIRST + 7_777 * np.arange(n)
    sex = np.where(np.arange(n) < few, RARE, data.attributes["sex"])
    return make_dataset(
        SCHEMA,
        data.values,
        data.labels,
        data.label_mask,
        ids,
        ids + 1,
        ids + 2,
        data.prediction_time,
        {"sex": sex},
        {**data.manifest, "source_version": "1.0"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secret-place")


@pytest.fixture(scope="module")
def elsewhere(place: Path) -> Path:
    return write_store(place / "elsewhere", people(500, 1, "south"))


@pytest.fixture(scope="module")
def run(place: Path, elsewhere: Path) -> Run:
    """Labs are hidden from some as the other store lacks them: its place is in the run's settings."""
    store = write_store(place / "store", people(1200))
    words = ("fits=2", "hide.modality=labs", "hide.share=0.1", "hide.which=law", f"hide.law={elsewhere}")
    return train_run(store, "logistic-pattern", place / "run", words)


@pytest.fixture(scope="module")
def card(run: Run, elsewhere: Path) -> CardInputs:
    return card_of(run, on=elsewhere, resamples=50)


@pytest.fixture(scope="module")
def written(run: Run, elsewhere: Path, place: Path) -> dict[str, str]:
    build_card(run, place / "card", on=elsewhere, resamples=50)
    return {name: (place / "card" / name).read_text(encoding="utf-8") for name in FILES}


@pytest.fixture(scope="module")
def whole(place: Path) -> CardInputs:
    """Without a test fold."""
    store = write_store(place / "all", people(600))
    return card_of(train_run(store, "logistic-pattern", place / "whole", ("fits=2", "split.test=0")), resamples=20)


def test_every_item_is_there_once_filled_or_blank_to_somebody(card: CardInputs, written: dict[str, str]) -> None:
    found, said = answered(card), answers(card)
    assert list(found) == list(ITEMS)
    assert len(ITEMS) == 52
    assert set(said) | set(BLANKS) | set(UNASKED) == set(ITEMS)
    rows = re.findall(r"^\| (\d+[a-g]?) \| (.*) \|$", written["card.md"], re.M)
    assert [item for item, _ in rows] == list(ITEMS)
    for item, row in rows:
        answer = found[item]
        blank = answer if isinstance(answer, Blank) else answer[1] if isinstance(answer, tuple) else None
        assert ("To be filled by" in row) == (blank is not None), item
        assert blank is None or blank.who in row
        assert item not in said or said[item]
    # what only people can say is blank whatever the run is
    for item in ("3a", "3b", "3c", "17", "18a", "18b", "18c", "18d", "19", "25", "27b", "27c"):
        assert isinstance(found[item], Blank)


def test_items_that_another_store_would_fill_are_blank_without_one(card: CardInputs) -> None:
    alone = replace(card, elsewhere=None)
    assert all(isinstance(answered(alone)[item], Blank) for item in ("16", "20c"))
    assert all(isinstance(answered(card)[item], str) for item in ("16", "20c"))
    assert "validation on another store (south 1.0)" in answers(card)["4"]
    there = next(s for s in card_page(card).sections if s.title == "On another store")
    assert "Scored on the other store: " in str(there.blocks)
    assert "test fold" not in str(there.blocks), "nobody there is of a fold"
    assert any("its own source alone" in said for said in limits(alone))
    assert not any("its own source alone" in said for said in limits(card))


def test_the_xml_has_the_structure_of_the_public_schema(card: CardInputs, whole: CardInputs) -> None:
    for of in (card, whole, replace(card, elsewhere=None)):
        root = chai.check(chai_xml(of))
        values = [json.loads(node.text or "") for node in root.iter(f"{{{chai.NAMESPACE}}}ValueJson")]
        assert {value["kind"] for value in values if value} <= {"single", "estimate_ci"}
    with pytest.raises(AssertionError, match="DeveloperContact is missing in BasicInfo"):
        chai.check(re.sub(r"<DeveloperContact>.*?</DeveloperContact>", "", chai_xml(card)))
    with pytest.raises(AssertionError, match="Summary is missing"):
        chai.check(
            re.sub(r"(<Summary>.*?</Summary>)\s*(<Keywords>.*?</Keywords>)", r"\2\1", chai_xml(card), flags=re.S)
        )


@pytest.mark.skipif("MMNAR_CHAI_SCHEMA" not in os.environ, reason="MMNAR_CHAI_SCHEMA: a copy of v0.2/schema.xsd")
def test_that_structure_is_the_public_schema_s() -> None:
    assert chai.read_schema(Path(os.environ["MMNAR_CHAI_SCHEMA"]).read_text(encoding="utf-8")) == chai.CARD


def test_names_that_xml_cannot_write_do_not_break_it(card: CardInputs) -> None:
    odd = replace(card, modalities=(("a\x01<b>&\ud800", "static", ("age\x00",)),))
    assert "a\ufffd<b>&\ufffd: static" in "".join(chai.check(chai_xml(odd)).itertext()).replace("\\", "")


def test_no_identifier_and_no_place_of_the_machine_is_told(written: dict[str, str], run: Run, place: Path) -> None:
    for name, text in written.items():
        shown = unescape(text)
        for secret in (str(place), place.name, "secret-place", "/tmp", os.path.expanduser("~"), "../"):
            assert secret not in shown, name
        assert not re.search(rf"{str(FIRST)[:3]}\d{{6}}", shown), name


def test_settings_that_name_a_place_are_told_without_it(run: Run, place: Path) -> None:
    weights = {"image": {"weights": str(place / "films.pt")}, "law": "../north/store"}
    words = [f"'labs' is hidden from 10 patients who have it, as patients of '{place}/my south' lack it."]
    placed = replace(run, record={**run.record, "model": weights, "regime_words": words})
    card = card_of(placed, resamples=5)
    text = html_of(card_page(card)) + chai_xml(card)
    assert place.name not in text
    assert "north/" not in text
    in_report = json.dumps([record_of(placed).config, _told({}, [placed])])
    assert place.name not in in_report
    for name in ("films.pt", "as patients of 'my south' lack it"):
        assert name in unescape(text)
        assert name in in_report


def test_no_small_cell_is_told(card: CardInputs, written: dict[str, str]) -> None:
    assert not any(RARE in text for text in written.values())
    assert card.learned
    assert all(n >= 10 and n % 10 == 0 for n in card.learned.values())
    counted = ("Samples", "Patients", "Events", "Labels", "Patients learned from")
    counted += tuple(f"{whose} {what}" for whose in ("Test", "Scored") for what in ("samples", "patients"))
    seen = 0
    for table in re.findall(r"(?:^\|.*\|\n)+", written["card.md"], re.M):
        head, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
        for at in (i for i, name in enumerate(head) if name in counted):
            for row in rows:
                number = re.fullmatch(r"[\d,]+", row[at])
                assert number is None or int(row[at].replace(",", "")) >= 10, row
                seen += number is not None
    assert seen > 20


def test_a_run_without_a_test_fold_says_so(whole: CardInputs) -> None:
    short, xml = card_page(whole).sections[0], chai_xml(whole)
    assert "No test fold was set apart" in str(short.blocks)
    assert "Internal validation by cross-fitting, out of fold; no test fold" in xml
    assert "validation out of fold" in answers(whole)["4"]
    assert answers(whole)["12a"].startswith("No test fold")
    assert any("No test fold was set apart" in said for said in limits(whole))
    assert answers(whole)["12f"].endswith("figures are given without it.")
    assert "Test fold" not in xml


def test_traits_are_found_by_name_and_groups_by_attribute(card: CardInputs) -> None:
    assert traits_of(["ageGroup", "AGE", "dosage", "sexHormone", "language_spoken", "traces"]) == {
        "Age": ["ageGroup", "AGE"],
        "Sex or gender": ["sexHormone"],
        "Language": ["language_spoken"],
    }
    modalities = (("bed side", "static", ("gender", "hr")), ("film", "image", ()))
    text = str(card_page(replace(card, modalities=modalities)).sections[4])
    assert "gender (bed side)" in text
    assert "Not looked into: film (images)" in text
    assert any("by age, race or ethnicity" in said for said in limits(card))


def test_it_says_what_was_hidden_and_that_it_certifies_nothing(card: CardInputs, written: dict[str, str]) -> None:
    assert any("'labs' is hidden" in said for said in limits(card))
    assert "certifies nothing" in written["card.html"]
    for text in (*written.values(), (Path(__file__).parents[1] / "docs" / "card.md").read_text(encoding="utf-8")):
        assert "complian" not in text.lower()
    page = card_page(card)
    assert sum("To be filled by" in str(s) for s in page.sections if s.title in ("Intended use", "Maintenance")) == 2
    titles = {s.title for s in page.sections}
    quoted = {name for answer in answers(card).values() for name in re.findall("“(.*?)”", answer)}
    assert quoted <= titles


def test_of_outcomes_in_panels_the_panel_is_told(tmp_path: Path) -> None:
    data = paneled(600)
    run = train_run(write_store(tmp_path / "store", data), "logistic-pattern", tmp_path / "run", ("fits=2",))
    paths = build_card(run, tmp_path / "card", resamples=10)
    text = chai.check(paths[2].read_text(encoding="utf-8"))
    labels = [node.text for node in text.iter(f"{{{chai.NAMESPACE}}}Label")]
    assert "Mean AUROC, phenotypes" in labels
    assert "A panel of 3 outcomes" in paths[1].read_text(encoding="utf-8")


@pytest.mark.parametrize("to", ["nothing", "text", "store"])
def test_a_folder_that_is_no_run_is_refused(to: str, place: Path, run: Run, tmp_path: Path) -> None:
    folder = {"nothing": tmp_path / "none", "text": tmp_path, "store": place / "store"}[to]
    with pytest.raises(SystemExit) as end:
        cli.main(["card", str(folder), "--out", str(tmp_path / "card")])
    assert end.value.code == 2
    assert not (tmp_path / "card").exists()


def test_a_run_of_an_older_version_is_refused(run: Run, tmp_path: Path) -> None:
    record = read_sealed(run.folder / "run.json", "run", "")
    write_sealed(tmp_path / "run.json", {**record, "run_version": record["run_version"] - 1})
    with pytest.raises(StoreError, match=r"expected run version \d+, got \d+; train it again"):
        open_run(tmp_path)


def test_stores_that_do_not_fit_are_refused_and_nothing_is_written(run: Run, place: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        build_card(run, tmp_path / "card", on=write_store(tmp_path / "other", paneled(50)))
    with pytest.raises(LeakageError):
        build_card(run, tmp_path / "card", on=place / "store")
    with pytest.raises(StoreError, match="another fingerprint"):
        build_card(run, tmp_path / "card", store=place / "elsewhere")
    assert not (tmp_path / "card").exists()


def test_the_command_writes_three_files(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run.card(run.folder, out=tmp_path / "card", resamples=10, thresholds=("mortality=0.3",))
    assert {path.name for path in (tmp_path / "card").iterdir()} == set(FILES)
    assert "card.xml" in capsys.readouterr().out
    assert "stated by the user" in (tmp_path / "card" / "card.md").read_text(encoding="utf-8")

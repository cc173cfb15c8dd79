"""Inputs of CareBench on hand-made trees: texts of the chart, the coma scale, urine, films."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from mmnar.cohort.build import build_cohort
from mmnar.cohort.carebench import carebench_criteria, carebench_questions
from mmnar.dataset.content import ItemArrays, SeriesArrays
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, SourceError
from mmnar.schema import Panel
from mmnar.sources.events import Extract
from mmnar.sources.mimic_iv.carebench import FEATURES, read_carebench
from mmnar.sources.mimic_iv.cxr import METADATA
from mmnar.sources.mimic_iv.phenotypes import phenotypes, read_list
from mmnar.workflow import doors
from tests.mimic import COLUMNS, rows, write_mimic
from tests.records import open_data, write_tables

BEGUN = datetime(2150, 3, 1, 12)
"""Admission to the unit of stay 110, which lasts three days; its questions are asked 48 h later."""
CODES = rows("diagnoses_icd", (1, 11, "I10", 10), (2, 20, "I10", 10))


def at(hours: float) -> str:
    return str(BEGUN + timedelta(hours=hours))


def charted(*cells: tuple[int, float, Any, float | None]) -> list[dict[str, Any]]:
    """Rows of stay 110: item, hour, value as text, number."""
    names = [*COLUMNS["chartevents"].split(), "value"]
    return [
        dict(zip(names, (1, 11, 110, item, at(hour), None, number, None, value), strict=True))
        for item, hour, value, number in cells
    ]


def emptied(*cells: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Rows of outputs of stay 110: item, hour, millilitres."""
    return rows("outputevents", *((1, 11, 110, item, at(hour), None, ml, "mL") for item, hour, ml in cells))


def prepared(
    folder: Path,
    chart: Sequence[dict[str, Any]] = (),
    outputs: Sequence[dict[str, Any]] = (),
    cxr: Path | None = None,
) -> tuple[Extract, PatientDataset]:
    """The extract, and the inputs of everybody asked."""
    some = charted((220045, 1, "80", 80))
    tables = {
        "diagnoses_icd": CODES,
        "chartevents": [*some, *chart],
        "outputevents": outputs or emptied((226559, 1, 9)),
    }
    extract = read_carebench(write_mimic(folder / "root", tables), work=folder / "work", cxr=cxr, side=32)
    questions = [q for q in carebench_questions() if q.task.name == "mortality"]
    cohort = build_cohort(extract, carebench_criteria(notes=False, matched=False), questions)
    assert cohort.samples["stay_id"].to_list() == [110, 120]
    return extract, dataset_of(extract, cohort, Gathering(folder=folder))


def series(data: PatientDataset, feature: str) -> list[tuple[float, float]]:
    """Hours since admission to the unit, and values, of the first sample."""
    content = data.values["ehr"]
    assert isinstance(content, SeriesArrays)
    own = slice(content.offsets[0], content.offsets[1])
    rule = content.feature[own] == list(FEATURES).index(feature)
    hours = content.hours[own][rule].astype(float) + 48
    return list(zip(hours.round(3).tolist(), content.values[own][rule].astype(float).round(4).tolist(), strict=True))


# --- texts ------------------------------------------------------------------------------------------------------------


def test_rhythms_are_presences_at_their_times(tmp_path: Path) -> None:
    chart = charted(
        (220048, 2, "SR (Sinus Rhythm)", None),
        (220048, 3, " af (atrial  fibrillation) ", None),
        (220048, 4, "ST (Sinus Tachycardia)", None),
        (220048, 5, "A Paced", None),
        (220048, 6, "Sinus something", None),
        (220048, 7, None, None),
        (224650, 2, "None", None),
        (224650, 3, "PVCs", None),
        (224650, 4, "PVC's", None),
        (224650, 5, "PACs", None),
        (224650, 6, "Pvc's, rare", None),
        # not words of this item, and a number beside a word
        (224650, 8, "SR (Sinus Rhythm)", None),
        (220048, 9, "SR (Sinus Rhythm)", 7),
    )
    extract, data = prepared(tmp_path, chart)
    assert series(data, "sinus_rhythm") == [(2, 1), (9, 1)]
    assert series(data, "atrial_fibrillation") == [(3, 1)]
    assert series(data, "sinus_tachycardia") == [(4, 1)]
    assert series(data, "ectopy_none") == [(2, 1)]
    assert series(data, "ectopy_pvc") == [(3, 1), (4, 1)]
    told = [w for w in extract.warnings if "chartevents" in w]
    assert told == [
        "table 'chartevents': fewer than 10 rows dropped: no words",
        "table 'chartevents': fewer than 10 rows dropped: words not known for the item",
    ]
    units = [f.unit for f in data.schema.modalities[0].features]
    assert [name for name, unit in zip(FEATURES, units, strict=True) if unit == "presence"] == [
        "ectopy_none",
        "ectopy_pvc",
        "atrial_fibrillation",
        "sinus_rhythm",
        "sinus_tachycardia",
    ]


def test_there_are_the_27_features_of_the_paper(tmp_path: Path) -> None:
    _, data = prepared(tmp_path)
    assert data.schema.modality_names == ("ehr",)
    assert data.schema.modalities[0].feature_names == tuple(FEATURES)
    assert len(FEATURES) == 27
    assert data.schema.attributes == ("race", "sex", "age_group", "insurance", "language")
    of_1 = [str(data.attributes[name][0]) for name in data.schema.attributes]
    assert of_1 == ["white", "female", "45-64", "medicare", "english"]


def test_a_chart_without_texts_is_read(tmp_path: Path) -> None:
    tables = {
        "diagnoses_icd": CODES,
        "chartevents": rows("chartevents", (1, 11, 110, 220048, at(1), None, None, None)),
        "outputevents": emptied((226559, 1, 9)),
    }
    extract = read_carebench(write_mimic(tmp_path / "root", tables), work=tmp_path / "work")
    assert "table 'chartevents': fewer than 10 rows dropped: no words" in extract.warnings


# --- the coma scale ---------------------------------------------------------------------------------------------------

EYE, VERBAL, MOTOR = 220739, 223900, 223901


@pytest.mark.parametrize(
    ("cells", "total"),
    [
        # all at once
        ([(EYE, 1, 3), (VERBAL, 1, 4), (MOTOR, 1, 5)], [(1, 12)]),
        # one is carried for less than six hours
        ([(EYE, 1, 3), (VERBAL, 1, 4), (MOTOR, 1, 5), (MOTOR, 6.9, 6)], [(1, 12), (6.9, 13)]),
        ([(EYE, 1, 3), (VERBAL, 1, 4), (MOTOR, 1, 5), (MOTOR, 7, 6)], [(1, 12)]),
        # nobody charted the eyes
        ([(VERBAL, 1, 4), (MOTOR, 1, 5)], []),
        # intubated: 15, and for as long as the voice is not charted again
        ([(EYE, 1, 1), (VERBAL, 1, "ett"), (MOTOR, 1, 1), (MOTOR, 3, 2)], [(1, 15), (3, 15)]),
        # no longer: only what is charted now
        ([(EYE, 1, 1), (VERBAL, 1, "ett"), (MOTOR, 1, 1), (VERBAL, 3, 4)], [(1, 15)]),
        ([(EYE, 1, 1), (VERBAL, 1, "ett"), (MOTOR, 1, 1), (MOTOR, 3, 6), (EYE, 3, 4), (VERBAL, 3, 4)],
         [(1, 15), (3, 14)]),
        # seven hours after that, the tube is not of interest
        ([(VERBAL, 1, "ett"), (EYE, 7, 4), (MOTOR, 7, 6), (VERBAL, 8, 5)], [(1, 15), (8, 15)]),
        # no such score
        ([(EYE, 1, 9), (VERBAL, 1, 4), (MOTOR, 1, 5)], []),
    ],
)  # fmt: skip
def test_total_of_the_coma_scale(tmp_path: Path, cells: list[Any], total: list[Any]) -> None:
    chart = [
        row
        for item, hour, score in cells
        for row in charted(
            (item, hour, "No Response-ETT" if score == "ett" else str(score), 1 if score == "ett" else score)
        )
    ]
    _, data = prepared(tmp_path, chart)
    assert series(data, "gcs_total") == total
    voice = [(hour, 0 if score == "ett" else score) for item, hour, score in cells if item == VERBAL]
    assert series(data, "gcs_verbal") == voice


# --- urine ------------------------------------------------------------------------------------------------------------


def test_urine_of_one_time_is_one_amount_less_irrigant(tmp_path: Path) -> None:
    outputs = emptied(
        # two drains of equal amounts, and an irrigant that came out again
        (226564, 1, 50),
        (226565, 1, 50),
        (227489, 2, 900),
        (227488, 2, 700),
        # more went in than came out, so far
        (227488, 3, 100),
    )
    _, data = prepared(tmp_path, outputs=outputs)
    assert series(data, "urine_output") == [(1, 100), (2, 200)]
    assert series(data, "urine_hours_6h") == [(1, 1), (2, 2), (3, 3)]
    assert "feature 'ehr.urine_output': fewer than 10 implausible values dropped" in data.manifest["warnings"]


def test_rates_of_urine_by_hand(tmp_path: Path) -> None:
    """Hourly 70 mL; 70 kg charted at the fourth hour, 100 kg at the tenth: one millilitre per kg and hour at first."""
    hourly = emptied(*((226559, h, 70) for h in range(1, 31)))
    chart = charted((226512, 4, "70", 70), (224639, 10, "100", 100), (224639, 11, "5", 5))
    _, data = prepared(tmp_path, chart, hourly)
    six = series(data, "urine_rate_6h")
    # six hours are over with the sixth row; both ends of a window count, so that it holds seven
    assert six[0] == (6, 1)
    assert dict(six)[9] == 1
    assert dict(six)[10] == 0.7
    assert len(six) == 25
    assert series(data, "urine_hours_6h")[5:8] == [(6, 6), (7, 7), (8, 7)]
    assert series(data, "urine_rate_12h")[0] == (12, 0.7)
    assert series(data, "urine_rate_24h")[0] == (24, 0.7)
    assert series(data, "urine_hours_24h")[-1] == (30, 25)
    assert series(data, "weight") == [(4, 70), (10, 100)]


def test_urine_before_the_first_weight_counts_with_that(tmp_path: Path) -> None:
    chart = charted((224639, 9, "70", 70), (224639, 20, "140", 140))
    _, data = prepared(tmp_path, chart, emptied(*((226559, h, 70) for h in range(1, 9))))
    assert series(data, "urine_rate_6h") == [(6, 1), (7, 1), (8, 1)]


def test_a_gap_of_urine_has_no_rate_of_six_hours(tmp_path: Path) -> None:
    chart = charted((226512, 1, "70", 70))
    _, data = prepared(tmp_path / "long", chart, emptied((226559, 1, 70), (226559, 14, 910)))
    assert series(data, "urine_rate_6h") == []
    assert series(data, "urine_rate_12h") == [(14, 1)]
    _, data = prepared(tmp_path / "unweighed", outputs=emptied(*((226559, h, 70) for h in range(1, 9))))
    assert series(data, "urine_rate_6h") == []
    assert len(series(data, "urine_hours_6h")) == 8


def test_a_row_entered_after_the_question_is_in_no_sum(tmp_path: Path) -> None:
    hourly = emptied(*((226559, h, 70) for h in range(36, 49)))
    hourly[5] |= {"storetime": at(48.1)}
    _, data = prepared(tmp_path, charted((226512, 1, "70", 70)), hourly)
    assert [h for h, _ in series(data, "urine_output")] == [36, 37, 38, 39, 40, 42, 43, 44, 45, 46, 47, 48]
    # over the gap the hours go on, the urine does not
    assert dict(series(data, "urine_rate_6h"))[42] == pytest.approx(6 / 7, abs=1e-4)


# --- films ------------------------------------------------------------------------------------------------------------


def film(dicom: str, view: str | None, hours: float, study: int = 1, subject: int = 1) -> dict[str, Any]:
    taken = BEGUN + timedelta(hours=hours)
    return {
        "dicom_id": dicom,
        "subject_id": subject,
        "study_id": study,
        "ViewPosition": view,
        "StudyDate": f"{taken:%Y%m%d}",
        "StudyTime": f"{taken:%H%M%S}",
    }


def album(folder: Path, films: Sequence[dict[str, Any]], without: Sequence[str] = ()) -> Path:
    """A folder of films; so many tenths of each are white as its place in their order says. Some have no file."""
    write_tables(folder, {METADATA: films})
    for i, row in enumerate(films, 1):
        subject = str(row["subject_id"])
        place = folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{row['study_id']}"
        place.mkdir(parents=True, exist_ok=True)
        if row["dicom_id"] not in without:
            pixels = np.zeros((40, 40), dtype=np.uint8)
            pixels[:, : 4 * i] = 255
            Image.fromarray(pixels).save(place / f"{row['dicom_id']}.png")
    return folder


def shown(data: PatientDataset) -> tuple[int, float] | None:
    """Which film the first sample has, counted from one, and of which hour."""
    images = data.values["cxr"]
    assert isinstance(images, ItemArrays)
    if images.offsets[1] == 0:
        return None
    return round(float(np.mean(images.values[0])) / 25.5), float(images.hours[0]) + 48


@pytest.mark.parametrize(
    ("films", "expected"),
    [
        # the window, at both ends
        ([film("a", "AP", -24)], (1, -24)),
        ([film("a", "AP", -24.01)], None),
        ([film("a", "AP", 48)], (1, 48)),
        ([film("a", "AP", 48.01)], None),
        # the latest before the question
        ([film("a", "AP", 3), film("b", "AP", 9, 2), film("c", "AP", 49, 3)], (2, 9)),
        # a film from behind does not stand for its study, nor does one after the question hide an earlier one
        ([film("a", "AP", 3), film("b", "PA", 3.1)], (1, 3)),
        ([film("a", "AP", 47), film("b", "AP", 49)], (1, 47)),
        # names of views
        ([film("a", "AP Supine", 3)], (1, 3)),
        ([film("a", "ap erect", 3)], (1, 3)),
        ([film("a", "AP AXIAL", 3), film("b", "LATERAL", 3), film("c", None, 3), film("d", "FRONT", 3)], None),
    ],
)
def test_which_film(tmp_path: Path, films: list[dict[str, Any]], expected: tuple[int, float] | None) -> None:
    others = [film("z", "AP", 1, 99, subject=999)]
    extract, data = prepared(tmp_path, cxr=album(tmp_path / "cxr", [*films, *others]))
    got = shown(data)
    assert got == (None if expected is None else (expected[0], pytest.approx(expected[1], abs=1e-3)))
    assert extract.stays.filter(stay_id=110)["film"].is_not_null().item() is (expected is not None)


def test_views_are_counted_by_what_is_known_of_them(tmp_path: Path) -> None:
    views = ["AP", "AP AXIAL", "LATERAL", None, "FRONT"]
    films = [film(f"d{i}", view, 3 + i, i) for i, view in enumerate(views)]
    extract, _ = prepared(tmp_path, cxr=album(tmp_path / "cxr", films))
    assert [w.split(": ")[1] for w in extract.warnings if METADATA in w] == [
        "fewer than 10 images without a view position",
        "fewer than 10 images of another view than AP",
        "fewer than 10 images of a view whose name nobody knows",
    ]


def test_without_any_film_the_base_cohort_stands(tmp_path: Path) -> None:
    _, data = prepared(tmp_path, cxr=album(tmp_path / "cxr", [film("a", "PA", 3), film("z", "AP", 1, 9, subject=999)]))
    assert shown(data) is None
    assert data.schema.modality_names == ("ehr", "cxr")


def test_a_film_that_has_no_file_is_none(tmp_path: Path) -> None:
    films = [film("a", "AP", 3), film("b", "AP", 24 * 61 + 3, subject=2)]
    _, data = prepared(tmp_path, cxr=album(tmp_path / "cxr", films, without=["a"]))
    assert shown(data) is None
    assert data.present[:, 1].tolist() == [False, True]
    assert "modality 'cxr': fewer than 10 images left out that are not there" in data.manifest["warnings"]


def test_films_that_no_metadata_names_are_no_records(tmp_path: Path) -> None:
    folder = album(tmp_path / "cxr", [film("a", "AP", 3)])
    (folder / f"{METADATA}.csv").unlink()
    with pytest.raises(SourceError, match=f"table '{METADATA}'"):
        prepared(tmp_path, cxr=folder)


def test_nobody_with_urine_or_scores(tmp_path: Path) -> None:
    _, data = prepared(tmp_path, outputs=rows("outputevents", (1, 11, 110, 226559, at(60), None, 9, "mL")))
    assert series(data, "heart_rate") == [(1, 80)]
    assert series(data, "urine_output") == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tables = {
        "diagnoses_icd": CODES,
        "chartevents": charted((220045, 1, "80", 80)),
        "outputevents": emptied((226559, 1, 9)),
    }
    return write_mimic(tmp_path / "root", tables)


def matched(tree: Path, folder: Path, films: list[dict[str, Any]], without: Sequence[str] = ()) -> list[int]:
    records = doors.carebench(tree, folder / "work", cxr=album(folder / "cxr", films, without), matched=True, side=32)
    return records.cohort(records.extract, False).samples["stay_id"].to_list()


def test_matched_stays_have_a_film_that_is_there(tree: Path, tmp_path: Path) -> None:
    films = [film("a", "AP", 3), film("b", "AP", 24 * 61 - 25, subject=2)]
    assert matched(tree, tmp_path / "one", films) == [110]
    early = [film("a", "AP", 3), film("b", "AP", 24 * 61 + 3, subject=2)]
    assert matched(tree, tmp_path / "both", early) == [110, 120]
    assert matched(tree, tmp_path / "lost", early, without=["a"]) == [120]


def test_matched_without_films_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="films to match"):
        doors.carebench(tree, tmp_path / "work", matched=True)
    with pytest.raises(SourceError, match="none after 'matched: an AP film"):
        matched(tree, tmp_path / "none", [film("a", "PA", 3)])


def test_matched_without_the_files_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the files that its records name, got fewer than half of them"):
        matched(tree, tmp_path / "lost", [film("a", "AP", 3)], without=["a"])


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("diagnoses_icd", "none after 'documented: the admission has a diagnosis code'"),
        ("discharge", "none after 'documented: the admission has a discharge summary'"),
    ],
)
def test_a_table_with_a_header_alone_documents_nobody(tree: Path, tmp_path: Path, table: str, why: str) -> None:
    folder = tree / ("note" if table == "discharge" else "hosp")
    folder.mkdir(exist_ok=True)
    (folder / f"{table}.csv").write_text(",".join(COLUMNS[table].split()) + "\n")
    records = doors.carebench(tree, tmp_path / "work", notes=tree if table == "discharge" else None)
    with pytest.raises(SourceError, match=why):
        records.cohort(records.extract, True)


def test_sides_too_small_for_a_network_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--image-side: expected 32 pixels or more"):
        doors.carebench(tree, tmp_path / "work", side=16)


@pytest.mark.parametrize("table", ["chartevents", "outputevents", "diagnoses_icd"])
def test_tables_that_it_cannot_do_without(tree: Path, tmp_path: Path, table: str) -> None:
    next(tree.glob(f"*/{table}.csv")).unlink()
    with pytest.raises(SourceError, match=f"table '{table}'"):
        doors.carebench(tree, tmp_path / "work")
    if table == "diagnoses_icd":
        # nobody is billed before leaving
        records = doors.carebench(tree, tmp_path / "work", answered=False)
        assert 110 in records.cohort(records.extract, False).samples["stay_id"]


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_risks_of_other_questions_are_refused(tree: Path, tmp_path: Path) -> None:
    records = doors.carebench(tree, tmp_path / "work")
    risks = pl.DataFrame({"stay_id": [110, 120], "mortality": [0.1, 0.9]})
    extract = replace(records.extract, truth=risks)
    mortality, shock = ([q for q in carebench_questions() if q.task.name == name] for name in ("mortality", "shock"))
    criteria = carebench_criteria(notes=False, matched=False)
    assert dataset_of(extract, build_cohort(extract, criteria, mortality)).bayes is not None
    both = build_cohort(extract, criteria, [*mortality, *shock], panels=[Panel("all", ("mortality", "shock"))])
    with pytest.raises(SourceError, match="truth: expected risks of each task, got none of 'shock'"):
        dataset_of(extract, both)


def test_a_store_of_the_demo_is_made_again_by_its_recipe(tmp_path: Path) -> None:
    demo = open_data("mimic-iv-demo-2.2")
    doors.write_records(doors.carebench(demo, tmp_path / "work"), tmp_path / "store")
    store = open_store(tmp_path / "store")
    recipe = Recipe.from_dict(store.manifest["recipe"], "store")
    records = doors.again(recipe, demo, tmp_path / "again").following(recipe, tmp_path / "again")
    cohort = records.cohort(records.extract, False)
    data = dataset_of(records.extract, cohort)
    assert data.schema.digest() == store.schema.digest()
    # who is documented is not known beforehand: more may be asked
    place = {stay: i for i, stay in enumerate(data.stay_id.tolist())}
    ours, theirs = store.values["ehr"], data.values["ehr"]
    assert isinstance(ours, SeriesArrays)
    assert isinstance(theirs, SeriesArrays)
    for i, stay in enumerate(store.stay_id.tolist()):
        j = place[stay]
        for of in ("hours", "feature", "values"):
            mine = getattr(ours, of)[ours.offsets[i] : ours.offsets[i + 1]]
            assert np.array_equal(mine, getattr(theirs, of)[theirs.offsets[j] : theirs.offsets[j + 1]])
    assert cohort.samples["asked:mortality"].all()


def other_list(folder: Path, **changes: Any) -> Path:
    """Each of the 25 groups with two codes of its own choice, in the form that benchmarks release theirs."""
    groups = {p.description: {"use_in_benchmark": True, "id": p.ccs, "codes": ["4280", " i10 "]} for p in phenotypes()}
    groups["Septicemia (except in labor)"] = {"codes": ["038.9", "A419"]}
    path = folder / "list.yaml"
    path.write_text(yaml.safe_dump({"Something else": {"codes": [1]}, **groups, **changes}))
    return path


def test_another_list_of_codes_decides_the_phenotypes_and_the_tasks_say_so(tmp_path: Path) -> None:
    root = open_data("mimic-iv-demo-2.2")
    codes = read_list(other_list(tmp_path))
    assert codes["sepsis"] == ["0389", "A419"]
    records = doors.carebench(root, tmp_path / "work", phenotypes=codes)
    data = dataset_of(records.extract, records.cohort(records.extract, True))
    table = next((root / "hosp").glob("diagnoses_icd.csv*"))
    content = gzip.decompress(table.read_bytes()) if table.suffix == ".gz" else table.read_bytes()
    raw = pl.read_csv(content, infer_schema=False)
    for name, wanted in (("sepsis", ["0389", "A419"]), ("shock", ["4280", "I10"])):
        billed = raw.filter(pl.col("icd_code").str.strip_chars().is_in(wanted))["hadm_id"].cast(pl.Int64)
        column = data.schema.task_names.index(name)
        assert data.labels[:, column].tolist() == np.isin(data.hadm_id, billed.to_numpy()).tolist()
        assert 0 < data.labels[:, column].sum() < len(data)
        assert "by another list" in data.schema.tasks[column].outcome
    usual = doors.carebench(root, tmp_path / "usual")
    assert usual.extract.fingerprint != records.extract.fingerprint
    assert "phenotypes" not in usual.options
    again = doors.carebench(root, tmp_path / "again", answered=False, **records.options)
    assert again.cohort(again.extract, False).tasks == records.cohort(records.extract, True).tasks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Shock": {"codes": [4280]}}, "expected codes in quotes of 'Shock', got none"),
        ({"Shock": {"codes": []}}, "expected codes in quotes of 'Shock'"),
        ({"Shock": None}, "of 'Shock', got no such group"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read_list(other_list(tmp_path, **change))
    (tmp_path / "not.yaml").write_text("[1, 2")
    for path in (tmp_path / "not.yaml", tmp_path / "gone.yaml"):
        with pytest.raises(SourceError, match="a YAML file of groups"):
            read_list(path)
    (tmp_path / "other.yaml").write_text("- a\n- b\n")
    with pytest.raises(SourceError, match="got no such group"):
        read_list(tmp_path / "other.yaml")

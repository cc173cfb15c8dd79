"""MedFuse's two questions on the open demo, held against the raw tables; its rules and labels on hand-made records."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.medfuse import medfuse_criteria, medfuse_questions
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, SourceError
from mmnar.sources.mimic_iv.medfuse import Asked, read_medfuse
from mmnar.workflow import doors
from tests.cohort.test_carebench import moment, raw
from tests.mimic import admission, patient, people, rows, unit_stay, write_mimic
from tests.records import open_data

TWO_DAYS = timedelta(hours=48)


@pytest.fixture(scope="module")
def of_death(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort, PatientDataset]:
    root = open_data("mimic-iv-demo-2.2")
    return root, *asked_of(root, tmp_path_factory.mktemp("mortality"), "mortality")


def asked_of(root: Path, work: Path, asked: Asked) -> tuple[Cohort, PatientDataset]:
    extract = read_medfuse(root, work=work, asked=asked)
    cohort = build_cohort(extract, medfuse_criteria(asked), medfuse_questions(asked))
    return cohort, dataset_of(extract, cohort)


# --- the demo ---------------------------------------------------------------------------------------------------------


def adults_of_the_demo(root: Path) -> tuple[list[int], dict[int, dict[str, str]]]:
    """How many stays are left by each rule, and the last of them, by the raw tables alone."""
    stays = list(raw(root, "icustays"))
    admitted = {row["hadm_id"]: row for row in raw(root, "admissions")}
    born = {row["subject_id"]: int(row["anchor_year"]) - int(row["anchor_age"]) for row in raw(root, "patients")}
    same = [row for row in stays if row["first_careunit"] == row["last_careunit"]]
    times = Counter(row["hadm_id"] for row in same)
    alone = [row for row in same if times[row["hadm_id"]] == 1]
    adult = []
    for row in alone:
        admittime = moment(admitted[row["hadm_id"]]["admittime"])
        assert admittime is not None
        if admittime.year - born[row["subject_id"]] >= 18:
            adult.append(row)
    kept = [len(stays), len(same), len(alone), len(adult)]
    return kept, {int(row["stay_id"]): row for row in adult}


def span(row: dict[str, str]) -> tuple[datetime, datetime]:
    begun, ended = moment(row["intime"]), moment(row["outtime"])
    assert begun is not None
    assert ended is not None
    return begun, ended


def test_mortality_on_the_demo_to_the_stay(of_death: tuple[Path, Cohort, PatientDataset]) -> None:
    root, cohort, data = of_death
    kept, stays = adults_of_the_demo(root)
    long = {stay: row for stay, row in stays.items() if span(row)[1] - span(row)[0] >= TWO_DAYS}
    steps = cohort.attrition["cohort"]
    # nobody's stay ends before it begins
    assert [step.kept for step in steps] == [*kept, kept[-1], len(long)] == [140, 129, 112, 112, 112, 54]
    assert [step.hindsight for step in steps] == [False, True, True, False, True, False]
    assert set(data.stay_id.tolist()) == set(long)
    assert (cohort.samples["prediction_time"] - cohort.samples["since"]).unique().to_list() == [TWO_DAYS]
    died = {int(row["hadm_id"]): row["hospital_expire_flag"] == "1" for row in raw(root, "admissions")}
    assert data.labels[:, 0].tolist() == [died[int(h)] for h in data.hadm_id]
    assert data.labels.sum() == 9


def test_phenotypes_on_the_demo_are_those_of_the_raw_table(tmp_path: Path) -> None:
    """Of everybody, also where the unit stay and the admission end in the same minute."""
    root = open_data("mimic-iv-demo-2.2")
    _, data = asked_of(root, tmp_path, "phenotypes")
    _, stays = adults_of_the_demo(root)
    billed: dict[int, set[tuple[str, str]]] = {}
    for row in raw(root, "diagnoses_icd"):
        billed.setdefault(int(row["hadm_id"]), set()).add((row["icd_version"].strip(), row["icd_code"].strip()))
    assert set(data.stay_id.tolist()) == {s for s, row in stays.items() if int(row["hadm_id"]) in billed}
    assert len(data) == 112
    table = Path(read_medfuse.__code__.co_filename).parents[1] / "codes" / "phenotypes.csv"
    with table.open() as handle:
        groups = {row["phenotype"].lower(): row for row in csv.DictReader(handle)}

    def member(version: str, code: str, group: dict[str, str]) -> bool:
        cells = group[f"icd{version}"].split(";")
        return any(code == c[1:] if c[0] == "=" else code.startswith(c) for c in cells)

    for name, group in groups.items():
        expected = [any(member(*code, group) for code in billed[int(h)]) for h in data.hadm_id]
        assert data.labels[:, data.schema.task_names.index(name)].tolist() == expected, name
    for stay, at in zip(data.stay_id.tolist(), data.prediction_time.tolist(), strict=True):
        assert datetime(1970, 1, 1) + timedelta(microseconds=at) == span(stays[stay])[1]


def test_values_on_the_demo_are_those_of_the_raw_table(of_death: tuple[Path, Cohort, PatientDataset]) -> None:
    """Heart rate, and the level of every movement score, at their own times; nothing from before the unit."""
    root, _, data = of_death
    _, stays = adults_of_the_demo(root)
    place = {stay: i for i, stay in enumerate(data.stay_id.tolist())}
    expected: dict[tuple[int, str], set[tuple[float, float]]] = {}
    scores: dict[tuple[int, float], float] = {}
    of_patient: dict[str, list[int]] = {}
    for stay in place:
        of_patient.setdefault(stays[stay]["subject_id"], []).append(stay)
    for row in raw(root, "chartevents"):
        if row["itemid"] not in ("220045", "223901") or not row["valuenum"]:
            continue
        at, value = moment(row["charttime"]), float(row["valuenum"])
        assert at is not None
        # stays of one patient may overlap: what is charted of the patient counts, whichever of them it names
        for stay in of_patient.get(row["subject_id"], []):
            hour = (at - span(stays[stay])[0]) / timedelta(hours=1) - 48
            if not -48 <= hour <= 0:
                continue
            if row["itemid"] == "223901":
                scores[stay, hour] = max(value, scores.get((stay, hour), 0))
            elif 10 <= value <= 300:
                expected.setdefault((stay, "heart_rate"), set()).add((hour, value))
    for (stay, hour), score in scores.items():
        for level in range(1, 7):
            cell = (hour, float(score == level))
            expected.setdefault((stay, f"gcs_motor_{level}"), set()).add(cell)
    content = data.values["ehr"]
    assert isinstance(content, SeriesArrays)
    names = data.schema.modalities[0].feature_names
    for stay, i in place.items():
        own = slice(content.offsets[i], content.offsets[i + 1])
        for name in ("heart_rate", *(f"gcs_motor_{level}" for level in range(1, 7))):
            mine = content.feature[own] == names.index(name)
            got = np.column_stack([content.hours[own][mine], content.values[own][mine]])
            wanted = np.array(sorted(expected.get((stay, name), set()))).reshape(-1, 2)
            assert got.shape == wanted.shape, (name, got, wanted)
            assert np.allclose(got, wanted, atol=1e-4), name
    assert sum(map(len, expected.values())) > 3000


def test_a_store_of_the_demo_is_made_again_by_its_recipe(tmp_path: Path) -> None:
    demo = open_data("mimic-iv-demo-2.2")
    cases: tuple[tuple[Asked, str], ...] = (("mortality", "labevents"), ("phenotypes", "diagnoses_icd"))
    for asked, table in cases:
        doors.write_records(doors.medfuse(demo, tmp_path / asked / "work", task=asked), tmp_path / asked / "store")
        store = open_store(tmp_path / asked / "store")
        recipe = Recipe.from_dict(store.manifest["recipe"], "store")
        records = doors.again(recipe, demo, tmp_path / asked / "again").following(recipe, tmp_path / asked / "again")
        # billing codes are not looked at
        assert (table in records.extract.details["tables"]) is (asked == "mortality")
        cohort = records.cohort(records.extract, False)
        data = dataset_of(records.extract, cohort)
        assert data.schema.digest() == store.schema.digest()
        assert set(store.stay_id.tolist()) < set(data.stay_id.tolist())
        assert all(cohort.samples[f"asked:{name}"].all() for name in store.schema.task_names)


# --- rules and labels by hand -----------------------------------------------------------------------------------------

CODES = rows("diagnoses_icd", *((s, h, "I10", 10) for s, h in ((1, 13), (2, 20), (4, 40), (6, 60))))
CHART = rows("chartevents", (6, 60, 160, 220045, "2150-08-31 13:00:00", None, 80, "bpm"))
PH = rows("labevents", (6, 60, 50820, "2150-08-31 14:00:00", None, 7.4, "units"))


def tables(**of_6: Any) -> dict[str, Any]:
    """Subject 6 is in hospital for three days and in the unit for two and a half, on top of ``people``."""
    times = {"admittime": "2150-08-31 09:00:00", "dischtime": "2150-09-03 09:00:00"}
    unit = {"intime": "2150-08-31 10:00:00", "outtime": "2150-09-02 22:00:00"}
    stay = unit | {k: of_6.pop(k) for k in list(of_6) if k in unit}
    last = of_6.pop("last_careunit", None)
    who = people()
    own = unit_stay(6, 60, 160, **stay)
    return {
        "patients": [*who["patients"], patient(6)],
        "admissions": [*who["admissions"], admission(6, 60, **(times | of_6))],
        "icustays": [*who["icustays"], own | ({"last_careunit": last} if last else {})],
        "diagnoses_icd": CODES,
        "chartevents": CHART,
        "labevents": PH,
    }


def cohort_of(folder: Path, given: dict[str, Any], asked: Asked, only: str = "mortality", **options: Any) -> Cohort:
    extract = read_medfuse(
        write_mimic(folder / "root", given), work=folder / "work", asked=asked, answered=options.get("answered", True)
    )
    questions = [q for q in medfuse_questions(asked) if q.task.name == only]
    return build_cohort(extract, medfuse_criteria(asked), questions, **options)


def labels(cohort: Cohort, task: str) -> dict[int, bool]:
    return dict(cohort.samples.drop_nulls(f"label:{task}").select("stay_id", f"label:{task}").rows())


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({}, {120, 160}),
        # planned or not
        ({"admission_type": "ELECTIVE"}, {120, 160}),
        ({"outtime": "2150-09-02 10:00:00"}, {120, 160}),
        ({"outtime": "2150-09-02 09:59:59"}, {120}),
        ({"outtime": "2150-08-30 10:00:00"}, {120}),
        ({"outtime": None}, {120}),
        ({"last_careunit": "Coronary Care Unit (CCU)"}, {120}),
    ],
)
def test_who_is_asked_of_death(tmp_path: Path, change: dict[str, Any], stays: set[int]) -> None:
    """1 is twice in the unit in one admission and for a day in another, 3 is seventeen, 4 leaves after a day."""
    given = tables(**change)
    left = read_medfuse(write_mimic(tmp_path / "root", given), work=tmp_path / "work").stays
    for rule in medfuse_criteria("mortality"):
        # not by build_cohort, which wants the living and the dead
        left = left.filter(rule.keep.fill_null(False))
    assert set(left["stay_id"]) == stays


def test_a_stay_with_a_transfer_does_not_count_against_the_other(tmp_path: Path) -> None:
    """Admission 11 has two stays: with one of them transferred, the other is its only one."""
    given = tables()
    for row in given["icustays"]:
        if row["stay_id"] == 111:
            row["last_careunit"] = "Coronary Care Unit (CCU)"
    assert set(labels(cohort_of(tmp_path, given, "mortality"), "mortality")) == {110, 120, 160}


def test_before_the_end_hindsight_is_not_applied(tmp_path: Path) -> None:
    given = tables(outtime=None, last_careunit="Coronary Care Unit (CCU)")
    cohort = cohort_of(tmp_path, given, "mortality", answered=False)
    assert set(cohort.samples["stay_id"]) == {110, 120, 160}


def test_a_tree_without_the_last_unit_can_be_scored(tmp_path: Path) -> None:
    given = tables()
    given["icustays"] = [{k: v for k, v in row.items() if k != "last_careunit"} for row in given["icustays"]]
    assert 160 in set(cohort_of(tmp_path / "a", given, "mortality", answered=False).samples["stay_id"])
    with pytest.raises(SourceError, match="no transfer between units"):
        cohort_of(tmp_path / "b", given, "mortality")


def test_mortality_is_not_asked_of_the_dead(tmp_path: Path) -> None:
    dead = {"hospital_expire_flag": 1, "deathtime": "2150-09-02 10:00:00", "discharge_location": "DIED"}
    given = tables(**dead)
    given["icustays"] = [row for row in given["icustays"] if row["stay_id"] != 111]
    assert labels(cohort_of(tmp_path, given, "mortality"), "mortality") == {110: False, 120: True}


def test_phenotypes_are_asked_at_the_end_of_stays_of_any_length(tmp_path: Path) -> None:
    """Of who dies in the unit, and whose admission, on paper or not, ends with the stay or before, codes are there."""
    dead = {"hospital_expire_flag": 1, "deathtime": "2150-09-02 22:00:00", "discharge_location": "DIED"}
    infarct = [*CODES[:-1], *rows("diagnoses_icd", (6, 60, "I2109", 10))]
    for name, end in (("with", "2150-09-02 22:00:00"), ("before", "2150-09-02 00:00:00")):
        given = tables(dischtime=end, **dead) | {"diagnoses_icd": infarct}
        cohort = cohort_of(tmp_path / name, given, "phenotypes", "ami")
        assert labels(cohort, "ami") == {113: False, 120: False, 140: False, 160: True}
        ends = dict(cohort.samples.select("stay_id", "prediction_time").iter_rows())
        assert ends[160] == datetime(2150, 9, 2, 22)
    assert cohort.tasks[0].asked_at == "unit discharge, looking back on the whole unit stay"


def test_an_admission_without_codes_has_no_known_phenotype(tmp_path: Path) -> None:
    given = tables() | {"diagnoses_icd": [*rows("diagnoses_icd", (1, 13, "I2109", 10)), *CODES[1:-1]]}
    cohort = cohort_of(tmp_path, given, "phenotypes", "ami")
    assert labels(cohort, "ami") == {113: True, 120: False, 140: False}
    assert cohort.attrition["ami"][-1].hindsight


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    root = write_mimic(tmp_path / "root", tables())
    with pytest.raises(ConfigError, match="--phenotypes: expected --task phenotypes"):
        doors.medfuse(root, tmp_path / "work", phenotypes={"ami": ["I2109"]})
    with pytest.raises(ConfigError, match="--image-side"):
        doors.medfuse(root, tmp_path / "work", side=16)


@pytest.mark.parametrize("table", ["chartevents", "labevents", "diagnoses_icd"])
def test_tables_that_it_cannot_do_without(tmp_path: Path, table: str) -> None:
    root = write_mimic(tmp_path / "root", tables())
    next(root.glob(f"*/{table}.csv*")).unlink()
    with pytest.raises(SourceError, match=f"table '{table}'"):
        doors.medfuse(root, tmp_path / "work", task="phenotypes")
    if table == "diagnoses_icd":
        doors.medfuse(root, tmp_path / "mortality")
        doors.medfuse(root, tmp_path / "early", task="phenotypes", answered=False)

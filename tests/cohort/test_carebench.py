"""CareBench on the open demo, held against the raw tables row by row, and its rules and labels on hand-made records."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.carebench import carebench_criteria, carebench_questions
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.sources.events import Extract
from mmnar.sources.mimic_iv.carebench import read_carebench
from tests.mimic import admission, patient, people, rows, unit_stay, write_mimic
from tests.records import open_data

Raw = dict[str, str]


@dataclass(frozen=True)
class Demo:
    root: Path
    extract: Extract
    cohort: Cohort
    data: PatientDataset


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = open_data("mimic-iv-demo-2.2")
    extract = read_carebench(root, work=tmp_path_factory.mktemp("demo"))
    cohort = build_cohort(extract, carebench_criteria(notes=False, matched=False), carebench_questions())
    return Demo(root, extract, cohort, dataset_of(extract, cohort))


def raw(root: Path, table: str) -> Iterator[Raw]:
    """Rows as they are on disk."""
    path = next(p for p in sorted(root.glob(f"*/{table}.csv*")))
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as handle:
        yield from csv.DictReader(handle)


def moment(text: str) -> datetime | None:
    if not text:
        return None
    return datetime.strptime(text, "%m/%d/%Y %H:%M") if "/" in text else datetime.fromisoformat(text)


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_attrition_on_the_demo_to_the_stay(demo: Demo) -> None:
    steps = demo.cohort.attrition["cohort"]
    assert [step.kept for step in steps] == [140, 140, 138, 135, 117, 106, 59]
    assert [step.hindsight for step in steps] == [False, True, True, False, False, False, False]
    assert steps[-1].subjects == 48
    samples = demo.cohort.samples
    assert samples["label:mortality"].null_count() == 0
    assert samples["label:mortality"].sum() == 11
    assert (samples["prediction_time"] - samples["since"]).unique().to_list() == [timedelta(hours=72)]


def test_phenotypes_on_the_demo_are_those_of_the_raw_table(demo: Demo) -> None:
    """Counted code by code, without any of the product's readers."""
    table = Path(carebench_criteria.__code__.co_filename).parents[1] / "sources" / "codes" / "phenotypes.csv"
    with table.open() as handle:
        groups = {row["phenotype"].lower(): row for row in csv.DictReader(handle)}
    assert len(groups) == 25
    billed: dict[int, set[tuple[str, str]]] = {}
    for row in raw(demo.root, "diagnoses_icd"):
        billed.setdefault(int(row["hadm_id"]), set()).add((row["icd_version"].strip(), row["icd_code"].strip()))

    def member(version: str, code: str, group: Raw) -> bool:
        cells = group[f"icd{version}"].split(";")
        return any(code == c[1:] if c[0] == "=" else code.startswith(c) for c in cells)

    for name, group in groups.items():
        expected = [any(member(*code, group) for code in billed[int(h)]) for h in demo.data.hadm_id]
        column = demo.data.schema.task_names.index(name)
        assert demo.data.labels[:, column].tolist() == expected, name
        assert demo.data.label_mask[:, column].all()
        assert 4 <= sum(expected) <= 33, name


def test_length_of_stay_on_the_demo(demo: Demo) -> None:
    stays = {int(row["stay_id"]): row for row in raw(demo.root, "icustays")}
    own = [stays[int(s)] for s in demo.data.stay_id]
    days = [(moment(r["outtime"]) - moment(r["intime"])) / timedelta(days=1) for r in own]  # type: ignore[operator]
    expected = np.digitize(days, [2, 3, 4, 5, 6, 7, 14]) - 1
    labels = demo.data.labels[:, [n.startswith("los_") for n in demo.data.schema.task_names]]
    assert (labels.sum(axis=1) == 1).all()
    assert labels.argmax(axis=1).tolist() == expected.tolist()
    assert labels.sum(axis=0).tolist() == [15, 11, 8, 4, 4, 13, 4]


URINE = {226557, 226558, 226559, 226560, 226561, 226563, 226564, 226565, 226567, 226584, 227489}
WEIGHT = {226512, 224639}


def _known(row: Raw, asked: datetime) -> datetime | None:
    """When a row happened, if that was known at the question."""
    happened, stored = moment(row["charttime"]), moment(row["storetime"])
    assert happened is not None
    return happened if max(happened, stored or happened) <= asked else None


def _rates(urine: dict[datetime, float], weights: list[tuple[datetime, float]], window: int) -> dict[datetime, float]:
    """KDIGO rates of one stay, by the definition, in plain Python."""
    times = sorted(urine)
    hours = {t: (t - before) / timedelta(hours=1) for before, t in pairwise(times)} | {times[0]: 1}
    rates = {}
    for t in times:
        inside = [s for s in times if t - timedelta(hours=window) <= s <= t]
        over, ml = sum(hours[s] for s in inside), sum(urine[s] for s in inside)
        by_then = [w for at, w in weights if at <= t] or [w for _, w in weights[:1]]
        if by_then and over >= window and (window > 6 or over < 12) and 0 <= ml / by_then[-1] / over <= 50:
            rates[t] = ml / by_then[-1] / over
    return rates


def test_rates_of_urine_on_the_demo(demo: Demo) -> None:
    """Every stay and window, from the raw rows in float64."""
    asked = {int(s): t for s, t in demo.cohort.samples.select("stay_id", "prediction_time").iter_rows()}
    begun = {s: t - timedelta(hours=72) for s, t in asked.items()}
    urine: dict[int, Counter[datetime]] = {s: Counter() for s in asked}
    weights: dict[int, list[tuple[datetime, float]]] = {s: [] for s in asked}
    for row in raw(demo.root, "outputevents"):
        stay = int(row["stay_id"])
        if stay in asked and int(row["itemid"]) in URINE | {227488}:
            t = _known(row, asked[stay])
            if t is not None and t >= begun[stay]:
                urine[stay][t] += float(row["value"]) * (-1 if row["itemid"] == "227488" else 1)  # type: ignore[assignment]
    for row in raw(demo.root, "chartevents"):
        # rows of the rebuilt table that lie in no unit stay
        stay = int(row["stay_id"] or 0)
        if int(row["itemid"]) in WEIGHT and stay in asked and 20 <= float(row["valuenum"]) <= 400:
            t = _known(row, asked[stay])
            if t is not None and t >= begun[stay]:
                weights[stay].append((t, float(row["valuenum"])))
    series = demo.data.values["ehr"]
    assert isinstance(series, SeriesArrays)
    names = demo.data.schema.modalities[0].feature_names
    compared = 0
    for i, stay in enumerate(demo.data.stay_id.tolist()):
        own = slice(series.offsets[i], series.offsets[i + 1])
        for window in (6, 12, 24):
            rule = series.feature[own] == names.index(f"urine_rate_{window}h")
            got = list(zip(series.hours[own][rule].tolist(), series.values[own][rule].tolist(), strict=True))
            expected = _rates(urine[stay], sorted(weights[stay]), window) if urine[stay] else {}  # type: ignore[arg-type]
            wanted = sorted(((t - asked[stay]) / timedelta(hours=1), rate) for t, rate in expected.items())
            assert got == [(pytest.approx(h, abs=1e-4), pytest.approx(r, rel=1e-5)) for h, r in wanted], stay
            compared += len(wanted)
    assert compared > 2000


# --- rules and labels by hand -----------------------------------------------------------------------------------------

CODES = rows("diagnoses_icd", *((s, h, "I10", 10) for s, h in ((1, 11), (2, 20), (4, 40), (6, 60))))
CHART = rows("chartevents", (6, 60, 160, 220045, "2150-08-31 13:00:00", None, 80, "bpm"))
URINES = rows("outputevents", (6, 60, 160, 226559, "2150-08-31 13:00:00", None, 80, "mL"))


def tables(**of_6: Any) -> dict[str, Any]:
    """Subject 6 is in hospital for three days and in the unit for two and a half, on top of ``people``."""
    times = {"admittime": "2150-08-31 09:00:00", "dischtime": "2150-09-03 09:00:00"}
    unit = {"intime": "2150-08-31 10:00:00", "outtime": "2150-09-02 22:00:00"}
    stay = unit | {k: of_6.pop(k) for k in list(of_6) if k in unit}
    who = people()
    return {
        "patients": [*who["patients"], patient(6)],
        "admissions": [*who["admissions"], admission(6, 60, **(times | of_6))],
        "icustays": [*who["icustays"], unit_stay(6, 60, 160, **stay)],
        "diagnoses_icd": CODES,
        "chartevents": CHART,
        "outputevents": URINES,
    }


def cohort_of(folder: Path, given: dict[str, Any], only: str = "mortality", **options: Any) -> Cohort:
    notes = write_mimic(folder / "root", given) if "discharge" in given else None
    extract = read_carebench(write_mimic(folder / "root", given), work=folder / "work", notes=notes)
    questions = [q for q in carebench_questions() if q.task.name == only]
    return build_cohort(extract, carebench_criteria(notes=notes is not None, matched=False), questions, **options)


def kept(folder: Path, given: dict[str, Any], **options: Any) -> set[int]:
    return set(cohort_of(folder, given, answered=False, **options).samples["stay_id"])


def labels(cohort: Cohort, task: str) -> dict[int, bool]:
    return dict(cohort.samples.drop_nulls(f"label:{task}").select("stay_id", f"label:{task}").rows())


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({}, {110, 120, 160}),
        ({"admission_type": "ELECTIVE"}, {110, 120}),
        ({"admission_type": "SURGICAL SAME DAY ADMISSION"}, {110, 120}),
        ({"admission_type": "EU OBSERVATION"}, {110, 120, 160}),
        ({"admission_type": None}, {110, 120, 160}),
        # 48 h to the second, and one less
        ({"outtime": "2150-09-02 10:00:00"}, {110, 120, 160}),
        ({"outtime": "2150-09-02 09:59:59"}, {110, 120}),
        # in the unit at the very minute of admission, and before it
        ({"admittime": "2150-08-31 10:00:00"}, {110, 120, 160}),
        ({"admittime": "2150-08-31 10:00:01"}, {110, 120}),
        ({"dischtime": None}, {110, 120}),
    ],
)
def test_who_is_in(tmp_path: Path, change: dict[str, Any], stays: set[int]) -> None:
    """1 has a second unit stay and a planned return, 3 is seventeen and never coded, 4 leaves after a day."""
    assert set(cohort_of(tmp_path, tables(**change)).samples["stay_id"]) == stays


def test_who_is_not_documented_is_out_and_that_is_hindsight(tmp_path: Path) -> None:
    summary = rows("discharge", (6, 60, "2150-09-03 00:00:00", None, "went home"), (2, 20, "2150-05-05", None, "died"))
    given = tables() | {"discharge": summary}
    cohort = cohort_of(tmp_path / "notes", given)
    assert set(cohort.samples["stay_id"]) == {120, 160}
    assert [step.hindsight for step in cohort.attrition["cohort"][:4]] == [False, True, True, True]
    uncoded = tables() | {"diagnoses_icd": [row for row in CODES if row["hadm_id"] != 60]}
    assert set(cohort_of(tmp_path / "codes", uncoded).samples["stay_id"]) == {110, 120}
    # before anything is documented, they are asked all the same
    assert 160 in kept(tmp_path / "early", given)
    assert 160 in kept(tmp_path / "later", uncoded)


def test_a_code_of_neither_version_is_no_code(tmp_path: Path) -> None:
    given = tables() | {"diagnoses_icd": [*CODES[:-1], *rows("diagnoses_icd", (6, 60, "I10", 11), (6, 60, "I10", 9))]}
    extract = read_carebench(write_mimic(tmp_path / "root", given), work=tmp_path / "work")
    assert extract.stays.filter(stay_id=160)["coded"].item() is False
    assert "table 'diagnoses_icd': fewer than 10 rows dropped: no ICD code" in extract.warnings


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        # an infarct; of another admission, or of the other version, it is none
        ([(6, 60, "I2109", 10)], True),
        ([(6, 61, "I2109", 10), (6, 60, "I10", 10)], False),
        ([(6, 60, "41001", 9)], True),
        ([(6, 60, "410.01", 9)], True),
        ([(6, 60, "V4101", 9)], False),
    ],
)
def test_a_phenotype_is_of_the_index_admission(tmp_path: Path, codes: list[Any], expected: bool) -> None:
    given = tables()
    given["admissions"].append(admission(6, 61, "2150-10-01 09:00:00", "2150-10-04 09:00:00"))
    others = rows("diagnoses_icd", (1, 11, "I219", 10), (2, 20, "I10", 10), *codes)
    cohort = cohort_of(tmp_path, given | {"diagnoses_icd": others}, "ami")
    assert labels(cohort, "ami") == {110: True, 120: False, 160: expected}


def test_an_exact_code_is_no_prefix(tmp_path: Path) -> None:
    """4140 itself is coronary disease, so is 41401; 41405 is not in the list: of a bypass graft."""
    for code, expected in (("4140", True), ("41400", True), ("41405", False)):
        codes = rows("diagnoses_icd", (1, 11, "I2510", 10), (2, 20, "I10", 10), (6, 60, code, 9))
        cohort = cohort_of(tmp_path / code, tables() | {"diagnoses_icd": codes}, "cor_ath")
        assert labels(cohort, "cor_ath")[160] is expected


def test_the_dead_keep_their_labels_whenever_they_are_discharged(tmp_path: Path) -> None:
    """On paper at the midnight before they died, which here is before the question."""
    dead = {"hospital_expire_flag": 1, "deathtime": "2150-09-02 16:00:00", "discharge_location": "DIED"}
    given = tables(dischtime="2150-09-02 00:00:00", **dead)
    assert labels(cohort_of(tmp_path / "a", given), "mortality") == {110: False, 120: True, 160: True}
    alike = [*CODES[:-1], *rows("diagnoses_icd", (6, 60, "I2109", 10))]
    cohort = cohort_of(tmp_path / "b", given | {"diagnoses_icd": alike}, "ami")
    assert labels(cohort, "ami") == {110: False, 120: False, 160: True}


def test_mortality_is_not_asked_of_the_dead(tmp_path: Path) -> None:
    dead = {"hospital_expire_flag": 1, "deathtime": "2150-09-02 10:00:00", "discharge_location": "DIED"}
    cohort = cohort_of(tmp_path, tables(**dead))
    assert labels(cohort, "mortality") == {110: False, 120: True}


@pytest.mark.parametrize(
    ("outtime", "task"),
    [
        ("2150-09-02 10:00:00", "los_2_3"),
        ("2150-09-03 09:59:59", "los_2_3"),
        ("2150-09-03 10:00:00", "los_3_4"),
        ("2150-09-07 09:59:59", "los_6_7"),
        ("2150-09-07 10:00:00", "los_7_14"),
        ("2150-09-14 10:00:00", "los_14_up"),
        ("2150-12-01 10:00:00", "los_14_up"),
    ],
)
def test_classes_of_length_begin_to_the_second(tmp_path: Path, outtime: str, task: str) -> None:
    given = tables(outtime=outtime, dischtime="2150-12-02 09:00:00")
    extract = read_carebench(write_mimic(tmp_path / "root", given), work=tmp_path / "work")
    samples = extract.stays.filter(stay_id=160).select(
        *("subject_id", "hadm_id", "stay_id", "since"),
        sample=pl.lit(0, pl.Int64),
        prediction_time=pl.col("intime") + pl.duration(hours=48),
    )
    ((events, part),) = extract.answers.parts(samples)
    questions = [q for q in carebench_questions() if q.task.name.startswith("los_")]
    answers = {q.task.name: q.label(events.after(part))["label"].to_list() for q in questions}
    assert [name for name, label in answers.items() if label == [True]] == [task]
    assert len(answers) == 7

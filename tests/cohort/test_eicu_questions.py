"""The paper's eICU cohort and its two questions, on the hand-made records."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.sources.eicu import read_eicu
from tests.records import full_rows, tiny_patients, unit_stay, write_tables


def _cohort(folder: Path, *more: dict[str, object]) -> Cohort:
    rows = full_rows("patient", [*tiny_patients(), *more])
    return build_cohort(read_eicu(write_tables(folder, {"patient": rows})), eicu_criteria(), eicu_questions())


def _labels(cohort: Cohort, task: str) -> dict[int, bool | None]:
    """Stay → label, for the samples taken at the task's moment."""
    minutes = (pl.col("prediction_time") - pl.col("prediction_time").min().over("stay_id")).dt.total_minutes()
    asked = cohort.samples.with_columns(minutes=minutes).select("stay_id", "prediction_time", f"label:{task}")
    return {stay: label for stay, _, label in asked.drop_nulls(f"label:{task}").iter_rows()}


def test_attrition_by_hand(tmp_path: Path) -> None:
    steps = _cohort(tmp_path).attrition["cohort"]
    assert [(s.rule, s.kept, s.subjects) for s in steps] == [
        ("all unit stays", 11, 9),
        ("has identifiers", 10, 8),
        ("age 18-89", 8, 6),
        # the stay without a valid discharge goes with the short one: its length is unknown
        ("unit stay of at least 12 h", 6, 4),
        ("unit stay of at most 10 days", 5, 3),
    ]
    assert [s.hindsight for s in steps] == [False, False, False, True, True]


def test_mortality_by_hand(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path)
    # stay 3 had left by 24 h; the status of 5 is unknown
    assert _labels(cohort, "mortality") == {1: False, 2: False, 4: True}
    at_24h = cohort.samples.filter(stay_id=5)["prediction_time"].to_list()
    assert datetime(2015, 1, 1, 10, 30) + timedelta(hours=24) in at_24h


def test_readmission_by_hand(tmp_path: Path) -> None:
    # 2 was moved straight into 3, 4 died in the unit
    assert _labels(_cohort(tmp_path), "readmission") == {1: True, 3: False, 5: False}


def test_a_sample_carries_only_labels_of_its_moment(tmp_path: Path) -> None:
    samples = _cohort(tmp_path).samples.filter(stay_id=1).sort("prediction_time")
    assert samples["label:mortality"].to_list() == [False, None]
    assert samples["label:readmission"].to_list() == [None, True]


def test_two_questions_at_one_moment_share_a_sample(tmp_path: Path) -> None:
    exactly = unit_stay(20, 200, "009-1", 0, 24 * 60 + 1)
    samples = _cohort(tmp_path, exactly).samples.filter(stay_id=20)
    assert samples.height == 2
    # discharged at 24 h to the minute: no longer in the unit, so only readmission is asked
    at_24h = unit_stay(20, 200, "009-1", 0, 24 * 60)
    samples = _cohort(tmp_path, at_24h).samples.filter(stay_id=20)
    assert samples.select("label:mortality", "label:readmission").rows() == [(None, False)]


@pytest.mark.parametrize(
    ("gap", "label"),
    [(-30, False), (0, None), (1, True), (5000, True)],
    ids=["overlap", "transfer", "a minute", "days"],
)
def test_boundary_of_a_return(tmp_path: Path, gap: int, label: bool | None) -> None:
    first = unit_stay(20, 200, "009-1", 0, 3000)
    second = unit_stay(21, 200, "009-1", 3000 + gap, 3000)
    assert _labels(_cohort(tmp_path, first, second), "readmission").get(20) is label


def test_another_hospital_stay_of_the_person_is_no_return(tmp_path: Path) -> None:
    first = unit_stay(20, 200, "009-1", 0, 3000)
    other = unit_stay(21, 201, "009-1", 4000, 3000)
    assert _labels(_cohort(tmp_path, first, other), "readmission")[20] is False


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, False),
        ({"hospitaldischargestatus": "Expired"}, True),
        ({"unitdischargestatus": "Expired", "hospitaldischargestatus": "Expired"}, True),
        ({"unitdischargestatus": "Expired"}, None),
        ({"hospitaldischargestatus": ""}, None),
        ({"hospitaldischargestatus": "somewhere"}, None),
        ({"hospitaldischargeoffset": 1440}, None),
        ({"hospitaldischargeoffset": None}, None),
    ],
    ids=["alive", "later", "in the unit", "contradiction", "null", "odd", "left before 24 h", "no time"],
)
def test_death_or_unknown(tmp_path: Path, changes: dict[str, object], label: bool | None) -> None:
    stay = unit_stay(20, 200, "009-1", 0, 3000, **changes)
    assert _labels(_cohort(tmp_path, stay), "mortality").get(20) is label


@pytest.mark.parametrize(("age", "kept"), [("17", 0), ("18", 1), ("89", 1), ("> 89", 0), ("", 0)])
def test_age_limits(tmp_path: Path, age: str, kept: int) -> None:
    cohort = _cohort(tmp_path, unit_stay(20, 200, "009-1", 0, 3000, age=age))
    assert cohort.samples.filter(stay_id=20)["stay_id"].n_unique() == kept


@pytest.mark.parametrize(("minutes", "kept"), [(719, 0), (720, 1), (14400, 1), (14401, 0)])
def test_length_limits(tmp_path: Path, minutes: int, kept: int) -> None:
    cohort = _cohort(tmp_path, unit_stay(20, 200, "009-1", 0, minutes))
    assert cohort.samples.filter(stay_id=20)["stay_id"].n_unique() == kept

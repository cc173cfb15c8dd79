"""The MIMIC-IV cohort and its three questions, on hand-made records."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.errors import ConfigError
from mmnar.sources.mimic_iv import read_mimic_iv
from tests.mimic import admission, patient, people, read_tree, rows, unit_stay, write_mimic

DISCHARGE_OF_6 = "2150-09-03 09:00:00"


def _with_6(*later: dict[str, Any], stays: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Subject 6 leaves on 3 September, nine o'clock, after three days; what comes later is given."""
    tables = people()
    return {
        "patients": [*tables["patients"], patient(6)],
        "admissions": [*tables["admissions"], admission(6, 60, "2150-08-31 09:00:00", DISCHARGE_OF_6), *later],
        "icustays": [*tables["icustays"], unit_stay(6, 60, 160, "2150-08-31 10:00:00", "2150-09-01 10:00:00"), *stays],
    }


def _cohort(folder: Path, tables: dict[str, Any] | None = None, **options: Any) -> Cohort:
    extract, _ = read_tree(folder, tables or {})
    return build_cohort(extract, mimic_iv_criteria(), mimic_iv_questions(**options))


def _labels(cohort: Cohort, task: str) -> dict[int, bool]:
    """Stay → label."""
    return dict(cohort.samples.drop_nulls(f"label:{task}").select("stay_id", f"label:{task}").rows())


def test_attrition_by_hand(tmp_path: Path) -> None:
    later = admission(6, 61, "2150-10-01 09:00:00", "2150-10-01 08:00:00")
    attrition = _cohort(tmp_path, _with_6(later)).attrition
    assert [(s.kept, s.subjects, s.hindsight) for s in attrition["cohort"]] == [
        (7, 5, False),
        # 3 is seventeen
        (6, 4, False),
        # 1 comes back to the unit in another admission
        (5, 4, False),
        # and has two unit stays in the first
        (4, 4, False),
        (4, 4, True),
    ]
    # 2 dies in hospital
    assert [s.kept for s in attrition["readmission"]] == [4, 3]
    # 4 has left by 48 h
    assert [s.kept for s in attrition["mortality"]] == [4, 3]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"dischtime": "2150-08-31 08:59:00"}, False),
        ({"dischtime": None}, False),
    ],
)
def test_times_must_be_there(tmp_path: Path, change: dict[str, Any], kept: bool) -> None:
    tables = _with_6()
    tables["admissions"][-1] |= change
    assert (160 in _cohort(tmp_path, tables).samples["stay_id"]) == kept


@pytest.mark.parametrize(
    "change",
    [
        {"hospital_expire_flag": None},
        {"hospital_expire_flag": 1},
        {"deathtime": DISCHARGE_OF_6},
        {"discharge_location": "DIED"},
        {"hospital_expire_flag": 1, "deathtime": DISCHARGE_OF_6},
        {"hospital_expire_flag": 1, "discharge_location": "DIED"},
        {"hospital_expire_flag": 1, "deathtime": "2149-01-01 00:00:00", "discharge_location": "DIED"},
    ],
)
def test_an_outcome_that_contradicts_itself_is_no_label_and_takes_no_input(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    tables = _with_6()
    clean = _cohort(tmp_path / "clean", tables)
    assert _labels(clean, "mortality") == {110: False, 120: True, 160: False}
    tables["admissions"][-1] |= change
    cohort = _cohort(tmp_path / "changed", tables)
    assert _labels(cohort, "mortality") == {110: False, 120: True}
    assert 160 not in _labels(cohort, "readmission")
    early = cohort.samples.filter(pl.col("stay_id") == 160)
    assert early["prediction_time"].to_list() == clean.samples.filter(stay_id=160)["prediction_time"].to_list()[:1]


def test_the_index_stay_is_the_first_by_time_not_by_number(tmp_path: Path) -> None:
    tables = _with_6(
        admission(6, 9, "2150-11-01 09:00:00", "2150-11-05 09:00:00"),
        stays=(unit_stay(6, 60, 7, "2150-09-02 10:00:00", "2150-09-02 20:00:00"),
               unit_stay(6, 9, 8, "2150-11-01 10:00:00", "2150-11-02 10:00:00")),
    )  # fmt: skip
    stays = _cohort(tmp_path, tables).samples.filter(subject_id=6)["stay_id"].unique().to_list()
    assert stays == [160]


def test_readmission_by_hand(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, _with_6())
    # 1 after 15 days, 4 after 31 days and a second, 6 never
    assert _labels(cohort, "readmission") == {110: True, 140: False, 160: False}
    asked = cohort.samples.filter(pl.col("label:readmission").is_not_null(), stay_id=110)["prediction_time"].item()
    assert asked == datetime(2150, 3, 10, 15)


@pytest.mark.parametrize(
    ("admitted", "label"),
    [
        ("2150-09-03 09:00:00", False),  # the very minute: a transfer
        ("2150-09-03 09:01:00", True),
        ("2150-10-03 09:00:00", True),
        ("2150-10-03 09:00:01", False),
    ],
)
def test_thirty_days_to_the_second(tmp_path: Path, admitted: str, label: bool) -> None:
    cohort = _cohort(tmp_path, _with_6(admission(6, 61, admitted, "2150-12-01 09:00:00")))
    assert _labels(cohort, "readmission")[160] is label


@pytest.mark.parametrize("kind", ["ELECTIVE", "SURGICAL SAME DAY ADMISSION", "EW EMER."])
def test_planned_admissions_are_an_option(tmp_path: Path, kind: str) -> None:
    again = admission(6, 61, "2150-09-10 09:00:00", "2150-09-12 09:00:00", admission_type=kind)
    counted = _labels(_cohort(tmp_path / "all", _with_6(again)), "readmission")
    assert counted == {110: True, 140: False, 160: True}
    # so that both classes are there: 1 came back for a planned admission only
    tables = _with_6(again, admission(4, 42, "2150-07-05 09:00:00", "2150-07-06 09:00:00"))
    unplanned = _labels(_cohort(tmp_path / "unplanned", tables, planned=False), "readmission")
    assert unplanned == {110: False, 140: True, 160: kind == "EW EMER."}


@pytest.mark.parametrize(
    ("begins", "label"),
    [
        ("2150-12-02 09:00:00", True),  # 90 days to the second
        ("2150-12-02 09:00:01", False),
        ("2150-09-02 10:00:00", False),  # another stay of the index admission
    ],
)
def test_unit_stays_within_ninety_days(tmp_path: Path, begins: str, label: bool) -> None:
    hadm = 60 if begins < DISCHARGE_OF_6 else 61
    later = admission(6, 61, "2150-12-01 09:00:00", "2150-12-09 09:00:00")
    tables = _with_6(later, stays=(unit_stay(6, hadm, 161, begins, "2150-12-20 09:00:00"),))
    # 1 has a unit stay 79 days after discharge, 4 none
    assert _labels(_cohort(tmp_path, tables), "icu_admission") == {110: True, 140: False, 160: label}


def test_mortality_is_asked_of_those_alive_and_there(tmp_path: Path) -> None:
    tables = _with_6()
    assert _labels(_cohort(tmp_path / "48", tables), "mortality") == {110: False, 120: True, 160: False}
    # 4 leaves exactly at 24 h
    at_24 = _cohort(tmp_path / "24", tables, mortality_at=24)
    assert _labels(at_24, "mortality") == {110: False, 120: True, 160: False}
    asked = at_24.samples.filter(stay_id=120)["prediction_time"].to_list()
    assert asked == [datetime(2150, 5, 2, 12)]
    # dead before it is asked, discharged (as a body) later
    tables["admissions"][4] |= {"deathtime": "2150-05-02 11:00:00"}
    tables["admissions"][-1] |= {"hospital_expire_flag": 1, "deathtime": DISCHARGE_OF_6, "discharge_location": "DIED"}
    assert _labels(_cohort(tmp_path / "dead", tables), "mortality") == {110: False, 160: True}


def test_death_in_a_later_admission_is_not_of_this_one(tmp_path: Path) -> None:
    fatal = {"hospital_expire_flag": 1, "deathtime": "2150-09-20 09:00:00", "discharge_location": "DIED"}
    tables = _with_6(admission(6, 61, "2150-09-10 09:00:00", "2150-09-20 09:00:00", **fatal))
    assert _labels(_cohort(tmp_path, tables), "mortality") == {110: False, 120: True, 160: False}


def test_comorbidities_come_from_earlier_admissions(tmp_path: Path) -> None:
    codes = rows("diagnoses_icd", (1, 10, "4280", 9), (1, 11, "J449", 10), (6, 60, "I2101", 10))
    extract, _ = read_tree(tmp_path, _with_6() | {"diagnoses_icd": codes})
    data = dataset_of(extract, build_cohort(extract, mimic_iv_criteria(), mimic_iv_questions()))
    structured = data.values["structured"]
    assert isinstance(structured, np.ndarray)
    names = data.schema.modalities[0].feature_names
    of_1, of_6 = (structured[data.stay_id == stay] for stay in (110, 160))
    assert len(of_1) == len(of_6) == 2  # at 48 h and at discharge
    for feature, expected in (("heart_failure", 1.0), ("chronic_pulmonary", 0.0), ("codes", 1.0)):
        column = names.index(f"history_{feature}")
        assert of_1[:, column].tolist() == [expected, expected]
        # nothing is known of a first admission: that is no zero
        assert np.isnan(of_6[:, column]).all()


def test_death_after_discharge_is_no_readmission(tmp_path: Path) -> None:
    tables = _with_6()
    tables["patients"][-1] |= {"dod": "2150-09-10"}
    cohort = _cohort(tmp_path, tables)
    assert _labels(cohort, "readmission")[160] is False
    assert _labels(cohort, "icu_admission")[160] is False


def test_a_summary_feeds_the_question_at_discharge_only(tmp_path: Path) -> None:
    notes = {
        "discharge": rows(
            "discharge",
            # charted at the midnight that begins the day of discharge, stored during the first day
            (1, 11, "2150-03-01 00:00:00", "2150-03-01 13:00:00", "died? no"),
            (1, 11, "2150-03-10 00:00:00", "2150-03-10 14:00:00", "went home"),
            (2, 20, "2150-05-05 00:00:00", "2150-05-05 00:00:00", "expired"),
            # stored after the patient has left
            (4, 40, "2150-07-02 00:00:00", "2150-07-03 09:00:00", "late"),
        )
    }
    extract, _ = read_tree(tmp_path, notes)
    cohort = build_cohort(extract, mimic_iv_criteria(), mimic_iv_questions())
    data = dataset_of(extract, cohort)
    summary = data.present[:, data.schema.modality_names.index("discharge_summary")]
    early = data.label_mask[:, data.schema.task_names.index("mortality")]
    assert early.sum() == 2
    assert not summary[early].any()
    assert dict(zip(data.stay_id[~early].tolist(), summary[~early].tolist(), strict=True)) == {110: True, 140: False}


def test_limit_draws_patients_by_content(tmp_path: Path) -> None:
    def drawn(n: int, limit: int) -> set[int]:
        stays = pl.DataFrame({"subject_id": range(1, n + 1)})
        return set(stays.filter(mimic_iv_criteria(limit)[-1].keep)["subject_id"])

    few = drawn(200, 50)
    assert len(few) == 50
    assert len(drawn(40, 50)) == 40
    more = drawn(400, 50)
    # newcomers take places, nobody who was not drawn comes in
    assert {s for s in more if s <= 200} <= few
    assert few != set(range(1, 51))
    root = write_mimic(tmp_path / "root", _with_6())
    extract = read_mimic_iv(root, work=tmp_path / "work")
    steps = build_cohort(extract, mimic_iv_criteria(4), mimic_iv_questions()).attrition["cohort"]
    assert (steps[-1].rule, steps[-1].kept) == ("sample of 4 patients", 4)


def test_options_outside_their_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="limit"):
        mimic_iv_criteria(0)
    with pytest.raises(ConfigError, match="mortality_at"):
        mimic_iv_questions(0)

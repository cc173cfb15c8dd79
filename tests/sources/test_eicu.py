"""A hand-made eICU with answers computed by hand, and the open demo."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from mmnar.cohort.build import build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.dataset.features import static_features
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.errors import SourceError
from mmnar.sources.eicu import read_eicu
from mmnar.sources.eicu.stays import PATIENT
from mmnar.sources.eicu.tables import TABLES
from mmnar.sources.events import Extract
from tests.records import full_rows, open_data, tiny_patients, tiny_tables, unit_stay, write_tables

MODALITIES = (
    *("demographics", "admission", "apache", "diagnosis", "medication", "laboratory", "vital_signs"),
    *("respiratory", "fluid_balance", "comorbidities"),
)


def _dataset(root: Path, **options: Any) -> PatientDataset:
    extract = read_eicu(root, **options)
    return dataset_of(extract, build_cohort(extract, eicu_criteria(), eicu_questions()))


def _row(dataset: PatientDataset, stay_id: int) -> int:
    return int(np.flatnonzero(dataset.stay_id == stay_id)[0])


def test_features_by_hand(tmp_path: Path) -> None:
    data = _dataset(write_tables(tmp_path, tiny_tables(), ".csv.gz"))
    row = _row(data, 4)
    assert data.schema.modality_names == MODALITIES
    expected = {
        "demographics": {"age": 70, "gender": 1, "bmi": 25, "teaching_status": 1, "bed_size": 0, "region": None},
        "admission": {"unit_type": 1, "unit_admit_source": 1, "hours_in_hospital_before": 0},
        "apache": {
            "gcs_eyes": 3,
            "gcs_verbal": None,
            "gcs_total": None,
            "apache_score": 50,
            "predicted_hospital_mortality": 0.25,
            "predicted_icu_mortality": None,
            "ejection_fraction": None,
        },
        "diagnosis": {
            "diagnosis_count": 2,
            "diagnosis_unique": 2,
            "renal_count": 2,
            "acute_renal_failure": 1,
            "cardiac_arrest": 0,
            "cardiovascular_count": 0,
            "admission_diagnosis_group": 5,
            "surgical": 1,
            "elective": None,
            "treatment_count": 1,
        },
        "medication": {
            "medication_count": 3,
            "medication_unique": 2,
            "anticoagulant_orders": 2,
            "vasopressor_orders": 1,
            "antibiotic_orders": 0,
            "infusion_count": 1,
            "sedative_infusion": 1,
            "insulin_infusion": 0,
        },
        "laboratory": {
            "wbc_worst_day1": None,
            "sodium_mean": 135,
            "sodium_min": 130,
            "sodium_max": 140,
            "sodium_std": math.sqrt(50),
            "lactate_mean": None,
        },
        "vital_signs": {
            "heart_rate_worst_day1": 120,
            "modified_shock_index_worst_day1": 2,
            "noninvasive_systolic_mean": 115,
            "noninvasive_systolic_std": math.sqrt(450),
            "noninvasive_mean_std": None,
            "noninvasive_calculated_mean_min": 70,
            "noninvasive_calculated_mean_max": 80,
            "heart_rate_max": 90,
            "shock_index_mean": 0.75,
            "charted_heart_rate_max": 80,
        },
        "respiratory": {
            "ventilated_at_worst_day1": 1,
            "charting_count": 3,
            "fio2_mean": 50,
            "fio2_last": 60,
            "peep_mean": None,
            "respiratory_care_count": 2,
            "artificial_airway": 1,
            "ventilation_started": 1,
        },
        "fluid_balance": {
            "urine_day1": 1500,
            "intake_total": 700,
            "output_total": 400,
            "urine_total": 300,
            "dialysis_net_total": -450,
            "net_total": -150,
            "positive_balance": 0,
            "treated_with_dialysis": 1,
        },
        "comorbidities": {
            "diabetes": 1,
            "aids": 0,
            "history_of_chronic_kidney_disease": 1,
            "history_of_copd": 0,
            "lymphoma": None,
        },
    }
    extract = read_eicu(tmp_path)
    values = _raw_values(extract, data)
    for modality, features in expected.items():
        names = data.schema.modalities[MODALITIES.index(modality)].feature_names
        for feature, answer in features.items():
            got = values[modality][row, names.index(feature)]
            wanted = np.float32(np.nan if answer is None else answer)
            np.testing.assert_array_equal(got, wanted, err_msg=f"{modality}.{feature}")


def _raw_values(extract: Extract, data: PatientDataset) -> dict[str, NDArray[np.float32]]:
    """Features before absent modalities are blanked."""
    cohort = build_cohort(extract, eicu_criteria(), eicu_questions())
    assert cohort.samples["stay_id"].to_list() == data.stay_id.tolist()
    return static_features(extract.events.before(cohort.samples), extract.rules)[0]


def test_absent_tables_take_their_features_with_them(tmp_path: Path) -> None:
    tables = {name: rows for name, rows in tiny_tables().items() if name in ("patient", "medication")}
    write_tables(tmp_path, {**tables, "lab_subset": tiny_tables()["lab"]})
    extract = read_eicu(tmp_path)
    assert dict.fromkeys(rule.modality for rule in extract.rules).keys() == {
        "demographics",
        "admission",
        "medication",
    }
    assert not [rule for rule in extract.rules if rule.feature in ("teaching_status", "infusion_count")]
    assert "table 'lab' is absent: its features are left out" in extract.warnings
    assert "modality 'laboratory' is absent: none of its tables is there" in extract.warnings


def test_dropped_rows_are_counted_by_reason(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["medication"].append({"patientunitstayid": 999, "drugorderoffset": 1, "drugname": "x"})
    tables["medication"].append({"patientunitstayid": 10, "drugorderoffset": 1, "drugname": "x"})
    tables["patient"].append(unit_stay(12, 100, "003-7", 0, 2000, age="unknown"))
    tables["diagnosis"].append({**tables["diagnosis"][0], "diagnosisstring": " "})
    warnings = read_eicu(write_tables(tmp_path, tables)).warnings
    for line in (
        "table 'medication': fewer than 10 rows dropped: no such unit stay with identifiers",
        "table 'medication': fewer than 10 rows dropped: no plausible offset or entry offset",
        "table 'diagnosis': fewer than 10 events dropped: repeats of another",
        "table 'diagnosis': fewer than 10 rows dropped: nothing is named",
        "table 'lab': fewer than 10 rows dropped: no number",
        "table 'nursecharting': fewer than 10 rows dropped: no number",
        "table 'respiratorycharting': fewer than 10 rows dropped: no plausible offset or entry offset",
        "table 'respiratorycharting': fewer than 10 rows dropped: a measurement that is no number",
        "table 'patient': fewer than 10 unitdischargeoffset before admission or years later; taken as unknown",
        "table 'patient', column 'age': fewer than 10 cells are not an age; taken as unknown",
    ):
        assert line in warnings, line


def test_who_died_in_the_unit_and_left_the_hospital_alive_has_no_outcome(tmp_path: Path) -> None:
    row = unit_stay(1, 10, "002-1", 0, 2000, unitdischargestatus="Expired", hospitaldischargestatus="Alive")
    extract = read_eicu(write_tables(tmp_path, {"patient": [row]}))
    assert extract.stays["unit_discharge_status"].to_list() == [None]
    assert {"ICU_DISCHARGE//UNKNOWN", "HOSPITAL_DISCHARGE//UNKNOWN"} < set(extract.events.frame["code"])


def test_events_of_simulated_records_say_so(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "raw", {"patient": tiny_patients()})
    for simulated in (False, True):
        if simulated:
            (root / "SIMULATED.txt").write_text("made up")
        work = tmp_path / f"work-{simulated}"
        read_eicu(root, work=work)
        told = json.loads((work / "meds" / "metadata" / "dataset.json").read_text())
        assert told["dataset_version"] == ("2.0 simulated" if simulated else "2.0")


def test_unit_stays_of_one_hospital_stay_share_an_axis(tmp_path: Path) -> None:
    stays = read_eicu(write_tables(tmp_path, tiny_tables())).stays.sort("stay_id")
    start = datetime(2015, 1, 1, 11)
    gone = start + timedelta(minutes=2000)
    back = gone + timedelta(minutes=500)
    moved = back + timedelta(minutes=1500)
    assert stays["intime"].to_list()[:3] == [start, back, moved]
    assert stays["outtime"].to_list()[:3] == [gone, moved, moved + timedelta(minutes=1000)]
    assert stays["transferred"].to_list()[:4] == [False, True, False, False]
    assert stays.filter(stay_id=9)["outtime"].to_list() == [None]


def test_identifiers_and_attributes(tmp_path: Path) -> None:
    extract = read_eicu(write_tables(tmp_path, tiny_tables()))
    stays = extract.stays.sort("stay_id")
    subjects = stays["subject_id"].to_list()
    assert len(set(subjects[:3])) == 1
    assert len(set(subjects)) == 9
    assert subjects[9] is None
    assert max(s for s in subjects if s is not None) < 2**53
    assert stays["age_group"].to_list()[3:6] == ["65-79", "45-64", "80+"]
    assert stays["sex"].to_list()[2:4] == ["Female", "Male"]
    assert set(stays["site"]) == {"7"}
    assert extract.events.frame.filter(stay_id=10).is_empty()


def test_predictions_of_apache_can_be_left_out(tmp_path: Path) -> None:
    root = write_tables(tmp_path, tiny_tables())
    extract = read_eicu(root, apache_prediction=False)
    assert not [rule for rule in extract.rules if "predicted" in rule.feature]
    codes = {code for rule in extract.rules for code in rule.codes}
    assert not [c for c in codes if c.startswith("APACHE_PREDICTION") or "APACHE_PREDICTION".startswith(c.rstrip("*"))]
    assert "apache_score" in {rule.feature for rule in extract.rules}


def test_no_rule_reads_an_outcome(tmp_path: Path) -> None:
    extract = read_eicu(write_tables(tmp_path, tiny_tables()))
    outcomes = ["ICU_ADMISSION", "ICU_DISCHARGE//ALIVE", "HOSPITAL_DISCHARGE//EXPIRED"]
    assert set(outcomes) <= set(extract.events.frame["code"])
    for code in (code for rule in extract.rules for code in rule.codes):
        assert not any(o == code or (code.endswith("*") and o.startswith(code[:-1])) for o in outcomes)


def test_no_column_of_hindsight_is_read() -> None:
    read = {column for columns, _ in TABLES.values() for column in columns} | set(PATIENT)
    forbidden = {
        *("diedinhospital", "dischargelocation", "var03hspxlos", "activeupondischarge", "diagnosispriority"),
        *("drugordercancelled", "drugstopoffset", "ventendoffset", "dischargeweight", "unitdischargelocation"),
        *("hospitaldischargelocation", "apacheadmissiondx", "intaketotal", "outputtotal", "nettotal"),
    }
    assert not read & forbidden
    assert not [column for column in read if column.startswith(("actual", "unabridged"))]


def test_every_rule_finds_its_codes() -> None:
    """A rule whose codes no event of the open demo carries would be a spelling mistake."""
    extract = read_eicu(open_data("eicu-demo-2.0"))
    codes = extract.events.frame["code"].unique().to_list()
    silent = [
        f"{rule.modality}.{rule.feature}"
        for rule in extract.rules
        if not any(c == code or (c.endswith("*") and code.startswith(c[:-1])) for c in rule.codes for code in codes)
    ]
    # no named dobutamine or milrinone order is in the demo
    assert silent == ["medication.inotrope_orders"]


def test_repeated_stay_is_refused(tmp_path: Path) -> None:
    tables = {"patient": full_rows("patient", [*tiny_patients(), tiny_patients()[0]])}
    with pytest.raises(SourceError, match=r"patientunitstayid.*fewer than 10 repeated"):
        read_eicu(write_tables(tmp_path, tables))


def test_contradictory_admission_times_are_told(tmp_path: Path) -> None:
    rows = tiny_patients()
    rows[1]["hospitaladmittime24"] = "09:00:00"
    extract = read_eicu(write_tables(tmp_path, {"patient": rows}))
    assert any(
        "fewer than 10 unit stays whose hospital stay has several admission times" in w for w in extract.warnings
    )
    assert extract.stays.filter(stay_id=1)["intime"].to_list() == [datetime(2015, 1, 1, 10)]


def _state(root: Path) -> dict[str, tuple[int, str]]:
    return {p.name: (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in root.rglob("*")}


def test_read_only_root_is_left_alone(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "raw", tiny_tables())
    before = _state(root), root.stat().st_mtime_ns
    root.chmod(0o555)
    try:
        read_eicu(root)
    finally:
        root.chmod(0o755)
    assert (_state(root), root.stat().st_mtime_ns) == before


def test_row_order_does_not_matter(tmp_path: Path) -> None:
    tables = tiny_tables()
    first = _dataset(write_tables(tmp_path / "a", tables))
    second = _dataset(write_tables(tmp_path / "b", {name: rows[::-1] for name, rows in tables.items()}))
    for name in MODALITIES:
        np.testing.assert_array_equal(first.values[name], second.values[name])
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.slow
def test_open_demo_counts() -> None:
    data = _dataset(open_data("eicu-demo-2.0"))
    flow = {name: [step["kept"] for step in steps] for name, steps in data.manifest["attrition"].items()}
    assert flow["cohort"][0] == 2520
    assert len(data) == int(pl.DataFrame({"s": data.stay_id, "t": data.prediction_time}).n_unique())
    deaths, asked = data.labels.sum(axis=0), data.label_mask.sum(axis=0)
    assert (deaths.tolist(), asked.tolist()) == ([114, 80], [1458, 1749])
    apache = data.schema.modalities[MODALITIES.index("apache")].feature_names
    risk = data.values["apache"][:, apache.index("predicted_hospital_mortality")]
    known = data.label_mask[:, 0] & ~np.isnan(risk)
    died = data.labels[known, 0]
    pairs = risk[known][died][:, None] - risk[known][~died][None, :]
    assert 0.80 < float((pairs > 0).mean() + (pairs == 0).mean() / 2) < 0.86


def test_in_blocks_on_disk_or_in_memory_the_dataset_is_the_same(tmp_path: Path) -> None:
    root = open_data("eicu-demo-2.0")
    memory = read_eicu(root)
    disk = read_eicu(root, work=tmp_path / "events")
    again = read_eicu(root, work=tmp_path / "events")  # finished: nothing is read twice, nothing is told otherwise
    assert disk.warnings == again.warnings
    assert {w for w in memory.warnings if "repeats" not in w} == {w for w in disk.warnings if "repeats" not in w}
    a, b = (dataset_of(e, build_cohort(e, eicu_criteria(), eicu_questions())) for e in (memory, disk))
    assert np.array_equal(a.labels, b.labels)
    for name in a.schema.modality_names:
        assert np.array_equal(a.values[name], b.values[name], equal_nan=True)  # type: ignore[arg-type]

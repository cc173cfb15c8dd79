"""Units in other spellings, values that are none, and times that a clock cannot show: one row each, by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.dataset.features import static_features
from mmnar.sources.eicu import read_eicu
from mmnar.sources.mimic_iv import read_mimic_iv
from mmnar.sources.reading.units import spelled
from tests.mimic import found, read_tree, rows, write_mimic
from tests.records import full_rows, tiny_tables, unit_stay, write_tables

FAHRENHEIT = ("°F", "deg F", "deg. F", "degF", "º F", "ºF", "˚F", "F", "Fahrenheit", "degrees Fahrenheit", "℉", "Â°F")
CELSIUS = ("°C", "degC", "deg C", "&#176;C", "Celsius", " c ", "℃")


@pytest.mark.parametrize(
    ("item", "units", "value", "code", "expected"),
    [
        (223762, FAHRENHEIT, 98.6, "VITAL//TEMPERATURE", 37.0),
        (223761, CELSIUS, 37.0, "VITAL//TEMPERATURE", 37.0),
        (226512, ("kg", "Kg", "kgs", "KG.", "kilograms"), 80.0, "VITAL//WEIGHT", 80.0),
        (226512, ("lb", "lbs", "LBS.", "pounds"), 200.0, "VITAL//WEIGHT", 90.718474),
        (226512, ("oz", "ounces"), 3200.0, "VITAL//WEIGHT", 90.718474),
        (226512, ("g", "grams"), 80000.0, "VITAL//WEIGHT", 80.0),
        (226730, ("in", "inches", "Inch"), 70.0, "VITAL//HEIGHT", 177.8),
        (220050, ("mm Hg", "mm[Hg]", "MMHG", "torr"), 120.0, "VITAL//SYSTOLIC_BP", 120.0),
    ],
)
def test_a_unit_however_written_is_that_unit(
    tmp_path: Path, item: int, units: tuple[str, ...], value: float, code: str, expected: float
) -> None:
    chart = rows(
        "chartevents",
        *[(1, 11, 110, item, f"2150-03-01 13:{minute:02}:00", None, value, u) for minute, u in enumerate(units)],
    )
    _, events = read_tree(tmp_path, {"chartevents": chart})
    assert [v for _, _, v in found(events, code)] == [pytest.approx(expected, rel=1e-6)] * len(units)


@pytest.mark.parametrize(
    ("item", "units", "value", "code", "expected"),
    [
        (50983, ("mEq/L", "MEQ/L", "meq / l", "mmol/L", "MMOL/L"), 140.0, "LAB//SODIUM", 140.0),
        (50813, ("mmol/L", "mEq/L"), 2.0, "LAB//LACTATE", 2.0),
        (51265, ("K/uL", "K/µL", "K/μL", "K/mcL", "10^3/uL", "x10E9/L", "thou/mm3"), 200.0, "LAB//PLATELETS", 200.0),
        (51003, ("ug/L", "µg/L", "mcg/L"), 0.04, "LAB//TROPONIN_T", 0.04),
        (50861, ("IU/L", "U/L", "Units/L"), 30.0, "LAB//ALT", 30.0),
        # a charge of two, and what depends on the substance: another unit, left out
        (50808, ("mEq/L", "mg/dL"), 1.1, "LAB//FREE_CALCIUM", None),
        (50912, ("µmol/L", "umol/l", "mmol/L"), 88.0, "LAB//CREATININE", None),
    ],
)
def test_labs_in_the_same_unit_or_left_out(
    tmp_path: Path, item: int, units: tuple[str, ...], value: float, code: str, expected: float | None
) -> None:
    labs = rows("labevents", *[(1, 11, item, f"2150-03-01 13:{m:02}:00", None, value, u) for m, u in enumerate(units)])
    extract, events = read_tree(tmp_path, {"labevents": labs})
    kept = [v for _, _, v in found(events, code)]
    assert kept == ([] if expected is None else [pytest.approx(expected, rel=1e-6)] * len(units))
    left_out = "table 'labevents': fewer than 10 rows dropped: in a unit not known for the item"
    assert (left_out in extract.warnings) == (expected is None)


def test_a_unit_that_a_look_alike_could_be_is_not_taken() -> None:
    assert len({spelled(u) for u in ("mg/dL", "mcg/dL", "g/dL", "ng/dL", "pg/dL", "mEq/L", "mmol/L", "mol/L")}) == 8
    assert spelled("?F") not in ("°f", "°c")


def test_impossible_weights_are_no_weights_and_are_counted(tmp_path: Path) -> None:
    weights = (0, 999, 80)
    chart = rows(
        "chartevents",
        *[(1, 11, 110, 226512, f"2150-03-01 13:0{minute}:00", None, w, "kg") for minute, w in enumerate(weights)],
    )
    extract, _ = read_tree(tmp_path, {"chartevents": chart})
    samples = pl.DataFrame(
        {
            "sample": [0],
            "subject_id": [1],
            "stay_id": [110],
            "prediction_time": [datetime(2150, 3, 2)],
            "since": [None],
        },
        schema_overrides={"prediction_time": pl.Datetime("us")},
    ).with_columns(since=pl.lit(None, pl.Datetime("us")))
    rules = [rule for rule in extract.rules if rule.modality == "structured" and "weight" in rule.feature]
    (part,) = extract.events.parts(samples)
    values, outside = static_features(part[0].before(samples), rules)  # type: ignore[arg-type]
    assert values["structured"][0, [r.feature for r in rules].index("vital_weight_last")] == 80
    assert outside == {"structured.vital_weight_last": 2}


def test_a_lab_that_is_a_comparison_was_measured_and_has_no_number(tmp_path: Path) -> None:
    numbers, texts = (None, 0.5, None, None), ("<0.01", "0.5", " >= 25", "HEMOLYZED")
    times = [f"2150-03-01 13:0{minute}:00" for minute in range(4)]
    labs = rows("labevents", *[(1, 11, 51003, t, None, n, "ng/mL") for t, n in zip(times, numbers, strict=True)])
    labs = [row | {"value": text} for row, text in zip(labs, texts, strict=True)]
    extract, events = read_tree(tmp_path, {"labevents": labs})
    assert [v for _, _, v in found(events, "LAB//TROPONIN_T")] == [None, 0.5, None]
    told = [w for w in extract.warnings if w.startswith("table 'labevents'")]
    assert told == [
        "table 'labevents': fewer than 10 results are comparisons (< or >): measured, kept without a number",
        "table 'labevents': fewer than 10 rows dropped: no number",
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_item_numbers_that_went_through_floats(tmp_path: Path, packed: bool) -> None:
    chart = rows("chartevents", (1, 11, 110, 220045.0, "2150-03-01 13:00:00", None, 80, "bpm"))
    root = write_mimic(tmp_path / "root", {"chartevents": chart})
    path = root / "icu" / "chartevents.csv"
    assert "220045.0" in path.read_text()
    if packed:
        pl.read_csv(path).write_parquet(path.with_suffix(".parquet"))
        path.unlink()
    extract = read_mimic_iv(root, work=tmp_path / "work")
    codes = extract.events.codes()["code"].to_list()  # type: ignore[attr-defined]
    assert "VITAL//HEART_RATE" in codes


def test_clocks_that_change_move_and_lose_nothing(tmp_path: Path) -> None:
    # 2:30 is no time of the night clocks go forward; 1:30 comes twice of the night they go back
    times = ("2150-03-08 01:30:00", "2150-03-08 02:30:00", "2150-03-08 03:30:00")
    twice = ("2150-11-01 01:30:00", "2150-11-01 01:30:00", "2150-11-01 01:30:00-05:00", "2150-11-01 02:30:00")
    labs = rows("labevents", *[(1, None, 50912, t, None, 1 + i, "mg/dL") for i, t in enumerate((*times, *twice))])
    _, events = read_tree(tmp_path, {"labevents": labs})
    expected = [(datetime.fromisoformat(t[:19]), 1.0 + i) for i, t in enumerate((*times, *twice))]
    assert [(time, value) for time, _, value in found(events, "LAB//CREATININE")] == expected


# --- eICU -------------------------------------------------------------------------------------------------------------


def _labs(root: Path, *labs: dict[str, Any]) -> Path:
    tables = {
        "patient": tiny_tables()["patient"],
        "lab": full_rows("lab", [{"patientunitstayid": 4} | lab for lab in labs]),
    }
    return write_tables(root, tables)


def _lab(name: str, value: float, unit: str | None, at: int = 5) -> dict[str, Any]:
    return {"labresultoffset": at, "labname": name, "labresult": value, "labmeasurenamesystem": unit}


def test_labs_of_eicu_in_their_units(tmp_path: Path) -> None:
    root = _labs(
        tmp_path,
        *(_lab("sodium", 140 + i, unit) for i, unit in enumerate(("mmol/L", "mEq/L", "MMOL / L", None, "null"))),
        _lab("Hgb", 100, "g/L"),
        _lab("platelets x 1000", 200, "10^3/µL"),
        _lab("creatinine", 88, "umol/L"),
        _lab("a test that no feature reads", 7, "furlongs"),
    )
    extract = read_eicu(root)
    frame = extract.events.frame.filter(source="lab")  # type: ignore[attr-defined]
    values = {code: sorted(of["numeric_value"]) for (code,), of in frame.group_by("code")}
    assert values == {
        "LAB//sodium": [140, 141, 142, 143, 144],
        "LAB//hgb": [10],
        "LAB//platelets x 1000": [200],
        "LAB//a test that no feature reads": [7],
    }
    assert "table 'lab': fewer than 10 rows dropped: in a unit not known for the test" in extract.warnings


def test_what_happened_before_the_unit_is_past_and_stays_past(tmp_path: Path) -> None:
    early = _lab("sodium", 130, "mmol/L", at=-300)
    revised_late = _lab("potassium", 4, "mmol/L", at=-300) | {"labresultrevisedoffset": 1500}
    extract = read_eicu(_labs(tmp_path, early, revised_late))
    cohort = build_cohort(extract, eicu_criteria(), eicu_questions())
    at_24h = cohort.samples.filter(stay_id=4, prediction_time=pl.col("prediction_time").min())
    past = extract.events.before(at_24h).frame.filter(source="lab")  # type: ignore[attr-defined]
    assert past["code"].to_list() == ["LAB//sodium"]
    (row,) = past.iter_rows(named=True)
    (begin,) = extract.stays.filter(stay_id=4)["intime"]
    assert (begin - row["time"]).total_seconds() == 300 * 60
    future = extract.events.after(at_24h).frame.filter(source="lab")  # type: ignore[attr-defined]
    assert future.is_empty()


@pytest.mark.parametrize(
    ("changes", "unknown", "words"),
    [
        ({"hospitaldischargeoffset": -5}, "HOSPITAL_DISCHARGE", "hospitaldischargeoffset before admission"),
        ({"hospitaldischargeoffset": 500}, "HOSPITAL_DISCHARGE", "stays left the hospital before the unit"),
        (
            {"hospitaldischargeoffset": 9000, "unitdischargestatus": "Expired", "hospitaldischargestatus": "Expired"},
            "HOSPITAL_DISCHARGE//EXPIRED",
            "stays died in the unit but left the hospital days later",
        ),
    ],
)
def test_ends_that_contradict_each_other_are_unknown_and_counted(
    tmp_path: Path, changes: dict[str, Any], unknown: str, words: str
) -> None:
    row = unit_stay(1, 10, "002-1", 0, 2000) | changes
    extract = read_eicu(write_tables(tmp_path, {"patient": full_rows("patient", [row])}))
    codes = extract.events.frame["code"].to_list()  # type: ignore[attr-defined]
    assert not [code for code in codes if code.startswith(unknown)]
    assert [w for w in extract.warnings if words in w and w.startswith("table 'patient': fewer than 10")]


def test_who_comes_back_to_the_unit_did_not_die_there(tmp_path: Path) -> None:
    dead = {"unitdischargestatus": "Expired", "hospitaldischargestatus": "Expired"}
    stays = [
        unit_stay(1, 10, "002-1", 0, 1000, **dead, hospitaldischargeoffset=2000),
        unit_stay(2, 10, "002-1", 1500, 400, **dead, hospitaldischargeoffset=500),
    ]
    extract = read_eicu(write_tables(tmp_path, {"patient": full_rows("patient", stays)}))
    assert extract.stays.sort("stay_id")["unit_discharge_status"].to_list() == [None, "Expired"]
    assert [w for w in extract.warnings if "before another unit stay of their hospital stay; taken as unknown" in w]

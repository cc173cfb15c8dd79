"""MIMIC-IV on hand-made trees whose answers are written down here, and on the open demo, read raw and as MEDS."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.sources.events import EventSource, Extract, ImageRule
from mmnar.sources.mimic_iv import read_mimic_iv, release
from mmnar.sources.mimic_iv.concepts import concepts
from mmnar.sources.mimic_iv.history import expanded
from mmnar.sources.reading.code_tables import code_table
from tests.mimic import admission, events_of, found, people, read_tree, rows, unit_stay, write_mimic
from tests.records import open_data, write_tables


def at(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2150, month, day, hour, minute)


def known(events: EventSource, subject_id: int, stay_id: int, when: datetime) -> pl.DataFrame:
    """What the door lets through of a subject at a moment."""
    samples = pl.DataFrame(
        {"sample": [0], "subject_id": [subject_id], "stay_id": [stay_id], "prediction_time": [when], "since": [None]},
        schema_overrides={"since": pl.Datetime("us"), "prediction_time": pl.Datetime("us")},
    )
    return pl.concat([part.before(mine).frame for part, mine in events.parts(samples)])


def dropped(extract: Extract, table: str) -> list[str]:
    """What was dropped of a table, without its name; small counts are hidden in it."""
    told = [w.removeprefix(f"table '{table}': ") for w in extract.warnings if w.startswith(f"table '{table}': ")]
    return [words for words in told if not words.startswith("none of its rows becomes an event")]


# --- availability -----------------------------------------------------------------------------------------------------


def test_a_lab_is_known_when_stored_never_before_it_was_drawn(tmp_path: Path) -> None:
    labs = rows(
        "labevents",
        (1, 11, 50912, "2150-03-01 13:00:00", "2150-03-01 14:30:00", 1.1, "mg/dL"),
        (1, None, 50912, "2150-03-02 13:00:00", None, 1.2, "mg/dL"),
        (1, 11, 50912, "2150-03-03 13:00:00", "2150-03-03 12:00:00", 1.3, "mg/dL"),
    )
    extract, events = read_tree(tmp_path, {"labevents": labs})
    assert found(events, "LAB//CREATININE") == [
        (at(1, 13), at(1, 14, 30), pytest.approx(1.1)),
        (at(2, 13), at(2, 14), pytest.approx(1.2)),
        # stored before it was drawn: when it was stored is not known
        (at(3, 13), at(3, 14), pytest.approx(1.3)),
    ]
    assert dropped(extract, "labevents") == ["fewer than 10 storetimes before the charttime: taken as unknown"]


def test_charted_items_are_known_when_stored(tmp_path: Path) -> None:
    chart = rows(
        "chartevents",
        (1, 11, 110, 220045, "2150-03-01 13:00:00", "2150-03-01 15:00:00", 80, "bpm"),
        (1, 11, 110, 220045, "2150-03-01 14:00:00", None, 81, "bpm"),
        (1, 11, 110, 220045, "2150-03-01 16:00:00", "2150-03-01 15:30:00", 82, "bpm"),
    )
    out = rows("outputevents", (1, 11, 110, 226559, "2150-03-01 13:00:00", "2150-03-01 13:40:00", 200, "ml"))
    _, events = read_tree(tmp_path, {"chartevents": chart, "outputevents": out})
    assert found(events, "VITAL//HEART_RATE") == [
        (at(1, 13), at(1, 15), 80),
        (at(1, 14), at(1, 14), 81),
        (at(1, 16), at(1, 16), 82),
    ]
    assert found(events, "OUTPUT//URINE") == [(at(1, 13), at(1, 13, 40), 200)]


def test_infusions_and_procedures_are_known_when_stored_else_when_they_end(tmp_path: Path) -> None:
    tables = {
        "inputevents": rows(
            "inputevents",
            (1, 11, 110, 221906, "2150-03-01 13:00:00", "2150-03-01 17:00:00", "2150-03-01 14:00:00"),
            (1, 11, 110, 999999, "2150-03-01 13:00:00", "2150-03-01 17:00:00", "2150-03-01 14:00:00"),
        ),
        # as a spreadsheet writes dates
        "procedureevents": rows("procedureevents", (1, 11, 110, 225792, "3/1/2150 13:00", "3/2/2150 4:05", None)),
    }
    _, events = read_tree(tmp_path, tables)
    vasopressor = events.filter(code="INPUT//VASOPRESSOR")
    assert vasopressor.select("time", "available_time").rows() == [(at(1, 13), at(1, 14))]
    ventilation = events.filter(code="PROCEDURE//INVASIVE_VENTILATION")
    assert ventilation.select("time", "available_time").rows() == [(at(1, 13), at(2, 4, 5))]
    assert events.filter(pl.col("source") == "inputevents").height == 1


def test_orders_are_known_when_they_start_doses_when_given(tmp_path: Path) -> None:
    tables = {
        "prescriptions": rows(
            "prescriptions",
            (1, 11, "2150-03-01 13:00:00", "Vancomycin"),
            (1, 11, "2150-03-01 13:00:00", "CefePIME"),
            (1, 11, "2150-03-01 13:00:00", "Bag"),
        ),
        "emar": rows(
            "emar",
            (1, 11, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "Insulin", "Administered"),
            (1, 11, "2150-03-01 14:00:00", "2150-03-01 14:05:00", "Insulin", "Not Given"),
            (1, 11, "2150-03-01 15:00:00", "2150-03-01 15:05:00", "Insulin", "Delayed Not Administered"),
        ),
    }
    _, events = read_tree(tmp_path, tables)
    orders = events.filter(code="DRUG//ANTIBIOTIC").select("available_time", "text_value").sort("text_value")
    assert orders.rows() == [(at(1, 13), "cefepime"), (at(1, 13), "vancomycin")]
    assert events.filter(source="prescriptions").height == 2
    assert events.filter(source="emar").select("code", "time", "available_time").rows() == [
        ("EMAR//INSULIN", at(1, 13), at(1, 13, 5))
    ]


def test_billing_codes_feed_later_admissions_only(tmp_path: Path) -> None:
    codes = rows("diagnoses_icd", (1, 10, "4280", 9), (1, 10, "4019", 9), (1, 11, "I2101", 10), (1, 11, "4280 ", 9))
    extract, _ = read_tree(tmp_path, {"diagnoses_icd": codes})
    history = "DIAGNOSIS//*"
    at_discharge = known(extract.events, 1, 110, at(10, 15))
    mine = at_discharge.filter(pl.col("code").str.starts_with(history[:-1])).sort("code")
    # the earlier admission's: two codes, one of them heart failure; known from the day after its discharge
    assert mine.select("code", "numeric_value", "hadm_id").rows() == [
        ("DIAGNOSIS//CODES", 2.0, 10),
        ("DIAGNOSIS//HEART_FAILURE", 1.0, 10),
    ]
    assert mine["available_time"].unique().to_list() == [datetime(2149, 12, 6, 12)]
    a_day_later = known(extract.events, 1, 110, at(11, 15))
    groups = a_day_later.filter(pl.col("code").str.starts_with("DIAGNOSIS//"), hadm_id=11)["code"].sort().to_list()
    assert groups == ["DIAGNOSIS//CODES", "DIAGNOSIS//HEART_FAILURE", "DIAGNOSIS//MYOCARDIAL_INFARCT"]
    assert all(rule.history for rule in extract.rules if rule.codes[0].startswith("DIAGNOSIS//"))  # type: ignore[union-attr]


def test_visits_count_from_the_next_day(tmp_path: Path) -> None:
    omr = rows(
        "omr",
        (1, "2149-06-01", "Weight (Lbs)", "220.46"),
        (1, "2149-06-01", "Height (Inches)", "70"),
        (1, "2149-06-01", "Weight (Lbs)", "see note"),
        (1, "2149-06-01", "Blood Pressure", "120/80"),
    )
    extract, events = read_tree(tmp_path, {"omr": omr})
    day = datetime(2149, 6, 1)
    assert found(events, "OMR//WEIGHT") == [(day, day + timedelta(days=1), pytest.approx(100.0, abs=0.01))]
    assert found(events, "OMR//HEIGHT") == [(day, day + timedelta(days=1), pytest.approx(177.8))]
    assert dropped(extract, "omr") == ["fewer than 10 rows dropped: no number"]


def test_notes_are_known_when_stored_and_summaries_never_before_the_discharge(tmp_path: Path) -> None:
    notes = {
        "discharge": rows(
            "discharge",
            (1, 11, "2150-03-10 00:00:00", "2150-03-09 11:00:00", "stored the day before"),
            (1, 11, "2150-03-10 00:00:00", "2150-03-12 11:00:00", 'stored late,\nwith "lines"'),
            (1, 11, "2150-03-10 00:00:00", None, "no store time"),
            (1, 11, "2150-03-10 00:00:00", None, " \n "),
            (1, 99, "2150-03-10 00:00:00", None, "of no admission"),
        ),
        "radiology": rows(
            "radiology",
            (1, 11, "2150-03-01 13:00:00", "2150-03-01 16:00:00", "chest: clear"),
            (1, None, "2150-03-02 13:00:00", None, "never stored"),
            (1, None, "2150-03-05 13:00:00", "2150-03-05 12:00:00", "stored before"),
        ),
    }
    extract, events = read_tree(tmp_path, notes)
    assert {(a, t) for _, a, t in found(events, "NOTE//DISCHARGE")} == {
        (at(10, 15), "stored the day before"),
        (at(12, 11), 'stored late,\nwith "lines"'),
        (at(10, 15), "no store time"),
    }
    assert [(a, t) for _, a, t in found(events, "NOTE//RADIOLOGY")] == [
        (at(1, 16), "chest: clear"),
        (at(3, 13), "never stored"),
        (at(6, 13), "stored before"),
    ]
    assert dropped(extract, "discharge") == [
        "fewer than 10 notes dropped: no text",
        "fewer than 10 notes dropped: no discharge to belong to",
    ]
    for hours in (24, 48):
        early = known(extract.events, 1, 110, at(1, 12) + timedelta(hours=hours))
        assert not early["code"].str.starts_with("NOTE//DISCHARGE").any()


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "unit", "value", "code", "expected"),
    [
        (223761, "°F", 98.6, "VITAL//TEMPERATURE", 37.0),
        (223761, None, 98.6, "VITAL//TEMPERATURE", 37.0),
        (223762, "°C", 37.5, "VITAL//TEMPERATURE", 37.5),
        (223762, "?F", 98.6, "VITAL//TEMPERATURE", None),
        (226531, None, 200.0, "VITAL//WEIGHT", 90.718474),
        (226512, "kg", 90.0, "VITAL//WEIGHT", 90.0),
        (224639, "lbs", 200.0, "VITAL//WEIGHT", 90.718474),
        (226707, "Inch", 70.0, "VITAL//HEIGHT", 177.8),
        (226730, "cm", 170.0, "VITAL//HEIGHT", 170.0),
        (223835, None, 0.4, "RESP//FIO2", 40.0),
        (223835, "%", 45.0, "RESP//FIO2", 45.0),
        (220050, "mm Hg", 120.0, "VITAL//SYSTOLIC_BP", 120.0),
        (220050, "kPa", 16.0, "VITAL//SYSTOLIC_BP", 120.00987),
        (220045, "mmHg", 80.0, "VITAL//HEART_RATE", None),
    ],
)
def test_units_of_charted_items(
    tmp_path: Path, item: int, unit: str | None, value: float, code: str, expected: float | None
) -> None:
    chart = rows("chartevents", (1, 11, 110, item, "2150-03-01 13:00:00", None, value, unit))
    extract, events = read_tree(tmp_path, {"chartevents": chart})
    got = [v for _, _, v in found(events, code)]
    assert got == ([] if expected is None else [pytest.approx(expected, rel=1e-6)])
    unknown = ["fewer than 10 rows dropped: in a unit not known for the item"]
    assert dropped(extract, "chartevents") == ([] if expected is not None else unknown)


@pytest.mark.parametrize(
    ("item", "unit", "value", "code", "expected"),
    [
        (50983, "mmol/L", 140.0, "LAB//SODIUM", 140.0),
        (50824, "mEq/L", 141.0, "LAB//SODIUM", 141.0),
        (50862, "g/L", 35.0, "LAB//ALBUMIN", 3.5),
        (51265, "#/uL", 200000.0, "LAB//PLATELETS", 200.0),
        (51003, "ng/L", 40.0, "LAB//TROPONIN_T", 0.04),
        # depends on the substance: not converted
        (50912, "umol/L", 88.0, "LAB//CREATININE", None),
        (51237, None, 1.2, "LAB//INR", 1.2),
        (50820, "units", 7.4, "LAB//PH", 7.4),
    ],
)
def test_units_of_labs(
    tmp_path: Path, item: int, unit: str | None, value: float, code: str, expected: float | None
) -> None:
    labs = rows("labevents", (1, 11, item, "2150-03-01 13:00:00", None, value, unit))
    _, events = read_tree(tmp_path, {"labevents": labs})
    got = [v for _, _, v in found(events, code)]
    assert got == ([] if expected is None else [pytest.approx(expected, rel=1e-6)])


# --- what is dropped --------------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_placed_are_counted_by_reason(tmp_path: Path) -> None:
    def lab(subject: int, hadm: int | None, time: str | None, value: float | None = 1.0) -> tuple[Any, ...]:
        return (subject, hadm, 50912, time, None, value, "mg/dL")

    labs = rows(
        "labevents",
        *[lab(1, 11, "2150-03-01 13:00:00", 1 + i / 10) for i in range(3)],
        *[lab(1, 99, "2150-03-01 13:00:00")] * 11,
        *[lab(1, 11, None)] * 12,
        *[lab(1, 11, "soon")] * 2,
        # subject 1 was born in 2090
        *[lab(1, None, "2089-12-31 23:59:00")] * 13,
        # 2 died at a known minute, 4 on a known day
        *[lab(2, 20, "2150-05-05 04:00:01")] * 15,
        lab(2, 20, "2150-05-05 04:00:00"),
        lab(4, None, "2151-01-01 23:59:00"),
        lab(4, None, "2151-01-02 00:00:01"),
        *[lab(1, 11, "2150-03-01 13:00:00", None)] * 16,
        # a subject without a unit stay is none of ours
        lab(5, 50, "2150-07-01 13:00:00"),
    )
    chart = rows("chartevents", *[(1, 11, 777, 220045, "2150-03-01 13:00:00", None, 80, "bpm")] * 17)
    extract, events = read_tree(tmp_path, {"labevents": labs, "chartevents": chart})
    assert dropped(extract, "labevents") == [
        "16 rows dropped: no number",
        "11 rows dropped: no such admission of the subject",
        "14 rows dropped: no usable time",
        "13 rows dropped: before the subject's birth",
        "16 rows dropped: after the subject's death",
        "fewer than 10 cells of column 'charttime' taken as unknown: not times of the form 2180-07-23 12:36:00",
    ]
    assert dropped(extract, "chartevents") == ["17 rows dropped: no such unit stay of the subject"]
    assert len(found(events, "LAB//CREATININE")) == 3 + 1 + 1


def test_a_resumed_build_tells_the_same(tmp_path: Path) -> None:
    chart = rows("chartevents", *[(1, 11, 777, 220045, "2150-03-01 13:00:00", None, 80, "bpm")] * 17)
    labs = rows("labevents", (1, 11, 50912, "2150-03-01 13:00:00", None, 1.0, "mg/dL"))
    whole, expected = read_tree(tmp_path / "whole", {"chartevents": chart, "labevents": labs})
    root = write_mimic(tmp_path / "root", {"chartevents": chart, "labevents": labs})
    broken = root / "hosp" / "labevents.csv.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:-12])
    with pytest.raises(SourceError, match="gzip"):
        read_mimic_iv(root, work=tmp_path / "work")
    broken.write_bytes(content)
    # the table that was done is not read again
    (root / "icu" / "chartevents.csv").chmod(0o400)
    resumed = read_mimic_iv(root, work=tmp_path / "work")
    assert resumed.warnings == whole.warnings
    assert any("17 rows dropped" in warning for warning in resumed.warnings)
    assert events_of(tmp_path / "work").equals(expected)
    again = read_mimic_iv(root, work=tmp_path / "work")
    assert again.warnings == whole.warnings


def test_nothing_is_written_into_the_root(tmp_path: Path) -> None:
    root = write_mimic(tmp_path / "root", {})
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    read_mimic_iv(root, work=tmp_path / "work")
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


# --- admissions and rules ---------------------------------------------------------------------------------------------


def test_what_is_known_on_admission(tmp_path: Path) -> None:
    extract, events = read_tree(tmp_path, {})
    index = events.filter(pl.col("code").str.starts_with("ADMISSION//"), hadm_id=11)
    value = pl.coalesce(pl.col("numeric_value").cast(pl.String), "text_value")
    told = dict(index.filter(pl.col("stay_id").is_null()).select("code", value).rows())
    # 5 December noon to 1 March ten o'clock, in whole hours
    assert float(told.pop("ADMISSION//DAYS_SINCE_DISCHARGE")) == pytest.approx(2062 / 24)
    assert told == {
        "ADMISSION//AGE": "60.0",
        "ADMISSION//SEX": "female",
        "ADMISSION//RACE": "white",
        "ADMISSION//INSURANCE": "medicare",
        "ADMISSION//LANGUAGE": "english",
        "ADMISSION//MARITAL_STATUS": "married",
        "ADMISSION//TYPE": "ew emer.",
        "ADMISSION//LOCATION": "emergency room",
        "ADMISSION//PRIOR_ADMISSIONS": "1.0",
        "ADMISSION//ED_HOURS": "4.5",
    }
    ed = index.filter(code="ADMISSION//ED_HOURS")["available_time"].item()
    assert ed == at(1, 11, 30)
    prior = index.filter(code="ADMISSION//PRIOR_ICU_STAYS").sort("time")
    assert prior.select("stay_id", "numeric_value").rows() == [(110, 0.0), (111, 1.0)]
    assert events.filter(pl.col("code") == "ADMISSION//RACE", subject_id=2).is_empty()  # unknown is not a race
    stays = extract.stays.filter(stay_id=110).row(0, named=True)
    assert stays["since"] == datetime(2150, 2, 28, 10)
    assert (stays["sex"], stays["age_group"], stays["race"]) == ("female", "45-64", "white")


def test_every_code_is_described(demo: tuple[Extract, pl.DataFrame], tmp_path: Path) -> None:
    tables = {
        "inputevents": rows("inputevents", (1, 11, 110, 221906, "2150-03-01 13:00:00", None, "2150-03-01 14:00:00")),
        "radiology": rows("radiology", (1, 11, "2150-03-01 13:00:00", "2150-03-01 16:00:00", "clear")),
    }
    read_tree(tmp_path, tables)
    for folder in (tmp_path / "work" / "meds", demo[0].events.path):  # type: ignore[attr-defined]
        codes = pl.read_parquet(folder / "metadata" / "codes.parquet")
        assert codes["description"].null_count() == 0, codes.filter(pl.col("description").is_null())["code"].to_list()


def test_xrays_are_events_with_a_path(tmp_path: Path) -> None:
    names = ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"]
    images = [
        ("a-1", 1, 501, "AP", 21500302, 80556.875),
        ("a-2", 1, 501, "LATERAL", 21500302, 80656.875),
        *[(f"b-{i}", 2, 600 + i, "PA", 21500506, 100000.0) for i in range(11)],  # after death
        ("c-1", 5, 701, "PA", 21500302, 100000.0),  # never in a unit
    ]
    cxr = tmp_path / "cxr"
    table = [dict(zip(names, image, strict=True)) for image in images]
    write_tables(cxr, {"mimic-cxr-2.0.0-metadata": table}, ".csv.gz")
    extract, events = read_tree(tmp_path, {}, cxr=cxr)
    assert [(r.modality, r.root) for r in extract.rules if isinstance(r, ImageRule)] == [("cxr", cxr)]
    seen = events.filter(pl.col("code").str.starts_with("CXR//"))
    moment = at(2, 8, 5).replace(second=56, microsecond=875_000)
    assert seen.select("subject_id", "time", "available_time", "text_value").rows() == [
        (1, moment, moment, "files/p1/p1/s501/a-1.jpg")
    ]
    assert "11 rows dropped: after the subject's death" in dropped(extract, "mimic-cxr")


def test_outcomes_are_events_that_no_rule_reads(tmp_path: Path) -> None:
    for structured in ("aggregates", "series"):
        extract, events = read_tree(tmp_path / structured, {}, structured=structured)
        outcomes = events.filter(pl.col("code").str.contains("^(HOSPITAL_|ICU_|MEDS_)"))
        assert outcomes.filter(subject_id=2).sort("time", "code")["code"].to_list() == [
            "MEDS_BIRTH",
            "HOSPITAL_ADMISSION",
            "ICU_ADMISSION",
            "ICU_DISCHARGE",
            "MEDS_DEATH",
            "HOSPITAL_DISCHARGE//EXPIRED",
        ]
        read = {code for rule in extract.rules for code in rule.codes}
        assert not any(c.startswith(("HOSPITAL", "ICU", "MEDS")) or c.endswith("*") for c in read)


def test_aggregates_or_series(tmp_path: Path) -> None:
    tables = {"labevents": rows("labevents", (1, 11, 50912, "2150-03-01 13:00:00", None, 1.0, "mg/dL"))}
    aggregates, _ = read_tree(tmp_path / "a", tables)
    series, _ = read_tree(tmp_path / "s", tables, structured="series")
    creatinine = [r for r in aggregates.rules if r.codes == ("LAB//CREATININE",)]
    assert [r.aggregation for r in creatinine] == ["last", "min", "max", "mean", "std", "count"]  # type: ignore[union-attr]
    assert {r.modality for r in aggregates.rules} == {"structured"}
    assert dict.fromkeys(r.modality for r in series.rules) == dict.fromkeys(["demographics", "structured"])
    assert [type(r).__name__ for r in series.rules if r.codes == ("LAB//CREATININE",)] == ["SeriesRule"]


# --- code tables ------------------------------------------------------------------------------------------------------


def test_no_item_is_told_twice() -> None:
    for name in ("chart", "labs", "outputs", "inputs", "procedures"):
        items = [item for concept in concepts(name) for item in concept.items]
        assert len(items) == len(set(items)), name


def test_comorbidity_prefixes_by_hand() -> None:
    assert expanded("4254-4256;I60-I62;042-044;V56") == (
        *("4254", "4255", "4256", "I60", "I61", "I62", "042", "043", "044", "V56"),
    )
    groups = {row["group"]: row for row in code_table("mimic_iv_icd")}
    assert "C41" in expanded(groups["CANCER"]["icd10"])
    # skin cancers other than melanoma are none of them
    assert not {"C44", "173"} & {*expanded(groups["CANCER"]["icd10"]), *expanded(groups["CANCER"]["icd9"])}


# --- releases ---------------------------------------------------------------------------------------------------------


def _strangers() -> dict[str, Any]:
    tables = people()
    return {"icustays": tables["icustays"] + [unit_stay(9, 900 + i, 9000 + i, "2150-01-01", None) for i in range(3)]}


def test_modules_of_two_releases_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="one release, got fewer than 10 of fewer than 10 unit stays whose admission"):
        read_tree(tmp_path / "strangers", _strangers())
    root = write_mimic(tmp_path / "mimiciv", {})
    both = tmp_path / "both"
    both.mkdir()
    for module, version in (("hosp", "2.2"), ("icu", "3.1")):
        (tmp_path / "mimiciv" / version).mkdir()
        (root / module).rename(tmp_path / "mimiciv" / version / module)
        (both / module).symlink_to(tmp_path / "mimiciv" / version / module)
    with pytest.raises(SourceError, match=r"hosp of 2\.2 and icu of 3\.1"):
        read_mimic_iv(both, work=tmp_path / "work")
    monkeypatch.setattr(release, "_COUNTS", {(5, 9): ("2.2",)})
    monkeypatch.setattr(release, "_STAYS", {6: ("3.1", "3.0")})
    with pytest.raises(SourceError, match=r"patients and admissions as 2\.2, as many unit stays as 3\.1"):
        read_tree(tmp_path / "counts", {})


def test_one_stay_that_does_not_join_is_counted(tmp_path: Path) -> None:
    tables = people()["icustays"] + [unit_stay(1, 99, 999, "2150-01-01 00:00:00", None)]
    extract, _ = read_tree(tmp_path, {"icustays": tables})
    assert 999 not in extract.stays["stay_id"]
    assert dropped(extract, "icustays") == ["fewer than 10 rows dropped: no such admission of the subject"]


@pytest.mark.parametrize(
    ("folder", "group", "expected"),
    [
        ("mimiciv/2.2", "2011 - 2013", "2.2"),
        ("mimic-iv-3.0", "2020 - 2022", "3.0"),
        ("mimic-iv-demo-2.2", "2011 - 2013", "2.2 demo"),
        ("records", "2020 - 2022", "3.x"),
        ("records", "2011 - 2013", "2.x"),
    ],
)
def test_the_release_of_a_part(tmp_path: Path, folder: str, group: str, expected: str) -> None:
    patients = [row | {"anchor_year_group": group} for row in people()["patients"]]
    root = write_mimic(tmp_path / folder, {"patients": patients})
    assert read_mimic_iv(root, work=tmp_path / "work").version == expected


def test_a_folder_named_after_an_older_release_is_refused(tmp_path: Path) -> None:
    patients = [row | {"anchor_year_group": "2020 - 2022"} for row in people()["patients"]]
    root = write_mimic(tmp_path / "mimiciv" / "2.2", {"patients": patients})
    with pytest.raises(SourceError, match=r"named 2\.2 with patients of 2020"):
        read_mimic_iv(root, work=tmp_path / "work")


def test_admissions_without_a_race_column_are_older_than_2(tmp_path: Path) -> None:
    old = [{("ethnicity" if k == "race" else k): v for k, v in admission(1, 11, "", "").items()}]
    with pytest.raises(SourceError, match="a column 'race'"):
        read_tree(tmp_path, {"admissions": old})


# --- the open demo ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, pl.DataFrame]:
    work = tmp_path_factory.mktemp("demo")
    return read_mimic_iv(open_data("mimic-iv-demo-2.2"), work=work), events_of(work)


def test_the_demo_is_read_whole(demo: tuple[Extract, pl.DataFrame]) -> None:
    extract, events = demo
    assert extract.version == "2.2 demo"
    assert extract.stays.height == 140
    assert extract.stays["subject_id"].n_unique() == 100
    assert events["subject_id"].n_unique() == 100
    # 275 admissions, 15 of them ended by death
    assert events.filter(code="HOSPITAL_DISCHARGE//EXPIRED").height == 15
    assert events.filter(code="HOSPITAL_DISCHARGE//ALIVE").height == 260


def _meds() -> pl.DataFrame:
    return pl.read_parquet(open_data("mimic-iv-demo-2.2") / "meds" / "mimic_iv_demo_meds_events.parquet")


FAHRENHEIT, POUNDS, INCHES = 223761, 226531, 226707


def test_raw_and_meds_agree_on_labs_and_charted_items(demo: tuple[Extract, pl.DataFrame]) -> None:
    """Per concept: distinct (subject, time, value). The other conversion knows no concepts and no availability."""
    mine = demo[1].filter(pl.col("source").is_in(["labevents", "chartevents"]))
    table = pl.DataFrame(
        [(item, c.code) for name in ("labs", "chart") for c in concepts(name) for item in c.items],
        {"itemid": pl.Int64, "code": pl.String},
        orient="row",
    )
    item, value = pl.col("itemid"), pl.col("value").cast(pl.Float64)
    converted = (
        pl.when(item == FAHRENHEIT)
        .then((value - 32) / 1.8)
        .when(item == POUNDS)
        .then(value * 0.45359237)
        .when(item == INCHES)
        .then(value * 2.54)
        .otherwise(value)
    )
    parts = pl.col("code").str.split("//").list
    theirs = (
        _meds()
        .filter(pl.col("code").str.starts_with("LAB//"), pl.col("value").is_not_null())
        .select("subject_id", "time", "value", itemid=parts.get(1).cast(pl.Int64))
        .join(table, on="itemid")
        .with_columns(value=converted.round(3))
        .unique(["subject_id", "time", "code", "value"])
    )
    ours = mine.with_columns(value=pl.col("numeric_value").cast(pl.Float64).round(3)).unique(
        ["subject_id", "time", "code", "value"]
    )
    count = pl.len().alias("events")
    compared = ours.group_by("code").agg(count).join(theirs.group_by("code").agg(count), on="code", how="full")
    wrong = compared.filter(pl.col("events").ne_missing(pl.col("events_right")))
    assert compared.height > 60
    assert wrong.is_empty(), wrong
    joined = ours.join(theirs, on=["subject_id", "time", "code", "value"], how="anti")
    assert joined.is_empty()


def test_raw_and_meds_agree_on_outputs_procedures_and_outcomes(demo: tuple[Extract, pl.DataFrame]) -> None:
    mine, theirs = demo[1], _meds()
    urine = {item for c in concepts("outputs") if c.code == "OUTPUT//URINE" for item in c.items}
    volumes = theirs.filter(pl.col("code").is_in([f"SUBJECT_FLUID_OUTPUT//{i}//ml" for i in urine]))
    assert mine.filter(code="OUTPUT//URINE").height == volumes.unique(["subject_id", "time", "value"]).height
    ventilated = theirs.filter(code="PROCEDURE//START//225792")
    assert mine.filter(code="PROCEDURE//INVASIVE_VENTILATION").height == ventilated.height == 65
    for code in ("MEDS_BIRTH", "ICU_ADMISSION", "HOSPITAL_ADMISSION"):
        ours = mine.filter(code=code).select("subject_id", "time").sort("subject_id", "time")
        other = theirs.filter(pl.col("code").str.starts_with(code)).select("subject_id", "time")
        assert ours.equals(other.sort("subject_id", "time")), code
    dead = set(mine.filter(code="MEDS_DEATH")["subject_id"])
    assert dead == set(theirs.filter(code="MEDS_DEATH")["subject_id"])


def test_rows_not_in_the_event_folder_are_accounted_for(demo: tuple[Extract, pl.DataFrame]) -> None:
    root = open_data("mimic-iv-demo-2.2")
    items = [item for c in concepts("labs") for item in c.items]
    labs = pl.read_csv(root / "hosp" / "labevents.csv.gz").filter(pl.col("itemid").is_in(items))
    numbers = labs.drop_nulls("valuenum").height
    lost = [w for w in demo[0].warnings if w.startswith("table 'labevents'")]
    missing = labs.height - numbers
    assert f"table 'labevents': {missing:,} rows dropped: no number" in lost
    repeats = [w for w in lost if "repeats" in w]
    n_repeats = int(repeats[0].split()[2].replace(",", "")) if repeats and "fewer" not in repeats[0] else 0
    assert demo[1].filter(source="labevents").height == pytest.approx(numbers - n_repeats, abs=9)


# --- forms of a folder ------------------------------------------------------------------------------------------------


def test_parquet_with_typed_columns_gives_the_same_events(tmp_path: Path) -> None:
    labs = rows(
        "labevents",
        (1, 11, 50912, "2150-03-01 13:00:00", "2150-03-01 14:30:00", 1.1, "mg/dL"),
        (1, None, 50983, "2150-03-02 13:00:00", None, 140.0, "mEq/L"),
    )
    _, expected = read_tree(tmp_path / "csv", {"labevents": labs})
    root = write_mimic(tmp_path / "parquet", {"labevents": labs})
    for file in root.rglob("*.csv*"):
        frame = pl.read_csv(file, try_parse_dates=True)
        name = file.name.removesuffix(".gz").removesuffix(".csv")
        frame.write_parquet(file.with_name(f"{name.upper()}.parquet"))
        file.unlink()
    assert pl.read_parquet_schema(root / "hosp" / "LABEVENTS.parquet")["charttime"] == pl.Datetime("us")
    read_mimic_iv(root, work=tmp_path / "work")
    assert events_of(tmp_path / "work").equals(expected)


def test_another_folder_is_refused_in_words(tmp_path: Path) -> None:
    root = write_mimic(tmp_path / "root", {})
    with pytest.raises(SourceError, match="no hosp and no icu; give the folder that holds both"):
        read_mimic_iv(root / "hosp", work=tmp_path / "work")
    with pytest.raises(SourceError, match="'discharge' or 'radiology'"):
        read_mimic_iv(root, work=tmp_path / "work", notes=root)

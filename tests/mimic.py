"""A hand-made MIMIC-IV: five subjects, with tables added row by row as a test needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from mmnar.sources.events import Extract
from mmnar.sources.mimic_iv import read_mimic_iv
from tests.records import Table, write_tables

COLUMNS = {
    "labevents": "subject_id hadm_id itemid charttime storetime valuenum valueuom",
    "chartevents": "subject_id hadm_id stay_id itemid charttime storetime valuenum valueuom",
    "outputevents": "subject_id hadm_id stay_id itemid charttime storetime value valueuom",
    "inputevents": "subject_id hadm_id stay_id itemid starttime endtime storetime",
    "procedureevents": "subject_id hadm_id stay_id itemid starttime endtime storetime",
    "prescriptions": "subject_id hadm_id starttime drug",
    "emar": "subject_id hadm_id charttime storetime medication event_txt",
    "diagnoses_icd": "subject_id hadm_id icd_code icd_version",
    "omr": "subject_id chartdate result_name result_value",
    "discharge": "subject_id hadm_id charttime storetime text",
    "radiology": "subject_id hadm_id charttime storetime text",
}
ICU = ("chartevents", "outputevents", "inputevents", "procedureevents", "icustays")


def patient(subject_id: int, **other: Any) -> dict[str, Any]:
    return {
        "subject_id": subject_id,
        "gender": "F",
        "anchor_age": 60,
        "anchor_year": 2150,
        "anchor_year_group": "2011 - 2013",
        "dod": None,
    } | other


def admission(subject_id: int, hadm_id: int, admittime: str, dischtime: str | None, **other: Any) -> dict[str, Any]:
    return {
        "subject_id": subject_id,
        "hadm_id": hadm_id,
        "admittime": admittime,
        "dischtime": dischtime,
        "deathtime": None,
        "admission_type": "EW EMER.",
        "admission_location": "EMERGENCY ROOM",
        "discharge_location": "HOME",
        "insurance": "Medicare",
        "language": "ENGLISH",
        "marital_status": "MARRIED",
        "race": "WHITE - BRAZILIAN",
        "edregtime": None,
        "edouttime": None,
        "hospital_expire_flag": 0,
    } | other


def unit_stay(subject_id: int, hadm_id: int, stay_id: int, intime: str, outtime: str | None) -> dict[str, Any]:
    unit = "Medical Intensive Care Unit (MICU)"
    return {
        "subject_id": subject_id,
        "hadm_id": hadm_id,
        "stay_id": stay_id,
        "first_careunit": unit,
        "last_careunit": unit,
        "intime": intime,
        "outtime": outtime,
        "los": 1.0,
    }


def people() -> dict[str, Table]:
    """1: an earlier admission without a unit stay, the index one (stays 110, 111), a planned return after 15 days with
    a unit stay 80 days after discharge of the index. 2: dies in hospital on the fourth day. 3: seventeen years old.
    4: returns after 31 days. 5: never in a unit.
    """
    died = {
        "hospital_expire_flag": 1,
        "deathtime": "2150-05-05 04:00:00",
        "discharge_location": "DIED",
        "race": "UNKNOWN",
    }
    return {
        "patients": [
            patient(1),
            patient(2, gender="M", anchor_age=70, anchor_year=2148, dod="2150-05-05"),
            patient(3, anchor_age=15, anchor_year=2148),
            patient(4, dod="2151-01-01"),
            patient(5),
        ],
        "admissions": [
            admission(1, 10, "2149-12-01 08:00:00", "2149-12-05 12:00:00"),
            admission(1, 11, "2150-03-01 10:00:00", "2150-03-10 15:00:00", edregtime="2150-03-01 07:00:00",
                      edouttime="2150-03-01 11:30:00"),
            admission(1, 12, "2150-03-25 06:00:00", "2150-03-26 10:00:00", admission_type="ELECTIVE"),
            admission(1, 13, "2150-05-29 06:00:00", "2150-06-10 10:00:00"),
            admission(2, 20, "2150-05-01 10:00:00", "2150-05-05 06:00:00", **died),
            admission(3, 30, "2150-01-01 10:00:00", "2150-01-09 10:00:00"),
            admission(4, 40, "2150-07-01 10:00:00", "2150-07-02 12:00:00"),
            admission(4, 41, "2150-08-02 12:00:01", "2150-08-05 12:00:00"),
            admission(5, 50, "2150-07-01 10:00:00", "2150-07-02 12:00:00"),
        ],
        "icustays": [
            unit_stay(1, 11, 110, "2150-03-01 12:00:00", "2150-03-04 12:00:00"),
            unit_stay(1, 11, 111, "2150-03-06 12:00:00", "2150-03-07 12:00:00"),
            unit_stay(1, 13, 113, "2150-05-29 08:00:00", "2150-05-30 08:00:00"),
            unit_stay(2, 20, 120, "2150-05-01 12:00:00", "2150-05-05 04:00:00"),
            unit_stay(3, 30, 130, "2150-01-01 12:00:00", "2150-01-02 12:00:00"),
            unit_stay(4, 40, 140, "2150-07-01 12:00:00", "2150-07-02 11:00:00"),
        ],
    }  # fmt: skip


def rows(table: str, *cells: Sequence[Any]) -> Table:
    """Rows of a table, cells in the order of ``COLUMNS``."""
    names = COLUMNS[table].split()
    return [dict(zip(names, row, strict=True)) for row in cells]


def write_mimic(folder: Path, tables: Mapping[str, Table]) -> Path:
    """``people()`` with ``tables`` over them, in ``hosp`` and ``icu``; notes beside them in ``note``."""
    for name, table in (people() | dict(tables)).items():
        module = "icu" if name in ICU else "note" if name in ("discharge", "radiology") else "hosp"
        write_tables(folder / module, {name: table}, ".csv.gz" if name == "labevents" else ".csv")
    return folder


def read_tree(folder: Path, tables: Mapping[str, Table], **options: Any) -> tuple[Extract, pl.DataFrame]:
    """The extract of a hand-made tree, and all its events."""
    root = write_mimic(folder / "root", tables)
    notes = root if (root / "note").is_dir() else None
    extract = read_mimic_iv(root, work=folder / "work", notes=notes, **options)
    return extract, events_of(folder / "work")


def events_of(work: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((work / "meds" / "data").glob("*.parquet")))


def found(events: pl.DataFrame, code: str) -> list[tuple[datetime, datetime, float | str | None]]:
    """(time, available_time, value) of a code, in order."""
    value = pl.coalesce(pl.col("numeric_value").cast(pl.String), "text_value")
    hit = events.filter(code=code).sort("time", "available_time")
    values = hit["numeric_value"].to_list() if hit["text_value"].is_null().all() else hit.select(value).to_series()
    return list(zip(hit["time"].to_list(), hit["available_time"].to_list(), list(values), strict=True))

"""Raw records for tests: where the open data lie, and a hand-made eICU of eleven unit stays."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmnar.sources.eicu.stays import PATIENT
from mmnar.sources.eicu.tables import TABLES

Table = list[dict[str, Any]]


def open_data(name: str) -> Path:
    """Folder of an open data set; skips the test where it is not there."""
    base = Path(os.environ.get("MMNAR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (base / name).is_dir():
        pytest.skip(f"open data '{name}' not found; set MMNAR_DATA to the folder that holds it")
    return base / name


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], suffix: str = ".csv") -> Path:
    """Write tables as CSV; the header is that of the first row, None is an empty cell."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        opener: Any = gzip.open if suffix.endswith(".gz") else open
        with opener(folder / f"{name}{suffix}", "wt", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def full_rows(table: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with every column the reader asks for, empty where not given."""
    columns = TABLES[table][0] if table in TABLES else PATIENT
    return [dict.fromkeys(columns) | dict(row) for row in rows]


def unit_stay(stay_id: int, hadm_id: int, person: str | None, begins: int, lasts: int, **other: Any) -> dict[str, Any]:
    """A row of ``patient``: the unit stay begins ``begins`` minutes after hospital admission and lasts ``lasts``."""
    return {
        "patientunitstayid": stay_id,
        "patienthealthsystemstayid": hadm_id,
        "uniquepid": person,
        "gender": "Female",
        "age": "60",
        "ethnicity": "Caucasian",
        "hospitalid": 7,
        "admissionheight": 160,
        "admissionweight": 64,
        "hospitaladmittime24": "10:00:00",
        "hospitaladmitoffset": -begins,
        "hospitaladmitsource": "Floor",
        "hospitaldischargeyear": 2015,
        "hospitaldischargeoffset": lasts + 100,
        "hospitaldischargestatus": "Alive",
        "unittype": "MICU",
        "unitadmitsource": "Floor",
        "unitvisitnumber": 1,
        "unitstaytype": "admit",
        "unitdischargeoffset": lasts,
        "unitdischargestatus": "Alive",
    } | other


def tiny_patients() -> Table:
    """Stays 1-3: one hospital stay; a return after 500 min, then a transfer at the very minute. 4 dies. 5: status
    unknown. 6-11 are left out of the cohort: too old, too short, too long, no valid discharge, no person, too young.
    """
    dead = {"hospitaldischargestatus": "Expired", "unitdischargestatus": "Expired"}
    return [
        unit_stay(1, 10, "002-1", 60, 2000),
        unit_stay(2, 10, "002-1", 60 + 2000 + 500, 1500),
        unit_stay(3, 10, "002-1", 60 + 2000 + 500 + 1500, 1000),
        unit_stay(4, 20, "002-2", 0, 3000, age="70", gender="Male", **dead),
        unit_stay(5, 30, "003-1", 30, 1800, hospitaldischargestatus=""),
        unit_stay(6, 40, "003-2", 0, 2000, age="> 89"),
        unit_stay(7, 50, "003-3", 0, 600),
        unit_stay(8, 60, "003-4", 0, 15000),
        unit_stay(9, 70, "003-5", 0, -5),
        unit_stay(10, 80, None, 0, 2000),
        unit_stay(11, 90, "003-6", 0, 2000, age="17"),
    ]


def _of_stay_4() -> dict[str, Table]:
    """Events of stay 4, on both sides of its 24 h (minute 1440)."""
    flow = "flowsheet|Flowsheet Cell Labels|I&O|"

    def cell(at: int, entered: int, kind: str, label: str, value: float | None) -> dict[str, Any]:
        return {
            "intakeoutputoffset": at,
            "intakeoutputentryoffset": entered,
            "cellpath": f"{flow}{kind} (ml)|{label}",
            "celllabel": label,
            "cellvaluenumeric": value,
        }

    def charted(at: int, entered: int | None, label: str, value: str) -> dict[str, Any]:
        return {
            "respchartoffset": at,
            "respchartentryoffset": entered,
            "respchartvaluelabel": label,
            "respchartvalue": value,
        }

    past = "notes/Progress Notes/Past History/"
    return {
        "apacheapsvar": [
            {"eyes": 3, "motor": 6, "verbal": -1, "wbc": -1, "heartrate": 120, "meanbp": 60, "urine": 1500, "vent": 1}
        ],
        "apachepredvar": [{"diabetes": 1, "aids": 0, "ejectfx": -1}],
        "apachepatientresult": [
            {"apacheversion": "IV", "apachescore": 99, "predictedhospitalmortality": 0.9},
            {
                "apacheversion": "IVa",
                "apachescore": 50,
                "predictedhospitalmortality": 0.25,
                "predictedicumortality": -1,
            },
        ],
        "diagnosis": [
            {"diagnosisoffset": 5, "diagnosisstring": "renal|disorder of kidney|acute renal failure"},
            {"diagnosisoffset": 5, "diagnosisstring": "renal|disorder of kidney|acute renal failure"},
            {"diagnosisoffset": 1440, "diagnosisstring": "renal|electrolyte imbalance"},
            {"diagnosisoffset": 1441, "diagnosisstring": "cardiovascular|cardiac arrest"},
        ],
        "admissiondx": [
            {
                "admitdxenteredoffset": 9,
                "admitdxpath": "admission diagnosis|Operative Organ Systems|Organ System|Trauma",
            },
            {"admitdxenteredoffset": 9, "admitdxpath": "admission diagnosis|All Diagnosis|Operative"},
            {"admitdxenteredoffset": 1500, "admitdxpath": "admission diagnosis|Elective|Yes"},
        ],
        "pasthistory": [
            {
                "pasthistoryenteredoffset": 20,
                "pasthistorypath": f"{past}Organ Systems/Renal  (R)/Renal Failure/renal failure - hemodialysis",
            }
        ],
        "medication": [
            {"drugorderoffset": -10, "drugname": "HEPARIN 5000 UNITS", "drughiclseqno": 2808},
            {"drugorderoffset": 100, "drugname": None, "drughiclseqno": 2808},
            {"drugorderoffset": 1440, "drugname": "Norepinephrine in D5W", "drughiclseqno": None},
            {"drugorderoffset": 1441, "drugname": "vancomycin", "drughiclseqno": None},
            {"drugorderoffset": None, "drugname": "vancomycin", "drughiclseqno": None},
        ],
        "infusiondrug": [{"infusionoffset": 30, "drugname": "Propofol (mcg/kg/min)"}],
        "treatment": [{"treatmentoffset": 10, "treatmentstring": "renal|dialysis|hemodialysis"}],
        "lab": [
            {"labresultoffset": 100, "labresultrevisedoffset": 120, "labname": "sodium", "labresult": 130},
            {"labresultoffset": 200, "labresultrevisedoffset": None, "labname": "sodium", "labresult": 140},
            {"labresultoffset": 1400, "labresultrevisedoffset": 1500, "labname": "sodium", "labresult": 170},
            {"labresultoffset": 300, "labresultrevisedoffset": 300, "labname": "sodium", "labresult": 999},
            {"labresultoffset": 300, "labresultrevisedoffset": 300, "labname": "lactate", "labresult": None},
        ],
        "vitalaperiodic": [
            {"observationoffset": 10, "noninvasivesystolic": 100, "noninvasivediastolic": 70, "noninvasivemean": None},
            {"observationoffset": 20, "noninvasivesystolic": 130, "noninvasivediastolic": 40, "noninvasivemean": 70},
            {"observationoffset": 1441, "noninvasivesystolic": 30, "noninvasivediastolic": 20, "noninvasivemean": 25},
        ],
        "vitalperiodic": [{"observationoffset": 5, "heartrate": 90, "systemicsystolic": 120}],
        "nursecharting": [
            {
                "nursingchartoffset": 1430,
                "nursingchartentryoffset": entered,
                "nursingchartcelltypevalname": "Heart Rate",
                "nursingchartvalue": value,
            }
            for entered, value in ((1440, "80"), (1441, "200"), (1431, "see note"))
        ],
        "respiratorycharting": [
            charted(10, 15, "FiO2", "0.4"),
            charted(20, 15, "FIO2 (%)", "60"),
            charted(30, 1500, "FiO2", "100"),
            charted(40, 41, "PEEP", "n/a"),
            charted(50, None, "PEEP", "5"),
            charted(60, 60, "O2 Device", "Nasal cannula"),
        ],
        "respiratorycare": [
            {"respcarestatusoffset": 50, "ventstartoffset": 40, "airwaytype": "Oral ETT"},
            {"respcarestatusoffset": 60, "ventstartoffset": 0, "airwaytype": None},
        ],
        "intakeoutput": [
            cell(60, 60, "Intake", "NS", 500),
            cell(60, 70, "Intake", "P.O.", 200),
            cell(60, 1500, "Intake", "D5W", 900),
            cell(90, 95, "Output", "Urine", 300),
            cell(120, 120, "Output", "Stool", 100),
            cell(150, 150, "Dialysis", "Out", 450),
            cell(150, 150, "Intake", "PRBC", None),
        ],
    }


def tiny_tables() -> dict[str, Table]:
    """All tables of the hand-made eICU."""
    events = {name: [{"patientunitstayid": 4} | row for row in rows] for name, rows in _of_stay_4().items()}
    hospital = [{"hospitalid": 7, "numbedscategory": "<100", "teachingstatus": "FALSE", "region": ""}]
    tables = {"hospital": hospital, **events}
    return {"patient": full_rows("patient", tiny_patients())} | {n: full_rows(n, r) for n, r in tables.items()}

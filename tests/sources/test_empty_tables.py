"""A table that is there and tells nothing is not one that is absent: both are said, each in its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.errors import SourceError
from mmnar.simulation.mimic_iv.release import IV, write_mimic_iv
from mmnar.sources.eicu import read_eicu
from mmnar.sources.events import SeriesRule
from mmnar.sources.mimic_iv import read_mimic_iv
from mmnar.sources.physionet2012 import read_physionet2012
from mmnar.sources.reading.visible import visible_files
from tests.mimic import rows, write_mimic
from tests.records import tiny_tables, write_tables

NO_ROWS = "table '{}': no rows: there, but nothing is made of it"
NO_EVENT = "table '{}': none of its rows becomes an event: nothing is made of it"


def _headers_alone(root: Path, *tables: str) -> Path:
    for table in tables:
        path = root / f"{table}.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    return root


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_eicu_table_without_rows_is_said_and_so_are_its_features(tmp_path: Path, on_disk: bool) -> None:
    tables = tiny_tables()
    del tables["respiratorycare"]
    tables["treatment"] = [row | {"treatmentstring": " "} for row in tables["treatment"]]
    root = _headers_alone(write_tables(tmp_path / "raw", tables), "infusiondrug", "hospital")
    work = tmp_path / "work" if on_disk else None
    extract = read_eicu(root, work=work)
    told = set(extract.warnings)
    assert {NO_ROWS.format("infusiondrug"), NO_ROWS.format("hospital"), NO_EVENT.format("treatment")} <= told
    assert "table 'respiratorycare' is absent: its features are left out" in told
    # of the tables that tell something, and of the absent one, neither is said
    assert sum("no rows" in line or "none of its rows" in line for line in told) == 3
    data = dataset_of(extract, build_cohort(extract, eicu_criteria(), eicu_questions()))
    (line,) = (w for w in data.manifest["warnings"] if w.startswith("modality 'medication': no value for anybody of"))
    assert "'sedative_infusion'" in line
    assert "'medication_count'" not in line
    assert read_eicu(root, work=work).warnings == extract.warnings  # of a finished build nothing is told otherwise


def test_mimic_tables_that_tell_nothing_are_said(tmp_path: Path) -> None:
    unknown = rows("chartevents", (1, 11, 777, 1, "2150-03-01 13:00:00", None, 80, "bpm"))
    labs = rows("labevents", (1, 11, 50912, "2150-03-01 13:00:00", None, 1.0, "mg/dL"))
    empty: dict[str, Any] = {"omr": rows("omr", (1, "2150-03-01", "BMI (kg/m2)", "20")), "emar": _one_dose()}
    root = write_mimic(tmp_path / "root", {"chartevents": unknown, "labevents": labs, **empty})
    _headers_alone(root / "hosp", "emar", "omr")
    extract = read_mimic_iv(root, work=tmp_path / "work")
    told = [w for w in extract.warnings if "no rows" in w or "none of its rows" in w]
    assert sorted(told) == sorted([NO_EVENT.format("chartevents"), NO_ROWS.format("emar"), NO_ROWS.format("omr")])
    again = read_mimic_iv(root, work=tmp_path / "work")
    assert again.warnings == extract.warnings


def _one_dose() -> list[dict[str, Any]]:
    return rows("emar", (1, 11, "2150-03-01 13:00:00", None, "Heparin", "Administered"))


def test_a_series_that_nobody_has_is_said(tmp_path: Path) -> None:
    write_mimic_iv(tmp_path / "tree", 60, seed=4)
    extract = read_mimic_iv(tmp_path / "tree" / IV, work=tmp_path / "work", structured="series")
    beats = next(rule for rule in extract.rules if isinstance(rule, SeriesRule) and "heart_rate" in rule.feature)
    asked = replace(extract, rules=(beats, replace(beats, feature="made up", codes=("NO SUCH CODE",))))
    data = dataset_of(asked, build_cohort(asked, mimic_iv_criteria(), mimic_iv_questions()))
    lines = [w for w in data.manifest["warnings"] if "for anybody" in w]
    assert lines == ["modality 'structured': no value for anybody of 'made up'"]


@pytest.mark.parametrize("leads_to", ["nowhere", "itself"])
def test_a_link_in_the_place_of_a_file_that_leads_nowhere_is_refused_at_every_raw_door(
    tmp_path: Path, leads_to: str
) -> None:
    """Taken for absent, a table, a set, a stay or a shard would be lost without a word."""

    def broken(folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(name if leads_to == "itself" else "gone")
        return folder

    eicu = broken(write_tables(tmp_path / "eicu", tiny_tables()), "infusionDrug.csv.gz")
    mimic = write_mimic(tmp_path / "mimic", {})
    broken(mimic / "note", "radiology.csv.gz")
    broken(tmp_path / "challenge" / "set-a", "132500.txt")
    outcomes = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n132500,6,1,5,-1,0\n"
    (tmp_path / "challenge" / "Outcomes-a.txt").write_text(outcomes)
    broken(tmp_path / "sets", "set-b.tar.gz")
    (tmp_path / "sets" / "set-a").mkdir()
    broken(tmp_path / "meds" / "data", "9.parquet")
    doors: list[Callable[[], object]] = [
        lambda: read_eicu(eicu),
        lambda: read_mimic_iv(mimic, work=tmp_path / "work", notes=mimic),
        lambda: read_physionet2012(tmp_path / "challenge"),
        lambda: read_physionet2012(tmp_path / "sets"),
        lambda: list(visible_files(tmp_path / "meds" / "data", ".parquet")),
    ]
    for read in doors:
        with pytest.raises(SourceError, match="fewer than 10 links that lead nowhere") as refused:
            read()
        assert "132500" not in str(refused.value)

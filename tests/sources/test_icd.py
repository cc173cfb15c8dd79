"""ICD codes as tools leave them, against the groups they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mimic import read_tree, rows

HISTORY = {"DIAGNOSIS//MILD_LIVER", "DIAGNOSIS//HEART_FAILURE", "DIAGNOSIS//RENAL", "DIAGNOSIS//MYOCARDIAL_INFARCT"}

Codes = tuple[tuple[str | None, str | int], ...]


def groups_of(folder: Path, codes: Codes) -> tuple[set[str], list[str]]:
    """Groups with an event, and what was said of the table."""
    table = rows("diagnoses_icd", *[(1, 10, *code) for code in codes])
    extract, events = read_tree(folder, {"diagnoses_icd": table})
    found = {code for code in events["code"].unique() if code.startswith("DIAGNOSIS//")} - {"DIAGNOSIS//CODES"}
    return found, [w.removeprefix("table 'diagnoses_icd': ") for w in extract.warnings if "diagnoses_icd" in w]


@pytest.mark.parametrize(
    ("codes", "repaired"),
    [
        ((("0706", 9), ("4280", 9), ("V560", 9), ("I2101", 10)), False),
        ((("070.6", 9), ("428.0", 9), ("v56.0", "9.0"), (" i21.01 ", 10)), False),
        ((("706", 9), ("428.0", 9), ("V56 0", 9), ("i2101", 10)), True),
        ((("70.6", 9), ("4280", 9), ("V560", 9), ("I2101", 10)), True),
    ],
)
def test_one_code_in_several_spellings(tmp_path: Path, codes: Codes, repaired: bool) -> None:
    found, told = groups_of(tmp_path, codes)
    assert found == HISTORY
    assert told == (["fewer than 10 ICD-9 codes had lost their leading zeros: put back"] if repaired else [])


def test_a_code_that_could_be_two_is_none_where_zeros_are_lost(tmp_path: Path) -> None:
    """042 is AIDS, 0042 a dysentery; 1500 a cancer, 01500 a tuberculosis; 4109 would be an infarct, 04109 is none."""
    lost: Codes = (("42", 9), ("1500", 9), ("7054", 9), ("4109", 9), ("2500", 9))
    found, told = groups_of(tmp_path / "lost", lost)
    assert found == {"DIAGNOSIS//MILD_LIVER", "DIAGNOSIS//DIABETES"}
    assert told[-1] == "fewer than 10 rows dropped: no ICD code"
    kept: Codes = (("042", 9), ("1500", 9), ("07054", 9), ("2500", 9))
    found, told = groups_of(tmp_path / "kept", kept)
    assert found == {"DIAGNOSIS//AIDS", "DIAGNOSIS//CANCER", "DIAGNOSIS//MILD_LIVER", "DIAGNOSIS//DIABETES"}
    assert told == []


def test_what_is_no_code_is_counted(tmp_path: Path) -> None:
    none: Codes = ((None, 9), ("7", 9), ("heart", 10), ("I50", 9), ("4280", None), ("428", 10)) * 2  # type: ignore[assignment]
    found, told = groups_of(tmp_path, (("4280", 9), *none))
    assert found == {"DIAGNOSIS//HEART_FAILURE"}
    assert told == ["12 rows dropped: no ICD code"]

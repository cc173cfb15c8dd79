"""What earlier admissions left behind: billing codes in groups, and measurements of the outpatient record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from mmnar.sources.events import FeatureRule
from mmnar.sources.mimic_iv.concepts import feature_name
from mmnar.sources.mimic_iv.icd import tidied
from mmnar.sources.mimic_iv.register import Register, as_events
from mmnar.sources.reading.cells import DAY_OR_TIME
from mmnar.sources.reading.code_tables import code_table

CODING_DELAY: Final = pl.duration(days=1, time_unit="us")
"""Billing codes are given by coders once the patient has left; a day is the least it takes. So no question asked at
or before a discharge can read that admission's own codes, and every later admission can."""

_DAY: Final = pl.duration(days=1, time_unit="us")
_I, _S = pl.Int64(), pl.String()

DIAGNOSES: Final[dict[str, pl.DataType]] = {"subject_id": _I, "hadm_id": _I, "icd_code": _S, "icd_version": _I}
OMR: Final[dict[str, pl.DataType]] = {"subject_id": _I, "chartdate": DAY_OR_TIME, "result_name": _S, "result_value": _S}

_OMR: Final = (
    # result_name begins with, code, factor, unit, plausible range
    ("weight (lbs)", "OMR//WEIGHT", 0.45359237, "kg", 20, 400),
    ("height (inches)", "OMR//HEIGHT", 2.54, "cm", 100, 230),
    ("bmi (kg/m2)", "OMR//BMI", 1.0, "kg/m2", 8, 100),
)


OMR_DESCRIPTIONS: Final = {row[1]: f"{row[0].capitalize()} of a visit, in {row[3]}" for row in _OMR}


def expanded(prefixes: str) -> tuple[str, ...]:
    """The prefixes of a cell of the ICD table; ``a-b`` counts up the digits at the end.

    >>> expanded("V56;5830-5832;I60-I62")
    ('V56', '5830', '5831', '5832', 'I60', 'I61', 'I62')
    """
    return tuple(p for cell in prefixes.split(";") for p in _counted_up(cell))


def _counted_up(cell: str) -> Iterator[str]:
    first, _, last = cell.partition("-")
    if not last:
        yield first
        return
    letters = first.rstrip("0123456789")
    width = len(first) - len(letters)
    for n in range(int(first[len(letters) :]), int(last[len(letters) :]) + 1):
        yield f"{letters}{n:0{width}d}"


def diagnosis_events(register: Register, frame: pl.DataFrame) -> pl.DataFrame:
    """Per admission and comorbidity group one event, and one with the number of codes."""
    table = "diagnoses_icd"
    discharged = register.admissions.select("subject_id", "hadm_id", "dischtime")
    coded = tidied(register.of_subjects(frame), table, register.ledger).join(
        discharged, on=["subject_id", "hadm_id"], how="left"
    )
    known = pl.col("dischtime") + CODING_DELAY
    placed = register.place(table, coded, pl.col("dischtime"), known)
    ids = ["subject_id", "hadm_id", "time", "available_time"]
    frames = [as_events(placed.group_by(ids).agg(codes=pl.len()), table, pl.lit("DIAGNOSIS//CODES"), pl.col("codes"))]
    code, version = pl.col("icd_code"), pl.col("icd_version")
    for row in code_table("mimic_iv_icd"):
        hit = pl.lit(False)
        for number in (9, 10):
            starts = pl.any_horizontal(code.str.starts_with(p) for p in expanded(row[f"icd{number}"]))
            hit = hit | ((version == number) & starts)
        members = placed.filter(hit).select(ids).unique(maintain_order=True)
        frames.append(as_events(members, table, pl.lit(f"DIAGNOSIS//{row['group']}"), pl.lit(1.0)))
    return pl.concat(frames)


def diagnosis_rules(modality: str) -> list[FeatureRule]:
    """Admissions of the past with a code of the group; 0 where admissions were coded and none had one."""
    rules = [FeatureRule(modality, "history_codes", ("DIAGNOSIS//CODES",), "sum", history=True)]
    for row in code_table("mimic_iv_icd"):
        code = f"DIAGNOSIS//{row['group']}"
        name = f"history_{feature_name(row['group'])}"
        rules.append(FeatureRule(modality, name, (code,), "count", zero_if_recorded="diagnoses_icd", history=True))
    return rules


def diagnosis_descriptions() -> dict[str, str]:
    """Code → what it is."""
    groups = {
        f"DIAGNOSIS//{row['group']}": f"{row['description']} (billing codes)" for row in code_table("mimic_iv_icd")
    }
    return {"DIAGNOSIS//CODES": "Number of billing codes of an admission"} | groups


def omr_events(register: Register, frame: pl.DataFrame) -> pl.DataFrame:
    """Weight, height and body mass index of visits; a date is all that is known, so known from the day after."""
    table = "omr"
    name = pl.col("result_name").str.to_lowercase()
    wanted = register.of_subjects(frame.filter(name.is_in([row[0] for row in _OMR])))
    number = pl.col("result_value").cast(pl.Float64, strict=False)
    numeric = wanted.with_columns(number=number).filter(pl.col("number").is_finite())
    register.ledger.drop(table, wanted.height - numeric.height, "rows dropped: no number")
    placed = register.place(table, numeric, pl.col("chartdate"), pl.col("chartdate") + _DAY)
    return pl.concat(
        as_events(placed.filter(name == words), table, pl.lit(code), pl.col("number") * factor)
        for words, code, factor, *_ in _OMR
    )


def omr_rules(modality: str) -> list[FeatureRule]:
    return [
        FeatureRule(modality, f"history_{feature_name(code)}", (code,), unit=unit, low=low, high=high, history=True)
        for _, code, _, unit, low, high in _OMR
    ]

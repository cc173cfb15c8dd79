"""Who there is: people, unit stays, ages, and the axis that all stays of one hospital stay share."""

from __future__ import annotations

import hashlib
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.eicu.contradictions import TEN_YEARS, believable_ends
from mmnar.sources.reading.ages import age_group

ATTRIBUTES: Final = ("sex", "age_group", "ethnicity", "unit", "site")
_I, _F, _S, _T = pl.Int64(), pl.Float64(), pl.String(), pl.Time()

PATIENT: Final[dict[str, pl.DataType]] = {
    "patientunitstayid": _I,
    "patienthealthsystemstayid": _I,
    "uniquepid": _S,
    "gender": _S,
    "age": _S,
    "ethnicity": _S,
    "hospitalid": _I,
    "admissionheight": _F,
    "admissionweight": _F,
    "hospitaladmittime24": _T,
    "hospitaladmitoffset": _I,
    "hospitaladmitsource": _S,
    "hospitaldischargeyear": _I,
    "hospitaldischargeoffset": _I,
    "hospitaldischargestatus": _S,
    "unittype": _S,
    "unitadmitsource": _S,
    "unitvisitnumber": _I,
    "unitstaytype": _S,
    "unitdischargeoffset": _I,
    "unitdischargestatus": _S,
}


def unit_stays(patient: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """One row per unit stay: ids, times, attributes and the raw columns."""
    frame = patient.rename({"patientunitstayid": "stay_id", "patienthealthsystemstayid": "hadm_id"}).with_columns(
        subject_id=_subject_ids(patient["uniquepid"]), age=_age(patient["age"], notes)
    )
    frame = _on_one_axis(frame, notes)
    frame = believable_ends(frame, notes)
    starts = frame.select("hadm_id", outtime="intime", other="stay_id")
    # the next unit stay begins at the very minute this one ends
    moved = frame.join(starts, on=["hadm_id", "outtime"]).filter(pl.col("other") != pl.col("stay_id"))["stay_id"]
    age = pl.col("age")
    return frame.with_columns(
        transferred=pl.col("stay_id").is_in(moved.unique().implode()),
        sex=pl.when(pl.col("gender").is_in(["Female", "Male"])).then("gender"),
        age_group=age_group(age),
        unit="unittype",
        site=pl.col("hospitalid").cast(pl.String),
    )


def _subject_ids(uniquepid: pl.Series) -> pl.Series:
    """Integer per person, the same in every run and on every machine.

    >>> _subject_ids(pl.Series(["002-1039", None, "002-1039"])).to_list()
    [6368087817413959, None, 6368087817413959]
    """
    people = uniquepid.drop_nulls().unique().to_list()
    ids = {p: int.from_bytes(hashlib.blake2b(p.encode(), digest_size=8).digest()) >> 11 for p in people}
    if len(set(ids.values())) < len(ids):
        raise SourceError("table 'patient', column 'uniquepid'", "a distinct hash each", "a collision", "report it")
    return uniquepid.replace_strict(ids, default=None, return_dtype=pl.Int64)


def _age(age: pl.Series, notes: list[str]) -> pl.Series:
    """Years; "> 89" (ages above 89 are hidden in eICU) becomes 90, which no criterion or group tells apart further."""
    years = age.str.replace(r"^>\s*89$", "90").cast(pl.Float64, strict=False)
    bad = years.null_count() - age.null_count()
    if bad:
        notes.append(f"table 'patient', column 'age': {counted(bad)} cells are not an age; taken as unknown")
    return years


def _on_one_axis(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Add ``intime``; drop stays that cannot be placed."""
    hospital_stay = pl.coalesce("hadm_id", -pl.col("stay_id"))
    year, clock = pl.col("hospitaldischargeyear"), pl.col("hospitaladmittime24")
    several = [part.drop_nulls().n_unique().over(hospital_stay) > 1 for part in (year, clock)]
    unequal = frame.filter(pl.any_horizontal(several))
    if unequal.height:
        notes.append(
            f"table 'patient': {counted(unequal.height)} unit stays whose hospital stay has several admission times or"
            " years; the earliest is taken"
        )
    offset = pl.col("hospitaladmitoffset")
    placed = frame.filter(
        year.min().over(hospital_stay).is_between(1900, 2200)
        & clock.min().over(hospital_stay).is_not_null()
        & offset.is_between(-TEN_YEARS, TEN_YEARS)
    )
    if placed.height < frame.height:
        notes.append(
            f"table 'patient': {counted(frame.height - placed.height)} rows dropped: no admission time, year or offset"
        )
    admission = pl.datetime(year.min().over(hospital_stay), 1, 1, time_unit="us") + pl.duration(
        microseconds=clock.cast(pl.Int64).min().over(hospital_stay) // 1000, time_unit="us"
    )
    return placed.with_columns(intime=admission - pl.duration(minutes=offset, time_unit="us"))

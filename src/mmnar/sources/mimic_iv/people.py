"""Small tables: patients, admissions and unit stays; what is known of them on admission; what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.sources.events import FeatureRule
from mmnar.sources.mimic_iv.contradictions import (
    believable_admissions,
    believable_deaths,
    believable_patients,
    believable_stays,
)
from mmnar.sources.mimic_iv.register import Register, as_events
from mmnar.sources.reading.ages import age_group
from mmnar.sources.reading.cells import DAY_OR_TIME, TIME
from mmnar.sources.reading.later import later
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.raw import DataRoot

ATTRIBUTES: Final = ("sex", "age_group", "race", "insurance", "unit")
BEFORE_ADMISSION: Final = pl.duration(hours=24, time_unit="us")
"""How far before admission a record counts as this stay's: what the emergency department measured, not last year's."""

_DAY: Final = pl.duration(days=1, time_unit="us")
_I, _S = pl.Int64(), pl.String()

_PATIENTS: Final[dict[str, pl.DataType]] = {
    "subject_id": _I,
    "gender": _S,
    "anchor_age": _I,
    "anchor_year": _I,
    "anchor_year_group": _S,
    "dod": DAY_OR_TIME,
}
_ADMISSIONS: Final[dict[str, pl.DataType]] = {
    "subject_id": _I,
    "hadm_id": _I,
    "admittime": TIME,
    "dischtime": TIME,
    "deathtime": TIME,
    "admission_type": _S,
    "admission_location": _S,
    "discharge_location": _S,
    "insurance": _S,
    "language": _S,
    "marital_status": _S,
    "race": _S,
    "edregtime": TIME,
    "edouttime": TIME,
    "hospital_expire_flag": _I,
}
_ICUSTAYS: Final[dict[str, pl.DataType]] = {
    "subject_id": _I,
    "hadm_id": _I,
    "stay_id": _I,
    "first_careunit": _S,
    "last_careunit": _S,
    "intime": TIME,
    "outtime": TIME,
}

_RACES: Final = ("white", "black", "hispanic", "asian", "other")
_INSURANCES: Final = ("medicare", "medicaid", "private", "other")
_MARITAL: Final = ("single", "married", "widowed", "divorced", "other")
_TYPES: Final = (
    *("ew emer.", "urgent", "direct emer.", "observation admit", "eu observation", "direct observation"),
    *("ambulatory observation", "surgical same day admission", "elective", "other"),
)
_LOCATIONS: Final = (
    *("emergency room", "physician referral", "transfer from hospital", "clinic referral", "walk-in/self referral"),
    *("transfer from skilled nursing facility", "procedure site", "pacu", "internal transfer to or from psych"),
    *("ambulatory surgery transfer", "other"),
)
_UNITS: Final = (
    *("medical intensive care unit (micu)", "surgical intensive care unit (sicu)", "coronary care unit (ccu)"),
    *("medical/surgical intensive care unit (micu/sicu)", "cardiac vascular intensive care unit (cvicu)"),
    *("trauma sicu (tsicu)", "neuro surgical intensive care unit (neuro sicu)", "neuro stepdown"),
    *("neuro intermediate", "other"),
)
DESCRIPTIONS: Final = {
    "ADMISSION//AGE": "Age at admission, in years; above 89 it is 91",
    "ADMISSION//SEX": "Sex",
    "ADMISSION//RACE": "Race, in five groups",
    "ADMISSION//INSURANCE": "Insurance",
    "ADMISSION//LANGUAGE": "Language: English or another",
    "ADMISSION//MARITAL_STATUS": "Marital status",
    "ADMISSION//TYPE": "Type of admission",
    "ADMISSION//LOCATION": "Where the patient was before admission",
    "ADMISSION//UNIT": "First care unit of the unit stay",
    "ADMISSION//ED_HOURS": "Hours in the emergency department",
    "ADMISSION//PRIOR_ADMISSIONS": "Earlier admissions that were over",
    "ADMISSION//PRIOR_ICU_STAYS": "Earlier unit stays",
    "ADMISSION//DAYS_SINCE_DISCHARGE": "Days since the latest discharge",
    "HOSPITAL_ADMISSION": "Admission to hospital; the text is its type",
    "HOSPITAL_DISCHARGE//ALIVE": "Discharge alive",
    "HOSPITAL_DISCHARGE//EXPIRED": "Discharge after death in hospital",
    "HOSPITAL_DISCHARGE//UNKNOWN": "Discharge, outcome not recorded",
    "ICU_ADMISSION": "Begin of a unit stay",
    "ICU_DISCHARGE": "End of a unit stay",
    "MEDS_BIRTH": "1 January of the year of birth",
    "MEDS_DEATH": "Death: in hospital to the minute, else the end of the day",
}
"""Code → what it is."""

_UNSAID: Final = "unknown|unable to obtain|declined|information not available|^\\?$"


@dataclass(frozen=True)
class SmallTables:
    """Patients, admissions and unit stays as they are on disk."""

    patients: pl.DataFrame
    admissions: pl.DataFrame
    icustays: pl.DataFrame


def read_small(data: DataRoot) -> SmallTables:
    """
    Raises:
        SourceError: One of the three tables is absent, damaged, lacks a column, repeats a key or is empty.
    """
    patients = data.read("patients", _PATIENTS, key="subject_id")
    admissions = data.read("admissions", _ADMISSIONS, key="hadm_id")
    icustays = data.read("icustays", _ICUSTAYS, key="stay_id", optional=("last_careunit",))
    for name, table in (("patients", patients), ("admissions", admissions), ("icustays", icustays)):
        if table is None or table.is_empty():
            raise SourceError(f"table '{name}'", "at least one row", "none", "check the data root")
    assert patients is not None
    assert admissions is not None
    assert icustays is not None
    return SmallTables(patients, admissions, icustays)


def admit(small: SmallTables, ledger: Ledger) -> tuple[Register, pl.DataFrame]:
    """Join the three tables.

    Returns:
        The register of subjects with a unit stay, and ``stays``: one row per unit stay (see ``Extract.stays``) with
        ``age`` (years at admission), ``admittime, dischtime, deathtime`` (datetime[us]), ``died`` (null = unknown),
        ``icu_admission`` (1 = the subject's first admission with a unit stay), ``icu_stay`` (1 = the first of it).
    """
    patients = believable_patients(small.patients, ledger)
    admissions = believable_admissions(small.admissions, ledger).join(patients, on="subject_id", how="inner")
    ledger.drop("admissions", small.admissions.height - admissions.height, "rows dropped: no such patient")
    admissions = _histories(admissions.with_columns(_described()))
    stays = believable_stays(small.icustays, ledger)
    joined = stays.join(admissions, on=["subject_id", "hadm_id"], how="inner")
    ledger.drop("icustays", stays.height - joined.height, "rows dropped: no such admission of the subject")
    ours = admissions.join(joined, on="subject_id", how="semi")
    lives = believable_deaths(_lives(ours), ours, ledger)
    register = Register(lives, ours, joined.select("subject_id", "stay_id"), ledger)
    return register, _ranked(joined)


def _described() -> list[pl.Expr]:
    """Age and groups of an admission."""
    age = pl.col("anchor_age") + pl.col("admittime").dt.year() - pl.col("anchor_year")
    race = pl.col("race").str.to_lowercase()
    group = (
        pl.when(race.str.contains(_UNSAID))
        .then(None)
        .when(race.str.contains("hispanic|latino|south american"))
        .then(pl.lit("hispanic"))
        .when(race.str.contains("white|portuguese"))
        .then(pl.lit("white"))
        .when(race.str.contains("black"))
        .then(pl.lit("black"))
        .when(race.str.contains("asian"))
        .then(pl.lit("asian"))
        .when(race.is_not_null())
        .then(pl.lit("other"))
    )
    return [
        pl.when(age.is_between(0, 130)).then(age).cast(pl.Float64).alias("age"),
        pl.col("gender")
        .replace_strict({"F": "female", "M": "male"}, default=None, return_dtype=pl.String)
        .alias("sex"),
        group.alias("race"),
        _said("insurance"),
        _said("marital_status"),
        _said("admission_type"),
        _said("admission_location"),
        pl.when(_said("language").is_not_null())
        .then(pl.when(_said("language") == "english").then(pl.lit("english")).otherwise(pl.lit("other")))
        .alias("language"),
    ]


def _said(column: str) -> pl.Expr:
    text = pl.col(column).str.to_lowercase().str.strip_chars()
    return pl.when(~text.str.contains(_UNSAID)).then(text).alias(column)


def _histories(admissions: pl.DataFrame) -> pl.DataFrame:
    """Earlier admissions that were over on admission: how many, and days since the latest."""
    pairs = admissions.select("subject_id", "hadm_id", "admittime").join(
        admissions.select("subject_id", earlier="dischtime"), on="subject_id"
    )
    over = pairs.filter(pl.col("earlier") <= pl.col("admittime")).group_by("hadm_id")
    since = (pl.col("admittime") - pl.col("earlier")).min().dt.total_hours() / 24
    counted = over.agg(prior_admissions=pl.len(), days_since_discharge=since)
    return admissions.join(counted, on="hadm_id", how="left").with_columns(pl.col("prior_admissions").fill_null(0))


def _lives(admissions: pl.DataFrame) -> pl.DataFrame:
    """``subject_id, born, ended``: born on 1 January; dead at ``deathtime``, else when the day ``dod`` is over."""
    ended = pl.coalesce(pl.col("deathtime").max(), pl.col("dod").first() + _DAY)
    born = pl.datetime(pl.col("anchor_year").first() - pl.col("anchor_age").first(), 1, 1, time_unit="us")
    return admissions.group_by("subject_id").agg(born=born, ended=ended).sort("subject_id")


def _ranked(stays: pl.DataFrame) -> pl.DataFrame:
    age = pl.col("age")
    stays = stays.with_columns(
        since=pl.col("admittime") - BEFORE_ADMISSION,
        icu_admission=pl.struct("admittime", "hadm_id").rank("dense").over("subject_id"),
        icu_stay=pl.struct("intime", "stay_id").rank("dense").over("hadm_id"),
        unit="first_careunit",
        age_group=age_group(age),
    )
    before = pl.col("stay_id").cum_count().over("subject_id", order_by="intime") - 1
    return stays.with_columns(prior_icu_stays=before).sort("subject_id", "intime", "stay_id")


# --- events -----------------------------------------------------------------------------------------------------------


def admission_events(register: Register, stays: pl.DataFrame) -> pl.DataFrame:
    """What is known of a patient when admitted to hospital or unit."""
    admitted = register.admissions.drop_nulls("admittime").with_columns(
        time=pl.col("admittime"),
        available_time=pl.col("admittime"),
        ed_hours=(pl.col("edouttime") - pl.col("edregtime")).dt.total_minutes() / 60,
    )
    frames = [
        as_events(admitted, "admissions", _where(name, code), value=pl.col(name))
        for name, code in (
            ("age", "ADMISSION//AGE"),
            ("prior_admissions", "ADMISSION//PRIOR_ADMISSIONS"),
            ("days_since_discharge", "ADMISSION//DAYS_SINCE_DISCHARGE"),
        )
    ]
    frames += [
        as_events(admitted, "admissions", _where(name, code), text=pl.col(name))
        for name, code in (
            ("sex", "ADMISSION//SEX"),
            ("race", "ADMISSION//RACE"),
            ("insurance", "ADMISSION//INSURANCE"),
            ("language", "ADMISSION//LANGUAGE"),
            ("marital_status", "ADMISSION//MARITAL_STATUS"),
            ("admission_type", "ADMISSION//TYPE"),
            ("admission_location", "ADMISSION//LOCATION"),
        )
    ]
    left_ed = admitted.with_columns(available_time=later(pl.col("admittime"), pl.col("edouttime")))
    frames.append(as_events(left_ed, "admissions", _where("ed_hours", "ADMISSION//ED_HOURS"), pl.col("ed_hours")))
    in_unit = stays.drop_nulls("intime").with_columns(time=pl.col("intime"), available_time=pl.col("intime"))
    unit = pl.col("first_careunit").str.to_lowercase()
    frames.append(as_events(in_unit, "icustays", _where("first_careunit", "ADMISSION//UNIT"), text=unit))
    prior = pl.col("prior_icu_stays")
    frames.append(as_events(in_unit, "icustays", _where("prior_icu_stays", "ADMISSION//PRIOR_ICU_STAYS"), prior))
    return pl.concat(frames)


def outcome_events(register: Register, stays: pl.DataFrame) -> pl.DataFrame:
    """Birth, admissions, discharges and death, each at its own time. No rule reads them."""
    admissions, lives = register.admissions, register.lives
    kind = pl.col("admission_type")
    return pl.concat(
        [
            _at(lives, "patients", "born", pl.lit("MEDS_BIRTH")),
            _at(lives, "patients", "ended", pl.lit("MEDS_DEATH")),
            _at(admissions, "admissions", "admittime", pl.lit("HOSPITAL_ADMISSION"), text=kind),
            _at(admissions, "admissions", "dischtime", discharged_as()),
            _at(stays, "icustays", "intime", pl.lit("ICU_ADMISSION")),
            _at(stays, "icustays", "outtime", pl.lit("ICU_DISCHARGE")),
        ]
    )


def over(register: Register, stays: pl.DataFrame) -> pl.DataFrame:
    """``subject_id, hadm_id, died, time``: when each admission with a unit stay was over, by any account of it."""
    left = stays.group_by("subject_id", "hadm_id").agg(left=pl.col("outtime").max())
    admissions = register.admissions.join(left, on=["subject_id", "hadm_id"])
    time = pl.max_horizontal("dischtime", "deathtime", "left")
    return admissions.select("subject_id", "hadm_id", "died", time=time).drop_nulls("time")


def discharged_as() -> pl.Expr:
    """Code of the end of an admission, by ``died``."""
    status = pl.when("died").then(pl.lit("HOSPITAL_DISCHARGE//EXPIRED")).otherwise(pl.lit("HOSPITAL_DISCHARGE//ALIVE"))
    return pl.when(pl.col("died").is_not_null()).then(status).otherwise(pl.lit("HOSPITAL_DISCHARGE//UNKNOWN"))


def _where(column: str, code: str) -> pl.Expr:
    return pl.when(pl.col(column).is_not_null()).then(pl.lit(code))


def _at(frame: pl.DataFrame, table: str, column: str, code: pl.Expr, text: pl.Expr | None = None) -> pl.DataFrame:
    placed = frame.drop_nulls(column).with_columns(time=pl.col(column), available_time=pl.col(column))
    return as_events(placed, table, code, text=text)


def admission_rules(modality: str) -> list[FeatureRule]:
    """Features of ``admission_events``."""

    def number(feature: str, code: str, unit: str = "", low: float = 0, high: float | None = None) -> FeatureRule:
        return FeatureRule(modality, feature, (f"ADMISSION//{code}",), unit=unit, low=low, high=high)

    def word(feature: str, code: str, categories: tuple[str, ...]) -> FeatureRule:
        return FeatureRule(modality, feature, (f"ADMISSION//{code}",), categories=categories)

    return [
        number("age", "AGE", "years", 0, 120),
        word("sex", "SEX", ("female", "male", "other")),
        word("race", "RACE", _RACES),
        word("insurance", "INSURANCE", _INSURANCES),
        word("language", "LANGUAGE", ("english", "other")),
        word("marital_status", "MARITAL_STATUS", _MARITAL),
        word("admission_type", "TYPE", _TYPES),
        word("admission_location", "LOCATION", _LOCATIONS),
        word("first_careunit", "UNIT", _UNITS),
        number("ed_hours", "ED_HOURS", "h", 0, 240),
        number("prior_admissions", "PRIOR_ADMISSIONS"),
        number("prior_icu_stays", "PRIOR_ICU_STAYS"),
        number("days_since_discharge", "DAYS_SINCE_DISCHARGE", "days"),
    ]

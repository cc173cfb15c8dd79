"""What is known at unit admission, of the patient and of the hospital; what becomes of the stay."""

from __future__ import annotations

import polars as pl

from mmnar.sources.eicu.register import Register


def add_patient(register: Register) -> None:
    """What is known at unit admission."""
    height = pl.when(pl.col("admissionheight").is_between(100, 250)).then("admissionheight")
    weight = pl.when(pl.col("admissionweight").is_between(20, 400)).then("admissionweight")
    numbers = {
        "AGE": pl.col("age"),
        "HEIGHT": pl.col("admissionheight"),
        "WEIGHT": pl.col("admissionweight"),
        "BMI": weight / (height / 100) ** 2,
        "UNIT_VISIT_NUMBER": pl.col("unitvisitnumber"),
        "HOURS_BEFORE_UNIT": -pl.col("hospitaladmitoffset") / 60,
    }
    texts = {
        "GENDER": "gender",
        "ETHNICITY": "ethnicity",
        "UNIT_ADMIT_SOURCE": "unitadmitsource",
        "HOSPITAL_ADMIT_SOURCE": "hospitaladmitsource",
        "UNIT_TYPE": "unittype",
        "UNIT_STAY_TYPE": "unitstaytype",
    }
    for code, value in numbers.items():
        register.record("patient", register.admitted, pl.when(value.is_not_null()).then(pl.lit(code)), value)
    for code, column in texts.items():
        text = pl.col(column)
        register.record("patient", register.admitted, pl.when(text.is_not_null()).then(pl.lit(code)), text=text)


def add_outcomes(register: Register) -> None:
    """``ICU_ADMISSION``, ``ICU_DISCHARGE//…``, ``HOSPITAL_DISCHARGE//…`` at their own times."""
    register.record("patient", register.admitted, pl.lit("ICU_ADMISSION"))
    for name, time, status in (
        ("ICU_DISCHARGE", "outtime", "unit_discharge_status"),
        ("HOSPITAL_DISCHARGE", "hospital_outtime", "hospital_status"),
    ):
        ended = register.admitted.drop_nulls(time).with_columns(intime=pl.col(time))
        known = pl.when(pl.col(status).is_in(["Alive", "Expired"])).then(pl.col(status).str.to_uppercase())
        register.record("patient", ended, pl.lit(f"{name}//") + known.fill_null("UNKNOWN"))


def add_hospital(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.admitted.join(frame, on="hospitalid")
    teaching = pl.col("teachingstatus").str.to_lowercase()
    words = pl.when(teaching.is_in(["true", "t", "1"])).then(pl.lit("teaching")).otherwise(pl.lit("non-teaching"))
    for code, text in (
        ("TEACHING", pl.when(teaching.is_not_null()).then(words)),
        ("BEDS", pl.col("numbedscategory")),
        ("REGION", pl.col("region")),
    ):
        register.record(table, placed, pl.when(text.is_not_null()).then(pl.lit(f"HOSPITAL//{code}")), text=text)

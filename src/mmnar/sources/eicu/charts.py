"""Tables of measurements: vital signs, ventilation, fluids."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.sources.eicu.register import Register, add_columns, tidy

_RESPIRATORY: Final = {
    "fio2": "FIO2",
    "fio2 (%)": "FIO2",
    "peep": "PEEP",
    "peep/cpap": "PEEP",
    "sao2": "SAO2",
    "lpm o2": "O2_FLOW",
    "oxygen flow rate": "O2_FLOW",
    "total rr": "RESPIRATORY_RATE",
    "tidal volume (set)": "TIDAL_VOLUME_SET",
    "set vt (servo,ltv)": "TIDAL_VOLUME_SET",
    "mean airway pressure": "MEAN_AIRWAY_PRESSURE",
    "peak insp. pressure": "PEAK_PRESSURE",
    "peak pressure": "PEAK_PRESSURE",
}
_NURSE: Final = (
    *("heart rate", "respiratory rate", "o2 saturation", "temperature (c)"),
    *("non-invasive bp systolic", "non-invasive bp mean"),
)
PERIODIC: Final = (
    *("heartrate", "respiration", "sao2", "temperature"),
    *("systemicsystolic", "systemicdiastolic", "systemicmean"),
)


def add_aperiodic(register: Register, table: str, frame: pl.DataFrame) -> None:
    systolic, diastolic = pl.col("noninvasivesystolic"), pl.col("noninvasivediastolic")
    values = {
        "systolic": systolic,
        "diastolic": diastolic,
        "mean": pl.col("noninvasivemean"),
        "calculated_mean": (systolic + 2 * diastolic) / 3,
    }
    add_columns(register, table, frame, "VITAL_APERIODIC//", values, pl.col("observationoffset"))


def add_periodic(register: Register, table: str, frame: pl.DataFrame) -> None:
    index = pl.when(pl.col("systemicsystolic") > 0).then(pl.col("heartrate") / pl.col("systemicsystolic"))
    values = {c: pl.col(c) for c in PERIODIC} | {"shock_index": index}
    add_columns(register, table, frame, "VITAL_PERIODIC//", values, pl.col("observationoffset"))


def add_nurse(register: Register, table: str, frame: pl.DataFrame) -> None:
    name, value = tidy("nursingchartcelltypevalname"), pl.col("nursingchartvalue").cast(pl.Float64, strict=False)
    wanted = frame.filter(name.is_in(_NURSE))
    numeric = wanted.filter(value.is_finite())
    register.ledger.drop(table, wanted.height - numeric.height, "rows dropped: no number")
    placed = register.place(table, numeric, pl.col("nursingchartoffset"), entered=pl.col("nursingchartentryoffset"))
    register.record(table, placed, pl.lit("NURSE//") + name, value)


def add_respiratorycharting(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("respchartoffset"), entered=pl.col("respchartentryoffset"))
    placed = register.named(table, placed, tidy("respchartvaluelabel"))
    label = pl.col("name")
    code = label.replace(_RESPIRATORY)
    text = pl.col("respchartvalue").str.strip_chars(" %")
    number = text.cast(pl.Float64, strict=False)
    # some hospitals chart FiO2 as a fraction
    number = pl.when((code == "FIO2") & (number <= 1)).then(number * 100).otherwise(number)
    measured = label.is_in(list(_RESPIRATORY))
    unread = placed.filter(measured & ~number.is_finite().fill_null(False)).height
    register.ledger.drop(table, unread, "rows dropped: a measurement that is no number")
    placed = placed.filter(~measured | number.is_finite())
    register.record(
        table, placed, pl.lit("RESP//") + code, pl.when(measured).then(number), text=pl.col("respchartvalue")
    )


def add_respiratorycare(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("respcarestatusoffset"))
    airway = pl.col("airwaytype")
    started = (pl.col("ventstartoffset") != 0) & (pl.col("ventstartoffset") <= pl.col("at"))
    register.record(table, placed, pl.lit("RESPCARE//STATUS"))
    tubes = placed.filter(airway.is_not_null() & (airway != "No Artificial Airway"))
    register.record(table, tubes, pl.lit("RESPCARE//ARTIFICIAL_AIRWAY"), pl.lit(1.0))
    register.record(table, placed.filter(started), pl.lit("RESPCARE//VENTILATION_STARTED"), pl.lit(1.0))


def add_intakeoutput(register: Register, table: str, frame: pl.DataFrame) -> None:
    path, cell = tidy("cellpath"), pl.col("cellvaluenumeric")
    label = tidy("celllabel")
    kind = path.str.extract(r"\|i&o\|(intake|output|dialysis) \(ml\)")
    cells = frame.with_columns(kind=kind, label=label).filter(pl.col("kind").is_not_null() & cell.is_not_null())
    placed = register.place(
        table, cells, pl.col("intakeoutputoffset"), entered=pl.col("intakeoutputentryoffset")
    ).with_columns(
        net=pl.when((pl.col("kind") == "output") | ((pl.col("kind") == "dialysis") & (pl.col("label") == "out")))
        .then(-cell.abs())
        .otherwise(cell.abs())
    )
    label = pl.col("label")
    urine = (pl.col("kind") == "output") & label.str.contains("urin|foley|void") & ~label.str.contains("count")
    for code, rows, value in (
        ("INTAKE", pl.col("kind") == "intake", cell),
        ("OUTPUT", pl.col("kind") == "output", cell),
        ("URINE", urine, cell),
        ("DIALYSIS", pl.col("kind") == "dialysis", pl.col("net")),
        ("NET", pl.lit(True), pl.col("net")),
    ):
        register.record(table, placed.filter(rows), pl.lit(f"IO//{code}"), value, text=pl.col("cellpath"))
    _add_balance(register, table, placed)


def _add_balance(register: Register, table: str, placed: pl.DataFrame) -> None:
    """Sign of the running net balance, each time the ward learns of a new cell."""
    ids = ["subject_id", "hadm_id", "stay_id", "intime"]
    running = (
        placed.filter(pl.col("net").abs() <= 10_000)
        .unique([*ids, "at", "known", "cellpath", "net"])
        .sort("stay_id", "known", "net")
        .group_by(*ids, "known", maintain_order=True)
        .agg(pl.col("net").sum())
        .with_columns(at=pl.col("known"), balance=pl.col("net").cum_sum().over("stay_id").round(3))
    )
    positive = (pl.col("balance") > 0).cast(pl.Float64)
    register.record(table, running, pl.lit("IO//POSITIVE_BALANCE"), positive)

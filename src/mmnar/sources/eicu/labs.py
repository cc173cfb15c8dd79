"""Laboratory: results under their names, in the unit in which a feature reads them."""

from __future__ import annotations

from functools import cache
from typing import Final

import polars as pl

from mmnar.sources.eicu.register import Register, tidy
from mmnar.sources.reading.code_tables import code_table
from mmnar.sources.reading.units import spelled, ways_to

UNIT: Final = "labmeasurenamesystem"
_PREFIX: Final = "LAB//"
_MONOVALENT: Final = ("sodium", "potassium", "chloride", "bicarbonate", "anion gap", "lactate")
"""Of a charge of one mEq is mmol."""


def add_lab(register: Register, table: str, frame: pl.DataFrame) -> None:
    resulted = frame.filter(pl.col("labresult").is_not_null())
    register.ledger.drop(table, frame.height - resulted.height, "rows dropped: no number")
    revised = pl.coalesce("labresultrevisedoffset", "labresultoffset")
    placed = register.place(table, resulted, pl.col("labresultoffset"), entered=revised)
    placed = _in_unit_of_feature(register, table, register.named(table, placed, tidy("labname")))
    register.record(table, placed, pl.lit(_PREFIX) + pl.col("name"), pl.col("labresult"))


def _in_unit_of_feature(register: Register, table: str, placed: pl.DataFrame) -> pl.DataFrame:
    """Results that no feature reads stay as they are."""
    spellings = {unit: spelled(unit) for unit in placed[UNIT].drop_nulls().unique()}
    unit = pl.col(UNIT).replace_strict(spellings, default="", return_dtype=pl.String)
    found = placed.with_columns(unit=unit).join(_ways(), on=["name", "unit"], how="left", maintain_order="left")
    read = found["name"].is_in(_ways()["name"].unique().implode())
    kept = register.ledger.sift(
        table, found, {"rows dropped: in a unit not known for the test": found["factor"].is_not_null() | ~read}
    )
    return kept.with_columns(labresult=pl.col("labresult") * pl.col("factor").fill_null(1.0))


@cache
def _ways() -> pl.DataFrame:
    """``name, unit, factor``: every unit that each test may come in; "" = the one it is documented to have."""
    rows = []
    labs = [(row["unit"], row["codes"]) for row in code_table("eicu") if row["table"] == "lab" and row["unit"]]
    for unit, codes in labs:
        for name in (code.removeprefix(_PREFIX) for code in codes.split(";")):
            ways = {"": (1.0, 0.0)} | ways_to(unit, ("mEq/L",) if name in _MONOVALENT else ())
            rows += [(name, found, factor) for found, (factor, _) in ways.items()]
    return pl.DataFrame(rows, {"name": pl.String, "unit": pl.String, "factor": pl.Float64}, orient="row").unique()

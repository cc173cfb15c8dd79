"""Tables of entries as text: diagnoses, history, drugs, treatments."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mmnar.sources.eicu.register import Register, tidy
from mmnar.sources.eicu.rules import drug_classes


def add_paths(prefix: str, column: str, offset: str) -> Callable[[Register, str, pl.DataFrame], None]:
    """A table of ``a|b|c`` paths: one event per row, coded with the path."""

    def add(register: Register, table: str, frame: pl.DataFrame) -> None:
        placed = register.named(table, register.place(table, frame, pl.col(offset)), tidy(column))
        register.record(table, placed, pl.lit(prefix) + pl.col("name"), pl.lit(1.0))

    return add


def add_admissiondx(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("admitdxenteredoffset"))
    path = pl.col("admitdxpath")
    system = path.str.extract(r"Organ Systems\|Organ System\|([^|]+)$")
    register.record(table, placed.filter(system.is_not_null()), pl.lit("ADMISSIONDX//ORGAN_SYSTEM"), text=system)
    for code, yes, no in (
        ("OPERATIVE", r"\|All Diagnosis\|Operative", r"\|All Diagnosis\|Non-operative"),
        ("ELECTIVE", r"\|Elective\|Yes", r"\|Elective\|No"),
    ):
        value = pl.when(path.str.contains(yes)).then(1.0).when(path.str.contains(no)).then(0.0)
        register.record(table, placed.filter(value.is_not_null()), pl.lit(f"ADMISSIONDX//{code}"), value)


def add_pasthistory(register: Register, table: str, frame: pl.DataFrame) -> None:
    path = tidy("pasthistorypath").str.extract(r"past history/(?:organ systems/)?(.*)$")
    named = register.named(table, register.place(table, frame, pl.col("pasthistoryenteredoffset")), path)
    taken = named.filter(~pl.col("name").str.contains("not performed|not obtainable"))
    register.record(table, taken, pl.lit("PASTHISTORY//") + pl.col("name"), pl.lit(1.0))


def add_medication(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("drugorderoffset")).with_columns(name=tidy("drugname"))
    ingredient = pl.when(pl.col("drughiclseqno") > 0).then(pl.lit("hicl:") + pl.col("drughiclseqno").cast(pl.String))
    register.record(table, placed, pl.lit("MEDICATION//") + pl.coalesce(ingredient, "name", pl.lit("unnamed")))
    for drug_class, (names, hicl) in drug_classes().items():
        orders = placed.filter(pl.col("name").str.contains(names) | pl.col("drughiclseqno").is_in(hicl))
        # the drug keeps two orders of one class at one minute apart
        register.record(table, orders, pl.lit(f"MEDICATION_CLASS//{drug_class}"), text=pl.coalesce(ingredient, "name"))


def add_infusion(register: Register, table: str, frame: pl.DataFrame) -> None:
    placed = register.place(table, frame, pl.col("infusionoffset"))
    placed = register.named(table, placed, tidy("drugname").str.replace(r"\s*\([^()]*\)$", ""))
    register.record(table, placed, pl.lit("INFUSION//") + pl.col("name"), pl.lit(1.0))
    for drug_class, (names, _) in drug_classes().items():
        drips = placed.filter(pl.col("name").str.contains(names))
        register.record(table, drips, pl.lit(f"INFUSION_CLASS//{drug_class}"), pl.lit(1.0), text=pl.col("name"))

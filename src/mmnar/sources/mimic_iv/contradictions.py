"""What the small tables say that cannot be true: it becomes unknown and is counted, and decides about no input.

Time of death and flag come from two fields of the hospital's system and disagree for a few admissions; nobody can say
which is right (mimic-code #1406). Dates of death from the state's register lie before later admissions of some
patients, who therefore were somebody else (mimic-code #1346), and organ donors are admitted again after their death
(mimic-code #1194).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.sources.reading.ledger import Ledger

_DAY: Final = pl.duration(days=1, time_unit="us")
_AGES: Final = (0, 120)
_UNSAID: Final = "(?i)unknown|^other$|^\\?$"


def believable_patients(patients: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """An age that nobody has is unknown."""
    odd = ~pl.col("anchor_age").is_between(*_AGES)
    return _unknown(patients, ledger, "patients", odd, ("anchor_age",), "ages below 0 or above 120")


def believable_admissions(admissions: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Discharges, deaths and emergency visits in a possible order; + ``died`` (null = unknown or contradicted)."""
    admit, discharge, death = pl.col("admittime"), pl.col("dischtime"), pl.col("deathtime")
    for odd, columns, words in (
        (discharge < admit, ("dischtime",), "discharges before the admission"),
        (pl.col("edouttime") < pl.col("edregtime"), ("edregtime", "edouttime"), "emergency visits ended before begun"),
    ):
        admissions = _unknown(admissions, ledger, "admissions", odd, columns, words)
    flag = pl.col("hospital_expire_flag")
    place = pl.col("discharge_location")
    said = place.str.contains("(?i)^(?:died|dead|expired|deceased)")
    place_said = pl.when(~place.str.contains(_UNSAID)).then(said)
    died = pl.when(flag.is_in([0, 1])).then(flag == 1)
    odd_time = (death < admit) | (death > discharge + _DAY)
    against = (died != death.is_not_null()) | (died != place_said).fill_null(False) | odd_time.fill_null(False)
    admissions = admissions.with_columns(died=died, _against=against.fill_null(False))
    words = "admissions whose flag, time and place of discharge disagree on whether and when the patient died"
    found = _unknown(admissions, ledger, "admissions", pl.col("_against"), ("died", "deathtime"), words)
    return found.drop("_against")


def believable_stays(stays: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """A unit stay that ends before it begins has no known end."""
    odd = pl.col("outtime") < pl.col("intime")
    return _unknown(stays, ledger, "icustays", odd, ("outtime",), "ends of unit stays before their begin")


def believable_deaths(lives: pl.DataFrame, admissions: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """A death before a later admission, or before a discharge that was no death, is unknown.

    Args:
        lives: ``subject_id, ended`` (null = not known to be dead), one row a subject.
        admissions: ``subject_id, admittime, dischtime, deathtime`` of the same subjects.
    """
    # a body leaves the hospital after death
    left = pl.when(pl.col("deathtime").is_null()).then("dischtime")
    seen = admissions.group_by("subject_id").agg(seen=pl.max_horizontal(pl.col("admittime").max(), left.max()))
    lives = lives.join(seen, on="subject_id", how="left", maintain_order="left")
    words = "deaths before an admission or a discharge of the living patient"
    return _unknown(lives, ledger, "patients", pl.col("seen") > pl.col("ended"), ("ended",), words).drop("seen")


def _unknown(
    frame: pl.DataFrame, ledger: Ledger, table: str, odd: pl.Expr, columns: tuple[str, ...], words: str
) -> pl.DataFrame:
    odd = odd.fill_null(False)
    ledger.drop(table, int(frame.select(odd.sum()).item()), f"{words}: taken as unknown")
    return frame.with_columns(pl.when(~odd).then(column).alias(column) for column in columns)

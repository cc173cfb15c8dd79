"""ICD codes as spreadsheets and other tools leave them: with dots, small letters, blanks, without leading zeros.

A spreadsheet that reads codes as numbers writes 0389 as 389 and 07054 as 7054. Where no ICD-9 code of a table begins
with 0 and some can only have lost it, the zeros are put back where a single code of ICD-9-CM can be meant
(``codes/mimic_iv_icd9_zeros.csv``, from the codes of the CMS general equivalence mappings 2018); where several can,
nobody knows, and the row is of no code.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.sources.reading.code_tables import code_table
from mmnar.sources.reading.ledger import Ledger

_NINE: Final = r"^(?:\d{3,5}|V\d{2,4}|E\d{3,4})$"
_TEN: Final = r"^[A-Z]\d[0-9A-Z]{1,5}$"


def tidied(frame: pl.DataFrame, table: str, ledger: Ledger) -> pl.DataFrame:
    """Rows of a code, written as billed: capital letters without dots and blanks, zeros in front.

    Args:
        frame: ``icd_code``, ``icd_version`` (9 or 10) and whatever else.
        table: Named in the counts.
        ledger: Counts what was repaired and the rows of no code, which are dropped.
    """
    code = pl.col("icd_code").str.to_uppercase().str.replace_all(r"[.\s]", "")
    nine = pl.col("icd_version") == 9
    frame = _with_zeros(frame.with_columns(icd_code=code), table, ledger)
    shaped = pl.when(nine).then(code.str.contains(_NINE)).otherwise(code.str.contains(_TEN))
    known = pl.col("icd_version").is_in([9, 10]) & shaped
    return ledger.sift(table, frame, {"rows dropped: no ICD code": frame.select(known.fill_null(False)).to_series()})


def _with_zeros(frame: pl.DataFrame, table: str, ledger: Ledger) -> pl.DataFrame:
    nine = frame.filter(pl.col("icd_version") == 9)["icd_code"].drop_nulls()
    meant = {row["written"]: row["codes"].split(";") for row in code_table("mimic_iv_icd9_zeros")}
    lost = [written for written, codes in meant.items() if written not in codes]
    if nine.str.starts_with("0").any() or not nine.is_in(lost).any():
        return frame
    one = {written: codes[0] if len(codes) == 1 else None for written, codes in meant.items()}
    code = pl.col("icd_code")
    mended = pl.when(pl.col("icd_version") == 9).then(code.replace(one)).otherwise(code)
    repaired = nine.is_in([written for written, of in one.items() if of])
    ledger.drop(table, int(repaired.sum()), "ICD-9 codes had lost their leading zeros: put back")
    return frame.with_columns(icd_code=mended)

"""Words that stand in a cell for "not measured": one rule for every door where text becomes a value."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import polars as pl

ABSENT: Final = (
    *("", "NULL", "None", "NaN", "NA", "N/A", "<NA>", "#N/A", "NaT", "\\N", ".", "-", "?"),
    *("#NA", "#N/A N/A", "-NaN", "<NULL>", "(NULL)", "N.A.", "#VALUE!", "#DIV/0!", "#NUM!", "#REF!"),
)
"""What databases (NULL, \\N), Python and R (None, NaN, NaT, NA, <NA>), SAS (.), spreadsheets (#N/A) and people (-, ?)
write. Letter case and blanks around a word do not matter."""

BLANKS: Final = " \t\r\n\v\f\0\u00a0\u2007\u2009\u200b\u202f\u3000\ufeff"
"""What may stand around a word and is none of it."""

_NO_FRACTION: Final = r"^([+-]?[0-9]+)\.0*$"
"""A whole number from a column that went through floats: 999.0 means what 999 means."""


def absent_key(word: str) -> str:
    """What two spellings of one absent word have in common.

    >>> [absent_key(w) for w in (" null", "NULL", "N/A ", "-999.0")]
    ['null', 'null', 'n/a', '-999']
    """
    return re.sub(_NO_FRACTION, r"\1", word.strip(BLANKS).lower())


def _keys(cells: pl.Expr) -> pl.Expr:
    return cells.str.strip_chars(BLANKS).str.to_lowercase().str.replace(_NO_FRACTION, "${1}")


def is_absent(cells: pl.Expr, words: Collection[str] = ABSENT) -> pl.Expr:
    """Whether each cell of text is null, blank or one of ``words``; never null.

    >>> frame = pl.DataFrame({"x": ["1", " Null ", None, "nano", ""]})
    >>> frame.select(is_absent(pl.col("x"))).to_series().to_list()
    [False, True, True, False, True]
    """
    keys = sorted({absent_key(word) for word in (*words, "")})
    return _keys(cells).is_in(keys).fill_null(True)


def without_absent(cells: pl.Series, words: Collection[str] = ABSENT) -> tuple[pl.Series, dict[str, int]]:
    """Cells of text without blanks around them, null where not measured, and how many cells held which word.

    Args:
        cells: (n,) text.
        words: What means "not measured" besides a blank cell.

    Returns:
        (n,) text and word, as ``words`` writes it, → cells; blank and null cells are not counted.

    >>> cells, found = without_absent(pl.Series(["1", " null", None, "NULL", "n/a"]))
    >>> cells.to_list(), found
    (['1', None, None, None, None], {'NULL': 2, 'N/A': 1})
    """
    named: dict[str, str] = {}
    for word in words:
        named.setdefault(absent_key(word), word)
    text = cells.str.strip_chars(BLANKS)
    key = pl.select(_keys(pl.lit(cells))).to_series()
    absent = key.is_in([*named, ""])
    counts = dict(key.filter(absent & (key != "")).value_counts().iter_rows())
    return text.set(absent.fill_null(False), None), {named[k]: counts[k] for k in named if k in counts}

"""One identifier, one number: however a file writes it.

A database writes 10000001, pandas 10000001.0 where a column has gaps, R and spreadsheets 1.0000001e+07, a form 007. If
each became a patient of his own, one person would stand in two folds. So whole numbers are kept as what they count, and
only what is no number at all is a word, known by a hash. That is decided cell by cell, never by what else a column
holds: two files, or two stores, give one person one number.

Refused, because nobody can say whose they are: whole numbers from 2⁶³ on; numbers that went through a float and lie
beyond what it holds exactly (2⁵³; 2²⁴ in single precision); what a spreadsheet has rounded (1.00E+07); fractions;
thousands separators and decimal commas; leading zeros or letter case that alone tell two identifiers apart.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.reading.absent import BLANKS

LARGEST: Final = 2**63 - 1
EXACT: Final = 2**53
"""Whole numbers up to here are exact in a float."""
EXACT_SINGLE: Final = 2**24

_PLAIN: Final = re.compile(r"([+-]?)(\d+)")
_FLOAT: Final = re.compile(r"([+-]?\d+)\.0*")
_EXPONENT: Final = re.compile(r"([+-]?\d)(?:\.(\d*))?([eE])(\+?)(\d{1,2})")
_FRACTION: Final = re.compile(r"[+-]?(\d*[.,]\d+|\d+[.,]\d*)([eE][+-]?\d{1,3})?|[+-]?inf(inity)?")
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}([,.' _’]\d{3})+([.,]\d*)?")

TOO_LARGE: Final = "whole numbers from 2^63 on"
INEXACT: Final = "numbers that went through a float and are beyond what it holds exactly"
ROUNDED: Final = "numbers that a spreadsheet has rounded ('1.00E+07')"
FRACTION: Final = "numbers that are not whole"
GROUPED: Final = "numbers with separators"
ZEROS: Final = "that differ by leading zeros alone (007 and 7)"
CASE: Final = "that differ by letter case alone"


def spelled(cell: str) -> tuple[str, str]:
    """(the spelling that all ways to write an identifier share, why nobody can say whose it is or "").

    >>> [spelled(c)[0] for c in ("10000001", "10000001.0", "1.0000001e7", " 010000001", "+10000001")]
    ['10000001', '10000001', '10000001', '10000001', '10000001']
    >>> spelled("P-12 "), spelled("1.00E+07")[1] == ROUNDED
    (('p-12', ''), True)
    """
    text = unicodedata.normalize("NFKC", cell).strip(BLANKS)
    if found := _PLAIN.fullmatch(text):
        return _whole(int(text), LARGEST, TOO_LARGE)
    if found := _FLOAT.fullmatch(text):
        return _whole(int(found[1]), EXACT, INEXACT)
    if found := _EXPONENT.fullmatch(text):
        digits, power = found[2] or "", int(found[5])
        if found[2] is not None or found[4] or power <= 18:
            if len(digits.rstrip("0")) > power:
                return text, FRACTION
            if found[3] == "E" and len(digits) < power:
                return text, ROUNDED
            return _whole(int(found[1] + digits.rstrip("0").ljust(power, "0")), EXACT, INEXACT)
    word = text.lower()
    if _GROUPED.fullmatch(text):
        return word, GROUPED
    return word, FRACTION if _FRACTION.fullmatch(word) else ""


def _whole(number: int, most: int, flaw: str) -> tuple[str, str]:
    return str(number), flaw if abs(number) > most else ""


def _as_text(column: pl.Series) -> pl.Series:
    """Distinct cells of any dtype as text; a float never looks more exact than it is.

    Raises:
        SourceError: It is of a kind that holds no identifiers.
    """
    cells = column.drop_nulls().unique(maintain_order=True)
    if cells.dtype in (pl.Float32, pl.Float64):
        cells = cells.filter(cells.is_not_nan())
        if cells.dtype == pl.Float32 and bool((cells.abs() > EXACT_SINGLE).any()):
            raise _refused(column.name, f"{INEXACT} (single precision)")
        return cells.cast(pl.String)
    if cells.dtype.is_numeric() or cells.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return cells.cast(pl.String)
    raise _refused(column.name, f"cells of the kind {cells.dtype.base_type().__name__}")


def spellings(column: pl.Series) -> pl.DataFrame:
    """Distinct cells that are not null: ``cell`` (text), ``same`` (the common spelling), ``flaw`` ("" = none).

    Args:
        column: (n,) identifiers as a file holds them: text, whole numbers, floats.

    Raises:
        SourceError: The column is of another kind.
    """
    cells = _as_text(column)
    read = [spelled(cell) for cell in cells.to_list()]
    return pl.DataFrame(
        {"cell": cells, "same": [same for same, _ in read], "flaw": [flaw for _, flaw in read]},
        schema={"cell": pl.String, "same": pl.String, "flaw": pl.String},
    )


def flaws(table: pl.DataFrame) -> Iterator[tuple[int, str]]:
    """(how many distinct identifiers, what is wrong with them) of a table of ``spellings``."""
    for flaw, n in Counter(table["flaw"]).items():
        if flaw:
            yield n, flaw
    # a written zero in front, not the zeros of a number's own digits
    zeros = table.filter(pl.col("same").str.contains(r"^-?\d+$")).select(
        "same", zero=pl.col("cell").str.contains(r"^\s*[+-]?0\d")
    )
    mixed = zeros.group_by("same").agg(kinds=pl.col("zero").n_unique())
    bare = table.select("same", bare=pl.col("cell").str.strip_chars(BLANKS).str.normalize("NFKC"))
    words = bare.filter(~pl.col("same").str.contains(r"^-?\d+$")).group_by("same").agg(pl.col("bare").n_unique())
    for n, flaw in ((mixed.filter(pl.col("kinds") > 1).height, ZEROS), (words.filter(pl.col("bare") > 1).height, CASE)):
        if n:
            yield n, flaw


def read_identifiers(column: pl.Series, words: bool = True) -> tuple[pl.Series, int]:
    """Identifiers as int64: whole numbers as what they count, words by 53 bits of a hash of their small letters.

    Args:
        column: (n,) as a file holds them, named as the message shall name it; null stays null. Words for "not
            measured" are taken out before.
        words: Whether there may be words.

    Returns:
        (n,) int64, and how many identifiers are written in more than one way.

    Raises:
        SourceError: Identifiers of which nobody can say whose they are; which kind, not which ones.
    """
    table = spellings(column)
    for n, flaw in flaws(table):
        raise _refused(column.name, f"{counted(n)} {flaw}")
    whole = table["same"].str.to_integer(strict=False)
    if whole.null_count() and not words:
        raise _refused(column.name, f"{counted(whole.null_count())} that are no numbers")
    numbers = [_hashed(same) if n is None else n for same, n in zip(table["same"], whole, strict=True)]
    table = table.with_columns(number=pl.Series(numbers, dtype=pl.Int64))
    distinct = table["same"].n_unique()
    if table["number"].n_unique() < distinct:
        raise _refused(column.name, "two with one hash")
    read = column.cast(pl.String).replace_strict(table["cell"], table["number"], default=None, return_dtype=pl.Int64)
    repeated = table.group_by("same").len().filter(pl.col("len") > 1).height
    return read.alias(column.name), repeated


def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest()) >> 11


def _refused(name: str, fact: str) -> SourceError:
    return SourceError(
        f"column '{name}'",
        "identifiers of which each can be told from the others",
        fact,
        "write them as whole numbers or as words, each in one way",
    )

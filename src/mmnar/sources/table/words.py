"""One word, one category: spellings that differ by letter case, blanks or a float's ``.0`` are the same word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

_FRACTION: Final = r"^[+-]?[0-9]+\.[0-9]*[1-9]"


def word_key(cells: pl.Series) -> pl.Series:
    """What all spellings of a word have in common: small letters, single blanks, whole numbers without ``.0``.

    Where a column has real fractions, ``250.0`` is a code of its own and stays beside ``250``.

    >>> word_key(pl.Series(["New  York", "new york ", "1.0", "01", None])).to_list()
    ['new york', 'new york', '1', '01', None]
    >>> word_key(pl.Series(["250", "250.0", "250.83"])).to_list()
    ['250', '250.0', '250.83']
    """
    return _key(cells, bool(cells.str.strip_chars().str.contains(_FRACTION).any()))


def _key(cells: pl.Series, fractions: bool) -> pl.Series:
    key = cells.str.strip_chars().str.replace_all(r"\s+", " ").str.to_lowercase()
    return key if fractions else key.str.replace(r"^([+-]?[0-9]+)\.0*$", "${1}")


def spelled_like(cells: pl.Series, words: Sequence[str]) -> tuple[pl.Series, int]:
    """Each word as it stands among ``words``, and how many cells were written otherwise; others stay as they are.

    Whether ``.0`` says anything is decided by ``words``, never by what other cells there are.

    >>> spelled_like(pl.Series(["m", "M ", "x", None]), ["F", "M"])[0].to_list()
    ['M', 'M', 'x', None]
    >>> spelled_like(pl.Series(["1.0", "2.5"]), ["1", "2"])[0].to_list()
    ['1', '2.5']
    >>> spelled_like(pl.Series(["250.0"]), ["250", "250.0", "250.83"])[0].to_list()
    ['250.0']
    """
    known = pl.Series(words, dtype=pl.String)
    fractions = bool(known.str.contains(_FRACTION).any())
    spelling = pl.DataFrame({"key": _key(known, fractions), "word": known}).unique("key", keep="first")
    read = _key(cells, fractions).replace_strict(
        spelling["key"], spelling["word"], default=None, return_dtype=pl.String
    )
    # of two words that only their .0 tells apart each stays what it is
    read = pl.select(pl.when(cells.is_in(known.implode())).then(cells).otherwise(read.fill_null(cells))).to_series()
    return read.alias(cells.name), int((read != cells).sum())


def one_spelling(cells: pl.Series) -> tuple[pl.Series, int]:
    """Each word in its most frequent spelling, and how many cells were written otherwise.

    >>> one_spelling(pl.Series(["M", "m", "M", "F", None]))[0].to_list()
    ['M', 'M', 'M', 'F', None]
    """
    table = pl.DataFrame({"cell": cells, "key": word_key(cells)}).drop_nulls()
    counts = table.group_by("cell", "key").len().sort(["len", "cell"], descending=[True, False])
    best = counts.group_by("key", maintain_order=True).agg(word=pl.col("cell").first())
    spellings = counts.join(best, on="key")
    if not (spellings["cell"] != spellings["word"]).any():
        return cells, 0
    read = cells.replace_strict(spellings["cell"], spellings["word"], default=None, return_dtype=pl.String)
    return read.alias(cells.name), int((read != cells).sum())

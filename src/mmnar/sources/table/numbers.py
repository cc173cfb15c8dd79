"""Numbers as people write them: what is one, what is nearly one, and which forms there are. No cell is ever shown."""

from __future__ import annotations

from typing import Final, Literal, get_args

import polars as pl

from mmnar.privacy import counted

Censored = Literal["bound", "half", "missing"]
CENSORED: Final = get_args(Censored)

PLAIN: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_BELOW: Final = r"^(?:<=?|≤|=<|⩽)\s*"
_ABOVE: Final = r"^(?:>=?|≥|=>|⩾)\s*"
_NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
BELOW: Final = "'<number'"
ABOVE: Final = "'>number'"
_INFINITE: Final = r"^[+-]?(?i:inf|infinity|∞)$"
LARGEST: Final = 3.4028e38
"""Numbers are stored in single precision."""

_FORMS: Final = (
    (BELOW, rf"{_BELOW}{_NUMBER}$"),
    (ABOVE, rf"{_ABOVE}{_NUMBER}$"),
    ("'1,234' or '1,5' (a comma)", r"^[+-]?[0-9]*(,[0-9]+)+(\.[0-9]*)?$|^[+-]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+$"),
    (
        "'1 234' (blanks or marks between digits)",
        r"^[+-]?[0-9]{1,3}([ '’_\u{a0}\u{2009}\u{202f}][0-9]{3})+([.,][0-9]*)?$",
    ),
    ("'number%'", rf"^{_NUMBER}\s*%$"),
    ("'number-number'", rf"^{_NUMBER}\s*(-|–|to|\.\.)\s*{_NUMBER}$"),
    ("'number/number'", rf"^{_NUMBER}\s*/\s*{_NUMBER}$"),
    ("'~number'", rf"^(~|≈|ca\.?|about)\s*{_NUMBER}$"),
    ("'number+'", rf"^{_NUMBER}\s*\++$"),
    ("'number unit'", rf"^{_NUMBER}\s*[^0-9.,\s].*$"),
    ("'sign number' with another minus or a blank", r"^[−–+-]\s*[0-9]+\.?[0-9]*$"),
    ("infinite", _INFINITE),
    ("digits of another script", r"^[+-]?[\d.,]*[^\x00-\x7f][\d.,]*$"),
)


def numbers(cells: pl.Series) -> pl.Series:
    """Float64 of cells of text that are finite numbers as a computer writes them; null elsewhere.

    >>> numbers(pl.Series(["7", "+5", "1e3", ".5", "inf", "1e400", "<4", "1_000"])).to_list()
    [7.0, 5.0, 1000.0, 0.5, None, None, None, None]
    """
    read = cells.set(~cells.str.contains(PLAIN), None).cast(pl.Float64, strict=False)
    return read.set(read.abs() > LARGEST, None)


def forms(cells: pl.Series) -> dict[str, int]:
    """Form → how many cells have it, of those that are no plain numbers. "words" is what has no number's form.

    >>> forms(pl.Series(["7", "<4", "≥ 5", "1,234", "5 mg", "50 %", "high", "7.5", "5-6"]))
    ... # doctest: +NORMALIZE_WHITESPACE
    {"'<number'": 1, "'>number'": 1, "'1,234' or '1,5' (a comma)": 1, "'number%'": 1, "'number-number'": 1,
     "'number unit'": 1, 'words': 1}
    """
    rest = cells.filter(numbers(cells).is_null() & cells.is_not_null())
    found: dict[str, int] = {}
    large = rest.str.contains(PLAIN)
    if large.any():
        found["too large"] = int(large.sum())
    rest = rest.filter(~large)
    for name, pattern in _FORMS:
        has = rest.str.contains(pattern)
        if has.any():
            found[name] = int(has.sum())
            rest = rest.filter(~has)
    if len(rest):
        found["words"] = len(rest)
    return found


def forms_in_words(found: dict[str, int]) -> str:
    """Forms with their counts, small ones hidden."""
    return ", ".join(f"{form} in {counted(n)} cells" for form, n in found.items())


def is_mostly_numbers(cells: pl.Series) -> bool:
    """Whether at least half the cells, or more than half the different cells, are numbers, one of them a plain one.

    Codes and grades of which each has a sign, a unit or a range ("<18", "18-35", ">8") are words: no cell is plain.
    """
    plain = numbers(cells).is_not_null() | cells.str.contains(_INFINITE)
    if not plain.any():
        return False
    signed = cells.str.contains(_FORMS[0][1]) | cells.str.contains(_FORMS[1][1])
    like = plain | signed
    return 2 * int(like.sum()) >= len(cells) or 2 * cells.filter(like).n_unique() > cells.n_unique()


def uncensored(cells: pl.Series, meaning: Censored) -> tuple[pl.Series, int]:
    """Cells with the comparisons replaced by what the spec says they mean, and how many there were.

    ``bound``: ``<x`` and ``>x`` are x. ``half``: ``<x`` is x/2, ``>x`` is x. ``missing``: both are not measured.
    Half a negative bound would lie above it: such a cell stays as it is, and is refused as no number.

    >>> uncensored(pl.Series(["<4", "> 9", "5", "<-1"]), "half")[0].to_list()
    ['2.0', '9', '5', '<-1']
    """
    below, above = cells.str.contains(_FORMS[0][1]), cells.str.contains(_FORMS[1][1])
    bound = cells.str.replace(_BELOW, "").str.replace(_ABOVE, "")
    if meaning == "missing":
        return cells.set(below | above, None), int((below | above).sum())
    if meaning == "half":
        half = numbers(bound)
        below &= half >= 0
        halved = cells.zip_with(~below.fill_null(False), (half / 2).cast(pl.String))
        return halved.zip_with(~above.fill_null(False), bound), int((below | above).sum())
    return cells.zip_with(~(below | above).fill_null(False), bound), int((below | above).sum())

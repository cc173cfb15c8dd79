"""Outcomes of a set: who died in hospital, as far as the columns agree."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.physionet2012.codes import OUTCOME
from mmnar.sources.physionet2012.files import damaged, text_of

OUTCOMES: Final = {"record": pl.Int32(), "death": pl.Int8()}
"""Columns of ``read_outcomes``."""

_LEFT_ALIVE: Final = "outcomes taken as unknown: the flag says alive, the days a death within the stay"
_DIED_LATER: Final = "outcomes taken as unknown: the flag says dead, the days a death after the stay"


def read_outcomes(path: Path, found: Counter[str]) -> pl.DataFrame:
    """``OUTCOMES`` (1, 0, null = not told) of one set.

    A survival of 0 or -1 days is no statement, so the flag stands. Where survival and length of stay are both told, a
    death within the stay that the flag denies, or one after the stay that it claims, makes the outcome unknown.

    Args:
        path: ``RecordID`` and ``In-hospital_death``, and where there ``Length_of_stay`` and ``Survival``; columns in
            any order and letter case.
        found: Reason → outcomes taken as unknown; added to.

    Raises:
        SourceError: It cannot be parsed, lacks a column, or does not hold each RecordID once with 0, 1 or -1.
    """
    raw = _cells(path)
    record = pl.col("recordid").cast(pl.Float64, strict=False)
    record = pl.when(record.is_between(0, 999_999_999) & (record == record.floor())).then(record).cast(pl.Int32)
    numbers = raw.select(
        record=record,
        death=pl.col(OUTCOME.lower()).cast(pl.Float64, strict=False),
        **{
            name: pl.col(column).cast(pl.Float64, strict=False) if column in raw.columns else pl.lit(None, pl.Float64)
            for name, column in (("stay", "length_of_stay"), ("survival", "survival"))
        },
    )
    _check(path.name, numbers)
    died, alive = pl.col("death") == 1, pl.col("death") == 0
    told = (pl.col("survival") > 0) & (pl.col("stay") >= 0)
    within = pl.col("survival") <= pl.col("stay")
    wrong = {_LEFT_ALIVE: told & alive & within, _DIED_LATER: told & died & ~within}
    for reason, rows in wrong.items():
        found[reason] += numbers.filter(rows).height
    unknown = pl.any_horizontal(*(rows.fill_null(False) for rows in wrong.values())) | (pl.col("death") < 0)
    return numbers.select("record", death=pl.when(~unknown).then(pl.col("death").cast(pl.Int8)))


def _cells(path: Path) -> pl.DataFrame:
    """Text without white space around it, by column name in small letters; blank lines left out."""
    try:
        text = text_of(path.name, path.read_bytes())
        raw = pl.read_csv(io.StringIO(text), infer_schema=False)
    except OSError as error:
        raise SourceError(f"'{path.name}'", "a readable file", type(error).__name__, "check its permissions") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # the reader's own message quotes cells
        raise damaged(path.name, f"one that cannot be parsed ({type(error).__name__})") from None
    names = [name.strip().lower() for name in raw.columns]
    for column in ("RecordID", OUTCOME):
        if names.count(column.lower()) != 1:
            fact = "none of that name" if column.lower() not in names else "several"
            raise SourceError(f"'{path.name}'", f"a column '{column}'", fact, "give it as distributed")
    cells = raw.select(pl.col(old).str.strip_chars().alias(new) for old, new in zip(raw.columns, names, strict=True))
    return cells.filter(pl.any_horizontal(pl.all().fill_null("") != ""))


def _check(place: str, numbers: pl.DataFrame) -> None:
    good = pl.col("record").is_not_null() & pl.col("death").is_in([-1.0, 0.0, 1.0])
    bad = numbers.filter(~good.fill_null(False)).height
    repeated = numbers.height - numbers["record"].n_unique()
    if bad or repeated:
        raise SourceError(
            f"'{place}'",
            "each RecordID once, with a death of 0 or 1 (-1: not told)",
            f"{counted(bad)} other rows, {counted(repeated)} repeats",
            "correct it or give it as distributed",
        )

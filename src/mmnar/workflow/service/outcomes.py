"""Outcomes that became known later, joined to a log's answers by its own keyed digests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import SourceError
from mmnar.evaluation.audit.cells import Cells, read_table
from mmnar.privacy import counted
from mmnar.workflow.service.audit import patient_digest, read_key
from mmnar.workflow.service.logged import Logged

Float = NDArray[np.float64]

_WHO: Final = ("subject", "subject_id")
_WHICH: Final = ("sample", "prediction_time")
_WORDS: Final = {"true": 1.0, "false": 0.0}


def outcomes_of(logged: Logged, table: Path, log: Path) -> tuple[dict[str, Float], list[str]]:
    """Task → (N,) 0 or 1 of each answer, NaN where it is not known or the same was asked before; and what was left out.

    Args:
        table: CSV or Parquet: ``subject`` or ``subject_id``; ``sample`` or ``prediction_time``, as the answers have
            them (neither where a patient tells the question); and a column of 0 and 1 for each task.
        log: Whose key lies beside it.

    Raises:
        SourceError: A column is missing or of another form, a question is there twice, or none of them is in the log.
        StoreError, OSError: The key is damaged, or not there.
    """
    what = f"labels '{table.name}'"
    cells = read_table(table, (*_WHO, *_WHICH))
    tasks = [task for task in logged.answers.risks if task in cells.frame.columns]
    if not tasks:
        raise SourceError(what, f"a column of {', '.join(logged.answers.risks)}", "none", "name columns by the tasks")
    labels = {task: _labels(cells.frame[task], what) for task in tasks}
    asked, first = np.unique(logged.question, return_index=True)
    row = _rows(asked, cells, read_key(log), what)
    found = {}
    for task, values in labels.items():
        found[task] = np.full(len(logged.question), np.nan)
        found[task][first[row >= 0]] = values[row[row >= 0]]
    strangers = cells.frame.height - int((row >= 0).sum())
    return found, [f"Left out: {counted(strangers)} rows of the labels, of no question in the log."] * bool(strangers)


def _rows(asked: NDArray[np.str_], cells: Cells, key: bytes, what: str) -> NDArray[np.int64]:
    """(Q,) row of the table that each question is of; −1 = none."""
    where = dict.fromkeys(map(str, asked), -1)
    for who, which, row in _questions(cells, what):
        made = patient_digest(key, who, which)
        if where.get(made, row) not in (-1, row):
            raise SourceError(what, "each question once", "one that is there twice", "remove the repeated rows")
        if made in where:
            where[made] = row
    found = np.array([where[str(question)] for question in asked], dtype=np.int64)
    if not (found >= 0).any():
        fact, remedy = "none that is", "write subject, and sample or prediction_time, as the answers have them"
        raise SourceError(what, "rows of questions in the log", fact, remedy)
    return found


def _questions(cells: Cells, what: str) -> Iterator[tuple[str, str, int]]:
    """Who, which, and the row; times as they are written and as the service writes those of MEDS."""
    who = next((name for name in _WHO if name in cells.text.columns), None)
    if who is None:
        raise SourceError(what, "a column subject or subject_id", "neither", "write it as the answers have it")
    subjects = cells.text[who].to_list()
    ways = [cells.text[name].to_list() for name in _WHICH if name in cells.text.columns]
    if isinstance(cells.frame.schema.get("prediction_time"), pl.Datetime):
        ways.append([None if t is None else t.isoformat() for t in cells.frame["prediction_time"].to_list()])
    for which in ways or [[""] * len(subjects)]:
        for row, (subject, one) in enumerate(zip(subjects, which, strict=True)):
            if subject is not None and one is not None:
                yield subject, one, row


def _labels(column: pl.Series, what: str) -> Float:
    """(n,) 0, 1 or NaN."""
    if column.dtype == pl.String:
        words = [None if word is None else word.strip().lower() for word in column.to_list()]
        column = pl.Series(column.name, [None if w is None else _WORDS.get(w, 2.0) for w in words], pl.Float64)
    values = column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().astype(np.float64)
    if not column.dtype.is_numeric() or not np.isin(values[np.isfinite(values)], (0.0, 1.0)).all():
        expected = "0, 1, true, false or nothing"
        raise SourceError(f"{what}, column '{column.name}'", expected, "other cells", "correct it")
    return values

"""Risks made elsewhere (a score of the ward's, another package's model): a table of them → predictions, judged beside
those of runs on the same patients.

The table has one row a sample and task: ``subject_id, prediction_time, task, risk``, and ``stay_id`` where a subject
was asked several times at one moment; as Parquet, CSV or CSV.gz. ``mmnar export`` writes the samples of a run. The
table covers the scored samples, all of them and no others: who may choose among patients may choose a result. Whom the
risks were learned from nobody here can tell, and every page that shows them says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import LeakageError, SourceError
from mmnar.predictions import OUTSIDE, Predictions
from mmnar.privacy import counted
from mmnar.roles import Test
from mmnar.sources.reading.instants import read_times
from mmnar.sources.table.reading import columns_as_text

NEEDED: Final = ("subject_id", "prediction_time", "task", "risk")
_IDS: Final = r"^[+-]?[0-9]+(\.0*)?$"
_NOBODY: Final = np.empty(0, dtype=np.uint64)


def outside_predictions(
    name: str, path: Path, scored: Predictions[Test], learned: NDArray[np.int64]
) -> Predictions[Test]:
    """Risks of a table, for the tasks that it has.

    Args:
        name: What the risks are called.
        path: The table.
        scored: A run's predictions: the samples that must be covered.
        learned: Subjects whom the split has to learn from, as far as they are known.

    Raises:
        SourceError: The table cannot be read, or covers other samples or tasks, or one twice; or a risk is none.
        LeakageError: It has patients whom the split has to learn from.
    """
    what = f"outside risks '{path.name}'"
    rows = _rows(path, what)
    unknown = int((~rows["task"].is_in(list(scored.tasks))).sum())
    if unknown:
        fact = f"{counted(unknown)} rows of another"
        raise SourceError(what, f"tasks among {', '.join(scored.tasks)}", fact, "rename the tasks or leave them out")
    own = scored.asking([task for task in scored.tasks if task in set(rows["task"])])
    key = _key(rows, own, what)
    _refuse_twice(rows, key, what)
    _refuse_others(rows, own, learned, key, what)
    proba = _in_order(rows, own, key, what)
    provenance = {k: v for k, v in own.provenance.items() if k in ("data", "validation")}
    provenance |= {"model": name, "origin": OUTSIDE}
    return replace(own, proba=proba, fitted_subjects=(_NOBODY,) * len(own.fitted_subjects), provenance=provenance)


def _rows(path: Path, what: str) -> pl.DataFrame:
    """``subject_id, prediction_time, task, risk`` and perhaps ``stay_id``, each cell what it should be."""
    text = columns_as_text(path, NEEDED, ("stay_id",))
    if not text.height:
        raise SourceError(what, "a row for each scored sample", "no row", "write the risks")
    times = read_times(text["prediction_time"])
    if times.zoned and times.plain + times.days:
        raise SourceError(what, "times with a zone, or none", "both", "write them on one clock")
    whole = [name for name in text.columns if name in ("subject_id", "stay_id")]
    ids = [_numbers(text[name]) for name in whole]
    rows = pl.DataFrame([*ids, times.at, text["task"], text["risk"].cast(pl.Float64, strict=False)])
    kinds = {**dict.fromkeys(whole, "whole numbers"), "prediction_time": "times", "task": "names"}
    for column in kinds:
        if empty := rows[column].null_count():
            fact = f"{counted(empty)} of {counted(rows.height)} rows with none"
            raise SourceError(f"{what}, column '{column}'", kinds[column], fact, "take them from `mmnar export`")
    wrong = rows.height - int(rows["risk"].is_between(0, 1).fill_null(False).sum())
    if wrong:
        fact = f"{counted(wrong)} of {counted(rows.height)} rows with another number or none"
        raise SourceError(f"{what}, column 'risk'", "risks in [0, 1]", fact, "write probabilities")
    return rows


def _numbers(cells: pl.Series) -> pl.Series:
    """Identifiers; 7.0 is what 7 became in a column with gaps."""
    whole = cells.set(~cells.str.contains(_IDS), None).str.replace(r"\..*$", "")
    return whole.cast(pl.Int64, strict=False)


def _key(rows: pl.DataFrame, scored: Predictions[Test], what: str) -> list[str]:
    """Columns that tell one sample from another."""
    key = [name for name in rows.columns if name in ("subject_id", "stay_id", "prediction_time")]
    if _samples(scored, key).select(key).is_duplicated().any():
        fact = "samples that differ in stay_id alone" if "stay_id" not in key else "some twice"
        raise SourceError(what, "columns that tell every sample from another", fact, "add the column stay_id")
    return key


def _samples(scored: Predictions[Test], key: Sequence[str]) -> pl.DataFrame:
    frame = pl.DataFrame([pl.Series(name, getattr(scored, name)) for name in key])
    return frame.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))


def _refuse_twice(rows: pl.DataFrame, key: Sequence[str], what: str) -> None:
    twice = rows.height - rows.select(*key, "task").n_unique()
    if twice:
        fact = f"{counted(twice)} rows more"
        raise SourceError(what, "one risk for each sample and task", fact, "keep the one that was made first")


def _refuse_others(
    rows: pl.DataFrame, scored: Predictions[Test], learned: NDArray[np.int64], key: Sequence[str], what: str
) -> None:
    others = rows.join(_samples(scored, key), on=key, how="anti")
    from_learned = others.filter(pl.col("subject_id").is_in(pl.Series(learned).implode()))["subject_id"].n_unique()
    remedy = "keep the scored samples alone: `mmnar export` writes which they are"
    if from_learned:
        fact = f"{counted(from_learned)} patients whom the split has to learn from"
        raise LeakageError(what, "patients of the test fold", fact, remedy)
    if others.height:
        raise SourceError(what, "the scored samples", f"{counted(others.height)} rows of no scored sample", remedy)


def _in_order(rows: pl.DataFrame, scored: Predictions[Test], key: Sequence[str], what: str) -> NDArray[np.float64]:
    """(N, K) risks; 0.5 stands where a task was not asked and no risk is given, which nothing reads."""
    samples = _samples(scored, key)
    columns = []
    for task in scored.tasks:
        risks = rows.filter(pl.col("task") == task).select(*key, "risk")
        found = samples.join(risks, on=key, how="left", maintain_order="left")["risk"]
        asked = scored.task(task)[2]
        lacking = int((found.is_null().to_numpy() & asked).sum())
        if lacking:
            fact = f"none for {counted(lacking)} of {counted(int(asked.sum()))}"
            remedy = "score them: who may leave out patients, chooses a result"
            raise SourceError(f"{what}, task '{task}'", "a risk of every scored sample", fact, remedy)
        columns.append(found.fill_null(0.5).to_numpy())
    return np.stack(columns, axis=1)

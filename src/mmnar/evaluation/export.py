"""Labels, splits and predictions as MEDS 0.4 files, for other people's tools.

``meds-evaluation`` reads predictions of exactly five columns (its schema is closed), so whatever else we know of a row
lies in a table beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset
from mmnar.errors import SchemaError, StoreError
from mmnar.files import write_whole
from mmnar.parquet import save
from mmnar.predictions import Predictions

SPLIT_NAMES: Final = {"train": "train", "tune": "tuning", "calibration": "calibration", "test": "held_out"}
"""Our roles → MEDS splits. MEDS has no word for calibration; any value is legal."""


def write_labels(data: PatientDataset, folder: Path) -> None:
    """``folder/TASK/labels.parquet``: every sample that the task was asked of, in MEDS' label schema.

    Raises:
        StoreError: The files cannot be written.
    """
    for k, task in enumerate(data.schema.task_names):
        asked = np.flatnonzero(data.label_mask[:, k])
        columns = _label_columns(data.subject_id[asked], data.prediction_time[asked], data.labels[asked, k])
        _write(columns, _LABELS, folder / _folder_name(task) / "labels.parquet")


def write_splits(data: PatientDataset, split: Split, path: Path) -> None:
    """``subject_id, split`` of every subject that plays a role (MEDS' ``metadata/subject_splits.parquet``).

    Raises:
        StoreError: The file cannot be written.
    """
    rows = np.arange(len(data)) if data.left_out is None else np.flatnonzero(~data.left_out)
    roles = split.roles(data.subject_id[rows], {name: values[rows] for name, values in data.attributes.items()})
    subjects, first = np.unique(data.subject_id[rows], return_index=True)
    names = [SPLIT_NAMES[role] for role in roles[first]]
    _write({"subject_id": subjects, "split": names}, ("subject_id", "split"), path)


def write_predictions(predictions: Predictions[Any], folder: Path) -> None:
    """``folder/TASK/predictions.parquet``: what ``meds-evaluation`` reads.

    Of the rows that the task was asked of: ``subject_id, prediction_time, boolean_value, predicted_boolean_value``
    (null: a threshold is the reader's choice), ``predicted_boolean_probability`` (float32).

    Raises:
        StoreError: The files cannot be written.
    """
    for task in predictions.tasks:
        proba, labels, mask = predictions.task(task)
        asked = np.flatnonzero(mask)
        columns = _label_columns(predictions.subject_id[asked], predictions.prediction_time[asked], labels[asked])
        columns["predicted_boolean_value"] = [None] * len(asked)
        columns["predicted_boolean_probability"] = proba[asked].astype(np.float32)
        _write(columns, _PREDICTIONS, folder / _folder_name(task) / "predictions.parquet")


def write_full(named: Mapping[str, Predictions[Any]], path: Path) -> None:
    """Everything known of each row: the sibling of the closed tables.

    Columns: ``model, role, subject_id, hadm_id, stay_id, prediction_time, fold, pattern`` (e.g. "1011", in the order
    of the modalities), attributes, and per task ``<task>.label`` (null where not asked), ``<task>.proba`` (float64),
    ``<task>.logit`` (infinite where the risk is 0 or 1).

    Args:
        named: Model name → its predictions.

    Raises:
        StoreError: The file cannot be written.
    """
    frames = []
    for name, predictions in named.items():
        with np.errstate(divide="ignore"):
            logits = {f"{t}.logit": logit(predictions.task(t)[0]) for t in predictions.tasks}
        frames.append(
            predictions.to_frame().select(
                pl.lit(name).alias("model"),
                pl.lit(predictions.role.name).alias("role"),
                pl.all().exclude("prediction_time", "subject_digest"),
                pl.col("prediction_time").cast(pl.Datetime("us")),
                *(pl.Series(column, values) for column, values in logits.items()),
            )
        )
    _whole(path, lambda partial: save(pl.concat(frames), partial))


_LABELS: Final = ("subject_id", "prediction_time", "boolean_value")
_PREDICTIONS: Final = (*_LABELS, "predicted_boolean_value", "predicted_boolean_probability")


def _label_columns(
    subject_id: NDArray[np.int64], prediction_time: NDArray[np.int64], label: NDArray[np.bool_]
) -> dict[str, Any]:
    return {
        "subject_id": subject_id,
        "prediction_time": prediction_time.astype("datetime64[us]"),
        "boolean_value": label,
    }


def _write(columns: dict[str, Any], names: tuple[str, ...], path: Path) -> None:
    """A parquet file of exactly MEDS' types: pyarrow, because polars writes every string as a large one."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    types = {
        "subject_id": pa.int64(),
        "prediction_time": pa.timestamp("us"),
        "boolean_value": pa.bool_(),
        "predicted_boolean_value": pa.bool_(),
        "predicted_boolean_probability": pa.float32(),
        "split": pa.string(),
    }
    table = pa.table(columns, schema=pa.schema([(name, types[name]) for name in names]))
    _whole(path, lambda partial: write_table(table, partial))


def _whole(path: Path, write: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, write)
    except OSError as error:
        raise StoreError(
            f"writing '{path.name}'", "room to write", error.strerror or "no room", "free space and export again"
        ) from error


def _folder_name(task: str) -> str:
    """A task's name, where it can be a folder's."""
    if task in (".", "..") or "/" in task or "\\" in task:
        raise SchemaError(f"task '{task}'", "a name that can be a folder's", "one with a path in it", "rename the task")
    return task

"""A data set from a frame in memory, by the door of ``mmnar prepare table``: what holds of a file holds of a frame."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import SourceError
from mmnar.sources.table.spec import TableSpec, load_spec, parse_spec
from mmnar.workflow.doors import table_frame, write_records

FILE: Final = "frame.parquet"
"""What ``files`` says of a spec that names none."""
Spec = TableSpec | Mapping[str, Any] | str | Path


def from_frame(frame: Any, spec: Spec, out: str | Path | None = None) -> PatientDataset:
    """A data set of one row a sample, equal to the store that ``mmnar prepare table`` makes of the table in a file.

    What was left out, pooled or doubted is in ``manifest["warnings"]``.

    Args:
        frame: Of polars, or of pandas (its index is not read).
        spec: What the columns mean (docs/own-tables.md): what YAML would hold, with or without ``files``; or the path
            of a YAML file.
        out: Folder of the store, for ``train_run`` and the command; an older store there is replaced only when the new
            one is whole. None = in memory alone.

    Raises:
        ConfigError: The spec is refused.
        SourceError: The frame cannot be read as the spec says.
        StoreError: The store cannot be written.
    """
    records = table_frame(_spec(spec), as_polars(frame))
    if out is not None:
        write_records(records, Path(out))
        return open_store(out)
    with tempfile.TemporaryDirectory(prefix="mmnar-") as folder:
        write_records(records, Path(folder) / "store")
        return _loaded(open_store(Path(folder) / "store"))


def _spec(spec: Spec) -> TableSpec:
    if isinstance(spec, TableSpec):
        return spec
    if isinstance(spec, str | Path):
        return load_spec(spec)
    raw = {"files": FILE, **spec}
    return parse_spec(raw, hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest())


def as_polars(frame: Any) -> pl.DataFrame:
    """
    Raises:
        SourceError: No frame, or a column of several kinds.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if type(frame).__module__.partition(".")[0] != "pandas" or getattr(frame, "ndim", 0) != 2:
        raise SourceError("frame", "a frame of polars or pandas", type(frame).__name__, "convert it")
    try:
        return pl.from_pandas(frame)
    except (ValueError, TypeError) as error:  # Arrow's, which quote cells
        fact = f"what cannot be one column ({type(error).__name__})"
        raise SourceError("frame", "columns of one kind each", fact, "convert mixed columns, e.g. to str") from None


def _loaded(data: PatientDataset) -> PatientDataset:
    """The arrays in memory, for their files go. Tables have static modalities alone."""
    names = ("labels", "label_mask", "present", "subject_id", "hadm_id", "stay_id", "prediction_time")
    arrays: dict[str, Any] = {name: np.array(getattr(data, name)) for name in names}
    return replace(
        data,
        values={name: np.array(content) for name, content in data.values.items()},
        attributes={name: np.array(values) for name, values in data.attributes.items()},
        **arrays,
    )

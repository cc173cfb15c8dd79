"""Spill files → shards: events in their one order, each once, and the metadata that MEDS wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.files import write_text, write_whole
from mmnar.sources.events import EVENT_SCHEMA

_ORDER: Final = ("subject_id", "time", "available_time", "code", "stay_id", "hadm_id", "numeric_value", "text_value")


def starts(subjects: NDArray[np.int64], counts: NDArray[np.int64], shards: int | None, events: int) -> list[int]:
    """First subject of each shard: contiguous ranges with about equal numbers of events.

    Args:
        subjects: Sorted.
        counts: Events of each.
        shards: How many; None = as many as keep a shard near ``events``.
    """
    total = int(counts.sum())
    wanted = shards or max(1, -(-total // events))
    if not len(subjects):
        return [0]
    before = np.cumsum(counts) - counts
    # as if each subject had one event more, so that subjects without events are divided, too
    weight = before + np.arange(len(subjects))
    shard = weight * wanted // (total + len(subjects))
    first = np.flatnonzero(np.diff(shard, prepend=-1))
    return [int(s) for s in subjects[first]]


def events_between(files: list[Path], start: int | None, stop: int | None) -> pl.DataFrame:
    """Events of subjects in [start, stop), from files sorted by subject; ``code`` and ``source`` are categorical."""
    pieces = []
    for file in files:
        # the other columns of a file without such subjects are not looked at
        subject = pl.read_ipc(file, columns=["subject_id"], memory_map=True)["subject_id"]
        first = 0 if start is None else subject.search_sorted(start, side="left")
        last = len(subject) if stop is None else subject.search_sorted(stop, side="left")
        if last > first:
            pieces.append(pl.read_ipc(file, memory_map=True)[first:last])
    return pl.concat(pieces) if pieces else pl.DataFrame(schema=EVENT_SCHEMA)


def distinct(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events in their one order, each once; how many repeats there were, by table."""
    ordered = frame.sort(*_ORDER, "source")
    same = pl.all_horizontal(pl.col(c).eq_missing(pl.col(c).shift()) for c in EVENT_SCHEMA)
    repeat = ordered.select((same & (pl.int_range(pl.len()) > 0)).alias("repeat"))["repeat"]
    if not repeat.any():
        return ordered, {}
    repeats = ordered.filter(repeat)["source"].value_counts()
    return ordered.filter(~repeat), dict(repeats.iter_rows())


def write_shard(shard: pl.DataFrame, path: Path) -> None:
    """Events as Parquet, with the types that MEDS names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = {"code": pa.string(), "source": pa.string(), "text_value": pa.large_string()}
    table = shard.cast({"code": pl.String, "source": pl.String}).to_arrow()
    schema = pa.schema([pa.field(f.name, text.get(f.name, f.type)) for f in table.schema])
    pq.write_table(table.cast(schema), path, compression="zstd", compression_level=1)


def write_metadata(
    folder: Path, kept: list[pl.DataFrame], descriptions: Mapping[str, str], name: str, release: str
) -> None:
    """``metadata/codes.parquet`` and ``metadata/dataset.json``.

    Args:
        kept: ``code, count`` of each shard.
        descriptions: Code → what it is.
        name, release: Of the data set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = pl.concat(kept).group_by("code").agg(pl.col("count").cast(pl.Int64).sum()).sort("code")
    codes = counts["code"].to_list()
    table = pa.table(
        {
            "code": pa.array(codes, pa.string()),
            "description": pa.array([descriptions.get(code) for code in codes], pa.string()),
            "parent_codes": pa.array([None] * len(codes), pa.list_(pa.string())),
            "count": pa.array(counts["count"].to_list(), pa.int64()),
        }
    )
    write_whole(folder / "metadata" / "codes.parquet", lambda path: pq.write_table(table, path))
    dataset = {
        "dataset_name": name,
        "dataset_version": release,
        "etl_name": "mmnar",
        "etl_version": version("mmnar"),
        "meds_version": version("meds"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "raw_source_id_columns": ["hadm_id", "stay_id"],
        "other_extension_columns": ["available_time", "source"],
    }
    write_text(folder / "metadata" / "dataset.json", json.dumps(dataset, indent=1, ensure_ascii=False))

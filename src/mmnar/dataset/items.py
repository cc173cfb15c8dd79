"""Past events → content of the modalities that hold items: series, notes, vectors, images. Nothing is fitted here.

Each function returns the items of the part's samples, packed in the order of ``past.samples``, in time order within a
sample; ties in time are ordered by value or text, so that no answer depends on the order of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.dataset.content import SeriesArrays, offsets_of
from mmnar.dataset.features import bounds, matches
from mmnar.sources.events import PastEvents, SeriesRule

MICROSECONDS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True)
class Found:
    """Events whose text leads to an item: notes themselves, paths of images, rows of an array of vectors.

    Args:
        offsets: (n + 1,) int64 of n samples.
        hours: (E,) float32.
        text: E values of ``text_value``.
    """

    offsets: NDArray[np.int64]
    hours: NDArray[np.float32]
    text: pl.Series


def series_content(
    past: PastEvents, rules: Sequence[SeriesRule], bin_hours: float = 0.0
) -> tuple[SeriesArrays, dict[str, int]]:
    """Measurements of one modality.

    Args:
        past: Events known at prediction time.
        rules: F rules of the modality, in column order.
        bin_hours: 0 = every measurement at its own time; otherwise the mean of each feature in each bin of so many
            hours before the prediction, at the time of the bin's last measurement.

    Returns:
        The content, and ``modality.feature`` → number of values outside the plausible range.
    """
    frame = past.numbered.filter(pl.col("recent") & pl.col("numeric_value").is_not_null())
    pairs = matches(frame["code"].unique().to_list(), [rule.codes for rule in rules])
    value, cell = pl.col("value"), pl.col("sample") * len(rules) + pl.col("rule")
    hits = (
        frame.select("sample", "code", "time", "prediction_time", value=pl.col("numeric_value").cast(pl.Float64))
        .join(pairs.join(bounds(rules), on="rule"), on="code")
        .select("sample", "rule", "low", "high", "value", cell=cell, hours=_hours())
    )
    plausible = value.is_finite() & value.is_between("low", "high")
    outside = hits.filter(~plausible).group_by("rule").len().sort("rule")
    kept = hits.filter(plausible).select("sample", "rule", "cell", "hours", "value")
    if bin_hours:
        kept = _binned(kept, bin_hours)
    kept = kept.sort("sample", "hours", "rule", "value")
    content = SeriesArrays(
        _offsets(kept["sample"], len(past.samples)),
        kept["hours"].cast(pl.Float32).to_numpy(),
        kept["rule"].cast(pl.Int16).to_numpy(),
        kept["value"].cast(pl.Float32).to_numpy(),
    )
    return content, {f"{rules[i].modality}.{rules[i].feature}": count for i, count in outside.iter_rows()}


def found(past: PastEvents, codes: Sequence[str], latest: bool = False) -> Found:
    """Events of some codes that have a text.

    Args:
        codes: Codes or ``prefix*``.
        latest: Only the last one of each sample.
    """
    frame = past.numbered.filter("recent")
    pairs = matches(frame["code"].unique().to_list(), [tuple(codes)])
    kept = (
        frame.join(pairs, on="code")
        .filter(pl.col("text_value").str.strip_chars() != "")
        .select("sample", "text_value", hours=_hours())
        .sort("sample", "hours", "text_value")
    )
    if latest:
        kept = kept.group_by("sample", maintain_order=True).last()
    return Found(
        _offsets(kept["sample"], len(past.samples)), kept["hours"].cast(pl.Float32).to_numpy(), kept["text_value"]
    )


def _hours() -> pl.Expr:
    """Hours before the prediction; an event may lie ahead of it by its own rule table, never in the content."""
    microseconds = (pl.col("time") - pl.col("prediction_time")).dt.total_microseconds()
    return (microseconds / MICROSECONDS_PER_HOUR).clip(upper_bound=0.0)


def _binned(kept: pl.DataFrame, bin_hours: float) -> pl.DataFrame:
    """Mean of each ``cell`` (sample and rule) in each bin, at the time of the bin's last measurement."""
    # (−1, 0] is bin 0: the bins end at the prediction
    ordered = kept.sort("cell", "hours", "value").with_columns(bin=(pl.col("hours") / bin_hours).ceil())
    if ordered.is_empty():
        return kept
    cell, time = ordered["cell"].to_numpy(), ordered["bin"].to_numpy()
    new = np.r_[True, (cell[1:] != cell[:-1]) | (time[1:] != time[:-1])]
    last = np.append(np.flatnonzero(new)[1:], len(new)) - 1
    group = np.cumsum(new) - 1
    # bincount adds row by row: no answer depends on where in memory a bin begins
    means = np.bincount(group, weights=ordered["value"].to_numpy()) / np.bincount(group)
    return ordered[last].with_columns(value=means)


def _offsets(sample: pl.Series, n: int) -> NDArray[np.int64]:
    return offsets_of(np.bincount(sample.to_numpy(), minlength=n))

"""From a fold to a batch: standardisation with statistics of the training fold, then one in-memory PatientBatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays
from mmnar.dataset.store import Fold
from mmnar.notes.hashing import FittedHashing, HashingSVD
from mmnar.roles import Train
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Content as BatchContent
from mmnar.types import Items, PatientBatch, Series, Static

CLIP: Final = 8.0
"""Standardised values are clipped to ± this: one mistyped number must not own a patient's risk."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Per column of one modality, (F,) each: ``kept`` columns and the ``mean`` and ``scale`` of continuous ones."""

    kept: NDArray[np.bool_]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of_rows(cls, raw: NDArray[np.float32], spec: ModalitySpec) -> Self:
        """Of the rows (n, F) that have the modality; n may be 0 (nothing is kept then)."""
        values = raw.astype(np.float64)
        observed = ~np.isnan(values)
        count = observed.sum(0)
        kept = count >= max(1.0, (1 - spec.max_missing) * len(values))
        safe = np.maximum(count, 1)
        mean = np.where(observed, values, 0).sum(0) / safe
        scale = np.sqrt(np.where(observed, (values - mean) ** 2, 0).sum(0) / safe)
        return cls(kept, mean, np.where(scale > 1e-12, scale, 1.0))

    @classmethod
    def of_series(cls, series: SeriesArrays, spec: ModalitySpec) -> Self:
        """Of all measurements; every column that training saw is kept."""
        f, values = len(spec.features), series.values.astype(np.float64)
        count = np.bincount(series.feature, minlength=f)
        safe = np.maximum(count, 1)
        mean = np.bincount(series.feature, weights=values, minlength=f) / safe
        squares = np.bincount(series.feature, weights=(values - mean[series.feature]) ** 2, minlength=f)
        scale = np.sqrt(squares / safe)
        return cls(count > 0, mean, np.where(scale > 1e-12, scale, 1.0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"kept": self.kept, "mean": self.mean, "scale": self.scale}


State = ColumnStatistics | FittedHashing | None


@dataclass(frozen=True)
class Preprocessor:
    """Statistics fitted on ``Fold[Train]`` alone.

    A static column missing in more than ``max_missing`` of the training patients *who have its modality* is dropped:
    it is kept in place but never observed, so that shapes stay those of the schema. (Paper C.1.2 drops variables with
    over 80 % missing; counting patients without the modality too would drop every rare modality whole.)

    Args:
        states: modality → column statistics (static, series), the basis of hashed notes, or None (vectors, images).
    """

    schema: Schema
    states: dict[str, State]

    @classmethod
    def fit(cls, train: Fold[Train]) -> Preprocessor:
        present = train.present
        states = {
            spec.name: _fitted(train.content(spec.name), present[:, i], spec)
            for i, spec in enumerate(train.schema.modalities)
        }
        return cls(train.schema, states)

    def transform(self, fold: Fold[Any]) -> PatientBatch:
        """All samples of a fold as one validated batch, row by row independent."""
        labels, label_mask = fold.labels, fold.label_mask
        return PatientBatch(
            self.schema,
            {spec.name: self._content(fold.content(spec.name), spec) for spec in self.schema.modalities},
            torch.from_numpy(np.ascontiguousarray(fold.present)),
            torch.from_numpy((labels & label_mask).astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(label_mask)),
            torch.from_numpy(fold.rows.astype(np.int64)),
        )

    def _content(self, content: Content, spec: ModalitySpec) -> BatchContent:
        state = self.states[spec.name]
        if isinstance(content, SeriesArrays):
            assert isinstance(state, ColumnStatistics)
            return _series(content, state)
        if isinstance(content, HashedArrays):
            assert isinstance(state, FittedHashing)
            vectors = state.transform(content.buckets, content.weights, content.starts)
            return _items(ItemArrays(content.offsets, content.hours, vectors))
        if isinstance(content, ItemArrays):
            return _items(content)
        assert isinstance(state, ColumnStatistics)
        return _static(content, state, spec)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving: name → array."""
        return {
            f"{name}/{part}": array
            for name, state in self.states.items()
            if state is not None
            for part, array in state.arrays().items()
        }

    @classmethod
    def from_arrays(cls, schema: Schema, arrays: dict[str, NDArray[Any]]) -> Preprocessor:
        states: dict[str, State] = {}
        for spec in schema.modalities:
            prefix = f"{spec.name}/"
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            if spec.kind in ("static", "series"):
                states[spec.name] = ColumnStatistics(**own)
            else:
                states[spec.name] = FittedHashing.from_arrays(own) if spec.kind == "hashed" else None
        return cls(schema, states)


def _fitted(content: Content, present: NDArray[np.bool_], spec: ModalitySpec) -> State:
    if isinstance(content, SeriesArrays):
        return ColumnStatistics.of_series(content, spec)
    if isinstance(content, HashedArrays):
        buckets, rank = spec.shape
        return HashingSVD(rank, buckets).fit(content.buckets, content.weights, content.starts)
    if isinstance(content, ItemArrays):
        return None
    return ColumnStatistics.of_rows(content[present], spec)


def _static(raw: NDArray[np.float32], s: ColumnStatistics, spec: ModalitySpec) -> Static:
    observed = ~np.isnan(raw) & s.kept
    z = np.clip((raw.astype(np.float64) - s.mean) / s.scale, -CLIP, CLIP)
    categorical = np.array([f.kind == "categorical" for f in spec.features])
    values = np.where(observed, np.where(categorical, raw, z), 0.0).astype(np.float32)
    return Static(torch.from_numpy(values), torch.from_numpy(observed))


def _series(raw: SeriesArrays, s: ColumnStatistics) -> Series:
    """A column that training never saw has mean 0 and scale 1; it is left in, so that presence stays presence."""
    f = raw.feature.astype(np.int64)
    z = np.clip((raw.values.astype(np.float64) - s.mean[f]) / s.scale[f], -CLIP, CLIP)
    z = np.where(s.kept[f], z, 0.0).astype(np.float32)
    return Series(_tensor(raw.offsets), _tensor(raw.hours), torch.from_numpy(f), torch.from_numpy(z))


def _items(raw: ItemArrays) -> Items:
    values = raw.values if raw.values.dtype == np.uint8 else raw.values.astype(np.float32, copy=False)
    return Items(_tensor(raw.offsets), _tensor(raw.hours), _tensor(values))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # a memory-mapped array is read-only, which torch cannot express
    return torch.from_numpy(np.array(array))

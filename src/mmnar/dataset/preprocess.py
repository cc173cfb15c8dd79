"""From a fold to a batch: standardisation with statistics of the training fold, then one in-memory PatientBatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.roles import Train
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Modality, PatientBatch

CLIP: Final = 8.0
"""Standardised values are clipped to ± this: one mistyped number must not own a patient's risk."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Per column of one modality, (F,) each: ``kept`` columns and the ``mean`` and ``scale`` of continuous ones."""

    kept: NDArray[np.bool_]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Preprocessor:
    """Statistics fitted on ``Fold[Train]`` alone.

    A column missing in more than ``max_missing`` of the training patients *who have its modality* is dropped: it is
    kept in place but never observed, so that shapes stay those of the schema. (Paper C.1.2 drops variables with over
    80 % missing; counting patients without the modality too would drop every rare modality whole.)
    """

    schema: Schema
    columns: dict[str, ColumnStatistics]

    @classmethod
    def fit(cls, train: Fold[Train]) -> Preprocessor:
        present = train.present
        columns = {
            spec.name: _statistics(train.values(spec.name)[present[:, i]], spec)
            for i, spec in enumerate(train.schema.modalities)
        }
        return cls(train.schema, columns)

    def transform(self, fold: Fold[Any]) -> PatientBatch:
        """All samples of a fold as one validated batch, row by row independent."""
        labels, label_mask = fold.labels, fold.label_mask
        return PatientBatch(
            self.schema,
            {spec.name: self._modality(fold.values(spec.name), spec) for spec in self.schema.modalities},
            torch.from_numpy(np.ascontiguousarray(fold.present)),
            torch.from_numpy((labels & label_mask).astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(label_mask)),
            torch.from_numpy(fold.rows.astype(np.int64)),
        )

    def _modality(self, raw: NDArray[np.float32], spec: ModalitySpec) -> Modality:
        s = self.columns[spec.name]
        observed = ~np.isnan(raw) & s.kept
        z = np.clip((raw.astype(np.float64) - s.mean) / s.scale, -CLIP, CLIP)
        categorical = np.array([f.kind == "categorical" for f in spec.features])
        values = np.where(observed, np.where(categorical, raw, z), 0.0).astype(np.float32)
        return Modality(torch.from_numpy(values), torch.from_numpy(observed))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving: name → array."""
        return {
            f"{name}/{part}": getattr(s, part) for name, s in self.columns.items() for part in ("kept", "mean", "scale")
        }

    @classmethod
    def from_arrays(cls, schema: Schema, arrays: dict[str, NDArray[Any]]) -> Preprocessor:
        columns = {
            m.name: ColumnStatistics(arrays[f"{m.name}/kept"], arrays[f"{m.name}/mean"], arrays[f"{m.name}/scale"])
            for m in schema.modalities
        }
        return cls(schema, columns)


def _statistics(raw: NDArray[np.float32], spec: ModalitySpec) -> ColumnStatistics:
    """Of the rows (n, F) that have the modality; n may be 0 (nothing is kept then)."""
    values = raw.astype(np.float64)
    observed = ~np.isnan(values)
    count = observed.sum(0)
    kept = count >= max(1.0, (1 - spec.max_missing) * len(values))
    safe = np.maximum(count, 1)
    mean = np.where(observed, values, 0).sum(0) / safe
    scale = np.sqrt(np.where(observed, (values - mean) ** 2, 0).sum(0) / safe)
    return ColumnStatistics(kept, mean, np.where(scale > 1e-12, scale, 1.0))

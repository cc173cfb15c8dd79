"""From a fold to a batch: standardisation with statistics of the training fold, then one in-memory PatientBatch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays
from mmnar.dataset.store import Fold
from mmnar.notes.hashing import FittedHashing, HashingSVD
from mmnar.roles import Train
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Content as BatchContent
from mmnar.types import Items, PatientBatch, Series, Static

CLIP: Final = 8.0
"""Standardised values are clipped to ± this: one mistyped number must not own a patient's risk."""

QUANTILES: Final = 101
"""Knots of the map from a measurement to its normal score."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Of the columns of one modality.

    Args:
        kept: (F,) whether a column is used.
        mean, scale: (F,) of continuous columns; the scale of one that is constant in training is infinite, for nothing
            is learned of it: whatever it is later becomes 0, as it was in training.
        seen: (F, C) which of at most C categories a column has in training; one that it has not is not known.
    """

    kept: NDArray[np.bool_]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    seen: NDArray[np.bool_]

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
        constant = scale <= 1e-12 * np.maximum(1.0, np.abs(mean))
        seen = np.zeros((len(spec.features), max(1, *(len(f.categories) for f in spec.features))), dtype=bool)
        for f, feature in enumerate(spec.features):
            if feature.categories:
                seen[f, np.unique(values[observed[:, f], f]).astype(np.int64)] = True
        return cls(kept, mean, np.where(constant, np.inf, scale), seen)

    def known(self, raw: NDArray[np.float32], spec: ModalitySpec) -> NDArray[np.bool_]:
        """(n, F) which cells say something that training can have learned of."""
        known = ~np.isnan(raw) & self.kept
        for f, feature in enumerate(spec.features):
            if feature.categories:
                known[:, f] &= self.seen[f, np.where(known[:, f], raw[:, f], 0).astype(np.int64)]
        return known

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"kept": self.kept, "mean": self.mean, "scale": self.scale, "seen": self.seen}


@dataclass(frozen=True)
class NormalScores:
    """Per feature of a series a rising piecewise linear map from training quantiles to normal scores.

    Laboratory values have tails of several orders of magnitude, which mean and scale leave as they are; here a value is
    placed by its rank among the training measurements. Beyond the smallest and largest of them the map is constant.

    Args:
        knots, scores: (F, Q) each; a row's first ``used`` entries count, knots strictly ascending.
        used: (F,) int64; 0 where training saw no value.
    """

    knots: NDArray[np.float64]
    scores: NDArray[np.float64]
    used: NDArray[np.int64]

    @classmethod
    def fit(cls, series: SeriesArrays, features: int) -> Self:
        """From all measurements of the training fold; a value seen often gets the mean of the scores it spans."""
        knots, scores = np.zeros((features, QUANTILES)), np.zeros((features, QUANTILES))
        used = np.zeros(features, dtype=np.int64)
        for f in range(features):
            values = series.values[series.feature == f].astype(np.float64)
            if not len(values):
                continue
            levels = np.clip(np.linspace(0, 1, QUANTILES), 0.5 / len(values), 1 - 0.5 / len(values))
            distinct, which = np.unique(np.quantile(values, levels), return_inverse=True)
            used[f] = len(distinct)
            knots[f, : used[f]] = distinct
            scores[f, : used[f]] = np.bincount(which, weights=ndtri(levels)) / np.bincount(which)
        return cls(knots, scores, used)

    def transform(self, series: SeriesArrays) -> NDArray[np.float32]:
        """(E,) scores; 0 for a feature that training never saw, so that presence stays presence."""
        out = np.zeros(len(series.values), dtype=np.float32)
        order = np.argsort(series.feature, kind="stable")
        there, begins = np.unique(series.feature[order], return_index=True)
        for f, mine in zip(there, np.split(order, begins[1:]), strict=True) if len(there) else ():
            if n := self.used[f]:
                out[mine] = np.interp(series.values[mine], self.knots[f, :n], self.scores[f, :n])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"knots": self.knots, "scores": self.scores, "used": self.used}


State = ColumnStatistics | NormalScores | FittedHashing | None


@dataclass(frozen=True)
class Preprocessor:
    """Statistics fitted on ``Fold[Train]`` alone.

    A static column missing in more than ``max_missing`` of the training patients *who have its modality* is dropped:
    it is kept in place but never observed, so that shapes stay those of the schema. (Paper C.1.2 drops variables with
    over 80 % missing; counting patients without the modality too would drop every rare modality whole.)

    Args:
        states: modality → column statistics (static), normal scores (series), the basis of hashed notes, or None
            (vectors, images).
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
        """All samples of a fold as one validated batch, row by row independent; it asks what the fold asks."""
        labels, label_mask = fold.labels, fold.label_mask
        return PatientBatch(
            replace(self.schema, tasks=fold.schema.tasks, panels=fold.schema.panels),
            {spec.name: self._content(fold.content(spec.name), spec) for spec in self.schema.modalities},
            torch.from_numpy(np.ascontiguousarray(fold.present)),
            torch.from_numpy((labels & label_mask).astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(label_mask)),
            torch.from_numpy(fold.rows.astype(np.int64)),
        )

    def _content(self, content: Content, spec: ModalitySpec) -> BatchContent:
        state = self.states[spec.name]
        if isinstance(content, SeriesArrays):
            assert isinstance(state, NormalScores)
            values = torch.from_numpy(state.transform(content))
            feature = torch.from_numpy(content.feature.astype(np.int64))
            return Series(_tensor(content.offsets), _tensor(content.hours), values, feature)
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
            if spec.kind == "static":
                states[spec.name] = ColumnStatistics(**own)
            elif spec.kind == "series":
                states[spec.name] = NormalScores(**own)
            else:
                states[spec.name] = FittedHashing.from_arrays(own) if spec.kind == "hashed" else None
        return cls(schema, states)


def _fitted(content: Content, present: NDArray[np.bool_], spec: ModalitySpec) -> State:
    if isinstance(content, SeriesArrays):
        return NormalScores.fit(content, len(spec.features))
    if isinstance(content, HashedArrays):
        buckets, rank = spec.shape
        return HashingSVD(rank, buckets).fit(content.buckets, content.weights, content.starts)
    if isinstance(content, ItemArrays):
        return None
    return ColumnStatistics.of_rows(content[present], spec)


def _static(raw: NDArray[np.float32], s: ColumnStatistics, spec: ModalitySpec) -> Static:
    observed = s.known(raw, spec)
    z = np.clip((raw.astype(np.float64) - s.mean) / s.scale, -CLIP, CLIP)
    categorical = np.array([f.kind == "categorical" for f in spec.features])
    values = np.where(observed, np.where(categorical, raw, z), 0.0).astype(np.float32)
    return Static(torch.from_numpy(values), torch.from_numpy(observed))


def _items(raw: ItemArrays) -> Items:
    values = raw.values if raw.values.dtype == np.uint8 else raw.values.astype(np.float32, copy=False)
    return Items(_tensor(raw.offsets), _tensor(raw.hours), _tensor(values))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # a memory-mapped array is read-only, which torch cannot express
    return torch.from_numpy(np.array(array))

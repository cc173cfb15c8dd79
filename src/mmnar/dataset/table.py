"""The columns in which models without a network see each modality.

==========  ===========================================================================================================
static      its features
series      first, last, min, max, mean, spread (standard deviation ÷ n) and count of each feature
embedding   the mean of the patient's vectors on the first principal components of the training patients' means
hashed      the mean of the patient's notes in the basis fitted on the training fold
image       nothing: of an image such models know only whether there is one
==========  ===========================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays
from mmnar.dataset.store import Fold
from mmnar.notes.hashing import FittedHashing, HashingSVD
from mmnar.roles import Train
from mmnar.schema import Feature, ModalitySpec, Schema

Float = NDArray[np.float64]

SUMMARIES: Final = ("first", "last", "min", "max", "mean", "spread", "count")
COMPONENTS: Final = 32


@dataclass(frozen=True)
class Components:
    """Principal components of one modality's mean vectors: ``mean`` (D,), ``basis`` (D, COMPONENTS)."""

    mean: Float
    basis: Float

    @classmethod
    def fit(cls, means: Float) -> Components:
        """Of (n, D) rows; a component that n rows cannot have is zero."""
        mean = means.mean(axis=0) if len(means) else np.zeros(means.shape[1])
        centred = means - mean
        _, vectors = np.linalg.eigh(centred.T @ centred)
        basis = vectors[:, ::-1][:, : min(COMPONENTS, max(len(means) - 1, 0))]
        # an eigenvector's sign is arbitrary: the largest entry is made positive
        largest = np.abs(basis).argmax(axis=0)
        basis = basis * np.sign(basis[largest, np.arange(basis.shape[1])])
        padded = np.zeros((means.shape[1], COMPONENTS))
        padded[:, : basis.shape[1]] = basis
        return cls(mean, padded)

    def project(self, means: Float) -> Float:
        """(n, D) → (n, COMPONENTS). Summed row by row: a matrix product's last bits depend on how many rows it has."""
        centred = means - self.mean
        return np.column_stack([(centred * column).sum(axis=1) for column in self.basis.T])

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.mean, "basis": self.basis}


@dataclass(frozen=True)
class TableView:
    """Fitted on ``Fold[Train]`` alone.

    Args:
        bases: What turns items into columns, by modality; only of embedding and hashed modalities.
    """

    schema: Schema
    bases: dict[str, Components | FittedHashing]

    @classmethod
    def fit(cls, train: Fold[Train]) -> TableView:
        bases: dict[str, Components | FittedHashing] = {}
        for spec in train.schema.modalities:
            content = train.content(spec.name)
            if isinstance(content, HashedArrays):
                buckets, rank = spec.shape
                bases[spec.name] = HashingSVD(rank, buckets).fit(content.buckets, content.weights, content.starts)
            elif isinstance(content, ItemArrays) and spec.kind == "embedding":
                bases[spec.name] = Components.fit(_means(content)[content.counts > 0])
        return cls(train.schema, bases)

    def features(self, spec: ModalitySpec) -> tuple[Feature, ...]:
        """What the columns of one modality are."""
        if spec.kind == "static":
            return spec.features
        if spec.kind == "series":
            return tuple(Feature(f"{f.name} {s}") for f in spec.features for s in SUMMARIES)
        width = {"embedding": COMPONENTS, "hashed": spec.shape[-1], "image": 0}[spec.kind]
        return tuple(Feature(f"component {c}") for c in range(width))

    def columns(self, fold: Fold[Any], modality: int) -> Float:
        """(n, C) columns of one modality, NaN where nothing is known; each row from its own patient alone."""
        spec = fold.schema.modalities[modality]
        content, present = fold.content(spec.name), fold.present[:, modality]
        # what lies behind an absent modality is never read
        return np.where(present[:, None], self._columns(content, spec), np.nan)

    def _columns(self, content: Content, spec: ModalitySpec) -> Float:
        if isinstance(content, SeriesArrays):
            return series_columns(content, len(spec.features))
        if isinstance(content, HashedArrays):
            basis = self.bases[spec.name]
            assert isinstance(basis, FittedHashing)
            vectors = basis.transform(content.buckets, content.weights, content.starts)
            return _means(ItemArrays(content.offsets, content.hours, vectors))
        if isinstance(content, ItemArrays):
            components = self.bases.get(spec.name)
            if not isinstance(components, Components):
                return np.empty((len(content), 0))
            return components.project(_means(content))
        return content.astype(np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving: name → array."""
        return {f"{name}/{part}": a for name, basis in self.bases.items() for part, a in basis.arrays().items()}

    @classmethod
    def from_arrays(cls, schema: Schema, arrays: dict[str, NDArray[Any]]) -> TableView:
        bases: dict[str, Components | FittedHashing] = {}
        for spec in schema.modalities:
            prefix = f"{spec.name}/"
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            if own:
                bases[spec.name] = FittedHashing.from_arrays(own) if spec.kind == "hashed" else Components(**own)
        return cls(schema, bases)


def series_columns(series: SeriesArrays, features: int) -> Float:
    """(n, F · 7) window summaries in the order of ``SUMMARIES``; NaN, and a count of 0, where nothing was measured."""
    n = len(series)
    cell = np.repeat(np.arange(n), series.counts) * features + series.feature
    order = np.argsort(cell, kind="stable")  # items are in time order already
    value, sorted_cell = series.values[order].astype(np.float64), cell[order]
    count = np.bincount(cell, minlength=n * features)
    filled = np.flatnonzero(count)
    start = (np.cumsum(count) - count)[filled]
    table = np.full((n * features, len(SUMMARIES)), np.nan)
    table[:, -1] = count
    if len(filled):
        # bincount adds row by row: a vectorised sum would round differently with the group's place in memory
        mean = np.bincount(sorted_cell, weights=value, minlength=n * features)[filled] / count[filled]
        where = np.repeat(np.arange(len(filled)), count[filled])
        squares = np.bincount(where, weights=(value - mean[where]) ** 2)
        table[filled, :-1] = np.column_stack(
            [
                value[start],
                value[start + count[filled] - 1],
                np.minimum.reduceat(value, start),
                np.maximum.reduceat(value, start),
                mean,
                np.sqrt(squares / count[filled]),
            ]
        )
    return table.reshape(n, features * len(SUMMARIES))


def _means(items: ItemArrays) -> Float:
    """(n, D) mean vector of each sample; zeros where it has none."""
    n, d = len(items), items.values.shape[1]
    sums = np.zeros((n, d))
    has = np.flatnonzero(items.counts)
    if len(has):
        sums[has] = np.add.reduceat(np.asarray(items.values, dtype=np.float64), items.offsets[:-1][has], axis=0)
    return sums / np.maximum(items.counts, 1)[:, None]


def column_features(view: TableView) -> Sequence[tuple[ModalitySpec, Feature]]:
    """Every column with its modality, in order."""
    return [(spec, feature) for spec in view.schema.modalities for feature in view.features(spec)]

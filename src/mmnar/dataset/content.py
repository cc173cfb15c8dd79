"""Content of a modality as arrays: what a store keeps and a fold gives, sample by sample.

Static content is a plain (N, F) array with NaN where not observed. The other kinds hold any number of items per
sample, packed one after another: the items of sample i are ``offsets[i]:offsets[i + 1]``, in time order.

Axes: N samples, E items, F features, C entries of hashed notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import SchemaError
from mmnar.schema import ModalitySpec

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """Items of N samples.

    Args:
        offsets: (N + 1,) int64, from 0 to E.
        hours: (E,) float32 hours before the prediction time, ≤ 0, ascending within a sample.
    """

    offsets: Int
    hours: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int:
        """(N,) items per sample."""
        return np.diff(self.offsets)

    def take(self, rows: Int) -> Self:
        """The content of the given samples."""
        offsets, items = gather(self.offsets, rows)
        columns = {f.name: getattr(self, f.name)[items] for f in fields(self) if f.name != "offsets"}
        return type(self)(offsets=offsets, **columns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name → array, for the store."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def check(self, spec: ModalitySpec, n: int) -> None:
        """
        Raises:
            SchemaError: Offsets, times or values do not fit ``spec`` and N = ``n``.
        """
        offsets, name = self.offsets, f"modality '{spec.name}'"
        if len(offsets) != n + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(self.hours):
            raise SchemaError(name, f"ascending offsets of {n} samples", f"{len(offsets)} offsets", "fix the source")
        late = int((~(self.hours <= 0)).sum())
        if late:
            raise SchemaError(name, "items at or before the prediction time", f"{late} later", "fix the source")
        self._check_items(spec, name)

    def _check_items(self, spec: ModalitySpec, name: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class SeriesArrays(Packed):
    """Measurements at their own times.

    Args:
        feature: (E,) int16 column of each.
        values: (E,) float32, finite.
    """

    feature: NDArray[np.int16]
    values: NDArray[np.float32]

    def _check_items(self, spec: ModalitySpec, name: str) -> None:
        known = (self.feature >= 0) & (self.feature < len(spec.features))
        if len(self.feature) != len(self.hours) or not known.all():
            raise SchemaError(name, f"columns 0 to {len(spec.features) - 1}", "another", "fix the source")
        if len(self.values) != len(self.hours) or not np.isfinite(self.values).all():
            raise SchemaError(name, "one finite value per measurement", "NaN or infinity", "set plausible ranges")


@dataclass(frozen=True)
class ItemArrays(Packed):
    """Vectors or images.

    Args:
        values: (E, *shape); float32 vectors, uint8 images.
    """

    values: NDArray[Any]

    def _check_items(self, spec: ModalitySpec, name: str) -> None:
        if self.values.shape != (len(self.hours), *spec.shape):
            raise SchemaError(name, f"items of shape {spec.shape}", f"{self.values.shape[1:]}", "fix the source")
        if spec.kind == "image" and (self.values.dtype != np.uint8 or (self.counts > 1).any()):
            raise SchemaError(name, "one 8-bit image per sample", f"{self.values.dtype}", "fix the source")
        # block by block: the whole array may be larger than memory
        for start in range(0, len(self.values), 1 << 16):
            if not np.isfinite(self.values[start : start + (1 << 16)]).all():
                raise SchemaError(name, "finite vectors", "NaN or infinity", "look at the encoder")


@dataclass(frozen=True)
class HashedArrays(Packed):
    """Notes as hashed counts; each note's entries are packed in their turn.

    Args:
        starts: (E + 1,) int64; the entries of note e are ``starts[e]:starts[e + 1]``.
        buckets: (C,) int32.
        weights: (C,) float32 counts.
    """

    starts: Int
    buckets: NDArray[np.int32]
    weights: NDArray[np.float32]

    def take(self, rows: Int) -> HashedArrays:
        offsets, items = gather(self.offsets, rows)
        starts, entries = gather(self.starts, items)
        return HashedArrays(offsets, self.hours[items], starts, self.buckets[entries], self.weights[entries])

    def _check_items(self, spec: ModalitySpec, name: str) -> None:
        s = self.starts
        if len(s) != len(self.hours) + 1 or s[0] != 0 or (np.diff(s) < 0).any() or s[-1] != len(self.buckets):
            raise SchemaError(name, "ascending starts of every note", f"{len(s)} starts", "fix the source")
        if len(self.buckets) and not (self.buckets.min() >= 0 and self.buckets.max() < spec.shape[0]):
            raise SchemaError(name, f"buckets below {spec.shape[0]}", "others", "fix the source")


Content = NDArray[np.float32] | SeriesArrays | ItemArrays | HashedArrays
PACKED: Final[dict[str, type[SeriesArrays] | type[ItemArrays] | type[HashedArrays]]] = {
    "series": SeriesArrays,
    "embedding": ItemArrays,
    "hashed": HashedArrays,
    "image": ItemArrays,
}


def offsets_of(counts: NDArray[Any]) -> Int:
    """(n + 1,) where the items of each sample begin, from how many it has.

    >>> offsets_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def gather(offsets: Int, rows: Int) -> tuple[Int, Int]:
    """Offsets of the taken ``rows`` and the positions of their items.

    >>> [a.tolist() for a in gather(np.array([0, 2, 2, 5]), np.array([2, 0]))]
    [[0, 3, 5], [2, 3, 4, 0, 1]]
    """
    counts = (offsets[1:] - offsets[:-1])[rows]
    new = offsets_of(counts)
    shift = np.repeat(np.asarray(offsets)[:-1][rows] - new[:-1], counts)
    return new, np.arange(new[-1], dtype=np.int64) + shift


def taken(content: Content, rows: Int) -> Content:
    """The content of some samples."""
    return content[rows] if isinstance(content, np.ndarray) else content.take(rows)


def content_arrays(content: Content) -> dict[str, NDArray[Any]]:
    """Name of the part → array; a static modality is one part without a name."""
    return {"": content} if isinstance(content, np.ndarray) else content.arrays()


def content_of(spec: ModalitySpec, arrays: Mapping[str, NDArray[Any]]) -> Content:
    """The inverse of ``content_arrays``."""
    return arrays[""] if spec.kind == "static" else PACKED[spec.kind](**arrays)


def part_names(spec: ModalitySpec) -> Sequence[str]:
    """Names of the arrays that hold a modality."""
    return [""] if spec.kind == "static" else [f.name for f in fields(PACKED[spec.kind])]


def blanked(content: Content, present: NDArray[np.bool_]) -> Content:
    """Without what lies behind an absent modality, (N,) ``present``."""
    if isinstance(content, np.ndarray):
        return np.where(present[:, None], content, np.float32(np.nan))
    if not (content.counts[~present] > 0).any():
        return content
    offsets = offsets_of(np.where(present, content.counts, 0))
    kept = content.take(np.flatnonzero(present))
    columns = {name: array for name, array in kept.arrays().items() if name != "offsets"}
    return type(content)(offsets=offsets, **columns)

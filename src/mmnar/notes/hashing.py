"""Notes without a language model: hashed counts of words and word pairs, then idf and a truncated SVD.

The counts of a note depend on nothing but the note and are stored raw; idf and SVD are statistics of patients, so
``HashingSVD.fit`` takes the notes of the training fold alone.

Sources: Weinberger et al. (2009), *Feature hashing for large scale multitask learning*, ICML (without their random
signs: counts must stay counts for idf); Deerwester et al. (1990), *Indexing by latent semantic analysis*.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError, SchemaError
from mmnar.notes.clean import CLEANING, clean

HASHING: Final = "1"
"""Version of the word rule and hash. Raise it with any change that alters a count."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class HashedNotes:
    """Sparse counts of V notes.

    Args:
        buckets: (E,) int32, ascending within each note.
        counts: (E,) float32 ≥ 1.
        starts: (V + 1,) int64; note v owns entries ``starts[v]`` to ``starts[v + 1]``.
    """

    buckets: NDArray[np.int32]
    counts: NDArray[np.float32]
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class HashedText:
    """Counts of lower-cased words and neighbouring pairs of words of the cleaned note, in ``buckets`` hash buckets.

    The hash is CRC-32: the same on every machine and in every run.

    >>> hashed = HashedText(buckets=64).encode(["Chest pain, chest pain.", "___"])
    >>> hashed.counts.sum(), hashed.starts.tolist()
    (np.float32(7.0), [0, 4, 4])
    """

    buckets: int = 4096

    def __post_init__(self) -> None:
        if self.buckets < 2:
            raise ConfigError("hash buckets", "at least 2", str(self.buckets), "use 4096")

    @property
    def identity(self) -> str:
        """Changes whenever a count could change."""
        return f"hashed-{self.buckets}-words-{HASHING}-cleaning-{CLEANING}"

    def encode(self, texts: Sequence[str]) -> HashedNotes:
        """Counts of each note; a note without a word has no entries."""
        rows = [np.unique(self._grams(text), return_counts=True) for text in texts]
        return HashedNotes(
            np.concatenate([np.zeros(0, np.int32), *(buckets for buckets, _ in rows)]).astype(np.int32),
            np.concatenate([np.zeros(0, np.float32), *(counts for _, counts in rows)]).astype(np.float32),
            np.cumsum([0, *(len(buckets) for buckets, _ in rows)], dtype=np.int64),
        )

    def _grams(self, text: str) -> NDArray[np.int64]:
        """The bucket of every word and pair."""
        words = [w.encode() for w in _WORD.findall(clean(text).lower())]
        hashes = [zlib.crc32(w) for w in words]
        pairs = [zlib.crc32(b" " + second, h) for h, second in zip(hashes, words[1:], strict=False)]
        return np.array(hashes + pairs, dtype=np.int64) % self.buckets


@dataclass(frozen=True)
class HashingSVD:
    """Recipe: weights (1 + ln count) · idf, rows of length one, truncated SVD.

    Args:
        rank: Width of a note's vector. Where the training notes span fewer dimensions, the rest are zeros.
        buckets: Of the ``HashedText`` that made the counts.
        seed: Of the randomised SVD (Halko, Martinsson, Tropp 2011), which captures about 99 % of what the exact one
            does at half its cost.
    """

    rank: int = 128
    buckets: int = 4096
    seed: int = 0

    def fit(self, buckets: NDArray[np.int32], counts: NDArray[np.float32], starts: NDArray[np.int64]) -> FittedHashing:
        """Statistics of the notes given: those of the training fold, nobody else's.

        Equal notes give an equal fit; each component's largest entry is positive. Without a single note with words
        every vector is zero.

        Raises:
            SchemaError: Arrays that do not fit each other or ``buckets``.
        """
        from sklearn.utils.extmath import randomized_svd
        from threadpoolctl import threadpool_limits

        _check(buckets, counts, starts, self.buckets)
        filled = int(np.count_nonzero(np.diff(starts)))
        frequency = np.bincount(buckets, minlength=self.buckets)
        # A bucket that no training note uses has no direction either: its weight is 0.
        idf = np.where(frequency > 0, np.log((1 + filled) / (1 + frequency)) + 1, 0.0)
        components = np.zeros((self.buckets, self.rank), dtype=np.float32)
        rank = min(self.rank, filled, int(np.count_nonzero(frequency)))
        if rank:
            weights = _weights(buckets, counts, starts, idf)
            with threadpool_limits(1):  # sums would depend on the number of cores
                _, singular, right = randomized_svd(weights, rank, n_iter=7, random_state=self.seed)
            right = right[singular > 1e-9 * singular[0]]
            largest = right[np.arange(len(right)), np.abs(right).argmax(1)]
            components[:, : len(right)] = (right * np.sign(largest)[:, None]).T
        return FittedHashing(idf, components)


@dataclass(frozen=True)
class FittedHashing:
    """``idf`` (buckets,) float64 and ``components`` (buckets, rank) float32 of the training notes."""

    idf: NDArray[np.float64]
    components: NDArray[np.float32]

    @cached_property
    def _exact(self) -> NDArray[np.float64]:
        return self.components.astype(np.float64)

    def transform(
        self, buckets: NDArray[np.int32], counts: NDArray[np.float32], starts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Vectors of V notes, (V, rank) float32. A note's vector does not depend on the others, to the bit.

        Raises:
            SchemaError: Arrays that do not fit each other or the fitted buckets.
        """
        _check(buckets, counts, starts, len(self.idf))
        # A sparse times a dense matrix is summed note by note in bucket order; BLAS would sum by its own blocks.
        product = _weights(buckets, counts, starts, self.idf) @ self._exact
        return np.asarray(product, dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving: name → array."""
        return {"idf": self.idf, "components": self.components}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> FittedHashing:
        return cls(arrays["idf"], arrays["components"])


def _weights(
    buckets: NDArray[np.int32], counts: NDArray[np.float32], starts: NDArray[np.int64], idf: NDArray[np.float64]
) -> Any:
    """(V, buckets) sparse rows (1 + ln count) · idf, of length one; rows without a known word are empty of weight."""
    from scipy.sparse import csr_matrix

    distinct, which = np.unique(counts, return_inverse=True)
    logs = np.array([1 + math.log(c) for c in distinct.tolist()])  # one by one: a vectorised log may differ by place
    values = (logs[which] if len(counts) else np.zeros(0)) * idf[buckets]
    notes = len(starts) - 1
    row = np.repeat(np.arange(notes), np.diff(starts))
    length = np.sqrt(np.bincount(row, values**2, minlength=notes))
    values = values / np.where(length > 0, length, 1.0)[row]
    return csr_matrix((values, buckets, starts), shape=(notes, len(idf)))


def _check(buckets: NDArray[np.int32], counts: NDArray[np.float32], starts: NDArray[np.int64], width: int) -> None:
    fits = (
        len(starts) > 0
        and len(buckets) == len(counts) == starts[-1]
        and starts[0] == 0
        and bool((np.diff(starts) >= 0).all())
    )
    if not fits:
        raise SchemaError("hashed notes", "starts that cover buckets and counts", "others", "encode the notes again")
    if len(buckets) and not (buckets.min() >= 0 and buckets.max() < width and counts.min() >= 1):
        raise SchemaError(
            "hashed notes", f"buckets below {width} with counts of 1 or more", "others", "encode the notes again"
        )

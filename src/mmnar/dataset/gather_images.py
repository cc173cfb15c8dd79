"""Gatherers of what lies in files of its own: vectors computed by others, and images."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import polars as pl

from mmnar.dataset.content import Content, ItemArrays
from mmnar.dataset.gathering import Gatherer, Gathering, Items, per_sample
from mmnar.dataset.growing import Growing
from mmnar.dataset.items import found
from mmnar.errors import SchemaError, SourceError
from mmnar.images.places import ENDINGS, ImageFolder
from mmnar.privacy import SMALL_CELL, counted
from mmnar.schema import ModalitySpec
from mmnar.sources.events import ImageRule, PastEvents, VectorRule

_SURELY: Final = 1000
"""Images asked for in vain after which no more are."""


class VectorGatherer(Gatherer):
    """Vectors computed by others."""

    def __init__(self, rule: VectorRule, how: Gathering) -> None:
        self.rule = rule
        self.spec = ModalitySpec(rule.modality, kind="embedding", shape=(rule.width,))
        self._array = np.load(rule.array, mmap_mode="r", allow_pickle=False)
        if self._array.ndim != 2 or self._array.shape[1] != rule.width:
            raise SchemaError(
                f"vectors of modality '{rule.modality}'",
                f"(V, {rule.width})",
                f"{self._array.shape}",
                "pack the embeddings again; vectors are never cut or padded",
            )
        self._items = Items(how.folder)
        self._values = Growing(np.float32, (rule.width,), how.folder)
        self._unusable = 0

    def add(self, past: PastEvents) -> None:
        rows = found(past, self.rule.codes)
        place = rows.text.cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
        if len(place) and not (place.min() >= 0 and place.max() < len(self._array)):
            raise SchemaError(
                f"vectors of modality '{self.spec.name}'",
                f"row numbers of an array of {len(self._array):,}",
                "others",
                "pack the embeddings again",
            )
        vectors = self._array[place]
        finite = np.isfinite(vectors).all(axis=1)
        self._unusable += int((~finite).sum())
        self._items.add(per_sample(rows.offsets, finite.astype(np.int64)), rows.hours[finite])
        self._values.append(vectors[finite])

    def content(self) -> Content:
        return ItemArrays(self._items.offsets(), self._items.hours.array(), self._values.array())

    def left_out(self) -> dict[str, int]:
        if not self._unusable:
            return {}
        return {f"modality '{self.spec.name}': # vectors left out: numbers that are not finite": self._unusable}


class ImageGatherer(Gatherer):
    """The latest image of each sample.

    Raises:
        SourceError: Most of the images are not there, or none of them can be read.
    """

    def __init__(self, rule: ImageRule, how: Gathering) -> None:
        self.rule = rule
        self.spec = ModalitySpec(rule.modality, kind="image", shape=(rule.side, rule.side))
        self._folder = ImageFolder(rule.root)
        self._items = Items(how.folder)
        self._values = Growing(np.uint8, self.spec.shape, how.folder)
        self._asked = self._absent = 0
        self._undecoded: Counter[str] = Counter()

    def add(self, past: PastEvents) -> None:
        from mmnar.images.pixels import Undecoded, read_images

        images = found(past, self.rule.codes, latest=True)
        places = [self._folder.find(path) for path in images.text]
        self._asked += len(places)
        self._absent += sum(place is None for place in places)
        if self._asked >= _SURELY and self._absent == self._asked:
            self._check_there()
        whole = np.array([place is not None for place in places], dtype=bool)
        there = np.flatnonzero(whole)
        for i, pixels in zip(there, read_images((p for p in places if p), self.rule.side), strict=True):
            if isinstance(pixels, Undecoded):
                self._undecoded[pixels.reason] += 1
                whole[i] = False
            else:
                self._values.append(pixels[None])
        self._items.add(per_sample(images.offsets, whole.astype(np.int64)), images.hours[whole])

    def content(self) -> Content:
        self._check_there()
        there, bad = self._asked - self._absent, self._undecoded.total()
        if bad == there and bad >= SMALL_CELL:
            reasons = ", ".join(f"{counted(n)} {reason}" for reason, n in self._undecoded.most_common())
            raise SourceError(
                f"images of modality '{self.spec.name}'",
                "some that can be read",
                f"none of {counted(there)}: {reasons}",
                "check a file by hand, or prepare without images",
            )
        return ItemArrays(self._items.offsets(), self._items.hours.array(), self._values.array())

    def _check_there(self) -> None:
        """Refuse records whose images lie elsewhere, or were downloaded in small part."""
        if 2 * self._absent > self._asked:
            few = "none of those asked for" if self._absent == self._asked else "fewer than half of those asked for"
            raise SourceError(
                f"images of modality '{self.spec.name}' in '{self.rule.root}'",
                f"the files that its records name, as {', '.join(ENDINGS)}",
                few,
                "give the folder that holds 'files', complete the download, or prepare without images",
            )

    def left_out(self) -> dict[str, int]:
        reasons = dict(self._undecoded)
        if self._absent:
            many = self._absent > max(self._asked / 10, SMALL_CELL)
            reasons["are not there" + many * ": more than a tenth of all, so complete the download"] = self._absent
        name = f"modality '{self.spec.name}'"
        left_out = {f"{name}: # images left out that {reason}": n for reason, n in reasons.items()}
        if self._folder.several:
            rule = f"read is the file that the records name, else the first of {', '.join(ENDINGS)}"
            left_out[f"{name}: # images lie there in several forms: {rule}"] = self._folder.several
        return left_out

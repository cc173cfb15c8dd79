"""From past events to content, part by part: one gatherer per modality, chosen by the kind of its rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays, offsets_of
from mmnar.dataset.features import static_features
from mmnar.dataset.growing import Growing
from mmnar.dataset.items import found, series_content
from mmnar.errors import ConfigError, SchemaError, SourceError
from mmnar.images.places import ENDINGS, ImageFolder
from mmnar.notes.cache import encode_cached
from mmnar.notes.clean import clean
from mmnar.notes.encoder import TextEncoder
from mmnar.notes.hashing import HashedText, HashingSVD
from mmnar.privacy import SMALL_CELL, counted
from mmnar.schema import Feature, ModalitySpec
from mmnar.sources.events import FeatureRule, ImageRule, PastEvents, Rule, SeriesRule, TextRule, VectorRule

_SURELY = 1000
"""Images asked for in vain after which no more are."""


@dataclass(frozen=True)
class Gathering:
    """How content is made where there is a choice.

    Args:
        notes: Encoder of notes; None = hashed counts, reduced by a basis fitted on the training fold.
        cache: Folder of encoded notes; needed where there is an encoder.
        bin_hours: Series at native times (0), or means over bins of so many hours.
        folder: Disk for content that grows while it is gathered; None = the machine's own place.
        told: Called with the number of notes of a modality encoded so far.
    """

    notes: TextEncoder | None = None
    cache: Path | None = None
    bin_hours: float = 0.0
    folder: Path | None = None
    told: Callable[[int], None] | None = None


class Gatherer(ABC):
    """Content of one modality, growing part by part.

    ``spec`` describes it; ``left_out`` says what was left out, once all parts are in.
    """

    spec: ModalitySpec

    @abstractmethod
    def add(self, past: PastEvents) -> None:
        """Add the samples of a part."""

    @abstractmethod
    def content(self) -> Content:
        """All samples added."""

    def left_out(self) -> dict[str, int]:
        """What, with # in place of a count → number of values or items left out, or chosen among."""
        return {}


class StaticGatherer(Gatherer):
    """One row of features per sample."""

    def __init__(self, rules: Sequence[FeatureRule], max_missing: float) -> None:
        self.rules = rules
        self.spec = ModalitySpec(
            rules[0].modality,
            tuple(_feature(rule) for rule in rules),
            max_missing=max_missing,
        )
        self._blocks: list[NDArray[np.float32]] = []
        self._implausible: Counter[str] = Counter()

    def add(self, past: PastEvents) -> None:
        values, outside = static_features(past, self.rules)
        self._blocks.append(values[self.spec.name])
        self._implausible.update(outside)

    def content(self) -> Content:
        return np.concatenate(self._blocks)

    def left_out(self) -> dict[str, int]:
        return {f"feature '{name}': # implausible values dropped": n for name, n in self._implausible.items()}


class _Items:
    """Offsets and hours of packed items, growing."""

    def __init__(self, folder: Path | None) -> None:
        self.counts: list[NDArray[np.int64]] = []
        self.hours = Growing(np.float32, folder=folder)

    def add(self, counts: NDArray[np.int64], hours: NDArray[np.float32]) -> None:
        self.counts.append(counts)
        self.hours.append(hours)

    def offsets(self) -> NDArray[np.int64]:
        return offsets_of(np.concatenate(self.counts))


class SeriesGatherer(Gatherer):
    """Measurements at their own times."""

    def __init__(self, rules: Sequence[SeriesRule], how: Gathering) -> None:
        self.rules, self.bin_hours = rules, how.bin_hours
        self.spec = ModalitySpec(rules[0].modality, tuple(Feature(r.feature, unit=r.unit) for r in rules), "series")
        self._items = _Items(how.folder)
        self._feature, self._values = Growing(np.int16, folder=how.folder), Growing(np.float32, folder=how.folder)
        self._implausible: Counter[str] = Counter()

    def add(self, past: PastEvents) -> None:
        part, outside = series_content(past, self.rules, self.bin_hours)
        self._items.add(part.counts, part.hours)
        self._feature.append(part.feature)
        self._values.append(part.values)
        self._implausible.update(outside)

    def content(self) -> Content:
        items = self._items
        return SeriesArrays(items.offsets(), items.hours.array(), self._feature.array(), self._values.array())

    def left_out(self) -> dict[str, int]:
        return {f"feature '{name}': # implausible values dropped": n for name, n in self._implausible.items()}


class TextGatherer(Gatherer, ABC):
    """Notes; one that is blank once cleaned is no note, whatever turns the others into numbers."""

    spec: ModalitySpec
    _blank = _failed = 0

    def left_out(self) -> dict[str, int]:
        reasons = {"no text": self._blank, "the encoder fails on them": self._failed}
        return {f"modality '{self.spec.name}': # notes left out: {why}": n for why, n in reasons.items() if n}


class NoteGatherer(TextGatherer):
    """Notes as vectors of a frozen encoder, one or several a note."""

    def __init__(self, rule: TextRule, encoder: TextEncoder, how: Gathering) -> None:
        if how.cache is None:
            raise ConfigError("notes", "a folder for their vectors", "none", "give Gathering(cache=…)")
        self.rule, self.encoder, self.cache, self.told, self._done = rule, encoder, how.cache, how.told, 0
        self.spec = ModalitySpec(rule.modality, kind="embedding", shape=(encoder.width,))
        self._items = _Items(how.folder)
        self._values = Growing(np.float32, (encoder.width,), how.folder)

    def add(self, past: PastEvents) -> None:
        notes = found(past, self.rule.codes)
        texts = notes.text.to_list()
        vectors = encode_cached(texts, self.encoder, self.cache, self._tell)
        self._done += len(vectors)
        segments = np.array([len(v) for v in vectors], dtype=np.int64)
        without = [bool(clean(text)) for text, n in zip(texts, segments, strict=True) if n == 0]
        self._failed += sum(without)
        self._blank += len(without) - sum(without)
        self._items.add(_per_sample(notes.offsets, segments), np.repeat(notes.hours, segments))
        for block in vectors:
            self._values.append(block)

    def _tell(self, done: int, _total: int) -> None:
        if self.told:
            self.told(self._done + done)

    def content(self) -> Content:
        return ItemArrays(self._items.offsets(), self._items.hours.array(), self._values.array())


class HashedGatherer(TextGatherer):
    """Notes as hashed counts of words and pairs of words."""

    def __init__(self, rule: TextRule, how: Gathering) -> None:
        self.rule, self.hash = rule, HashedText()
        self.spec = ModalitySpec(rule.modality, kind="hashed", shape=(self.hash.buckets, HashingSVD().rank))
        self._items = _Items(how.folder)
        self._entries: list[NDArray[np.int64]] = []
        self._buckets, self._weights = Growing(np.int32, folder=how.folder), Growing(np.float32, folder=how.folder)

    def add(self, past: PastEvents) -> None:
        notes = found(past, self.rule.codes)
        hashed = self.hash.encode(notes.text.to_list())
        entries = np.diff(hashed.starts)
        written = entries > 0
        self._blank += int((~written).sum())
        self._items.add(_per_sample(notes.offsets, written.astype(np.int64)), notes.hours[written])
        self._entries.append(entries[written])
        self._buckets.append(hashed.buckets)
        self._weights.append(hashed.counts)

    def content(self) -> Content:
        starts = offsets_of(np.concatenate(self._entries))
        items = self._items
        return HashedArrays(items.offsets(), items.hours.array(), starts, self._buckets.array(), self._weights.array())


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
        self._items = _Items(how.folder)
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
        self._items.add(_per_sample(rows.offsets, finite.astype(np.int64)), rows.hours[finite])
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
        self._items = _Items(how.folder)
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
        self._items.add(_per_sample(images.offsets, whole.astype(np.int64)), images.hours[whole])

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


def gatherers(rules: Sequence[Rule], max_missing: float, how: Gathering) -> tuple[Gatherer, ...]:
    """One per modality, in order of first mention.

    Raises:
        SchemaError: Rules of several kinds in one modality, or several rules for one of notes, vectors or images.
    """
    by_modality: dict[str, list[Rule]] = {}
    for rule in rules:
        by_modality.setdefault(rule.modality, []).append(rule)
    return tuple(_gatherer(name, own, max_missing, how) for name, own in by_modality.items())


def _gatherer(name: str, rules: Sequence[Any], max_missing: float, how: Gathering) -> Gatherer:
    kinds = {type(rule) for rule in rules}
    if kinds == {FeatureRule}:
        return StaticGatherer(rules, max_missing)
    if kinds == {SeriesRule}:
        return SeriesGatherer(rules, how)
    if len(rules) > 1:
        raise SchemaError(f"modality '{name}'", "rules of one kind, one rule for items", f"{len(rules)}", "split it")
    (rule,) = rules
    if isinstance(rule, TextRule):
        return HashedGatherer(rule, how) if how.notes is None else NoteGatherer(rule, how.notes, how)
    return VectorGatherer(rule, how) if isinstance(rule, VectorRule) else ImageGatherer(rule, how)


def _feature(rule: FeatureRule) -> Feature:
    return Feature(rule.feature, "categorical" if rule.categories else "continuous", rule.categories, rule.unit)


def _per_sample(offsets: NDArray[np.int64], pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) pieces per sample, when item e falls into ``pieces[e]`` of them."""
    return np.diff(offsets_of(pieces)[offsets])

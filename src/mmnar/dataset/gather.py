"""From past events to content, part by part: one gatherer per modality, chosen by the kind of its rules."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays, offsets_of
from mmnar.dataset.features import static_features
from mmnar.dataset.gather_images import ImageGatherer, VectorGatherer
from mmnar.dataset.gathering import Gatherer, Gathering, Items, per_sample
from mmnar.dataset.growing import Growing
from mmnar.dataset.items import found, series_content
from mmnar.errors import ConfigError, SchemaError
from mmnar.notes.cache import encode_cached
from mmnar.notes.clean import clean
from mmnar.notes.encoder import TextEncoder
from mmnar.notes.hashing import HashedText, HashingSVD
from mmnar.schema import Feature, ModalitySpec
from mmnar.sources.events import FeatureRule, PastEvents, Rule, SeriesRule, TextRule, VectorRule

__all__ = ["Gatherer", "Gathering", "gatherers"]


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
        self._seen = np.zeros(len(rules), dtype=np.bool_)
        self._implausible: Counter[str] = Counter()

    def add(self, past: PastEvents) -> None:
        values, outside = static_features(past, self.rules)
        self._blocks.append(values[self.spec.name])
        self._seen |= np.isfinite(values[self.spec.name]).any(axis=0)
        self._implausible.update(outside)

    def content(self) -> Content:
        return np.concatenate(self._blocks)

    def left_out(self) -> dict[str, int]:
        return {f"feature '{name}': # implausible values dropped": n for name, n in self._implausible.items()}

    def never_seen(self) -> tuple[str, ...]:
        return tuple(rule.feature for rule, seen in zip(self.rules, self._seen, strict=True) if not seen)


class SeriesGatherer(Gatherer):
    """Measurements at their own times."""

    def __init__(self, rules: Sequence[SeriesRule], how: Gathering) -> None:
        self.rules, self.bin_hours = rules, how.bin_hours
        self.spec = ModalitySpec(rules[0].modality, tuple(Feature(r.feature, unit=r.unit) for r in rules), "series")
        self._items = Items(how.folder)
        self._feature, self._values = Growing(np.int16, folder=how.folder), Growing(np.float32, folder=how.folder)
        self._seen = np.zeros(len(rules), dtype=np.bool_)
        self._implausible: Counter[str] = Counter()

    def add(self, past: PastEvents) -> None:
        part, outside = series_content(past, self.rules, self.bin_hours)
        self._seen[part.feature] = True
        self._items.add(part.counts, part.hours)
        self._feature.append(part.feature)
        self._values.append(part.values)
        self._implausible.update(outside)

    def content(self) -> Content:
        items = self._items
        return SeriesArrays(items.offsets(), items.hours.array(), self._feature.array(), self._values.array())

    def left_out(self) -> dict[str, int]:
        return {f"feature '{name}': # implausible values dropped": n for name, n in self._implausible.items()}

    def never_seen(self) -> tuple[str, ...]:
        return tuple(rule.feature for rule, seen in zip(self.rules, self._seen, strict=True) if not seen)


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
        self._items = Items(how.folder)
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
        self._items.add(per_sample(notes.offsets, segments), np.repeat(notes.hours, segments))
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
        self._items = Items(how.folder)
        self._entries: list[NDArray[np.int64]] = []
        self._buckets, self._weights = Growing(np.int32, folder=how.folder), Growing(np.float32, folder=how.folder)

    def add(self, past: PastEvents) -> None:
        notes = found(past, self.rule.codes)
        hashed = self.hash.encode(notes.text.to_list())
        entries = np.diff(hashed.starts)
        written = entries > 0
        self._blank += int((~written).sum())
        self._items.add(per_sample(notes.offsets, written.astype(np.int64)), notes.hours[written])
        self._entries.append(entries[written])
        self._buckets.append(hashed.buckets)
        self._weights.append(hashed.counts)

    def content(self) -> Content:
        starts = offsets_of(np.concatenate(self._entries))
        items = self._items
        return HashedArrays(items.offsets(), items.hours.array(), starts, self._buckets.array(), self._weights.array())


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

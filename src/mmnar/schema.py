"""What a dataset consists of: modalities, features, tasks. Column order is decided here and nowhere else.

Torch-free and numpy-free, so that a store can be described without loading either.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mmnar.errors import SchemaError

__all__ = ["Feature", "ModalityKind", "ModalitySpec", "Schema", "Task"]

FeatureKind = Literal["continuous", "categorical"]
ModalityKind = Literal["static", "series", "embedding", "hashed", "image"]


@dataclass(frozen=True)
class Feature:
    """One column of a modality.

    Args:
        name: Unique within its modality.
        kind: ``continuous`` (a number) or ``categorical`` (an index into ``categories``).
        categories: Names of the categories; empty for continuous features.
        unit: Unit of a continuous feature, e.g. ``"mmHg"``.
    """

    name: str
    kind: FeatureKind = "continuous"
    categories: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "categorical") != bool(self.categories):
            raise SchemaError(
                f"feature '{self.name}'",
                "categories for a categorical feature and none for a continuous one",
                f"kind={self.kind!r} with {len(self.categories)} categories",
                "correct the source's feature rules",
            )


@dataclass(frozen=True)
class ModalitySpec:
    """A modality: something of the record that is present or absent as a whole.

    ==========  =====================================================================================================
    kind        content of one sample
    ==========  =====================================================================================================
    static      one row of F features, some of them observed
    series      any number of measurements: hours before the prediction, which of F features, value
    embedding   any number of vectors of ``shape`` (D,), each with its hours: segments of notes, X-ray embeddings
    hashed      any number of notes as counts, ``shape`` (buckets, rank): in so many buckets, reduced to so many
                components by a basis fitted on the training fold
    image       one grey image of ``shape`` (side, side), 0-255
    ==========  =====================================================================================================

    Args:
        name: Unique in the schema.
        features: F features in column order, of ``static`` and ``series``; empty for the others.
        kind: How it is stored and encoded.
        max_missing: A static modality is absent where more than this share of its features is missing (paper C.1.2:
            0.8); with nothing observed it is always absent. The others are present with their first item.
        shape: Of one item, for ``embedding``, ``hashed`` and ``image``; empty for the others.
    """

    name: str
    features: tuple[Feature, ...] = ()
    kind: ModalityKind = "static"
    max_missing: float = 0.8
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        names = [f.name for f in self.features]
        of_features = self.kind in ("static", "series")
        if of_features != bool(names) or len(set(names)) != len(names):
            raise SchemaError(
                f"modality '{self.name}'",
                "at least one feature, each name once" if of_features else f"no features ({self.kind})",
                f"{len(names)} features, {len(set(names))} distinct names",
                "correct the source's feature rules",
            )
        if self.kind == "series" and any(f.categories for f in self.features):
            raise SchemaError(f"modality '{self.name}'", "numbers", "categories in a series", "make the feature static")
        axes = {"embedding": 1, "hashed": 2, "image": 2}.get(self.kind, 0)
        if len(self.shape) != axes or any(size < 1 for size in self.shape):
            raise SchemaError(f"modality '{self.name}'", f"a shape of {axes} axes", f"{self.shape}", "give its shape")

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.features)


@dataclass(frozen=True)
class Task:
    """A binary outcome and the moment it is asked at.

    Args:
        name: Unique in the schema, e.g. ``"mortality"``.
        asked_at: In words, when the prediction is made: ``"24 h after unit admission"``.
        outcome: In words, what counts as the event.
    """

    name: str
    asked_at: str
    outcome: str


@dataclass(frozen=True)
class Schema:
    """Ordered modalities (M) and tasks (K) of a dataset, and the names of its subgroup attributes."""

    modalities: tuple[ModalitySpec, ...]
    tasks: tuple[Task, ...]
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("modality", self.modality_names), ("task", self.task_names)):
            if not names or len(set(names)) != len(names):
                raise SchemaError("schema", f"at least one {what}, each name once", f"{list(names)}", "rename")

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.modalities)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Schema:
        modalities = tuple(
            ModalitySpec(
                m["name"],
                tuple(Feature(f["name"], f["kind"], tuple(f["categories"]), f["unit"]) for f in m["features"]),
                m["kind"],
                m["max_missing"],
                tuple(m["shape"]),
            )
            for m in raw["modalities"]
        )
        return cls(modalities, tuple(Task(**t) for t in raw["tasks"]), tuple(raw["attributes"]))

    def digest(self) -> str:
        """16 hex digits that change whenever any column, its order or any task changes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

"""What a dataset consists of: modalities, features, tasks. Column order is decided here and nowhere else.

Torch-free and numpy-free, so that a store can be described without loading either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mmnar.errors import SchemaError

__all__ = ["Feature", "ModalityKind", "ModalitySpec", "Panel", "Schema", "Task"]

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
class Panel:
    """Tasks that are read together: one question of several outcomes.

    A panel changes neither what a label is nor what a risk is: each of its tasks stays a yes or no.

    Args:
        name: Unique in the schema, e.g. ``"length_of_stay"``.
        tasks: Their names, in the schema's order.
        exclusive: Exactly one of them is true of whoever is asked, and all are asked together: their risks sum to 1.
        kinds: A kind for each task that has one, as ``(task, kind)``, e.g. ``("sepsis", "acute")``.

    Raises:
        SchemaError: No task, one twice, an exclusive panel of one, a kind of a task that is not in it.
    """

    name: str
    tasks: tuple[str, ...]
    exclusive: bool = False
    kinds: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        least = 2 if self.exclusive else 1
        if len(self.tasks) < least or len(set(self.tasks)) != len(self.tasks):
            expected = f"at least {least} task{'s' * (least > 1)}, each once"
            raise SchemaError(f"panel '{self.name}'", expected, f"{list(self.tasks)}", "correct the panel")
        unknown = [task for task, _ in self.kinds if task not in self.tasks]
        if unknown:
            raise SchemaError(f"panel '{self.name}'", "kinds of its tasks", f"'{unknown[0]}'", "correct its kinds")


@dataclass(frozen=True)
class Schema:
    """Ordered modalities (M) and tasks (K) of a dataset, the names of its subgroup attributes, and panels of tasks; a
    task is in one panel or in none."""

    modalities: tuple[ModalitySpec, ...]
    tasks: tuple[Task, ...]
    attributes: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("modality", self.modality_names), ("task", self.task_names)):
            if not names or len(set(names)) != len(names):
                raise SchemaError("schema", f"at least one {what}, each name once", f"{list(names)}", "rename")
        check_panels(self.panels, self.task_names)

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.modalities)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tasks)

    @property
    def exclusive(self) -> Columns:
        """Columns of the tasks of each exclusive panel."""
        return exclusive_columns(self.panels, self.task_names)

    def asking(self, tasks: Sequence[str]) -> Schema:
        """With some of the tasks alone, in the same order. Panels keep what is left of them; an exclusive one is there
        whole or not at all.

        Raises:
            SchemaError: None of the tasks, or a part of an exclusive panel.
        """
        if tuple(tasks) == self.task_names:
            return self
        kept = tuple(t for t in self.tasks if t.name in tasks)
        return replace(self, tasks=kept, panels=panels_of(self.panels, [t.name for t in kept]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON. Without panels there is no word of them, so that the digest is what it was before there were."""
        plain = asdict(self)
        if not self.panels:
            del plain["panels"]
        return plain

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
        panels = panels_from(raw.get("panels", ()))
        return cls(modalities, tuple(Task(**t) for t in raw["tasks"]), tuple(raw["attributes"]), panels)

    def digest(self) -> str:
        """16 hex digits that change whenever any column, its order or any task changes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


Columns = tuple[tuple[int, ...], ...]
"""Of each of several panels, which columns of labels and risks are its tasks."""


def check_panels(panels: Sequence[Panel], tasks: Sequence[str]) -> None:
    """
    Raises:
        SchemaError: A name twice, a task that there is not, a task in two panels.
    """
    names = [panel.name for panel in panels]
    if len(set(names)) != len(names):
        raise SchemaError("panels", "each name once", f"{names}", "rename")
    seen: set[str] = set()
    for panel in panels:
        for task in panel.tasks:
            if task not in tasks or task in seen:
                fact = f"'{task}' " + ("in two panels" if task in seen else "is no task")
                raise SchemaError(f"panel '{panel.name}'", "tasks of the schema, each in one panel", fact, "correct it")
            seen.add(task)


def exclusive_columns(panels: Sequence[Panel], tasks: Sequence[str]) -> Columns:
    """Columns of the tasks of each exclusive panel.

    >>> exclusive_columns((Panel("los", ("short", "long"), exclusive=True),), ("death", "short", "long"))
    ((1, 2),)
    """
    at = {task: k for k, task in enumerate(tasks)}
    return tuple(tuple(at[task] for task in panel.tasks) for panel in panels if panel.exclusive)


def panels_of(panels: Sequence[Panel], tasks: Sequence[str]) -> tuple[Panel, ...]:
    """What is left of panels where some tasks alone are asked.

    Raises:
        SchemaError: A part of an exclusive panel.
    """
    left = []
    for panel in panels:
        kept = tuple(task for task in panel.tasks if task in tasks)
        if kept == panel.tasks:
            left.append(panel)
        elif kept and panel.exclusive:
            raise SchemaError(f"panel '{panel.name}'", "all of its tasks or none", f"{list(kept)}", "ask them together")
        elif kept:
            left.append(replace(panel, tasks=kept, kinds=tuple(kind for kind in panel.kinds if kind[0] in kept)))
    return tuple(left)


def gathered(panels: Sequence[Panel]) -> dict[str, tuple[str, ...]]:
    """Panel of several tasks, which are read as one → its tasks."""
    return {panel.name: panel.tasks for panel in panels if len(panel.tasks) > 1}


def panels_from(raw: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    """Panels of plain JSON."""
    return tuple(
        Panel(p["name"], tuple(p["tasks"]), p["exclusive"], tuple((task, kind) for task, kind in p["kinds"]))
        for p in raw
    )

"""What a report is made of. Plain data: a report never touches a model, a fold or a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.informative import Informativeness
from mmnar.evaluation.result import Result
from mmnar.workflow.abstain import Abstention
from mmnar.workflow.tilt import Tilt


@dataclass(frozen=True)
class RunRecord:
    """One trained model.

    Args:
        name: As in ``Result.tasks[task]``.
        card: The model card: paper, year, deviations and so on.
        config: The resolved configuration, complete.
        history: One record an epoch: ``{"fit", "phase", "epoch", "train": {loss: value}, "tune", "seconds", "lr"}``.
        rectifier: task → ``{"rule", "no_effect_probability", "note", "offsets": [Offset as dict]}``, or None.
        seconds: Wall time of training.
        parameters: Trainable numbers, or None where the model has no such count.
        weights: Of a stack: task → member → weight, with the intercept.
        refit: Whose outcomes its rectifier was fitted on, where they are another store's; else "".
    """

    name: str
    card: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    rectifier: dict[str, Any] | None = None
    seconds: float = 0.0
    parameters: int | None = None
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    refit: str = ""


@dataclass(frozen=True)
class StoreFacts:
    """What a page says of a store.

    Args:
        manifest: Source, version, attrition, warnings, fingerprint, schema.
        atlas: Availability of the whole dataset, or None where only predictions are at hand.
        informative: Whether missingness is informative, where that was asked.
    """

    manifest: dict[str, Any]
    atlas: Atlas | None = None
    informative: Informativeness | None = None

    def disclosed(self) -> StoreFacts:
        """With the digits that may be saved or shown."""
        return replace(self, informative=None if self.informative is None else self.informative.disclosed())


@dataclass(frozen=True)
class Choices:
    """Which models a report answers with.

    Args:
        how: How they were chosen, in words.
        models: Question (a task, or a panel of several) → model.
        controls: Question → plain control; questions without one are left out.
    """

    how: str
    models: Mapping[str, str]
    controls: Mapping[str, str]

    def renamed(self, names: Mapping[str, str]) -> Choices:
        """The same with other names of its questions."""
        models, controls = ({names.get(q, q): of for q, of in by.items()} for by in (self.models, self.controls))
        return replace(self, models=models, controls=controls)


@dataclass(frozen=True)
class ReportInputs:
    """A report's content.

    Args:
        title: Heading of the report.
        store: Where the scored patients are from.
        result: Every evaluated number.
        runs: The models, in the order they should be described.
        versions: Package → version.
        choices: What it answers with; None = the first model named.
        abstentions: Label sets of the models chosen.
        tilts: Of these, against a run beside them that cannot tell which modalities are there.
    """

    title: str
    store: StoreFacts
    result: Result
    runs: tuple[RunRecord, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    choices: Choices | None = None
    abstentions: tuple[Abstention, ...] = ()
    tilts: tuple[Tilt, ...] = ()

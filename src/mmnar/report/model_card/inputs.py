"""What a card is made of. Plain data, with the digits that may be shown and no place of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.result import ModelTask, Result
from mmnar.render.wording import RECTIFIED
from mmnar.report.inputs import RunRecord, StoreFacts

SHORT: Final = "In short"
USE: Final = "Intended use"
PEOPLE: Final = "Population"
OUTCOMES: Final = "Outcomes"
INPUTS: Final = "Inputs"
TRAINING: Final = "Training"
PERFORMANCE: Final = "Performance"
CALIBRATION: Final = "Do risks mean what they say?"
ALERTS: Final = "Alerts at thresholds"
GROUPS: Final = "Gaps between groups"
MISSING: Final = "Missing modalities"
ELSEWHERE: Final = "On another store"
LIMITS: Final = "What was not shown"
MAINTENANCE: Final = "Maintenance"
ITEMS: Final = "TRIPOD+AI, item by item"
VERSIONS: Final = "Fingerprints and versions"


@dataclass(frozen=True)
class Judged:
    """One set of patients whose risks were judged.

    Args:
        store: Where they are from.
        result: Every number, of the run alone.
    """

    store: StoreFacts
    result: Result

    @property
    def manifest(self) -> dict[str, Any]:
        return self.store.manifest

    @property
    def atlas(self) -> Atlas:
        assert self.store.atlas is not None
        return self.store.atlas


@dataclass(frozen=True)
class CardInputs:
    """A card's content.

    Args:
        run: The model: its method's card and its settings, without places.
        control: Whether its method is a control.
        home: The patients of its own store: those of the test fold, or all out of fold.
        elsewhere: Those of another store, if it was judged there.
        modalities: What the method was given: name, kind and names of features of each.
        learned: Names of the modalities present → patients learned from who have just these, to the nearest ten; of
            patterns that ten or more have.
        regime: What was hidden, and who played no role, in sentences.
        platt: Whether a line that makes its risks probabilities is part of the model.
        fingerprints: What → hash.
        versions: Package → version.
    """

    run: RunRecord
    control: bool
    home: Judged
    elsewhere: Judged | None
    modalities: tuple[tuple[str, str, tuple[str, ...]], ...]
    learned: Mapping[tuple[str, ...], int]
    regime: tuple[str, ...] = ()
    platt: bool = False
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def config(self) -> Mapping[str, Any]:
        return self.run.config

    @property
    def rectified(self) -> bool:
        """Whether its rectifier was judged, too."""
        return any(self.name + RECTIFIED in models for models in self.home.result.tasks.values())

    @property
    def simulated(self) -> bool:
        """Whether the patients do not exist: their exact risks are known."""
        entries = [m for models in self.home.result.tasks.values() for m in models.values()]
        told = str(self.home.manifest.get("source_version", ""))
        return "simulated" in told or any("auroc_gap_to_bayes" in m.metrics for m in entries)

    @property
    def attributes(self) -> list[str]:
        """What is known of the store's patients beside the inputs."""
        return list(self.home.manifest.get("schema", {}).get("attributes", []))

    def entries(self, judged: Judged) -> dict[str, ModelTask]:
        """task → figures of the model before its rectifier."""
        return {task: models[self.name] for task, models in judged.result.tasks.items()}

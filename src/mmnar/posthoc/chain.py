"""One correction after another, and rebuilding any of them from JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError, nearest
from mmnar.posthoc.base import Correction, FittedCorrection, fitting_keys
from mmnar.posthoc.calibrate import FittedPlatt
from mmnar.posthoc.rectify import FittedLattice, FittedThreshold
from mmnar.predictions import Predictions
from mmnar.roles import Calibration


@dataclass(frozen=True, eq=False)
class FittedChain(FittedCorrection):
    """Fitted corrections in order. It is named after the last one."""

    parts: tuple[FittedCorrection, ...]
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    fitted_on: NDArray[np.uint64] = field(repr=False)
    suffix: str

    def risks(self, predictions: Predictions[Any]) -> NDArray[np.float64]:
        for part in self.parts:
            predictions = predictions.with_proba(part.risks(predictions))
        return predictions.proba

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "chain", "parts": [p.to_dict() for p in self.parts]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FittedChain:
        """Rebuild exactly what ``to_dict`` wrote."""
        parts = tuple(restore(p) for p in data["parts"])
        return cls(parts, parts[0].tasks, parts[0].modalities, parts[0].fitted_on, parts[-1].suffix)


@dataclass(frozen=True)
class Chain(Correction):
    """Fit each correction on the risks the ones before it leave, e.g. ``Chain((Platt(), LatticeRectifier()))``.

    All parts see the same labels. The two numbers per task of a Platt step cost far less than a pattern's offset, so
    the labels are not split between the parts.
    """

    parts: tuple[Correction, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("Chain", "at least one correction", "none", "leave the chain out instead")

    def fit(self, calibration: Predictions[Calibration]) -> FittedChain:
        keys, fitted, food = fitting_keys(calibration), [], calibration
        for part in self.parts:
            fitted.append(part.fit(food))
            food = food.with_proba(fitted[-1].risks(food))
        return FittedChain(tuple(fitted), calibration.tasks, calibration.modalities, keys, fitted[-1].suffix)


def restore(data: dict[str, Any]) -> FittedCorrection:
    """The fitted correction that ``to_dict`` wrote.

    Raises:
        ConfigError: An unknown kind.
    """
    kinds = {"platt": FittedPlatt, "threshold": FittedThreshold, "lattice": FittedLattice, "chain": FittedChain}
    kind = str(data.get("kind"))
    if kind not in kinds:
        raise ConfigError("correction.kind", "a known kind", f"'{kind}'", nearest(kind, kinds))
    return kinds[kind].from_dict(data)  # type: ignore[attr-defined,no-any-return]

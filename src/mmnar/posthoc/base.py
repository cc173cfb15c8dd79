"""What may be done to risks after a model is fitted, and with which food.

``fit`` takes ``Predictions[Calibration]`` (out-of-fold over the training subjects); ``apply`` takes any other role.
There is no call that does both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from mmnar.errors import LeakageError
from mmnar.predictions import Predictions
from mmnar.roles import Calibration, R, subject_keys


class FittedCorrection(ABC):
    """A correction of risks, fitted."""

    @abstractmethod
    def apply(self, predictions: Predictions[R]) -> Predictions[R]:
        """Corrected risks of other subjects.

        Raises:
            LeakageError: These are calibration predictions, or some of their subjects were fitted on.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that rebuilds it."""


class Correction(ABC):
    """A recipe for a correction."""

    @abstractmethod
    def fit(self, calibration: Predictions[Calibration]) -> FittedCorrection:
        """Fit on out-of-fold predictions only."""


@dataclass(frozen=True)
class Offset:
    """A pattern's calibration offset for one task, as shown in the report. Not a treatment effect.

    Args:
        pattern: Names of the modalities present.
        n: Labels it was estimated from.
        events: Of which positive.
        value, low, high: Offset on its scale with a 90 % interval.
    """

    pattern: tuple[str, ...]
    n: int
    events: int
    value: float
    low: float
    high: float


def refuse_own_subjects(predictions: Predictions[Any], fitted_on: Any) -> None:
    """Raise if ``predictions`` are calibration predictions or share subjects with ``fitted_on`` (sorted keys)."""
    import numpy as np

    if predictions.role is Calibration:
        raise LeakageError(
            "rectifier.apply", "predictions of other subjects", "calibration predictions", "apply it to tune or test"
        )
    shared = np.intersect1d(np.unique(subject_keys(predictions.subject_id)), fitted_on)
    if len(shared):
        raise LeakageError(
            "rectifier.apply",
            "subjects it was not fitted on",
            f"{len(shared)} subjects shared",
            "fit it on out-of-fold predictions of the training fold",
        )

"""What may be done to risks after a model is fitted, and on which predictions.

``fit`` takes ``Predictions[Calibration]`` (out-of-fold over the training subjects); ``apply`` takes any other role.
There is no call that does both. The words of this room:

- a *correction* is anything done to risks after a model is fitted: Platt's line or a rectifier;
- *Platt's line* is a correction by an intercept and a slope per task that all patterns share (``posthoc.platt``); it
  belongs to every model whose training loss is not a proper score, and its risks are that model's risks;
- a *rectifier* is a correction by one offset per observation pattern and task (``posthoc.rectify``; the paper's word);
- an *offset* is that number: how far the risks of a pattern's patients are from calibrated, no treatment effect;
- *calibration* predictions are the role alone: what corrections are fitted on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import LeakageError, SchemaError
from mmnar.predictions import Predictions
from mmnar.privacy import counted
from mmnar.roles import Calibration, R

MINIMUM_EVENTS: Final = 40
"""With fewer events a correction costs more log loss than it can win back."""


EXCLUSIVE: Final = "risks of an exclusive panel, which sum to 1: left as they are"
"""Why no correction touches them: moved one by one, they would no longer."""


class FittedCorrection(ABC):
    """A correction of risks, fitted.

    Attributes:
        tasks, modalities: Names it was fitted for.
        fitted_on: Sorted digests of every subject whose labels it has seen, with the mark of their key.
        suffix: What ``apply`` appends to ``provenance["model"]``.
    """

    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    fitted_on: NDArray[np.uint64]
    suffix: str

    def apply(self, predictions: Predictions[R]) -> Predictions[R]:
        """Corrected risks of other subjects.

        Raises:
            LeakageError: These are calibration predictions, or some of their subjects were fitted on.
            SchemaError: Other tasks or modalities than it was fitted for.
        """
        refuse_own_subjects(predictions, self.fitted_on)
        named = (self.tasks, self.modalities)
        if (predictions.tasks, predictions.modalities) != named:
            raise SchemaError(
                "correction.apply", f"{named}", f"{(predictions.tasks, predictions.modalities)}", "fit one for these"
            )
        model = f"{predictions.provenance.get('model', '')}{self.suffix}"
        return predictions.with_proba(self.risks(predictions), model=model).also_fitted_on(self.fitted_on)

    @abstractmethod
    def risks(self, predictions: Predictions[Any]) -> NDArray[np.float64]:
        """(N, K) corrected risks: arithmetic alone, without the checks of ``apply``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that rebuilds it."""


class Correction(ABC):
    """A recipe for a correction."""

    @abstractmethod
    def fit(self, calibration: Predictions[Calibration]) -> FittedCorrection:
        """Fit on out-of-fold predictions only.

        Raises:
            LeakageError: Not calibration predictions, or some row was scored by something fitted on its subject.
        """


def corrected_out_of_fold(rule: Correction, calibration: Predictions[Calibration]) -> Predictions[Calibration]:
    """Out-of-fold risks, each fold's corrected by what the labels of the other folds alone decide: what may be judged
    where there is no test fold.

    Raises:
        LeakageError: See ``Correction.fit``.
    """
    risks = calibration.proba.copy()
    for fold in np.unique(calibration.fold):
        here = calibration.fold == fold
        elsewhere = replace(calibration, label_mask=calibration.label_mask & ~here[:, None])
        risks[here] = rule.fit(elsewhere).risks(calibration)[here]
    return calibration.with_proba(risks)


@dataclass(frozen=True)
class Offset:
    """A pattern's offset for one task, as shown in the report. Not a treatment effect.

    Args:
        pattern: Names of the modalities present.
        n: Labels it was estimated from; None where fewer than ten patients gave them, or the total would tell so.
        events: Of which positive; None likewise.
        value, low, high: Offset on its scale with a 90 % interval.
        applied: False where the rule estimated it and then left the risks alone.
    """

    pattern: tuple[str, ...]
    n: int | None
    events: int | None
    value: float
    low: float
    high: float
    applied: bool = True


def fitting_keys(calibration: Predictions[Calibration]) -> NDArray[np.uint64]:
    """Digests of the subjects a correction is about to see, after the checks every ``fit`` must make.

    Raises:
        LeakageError: Not calibration predictions, or not out-of-fold.
    """
    if calibration.role is not Calibration:
        raise LeakageError(
            "correction.fit",
            "calibration predictions",
            f"{calibration.role.name} predictions",
            "predict the training subjects out of fold and fit on those",
        )
    calibration.refuse_overlap()
    return calibration.subjects()


def bound_tasks(predictions: Predictions[Any]) -> set[str]:
    """Tasks of exclusive panels."""
    return {task for panel in predictions.panels if panel.exclusive for task in panel.tasks}


def refuse_own_subjects(predictions: Predictions[Any], fitted_on: Any) -> None:
    """Raise if ``predictions`` are calibration predictions or share subjects with ``fitted_on``, or nobody can tell."""
    if predictions.role is Calibration:
        raise LeakageError(
            "correction.apply", "predictions of other subjects", "calibration predictions", "apply it to tune or test"
        )
    shared = len(np.unique(predictions.subject_digest[predictions.among(fitted_on)]))
    if shared:
        raise LeakageError(
            "correction.apply",
            "subjects it was not fitted on",
            f"{counted(shared)} subjects shared",
            "fit it on out-of-fold predictions of the training fold",
        )


def too_few(events: int) -> str:
    """Why nothing is fitted, or "" where the evidence suffices. How many events there were is not said: less everyone's
    it would tell those of a small test fold.

    >>> too_few(12)
    'too few events, at least 40 needed: risks left as they are'
    >>> too_few(40)
    ''
    """
    if events >= MINIMUM_EVENTS:
        return ""
    return f"too few events, at least {MINIMUM_EVENTS} needed: risks left as they are"

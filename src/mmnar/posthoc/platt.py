"""Platt's line: one intercept and one slope per task on the logit scale.

Part of every model whose training loss was not a proper score (focal loss shrinks logits). A rectifier is fitted on,
and judged against, the risks after it: otherwise its offsets would be spent on, and praised for, an error that all
patterns share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from mmnar.ops.threads import one_thread
from mmnar.posthoc.base import EXCLUSIVE, Correction, FittedCorrection, bound_tasks, fitting_keys, too_few
from mmnar.predictions import Predictions
from mmnar.roles import Calibration

Float = NDArray[np.float64]

CLIP: Final = 1e-4
"""Logits of fitted risks are kept within ±9.2: one saturated risk would otherwise outweigh a thousand others."""
APPLY_CLIP: Final = 1e-12
"""Only keeps the logit of 0 and 1 finite; a wider clip would tie risks and lose their order."""


@dataclass(frozen=True)
class Line:
    """``logit p' = intercept + slope · logit p`` of one task; ``reason`` says why it is the identity, if it is."""

    intercept: float = 0.0
    slope: float = 1.0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class FittedPlatt(FittedCorrection):
    """One line per task. The risks keep the model's name: they are what it says."""

    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    lines: dict[str, Line]
    fitted_on: NDArray[np.uint64] = field(repr=False)
    suffix: str = ""

    def risks(self, predictions: Predictions[Any]) -> Float:
        columns = [_apply(self.lines[t], predictions.task(t)[0]) for t in self.tasks]
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "platt",
            "tasks": list(self.tasks),
            "modalities": list(self.modalities),
            "lines": {t: [line.intercept, line.slope, line.reason] for t, line in self.lines.items()},
            "fitted_on": self.fitted_on.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FittedPlatt:
        """Rebuild exactly what ``to_dict`` wrote."""
        lines = {t: Line(*values) for t, values in data["lines"].items()}
        keys = np.array(data["fitted_on"], dtype=np.uint64)
        return cls(tuple(data["tasks"]), tuple(data["modalities"]), lines, keys)


@dataclass(frozen=True)
class Platt(Correction):
    """Platt scaling of each task (Platt 1999), on the logit of the risk.

    Maximises ``Σ t log q + (1−t) log(1−q)``, ``q = sig(a + b logit p)``, with Platt's targets ``t = (n₊+1)/(n₊+2)`` for
    events and ``1/(n₋+2)`` otherwise, so that separable data have a finite solution. Tasks with fewer than 40 events,
    or where the fitted slope would reverse the order of risks, and those of exclusive panels, whose loss is always a
    proper score, are left as they are and say so.
    """

    def fit(self, calibration: Predictions[Calibration]) -> FittedPlatt:
        keys, bound = fitting_keys(calibration), bound_tasks(calibration)
        lines = {}
        for task in calibration.tasks:
            proba, labels, asked = calibration.task(task)
            lines[task] = Line(reason=EXCLUSIVE) if task in bound else fit_line(proba[asked], labels[asked])
        return FittedPlatt(calibration.tasks, calibration.modalities, lines, keys)


@one_thread
def fit_line(proba: Float, labels: NDArray[np.bool_]) -> Line:
    """Intercept and slope from (N,) risks and (N,) labels.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=20_000) - 1
    >>> line = fit_line(expit(x / 2), rng.random(20_000) < expit(x))
    >>> abs(line.slope - 2) < .1, abs(line.intercept) < .1
    (True, True)
    """
    events = int(labels.sum())
    others = len(labels) - events
    reason = too_few(min(events, others))
    if reason:
        return Line(reason=reason)
    target = np.where(labels, (events + 1) / (events + 2), 1 / (others + 2))
    l = logit(np.clip(proba, CLIP, 1 - CLIP))  # noqa: E741
    design = np.stack([np.ones_like(l), l], axis=1)

    def loss(b: Float) -> tuple[float, Float]:
        eta = design @ b
        return float(np.mean(np.logaddexp(0, eta) - target * eta)), design.T @ (expit(eta) - target) / len(l)

    intercept, slope = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    if slope <= 0:
        return Line(reason=f"slope {slope:.2f} would reverse the order of risks: risks left as they are")
    return Line(float(intercept), float(slope))


def _apply(line: Line, proba: Float) -> Float:
    if line.reason:
        return proba
    l = logit(np.clip(proba, APPLY_CLIP, 1 - APPLY_CLIP))  # noqa: E741
    return np.asarray(expit(line.intercept + line.slope * l), dtype=np.float64)

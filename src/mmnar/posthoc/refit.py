"""The rectifier that is refitted on another site's outcomes: bolder where there are many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mmnar.posthoc.base import Correction
from mmnar.posthoc.rectify import FittedLattice, LatticeRectifier
from mmnar.predictions import Predictions
from mmnar.roles import Calibration

EAGER: Final = 0.5
"""Prior probability that a component of the offsets is absent, where it may be doubted that nothing has changed."""
EAGER_FROM: Final = 500
"""Labels of a task; with fewer an eager prior costs more than it wins where nothing has changed."""


@dataclass(frozen=True)
class Refit(Correction):
    """``LatticeRectifier`` with p0 = .5 for tasks of 500 labels or more, and its default for the others."""

    def fit(self, calibration: Predictions[Calibration]) -> FittedLattice:
        safe, eager = LatticeRectifier().fit(calibration), LatticeRectifier(EAGER).fit(calibration)
        chosen = {task: eager if self.is_eager(calibration, task) else safe for task in calibration.tasks}
        return FittedLattice(
            calibration.tasks,
            calibration.modalities,
            {task: of.offsets[task] for task, of in chosen.items()},
            {task: of.unseen[task] for task, of in chosen.items()},
            {task: of.no_effect[task] for task, of in chosen.items()},
            safe.reasons,
            safe.fitted_on,
        )

    @staticmethod
    def is_eager(calibration: Predictions[Calibration], task: str) -> bool:
        """Whether a task has so many labels."""
        return int(calibration.task(task)[2].sum()) >= EAGER_FROM

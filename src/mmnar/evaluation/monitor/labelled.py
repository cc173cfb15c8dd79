"""Whether risks came true: O:E and calibration slope of answers whose outcome is known by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.monitor.asked import Answers
from mmnar.evaluation.monitor.figures import some_tens
from mmnar.evaluation.monitor.periods import Period
from mmnar.evaluation.recalibration import slope_and_ratio
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.ops.threads import one_thread
from mmnar.privacy import FEW_OUTCOMES, SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]

ALL: Final = "all"
TOLD: Final = "risk"
RECTIFIED: Final = "rectified"


@dataclass(frozen=True)
class CameTrue:
    """Of one period, or of all, one task and one kind of risk.

    Args:
        which: ``risk`` or ``rectified``.
        patients: Whose outcome is known, to the nearest ten; None = fewer than ten.
        o_to_e, slope: Refused with fewer than ten patients with or without the event.
    """

    period: str
    task: str
    which: str
    patients: int | None
    o_to_e: Estimate
    slope: Estimate

    def disclosed(self) -> CameTrue:
        """With the digits that may be shown."""
        return replace(self, o_to_e=self.o_to_e.rounded(COARSE), slope=self.slope.rounded(COARSE))


@one_thread
def came_true(
    answers: Answers, outcomes: dict[str, Float], spans: Sequence[Period], resamples: int = 400, seed: int = 0
) -> tuple[CameTrue, ...]:
    """Every task with outcomes, period by period and over all of them; all answers count, patients are resampled.

    Args:
        outcomes: Task → (N,) 0 or 1; NaN where it is not known.
    """
    everywhere = np.ones(len(answers), dtype=bool)
    parts = [(ALL, everywhere), *((period.name, period.holds(answers.time)) for period in spans)]
    found = []
    for task, y in outcomes.items():
        for which, risks in ((TOLD, answers.risks), (RECTIFIED, answers.rectified)):
            if task not in risks or not np.isfinite(risks[task]).any():
                continue
            known = np.isfinite(y) & np.isfinite(risks[task])
            for name, inside in parts:
                rows = np.flatnonzero(known & inside)
                figures = _figures(y[rows], risks[task][rows], answers.patient[rows], resamples, seed)
                found.append(CameTrue(name, task, which, some_tens(len(np.unique(answers.patient[rows]))), *figures))
    return tuple(found)


def _figures(y: Float, p: Float, patient: Int, resamples: int, seed: int) -> tuple[Estimate, Estimate]:
    if min(len(np.unique(patient[y == side])) for side in (0, 1)) < SMALL_CELL:
        none = Estimate(None, reason=FEW_OUTCOMES)
        return none, none
    found = slope_and_ratio(y, p, np.arange(len(y)), Resampling.draw(patient, resamples, seed))
    return found["o_to_e"], found["slope"]

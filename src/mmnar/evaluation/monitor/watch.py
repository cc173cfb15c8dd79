"""Period by period: who was asked about, and does that differ from who the run learned from? No outcome is needed.

A patient counts once, by the first answer about them (``judged`` has the tests).

**Looking again and again.** A period is judged once, when it is over. Its p values are corrected over all its tests
(Holm) and over the periods of a year (times 12 for months): where nothing changes at most one year in twenty has any
alarm. That level is fixed by the calendar, so it does not matter how often the log is read, or when reading began.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.compare import holm
from mmnar.evaluation.monitor.asked import Answers, Learned
from mmnar.evaluation.monitor.figures import fifths_of, mean_of, rates_of, share, some_tens
from mmnar.evaluation.monitor.judged import PATTERNS, RARITY, Chosen, Judged, judged
from mmnar.evaluation.monitor.periods import A_YEAR, Period
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.evaluation.shift import LEVEL, TOO_FEW
from mmnar.privacy import FEW, few

Int = NDArray[np.int64]

NO_RUN: Final = "no run to hold it against"
NOT_OVER: Final = "the period is not over"


@dataclass(frozen=True)
class Watched:
    """One period.

    Args:
        over: Whether it is, so that it was judged.
        patients: First asked about in it, to the nearest ten; None = fewer than ten.
        rates: Modality → share of them.
        variation: Of the law of patterns; ``chance`` is what it reaches by chance alone in 19 of 20 cases.
        rare: Share with a rare or unknown pattern.
        risk: Task → mean.
        fifths: Task → shares between the quintiles of the test fold's risks, the lowest first; None = withheld.
        chosen: Where others have a modality most clearly; None where it was not asked.
        p: Test → p value, corrected over the period's tests and the periods of a year.
        alarms: Tests whose is below .05.
    """

    period: str
    over: bool
    patients: int | None
    rates: dict[str, Estimate]
    variation: Estimate
    chance: float | None
    rare: Estimate
    risk: dict[str, Estimate]
    fifths: dict[str, tuple[float | None, ...]]
    chosen: Chosen | None
    p: dict[str, float]
    alarms: tuple[str, ...]

    def disclosed(self) -> Watched:
        """With the digits that may be shown, and without what would tell a share that is withheld."""
        withheld = {name for name, e in self.rates.items() if e.value is None}
        told, variation, chance = {n: p for n, p in self.p.items() if n not in withheld}, self.variation, self.chance
        if withheld and self.p:
            told.pop(PATTERNS)
            variation, chance = Estimate(None, reason=TOO_FEW), None
        if self.rare.value is None:
            told.pop(RARITY, None)
        return replace(
            self,
            rates={name: e.rounded(COARSE) for name, e in self.rates.items()},
            variation=variation.rounded(COARSE),
            chance=None if chance is None else round(chance, COARSE),
            rare=self.rare.rounded(COARSE),
            risk={task: e.rounded(COARSE + 1) for task, e in self.risk.items()},
            fifths={t: tuple(None if s is None else round(s, COARSE) for s in of) for t, of in self.fifths.items()},
            chosen=None if self.chosen is None else self.chosen.disclosed(),
            p={name: round(p, 3) for name, p in told.items()},
        )


def watch(
    answers: Answers,
    modalities: tuple[str, ...],
    learned: Learned | None,
    spans: Sequence[Period],
    every: str,
    now: int,
    tasks: Collection[str] = (),
    seed: int = 0,
) -> tuple[Watched, ...]:
    """Every period.

    Args:
        modalities: M names.
        learned: Of the run; without it nothing is judged.
        every: Of ``A_YEAR``, what the periods are.
        now: Microseconds since 1970: a period that ends later is not over.
        tasks: Whose risks are tested.
        seed: Of permutations.
    """
    found = []
    for i, period in enumerate(spans):
        rows = np.flatnonzero(answers.first & period.holds(answers.time))
        over = period.end <= now
        shown = _shown(period, over, answers, rows, modalities, learned)
        if learned is not None and over and not _too_few(rows):
            risks = {task: answers.risks[task][rows] for task in tasks}
            tested = judged(answers.present[rows], risks, learned, LEVEL / A_YEAR[every], seed + i)
            shown = _with(shown, tested, A_YEAR[every])
        found.append(shown)
    return tuple(found)


def _with(shown: Watched, tested: Judged, a_year: int) -> Watched:
    corrected = dict(zip(tested.p, (min(1.0, q * a_year) for q in holm(list(tested.p.values()))), strict=True))
    return replace(
        shown,
        variation=Estimate(tested.variation),
        chance=tested.chance,
        chosen=tested.chosen,
        p=corrected,
        alarms=tuple(name for name, q in corrected.items() if q < LEVEL),
    )


def _too_few(rows: Int) -> bool:
    return not len(rows) or few(len(rows))


def _shown(
    period: Period, over: bool, answers: Answers, rows: Int, modalities: tuple[str, ...], learned: Learned | None
) -> Watched:
    """What can be said of a period without a test."""
    present = answers.present[rows]
    reason = FEW if _too_few(rows) else (NO_RUN if learned is None else NOT_OVER)
    rare = Estimate(None, reason=reason)
    if learned is not None and not _too_few(rows):
        rare = share(learned.rare(present), f"{FEW} on one side")
    risks = {task: of[rows] for task, of in answers.risks.items()}
    apart = {} if learned is None or learned.held_out is None else learned.held_out[1]
    return Watched(
        period.name,
        over,
        some_tens(len(rows)),
        rates_of(present, modalities),
        Estimate(None, reason=reason),
        None,
        rare,
        {task: mean_of(of) for task, of in risks.items()},
        {task: fifths_of(of, apart[task]) for task, of in risks.items() if len(apart.get(task, ()))},
        None,
        {},
        (),
    )

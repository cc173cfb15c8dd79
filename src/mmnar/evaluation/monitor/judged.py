"""Is a period's first-asked like the run's patients? Where nothing has changed they are alike, so every test is exact.

modality    the share that has it, in the period and among who was learned from (Fisher)
patterns    total variation ½ Σ_δ |P(δ) − P'(δ)|, patients permuted; patterns of fewer than 20 of both are one
rare        the share with a pattern that fewer than 20 of who was learned from had, or none; held against the test
            fold (Fisher), for among themselves who was learned from have fewer
risks       of each task: the law over fifths of the risks of the period and the test fold, patients permuted
chosen      how far the mean rank of risk of who has a modality lies from that of who has not, in the period and in
            the test fold; the largest studentized difference over tasks and modalities, patients permuted
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.monitor.asked import Learned
from mmnar.evaluation.monitor.unlike import chosen_p, law_p, share_p
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.evaluation.shift import RARE, TOO_FEW
from mmnar.privacy import SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

PATTERNS: Final = "patterns"
RARITY: Final = "rare patterns"
RISKS: Final = "risks of "
CHOSEN: Final = "who is chosen"


@dataclass(frozen=True)
class Chosen:
    """How far the mean risk of who has a modality lies above that of who has not.

    Args:
        now, before: In the period and in the test fold; refused where fewer than ten have it, or lack it.
    """

    task: str
    modality: str
    now: Estimate
    before: Estimate

    def disclosed(self) -> Chosen:
        """With the digits that may be shown."""
        return replace(self, now=self.now.rounded(COARSE + 1), before=self.before.rounded(COARSE + 1))


@dataclass(frozen=True)
class Judged:
    """
    Args:
        variation, chance: Total variation of the law of patterns, and what 19 of 20 such groups without a change reach.
        chosen: Where others have a modality most clearly; None without a test fold.
        p: Test → p value, not corrected.
    """

    variation: float
    chance: float
    chosen: Chosen | None
    p: dict[str, float]


def judged(present: Bool, risks: dict[str, Float], learned: Learned, level: float, seed: int) -> Judged:
    """
    Args:
        present: (n, M) of the period's patients.
        risks: Task → (n,) of the tasks that are tested; NaN where there is none.
        level: Of all tests together.
        seed: Of permutations.
    """
    ours, chosen = learned.present, None
    level /= len(learned.modalities) + len(risks) + 3
    p = {name: share_p(ours[:, m], present[:, m]) for m, name in enumerate(learned.modalities)}
    variation, chance, p[PATTERNS] = law_p(*_cells(ours, present), level, seed)
    if learned.held_out is not None:
        p[RARITY] = share_p(learned.rare(learned.held_out[0]), learned.rare(present))
        then = _Risky.of(learned.held_out[0], {task: learned.held_out[1][task] for task in risks})
        now = _Risky.of(present, risks)
        if risks and min(len(then.present), len(now.present)) >= SMALL_CELL:
            for k, task in enumerate(risks):
                p[RISKS + task] = law_p(*_fifths(then.risk[:, k], now.risk[:, k]), level, seed)[2]
            (k, m), p[CHOSEN] = chosen_p((then.present, then.risk), (now.present, now.risk), level, seed)
            chosen = Chosen(list(risks)[k], learned.modalities[m], now.gap(k, m), then.gap(k, m))
    return Judged(variation, chance, chosen, p)


@dataclass(frozen=True)
class _Risky:
    """Patients who have every risk: (n, M) what they have, (n, K) their risks."""

    present: Bool
    risk: Float

    @classmethod
    def of(cls, present: Bool, risks: dict[str, Float]) -> _Risky:
        risk = np.column_stack(list(risks.values())) if risks else np.empty((len(present), 0))
        rows = np.isfinite(risk).all(1)
        return cls(present[rows], risk[rows])

    def gap(self, k: int, m: int) -> Estimate:
        """Mean risk of who has a modality less that of who has not."""
        has = self.present[:, m]
        if min(has.sum(), (~has).sum()) < SMALL_CELL:
            return Estimate(None, reason=TOO_FEW)
        return Estimate(float(self.risk[has, k].mean() - self.risk[~has, k].mean()))


def _fifths(first: Float, second: Float) -> tuple[Int, Int]:
    """Which fifth of both groups' risks each lies in: 0 to 4."""
    cuts = np.quantile(np.concatenate([first, second]), [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(cuts, first, side="right"), np.searchsorted(cuts, second, side="right")


def _cells(first: Bool, second: Bool) -> tuple[Int, Int]:
    """Number of each patient's pattern, those of fewer than ``RARE`` patients of both together being one."""
    _, which, counts = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    common = np.flatnonzero(counts >= RARE)
    cell = np.full(len(counts), len(common))
    cell[common] = np.arange(len(common))
    return cell[which[: len(first)]], cell[which[len(first) :]]

"""Label sets: what a risk leaves open. {0} "it will not happen", {1} "it will", {0, 1} undecided: the model abstains.

Split conformal prediction, by label and by pattern δ. A label y stays possible for a patient of pattern g while the
score ``s = (1 − 2y) (logit p − m_g)``, m_g the pattern's mean logit, is at most

    q = the smallest score s with  Σ_{j: s_j ≤ s} w_j  ≥  (1 − α) (Σ_j w_j + 1)          infinite where there is none

over the calibration patients j whose label was y. ``w_j`` is 1 where their pattern is g, else ``c ½^H``, H the number
of modalities that differ and c ≤ 1 such that all that is borrowed weighs at most n₀ = 40 (of m_g: 5). What is borrowed
is a place among its own pattern's risks: without m_g, patterns of ill patients would lend their high risks to those of
healthy ones (ADR 27). For ``exact`` sets nothing is borrowed (Mondrian), and m_g does not matter: each label is then
covered with 1 − α in every pattern, whatever decides what goes missing, on average over calibration samples; by fewer
than 1/α − 1 patients with that label and pattern nothing is excluded.
Labels are apart because a set that covers 90 % of everybody covers about half of those with a rare outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from mmnar.errors import ConfigError, SchemaError
from mmnar.posthoc.base import fitting_keys, refuse_own_subjects
from mmnar.posthoc.platt import APPLY_CLIP
from mmnar.predictions import Predictions
from mmnar.roles import Calibration

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

BORROWED: Final = 40.0
"""n₀: what patients of other patterns weigh together at most."""
OF_MEANS: Final = 5.0
"""The same where a pattern's mean logit is estimated."""


@dataclass(frozen=True)
class LabelSets:
    """A recipe for label sets.

    Args:
        alpha: Share of patients with each label whom the sets may miss.
        exact: Borrow nothing from other patterns.
    """

    alpha: float = 0.1
    exact: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError("alpha of label sets", "a share within (0, 1)", f"{self.alpha:g}", "use 0.1")

    def fit(self, calibration: Predictions[Calibration]) -> FittedSets:
        """From out-of-fold risks.

        Raises:
            LeakageError: Not calibration predictions, or some row was scored by something fitted on its subject.
        """
        return FittedSets(self, calibration, fitting_keys(calibration))


@dataclass(frozen=True, eq=False)
class FittedSets:
    """Label sets, calibrated. Holds the calibration patients: it stays in memory.

    Attributes:
        fitted_on: Digests of the subjects calibrated on, with the mark of their key.
    """

    recipe: LabelSets
    calibration: Predictions[Calibration] = field(repr=False)
    fitted_on: NDArray[np.uint64] = field(repr=False)

    def possible(self, predictions: Predictions[Any]) -> Bool:
        """(N, K, 2) whether label 0 and label 1 stay possible; where neither would, both do.

        Raises:
            LeakageError: Some of these subjects were calibrated on.
            SchemaError: Other tasks or modalities.
        """
        refuse_own_subjects(predictions, self.fitted_on)
        for name in ("tasks", "modalities"):
            mine, theirs = getattr(self.calibration, name), getattr(predictions, name)
            if mine != theirs:
                raise SchemaError("label sets", f"{name} {mine}", f"{theirs}", "calibrate on risks of the same run")
        found = np.ones((len(predictions), len(predictions.tasks), 2), dtype=bool)
        index, patterns = predictions.pattern_ids()
        for k, task in enumerate(predictions.tasks):
            p, labels, asked = self.calibration.task(task)
            if not asked.any():
                continue
            y, present = labels[asked], self.calibration.present[asked]
            own = centred(_logit(p[asked]), present, present, _logit(p[asked]))
            theirs = centred(_logit(predictions.proba[:, k]), predictions.present, present, _logit(p[asked]))
            for label, sign in ((0, 1), (1, -1)):
                mine = y == bool(label)
                limits = [self._limit(sign * own[mine], present[mine], pattern) for pattern in patterns]
                found[:, k, label] = sign * theirs <= np.array(limits)[index]
        found[~found.any(axis=2)] = True
        return found

    def _limit(self, scores: Float, present: Bool, pattern: Bool) -> float:
        return limit(scores, weights(present, pattern, 0.0 if self.recipe.exact else BORROWED), self.recipe.alpha)


def centred(logits: Float, patterns: Bool, present: Bool, among: Float) -> Float:
    """(n,) logits of samples with (n, M) patterns, less the mean logit of each one's pattern among (c,) calibration
    logits with patterns ``present`` (c, M), weighed by ``weights``."""
    distinct, index = np.unique(patterns, axis=0, return_inverse=True)
    means = np.array([np.average(among, weights=weights(present, pattern, OF_MEANS)) for pattern in distinct])
    return np.asarray(logits - means[index.reshape(-1)])


def weights(present: Bool, pattern: Bool, borrowed: float = BORROWED) -> Float:
    """(n,) what calibration patients of patterns (n, M) weigh for one of ``pattern`` (M,).

    >>> weights(np.array([[1, 1], [1, 0], [0, 0]], dtype=bool), np.array([True, True])).tolist()
    [1.0, 0.5, 0.25]
    """
    apart = (present != pattern).sum(axis=1)
    own = apart == 0
    w = np.asarray(0.5**apart, dtype=np.float64)
    others = float(w[~own].sum())
    if others > borrowed:
        w[~own] *= borrowed / others
    return w


def limit(scores: Float, weight: Float, alpha: float) -> float:
    """The largest score at which a label stays possible; infinite where too little is known to exclude it.

    >>> limit(np.arange(9.0), np.ones(9), 0.1), limit(np.arange(8.0), np.ones(8), 0.1)
    (8.0, inf)
    """
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order])
    wanted = (1 - alpha) * (weight.sum() + 1)
    at = int(np.searchsorted(reached, wanted - 1e-9))
    return float(scores[order][at]) if at < len(scores) else float("inf")


def _logit(p: Float) -> Float:
    return np.asarray(logit(np.clip(p, APPLY_CLIP, 1 - APPLY_CLIP)))

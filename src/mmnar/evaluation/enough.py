"""Are there enough patients? Sample sizes for developing and for judging a risk model of a binary outcome.

Formulas by Riley and others: development, BMJ 2020;368:m441; judgement, Statistics in Medicine 2021;40:4230. With
outcome rate φ and AUROC C, the log odds of a calibrated model are taken as normal with the same spread among those with
and those without the outcome: ``σ² = 2 Φ⁻¹(C)²``, means ``logit φ ± σ²/2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, xlogy
from scipy.stats import norm

from mmnar.evaluation.decided import Enough
from mmnar.privacy import in_tens

Float = NDArray[np.float64]

Z95: Final = 1.959963984540054
O_TO_E: Final = 0.2
"""Judged: the log of observed over expected is known to ± this."""
SLOPE: Final = 0.2
AUROC: Final = 0.05
RATE: Final = 0.05
"""Developed: the outcome rate is known to ± this."""
SHRINKAGE: Final = 0.9
OPTIMISM: Final = 0.05
NODES: Final = np.linspace(-6, 6, 241)


def enough(rate: float, auroc: float, judged: int, learned: int | None) -> tuple[Enough, ...]:
    """What a task's patients suffice for.

    Args:
        rate: Of the outcome, in (0, 1).
        auroc: Of the best model.
        judged: Samples the task was asked of, among those who are scored; learned: of those learned from.
    """
    c = min(max(auroc, 0.55), 0.99)  # a model that tells little needs no end of patients
    found = [
        Enough("observed over expected within 20 %", to_judge_o_to_e(rate), judged),
        Enough("calibration slope within 0.2", to_judge_slope(rate, c), judged),
        Enough("AUROC within 0.05", to_judge_auroc(rate, c), judged),
    ]
    if learned is not None:
        found.append(Enough("outcome rate within 5 percentage points", to_learn_rate(rate), learned))
    return tuple(found)


def coefficients(rate: float, auroc: float, learned: int) -> int:
    """How many coefficients of a logistic regression so many patients carry, in tens above a hundred."""
    r2, most = explained(rate, min(max(auroc, 0.55), 0.99)), 1 - math.exp(2 * _null(rate))
    s = max(SHRINKAGE, r2 / (r2 + OPTIMISM * most))
    found = int(learned * (s - 1) * math.log(1 - r2 / s))
    return found if found < 100 else in_tens(found)


def to_judge_o_to_e(rate: float, within: float = O_TO_E) -> int:
    """``(1 − φ) / (φ SE²)`` with ``SE = within / 1.96`` of the log."""
    return math.ceil((1 - rate) / rate * (Z95 / within) ** 2)


def to_judge_slope(rate: float, auroc: float, within: float = SLOPE) -> int:
    """``I_a / (SE² (I_a I_b − I_ab²))``, the I being means of q(1 − q), l²q(1 − q) and l q(1 − q)."""
    l, weight = _log_odds(rate, auroc)  # noqa: E741
    bend = expit(l) * expit(-l) * weight
    a, b, ab = bend.sum(), (l**2 * bend).sum(), (l * bend).sum()
    return math.ceil(float(a / (a * b - ab**2)) * (Z95 / within) ** 2)


def to_judge_auroc(rate: float, auroc: float, within: float = AUROC) -> int:
    """The smallest n whose standard error by Newcombe's (2006) formula is ``within / 1.96``."""

    def error(n: float) -> float:
        half = n / 2 - 1
        spread = 1 + half * (1 - auroc) / (2 - auroc) + half * auroc / (1 + auroc)
        return math.sqrt(auroc * (1 - auroc) * spread / (n**2 * rate * (1 - rate)))

    return _smallest(lambda n: error(n) <= within / Z95)


def to_learn_rate(rate: float, within: float = RATE) -> int:
    """``(1.96 / within)² φ (1 − φ)``."""
    return math.ceil((Z95 / within) ** 2 * rate * (1 - rate))


def to_learn(parameters: int, rate: float, r2: float) -> int:
    """Patients for a regression of so many parameters: shrinkage of .9 or better and optimism of R² of .05 or less.

    Args:
        r2: Cox and Snell's, that is expected.

    >>> to_learn(24, .174, .288)
    662
    """
    most = 1 - math.exp(2 * _null(rate))
    s = max(SHRINKAGE, r2 / (r2 + OPTIMISM * most))
    return math.ceil(parameters / ((s - 1) * math.log(1 - r2 / s)))


def explained(rate: float, auroc: float) -> float:
    """Cox and Snell's R² of a calibrated model: ``1 − exp(−2 (mean log likelihood − that of the rate alone))``."""
    l, weight = _log_odds(rate, auroc)  # noqa: E741
    q = expit(l)
    return 1 - math.exp(-2 * (float(((xlogy(q, q) + xlogy(1 - q, 1 - q)) * weight).sum()) - _null(rate)))


def _null(rate: float) -> float:
    """Mean log likelihood of the rate alone."""
    return rate * math.log(rate) + (1 - rate) * math.log(1 - rate)


def _log_odds(rate: float, auroc: float) -> tuple[Float, Float]:
    """Log odds of a calibrated model, and their weights, which sum to 1."""
    sigma = math.sqrt(2) * float(ndtri(auroc))
    density = norm.pdf(NODES) / norm.pdf(NODES).sum()
    places = [logit(rate) + side * sigma**2 / 2 + sigma * NODES for side in (1, -1)]
    return np.concatenate(places), np.concatenate([rate * density, (1 - rate) * density])


def _smallest(good: Callable[[int], bool]) -> int:
    low, high = 2, 4
    while not good(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high

"""Figures of a group of patients, refused where they would tell of few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from mmnar.evaluation.result import Estimate
from mmnar.evaluation.shift import TOO_FEW
from mmnar.privacy import FEW, few, hidden_cells, in_tens

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


def some_tens(count: int) -> int | None:
    """To the nearest ten; None = a small count."""
    return None if few(count) else in_tens(count)


def rates_of(present: Bool, modalities: tuple[str, ...]) -> dict[str, Estimate]:
    """Share of patients who have each modality, with its interval (Clopper & Pearson)."""
    return {name: share(present[:, m]) for m, name in enumerate(modalities)}


def share(has: Bool, reason: str = TOO_FEW) -> Estimate:
    """Of patients, one row each; refused where it tells of few."""
    k, n = int(has.sum()), len(has)
    if n == 0 or few(n):
        return Estimate(None, reason=FEW)
    if few(k) or few(n - k):
        return Estimate(None, reason=reason)
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return Estimate(k / n, low, high)


def mean_of(risk: Float) -> Estimate:
    """Mean of the risks that there are, with its interval (normal)."""
    known = risk[np.isfinite(risk)]
    if not len(known) or few(len(known)):
        return Estimate(None, reason=FEW)
    mean, error = float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    return Estimate(mean, max(0.0, mean - 1.96 * error), min(1.0, mean + 1.96 * error))


def fifths_of(risk: Float, before: Float) -> tuple[float | None, ...]:
    """Shares of the risks that there are between the quintiles of other risks, the lowest first; None = withheld."""
    known = risk[np.isfinite(risk)]
    if not len(known) or few(len(known)):
        return (None,) * 5
    cuts = np.quantile(before[np.isfinite(before)], [0.2, 0.4, 0.6, 0.8])
    counts = np.bincount(np.searchsorted(cuts, known, side="right"), minlength=5)
    hidden = hidden_cells(counts.tolist())
    return tuple(None if h else float(c / len(known)) for c, h in zip(counts, hidden, strict=True))

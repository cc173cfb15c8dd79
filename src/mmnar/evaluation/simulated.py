"""Metrics against the true risks of simulated patients: no label noise."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.metrics import LOG_CLIP, Auroc, Difference, FoldMean, Mean, Metric

Float = NDArray[np.float64]
Int = NDArray[np.int64]

TO_BAYES: Final = ("auroc_gap_to_bayes", "kl_to_bayes", "brier_to_bayes")
"""What is measured against the exact risks."""


def excess_kl(truth: Float, p: Float) -> Float:
    """(n,) ``p* log(p*/p) + (1−p*) log((1−p*)/(1−p))`` in nats: expected log loss over that of the true risk p*.

    Both clipped to [1e-15, 1 − 1e-15].

    >>> excess_kl(np.array([.5]), np.array([.5])).tolist()
    [0.0]
    """
    a, b = np.clip(truth, LOG_CLIP, 1 - LOG_CLIP), np.clip(p, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))


def excess_brier(truth: Float, p: Float) -> Float:
    """(n,) ``(p − p*)²``: expected Brier score over that of the true risk p*."""
    return np.asarray((p - truth) ** 2)


def simulated_metrics(truth: Float, p: Float, fold: Int) -> dict[str, Metric]:
    """Gap to the Bayes predictor, all 0 for the true risks themselves.

    ``auroc_gap_to_bayes`` is ``A(p*) − A(p)``, A the expected AUROC of fresh labels:
    ``Σ_{i≠j} p*_i (1−p*_j) [1{p_i > p_j} + ½ 1{p_i = p_j}] / Σ_{i≠j} p*_i (1−p*_j)``.

    Args:
        truth, p, fold: (n,) true risk, risk, fold.
    """
    best, own = FoldMean(Auroc, fold, truth, truth), FoldMean(Auroc, fold, truth, p)
    kl, brier = FoldMean(Mean, fold, excess_kl(truth, p)), FoldMean(Mean, fold, excess_brier(truth, p))
    return dict(zip(TO_BAYES, (Difference(best, own), kl, brier), strict=True))

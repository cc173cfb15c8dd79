"""Patient-clustered bootstrap: all rows of a patient are drawn together, as often as the patient is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError
from mmnar.evaluation.metrics import Metric
from mmnar.evaluation.result import Estimate

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK: Final = 50
LOST: Final = 0.05
"""No interval where more than this share of resamples does not define the metric."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """B resamples of the S distinct subjects of N rows, drawn with replacement, without strata.

    One is drawn per evaluation, so that every metric of every model sees the same resamples: differences are paired.

    Attributes:
        subject: (N,) which of the S subjects a row belongs to.
        counts: Blocks of (S, b) uint16: how often each subject was drawn.
    """

    subject: Int
    counts: tuple[NDArray[np.uint16], ...] = field(repr=False)

    @classmethod
    def draw(cls, subject_id: Int, resamples: int, seed: int) -> Resampling:
        """Draw for (N,) subject identifiers; the same seed and subjects give the same resamples."""
        if resamples < 1:
            raise ConfigError("resamples", "at least 1", f"{resamples}", "use 1000")
        ids, subject = np.unique(subject_id, return_inverse=True)
        rng, s, blocks = np.random.default_rng(seed), len(ids), []
        for start in range(0, resamples, BLOCK):
            block = np.empty((s, min(BLOCK, resamples - start)), dtype=np.uint16)
            for b in range(block.shape[1]):
                block[:, b] = np.bincount(rng.integers(0, s, s), minlength=s)
            blocks.append(block)
        return cls(subject.reshape(-1).astype(np.int64), tuple(blocks))

    def weights(self, rows: Int) -> Iterator[Float]:
        """Blocks of (len(rows), b) weights of the given rows."""
        subject = self.subject[rows]
        for block in self.counts:
            yield block[subject].astype(np.float64)

    def values(self, metric: Metric, rows: Int) -> Float:
        """(B,) values of a metric prepared for the given rows; NaN where a resample does not define it."""
        return np.concatenate([metric(W) for W in self.weights(rows)])


def point(metric: Metric, n: int) -> float:
    """The metric of n rows as they are; NaN where undefined."""
    return float(metric(np.ones((n, 1)))[0])


def interval(value: float, values: Float, undefined: str) -> Estimate:
    """Percentile interval (2.5 %, 97.5 %) of B resampled values around a value.

    Args:
        value: The metric of the sample; NaN where undefined.
        values: (B,).
        undefined: The reason to give where ``value`` is NaN.

    >>> interval(.5, np.linspace(0, 1, 1001), "").low
    0.025
    >>> interval(.5, np.full(10, np.nan), "")
    Estimate(value=0.5, low=None, high=None, reason='undefined in more than 5 % of resamples')
    """
    if not np.isfinite(value):
        return Estimate(None, reason=undefined)
    kept = values[np.isfinite(values)]
    if len(values) - len(kept) > LOST * len(values):
        # how many would tell how few events there are
        return Estimate(value, reason=f"undefined in more than {LOST:.0%} of resamples".replace("%", " %"))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def estimate(metric: Metric, rows: Int, resampling: Resampling, undefined: str) -> tuple[Estimate, Float]:
    """A metric of some rows with its interval, and the (B,) resampled values behind it."""
    values = resampling.values(metric, rows)
    return interval(point(metric, len(rows)), values, undefined), values

"""Tests of two groups of patients, exact where the patients of both are alike: no large number is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, rankdata

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

AT_FIRST: Final = 1_999
"""Permutations after which a test that is far from its level ends."""
FAR: Final = 0.02
MOST: Final = 200_000
FEWEST: Final = 5
"""With fewer patients on a side a mean rank is not compared."""
ENOUGH: Final = 2_000
TINY: Final = 1e-9


def share_p(first: Bool, second: Bool) -> float:
    """Two-sided p value of the difference of two shares (Fisher)."""
    counts = [[int(of.sum()), int(len(of) - of.sum())] for of in (first, second)]
    return float(fisher_exact(counts).pvalue)


def law_p(first: Int, second: Int, level: float, seed: int) -> tuple[float, float, float]:
    """Total variation ½ Σ |share in first − share in second| over cells; what it reaches by chance alone in 19 of 20
    cases; and its p value, patients permuted between the groups.

    Args:
        first, second: (n,) and (m,) number of each patient's cell.
        level: At which the p value will be judged: it can become a quarter of it.
    """
    cells = int(max(first.max(), second.max())) + 1
    counts = np.stack([np.bincount(of, minlength=cells) for of in (first, second)])
    total, n, m = counts.sum(0), len(first), len(second)
    rng = np.random.default_rng(seed)

    def permuted(times: int) -> Float:
        return _variation(rng.multivariate_hypergeometric(total, m, size=times, method="marginals"), total, n, m)

    seen = float(_variation(counts[1][None], total, n, m)[0])
    return seen, float(np.quantile(permuted(AT_FIRST), 0.95)), _twice(seen, permuted, level)


def _variation(second: NDArray[np.integer], total: Int, n: int, m: int) -> Float:
    return np.asarray(0.5 * np.abs((total - second) / n - second / m).sum(-1))


def _twice(seen: float, permuted: Callable[[int], Float], level: float) -> float:
    """p value of ``seen``: more permutations where the first leave it near its level."""
    chance = permuted(AT_FIRST)
    if _p(seen, chance) < FAR:
        chance = np.concatenate([chance, permuted(int(min(4 / level, MOST)))])
    return _p(seen, chance)


def _p(seen: float, chance: Float) -> float:
    return float((1 + (chance >= seen - 1e-12).sum()) / (1 + len(chance)))


def chosen_p(
    first: tuple[Bool, Float], second: tuple[Bool, Float], level: float, seed: int
) -> tuple[tuple[int, int], float]:
    """Have others the modalities now, as far as risks tell? For each risk and modality, in both groups the mean rank of
    the risk among who has it, less that among who has not; the largest studentized difference between the groups, each
    represented by 2,000 patients at most.

    Args:
        first, second: (n, M) who has what, and (n, K) risks.
        level: At which the p value will be judged.

    Returns:
        Risk and modality where it is largest, and its p value, patients permuted between the groups.
    """
    rng = np.random.default_rng(seed)
    (ours, before), (theirs, now) = (_some(group, rng) for group in (first, second))
    n, has, risk = len(ours), np.concatenate([ours, theirs]).astype(np.float64), np.concatenate([before, now])
    rank = rankdata(risk, axis=0) / len(risk)
    moments = np.stack([np.ones_like(rank), rank, rank**2], 1)[..., None]  # (N, 3, K, 1)
    parts = np.stack([moments * has[:, None, None], moments * (1 - has)[:, None, None]], 1)  # (N, 2, 3, K, M)
    flat, total = parts.reshape(len(has), -1), parts.sum(0)

    def studentized(sums: Float) -> Float:
        """(B, K, M) of (B, 2, 3, K, M) sums over the second group."""
        with np.errstate(divide="ignore", invalid="ignore"):
            difference = np.abs(_gap(sums) - _gap(total - sums))
            return np.asarray(difference / np.sqrt(_noise(sums) + _noise(total - sums)))

    def permuted(times: int) -> Float:
        draws = (rng.choice(len(has), len(has) - n, replace=False, shuffle=False) for _ in range(times))
        sums = np.stack([flat[draw].sum(0) for draw in draws])
        return np.asarray(studentized(sums.reshape(times, *total.shape)).max((1, 2)))

    seen = studentized(parts[n:].sum(0)[None])[0]
    k, m = np.unravel_index(int(seen.argmax()), seen.shape)
    return (int(k), int(m)), _twice(float(seen.max()), permuted, level)


def _some(group: tuple[Bool, Float], rng: np.random.Generator) -> tuple[Bool, Float]:
    if len(group[0]) <= ENOUGH:
        return group
    rows = rng.choice(len(group[0]), ENOUGH, replace=False)
    return group[0][rows], group[1][rows]


def _gap(sums: Float) -> Float:
    """(B, K, M) mean rank with less without; 0 where either side is of fewer than five."""
    mean = sums[:, :, 1] / sums[:, :, 0]
    return np.where(sums[:, :, 0].min(1) >= FEWEST, mean[:, 0] - mean[:, 1], 0.0)


def _noise(sums: Float) -> Float:
    """(B, K, M) its variance; infinite where there is no gap."""
    mean = sums[:, :, 1] / sums[:, :, 0]
    variance = (sums[:, :, 2] / sums[:, :, 0] - mean**2).clip(TINY) / sums[:, :, 0]
    return np.where(sums[:, :, 0].min(1) >= FEWEST, variance.sum(1), np.inf)

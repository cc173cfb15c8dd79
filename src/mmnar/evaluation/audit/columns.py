"""Does one column, or the mere absence of its values, give a label away?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mmnar.evaluation.audit.findings import Finding
from mmnar.evaluation.metrics import auroc
from mmnar.privacy import SMALL_CELL, few

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Ids = NDArray[np.int64]

Z_95: Final = 1.959963984540054
COPY: Final = 0.98
"""A column whose AUROC is certainly above this copies the label."""
TOO_GOOD: Final = 0.90
DUPLICATE: Final = 0.95
"""|correlation| of a column and a label that are two forms of one thing."""
TOLD_BY_ABSENCE: Final = 0.95
NEARLY_TOLD_BY_ABSENCE: Final = 0.85


def auroc_limits(a: float, positives: int, negatives: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of an AUROC (Newcombe 2006, method 5): θ with |a − θ| = z √V(θ), Hanley and McNeil's V.

    Unlike Wald's, it does not shrink to a point where a handful of patients happen to be ranked perfectly.

    Args:
        positives, negatives: Patients with and without the outcome.
        z: Normal quantile of the level, 95 % by default.

    >>> [round(v, 3) for v in auroc_limits(1.0, 10, 10)], [round(v, 3) for v in auroc_limits(0.8, 50, 50)]
    ([0.8, 1.0], [0.697, 0.871])
    """
    star = (positives + negatives) / 2 - 1

    def excess(theta: float) -> float:
        v = theta * (1 - theta) * (1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta))
        return (a - theta) ** 2 - z**2 * v / (positives * negatives)

    low = 0.0 if a <= 0 or excess(1e-9) <= 0 else float(brentq(excess, 1e-9, max(a - 1e-12, 2e-9)))
    high = 1.0 if a >= 1 or excess(1 - 1e-9) <= 0 else float(brentq(excess, min(a + 1e-12, 1 - 2e-9), 1 - 1e-9))
    return low, high


def patients(subject: Ids) -> int:
    """How many, of rows with subjects numbered from 0."""
    return int(np.count_nonzero(np.bincount(subject)))


def label_copies(name: str, x: Float, y: Bool, subject: Ids, task: str) -> Iterator[Finding]:
    """What a column's values and its missing values say about a label.

    Args:
        x: (n,) values, NaN where missing.
        y: (n,) label of the same rows.
        subject: (n,) whose rows they are, numbered from 0.
    """
    seen = np.isfinite(x)
    yield from _values(name, x[seen], y[seen], subject[seen], task)
    yield from _absence(name, ~seen, y, subject, task)


def _values(name: str, x: Float, y: Bool, subject: Ids, task: str) -> Iterator[Finding]:
    positives, negatives = patients(subject[y]), patients(subject[~y])
    if min(positives, negatives) < SMALL_CELL or (x == x[0]).all():
        return
    a = auroc(y, x)
    a = max(a, 1 - a)
    low, high = auroc_limits(a, positives, negatives)
    words = f"AUROC {a:.3f} ({low:.3f} to {high:.3f}) for '{task}' by itself"
    if low > COPY:
        yield Finding("leak", "copies a label", name, words)
    elif abs(_correlation(x, y)) > DUPLICATE:
        yield Finding("leak", "copies a label", name, f"nearly the same column as the label '{task}'")
    elif low > TOO_GOOD:
        yield Finding("suspect", "copies a label", name, f"{words}: too good to be an early sign?")


def _correlation(x: Float, y: Bool) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(dx @ dx) * float(dy @ dy))
    return float(dx @ dy) / scale if scale > 0 else 0.0


def _absence(name: str, missing: Bool, y: Bool, subject: Ids, task: str) -> Iterator[Finding]:
    yield from told_by(name, missing, y, subject, task, "whether it is missing")


def told_by(name: str, flag: Bool, y: Bool, subject: Ids, task: str, what: str) -> Iterator[Finding]:
    """What a yes-or-no fact says about a label: AUROC (1 + |TPR − FPR|)/2.

    Nothing is said where fewer than ten patients are on a side of the fact or of the label.
    """
    sides = (flag, ~flag, y, ~y)
    if min(patients(subject[side]) for side in sides) < SMALL_CELL:
        return
    a = 0.5 + abs(float(flag[y].mean()) - float(flag[~y].mean())) / 2
    corners = [patients(subject[f & side]) for f in (flag, ~flag) for side in (y, ~y)]
    # with how many have it, and how many the outcome, the AUROC would tell how many have both
    exact = f"AUROC {a:.2f}" if not any(few(n) for n in corners) else f"an AUROC above {NEARLY_TOLD_BY_ABSENCE}"
    words = f"{what} alone has {exact} for '{task}'"
    if a > TOLD_BY_ABSENCE:
        yield Finding("leak", "missingness gives a label away", name, words)
    elif a > NEARLY_TOLD_BY_ABSENCE:
        yield Finding("suspect", "missingness gives a label away", name, words)


def category_rates(codes: NDArray[np.int64], y: Bool, subject: Ids) -> Float:
    """(n,) outcome rate of each row's category; categories of fewer than ten patients share one rate.

    Args:
        codes: (n,) category numbers from 0; −1 is missing and stays NaN.
    """
    rates = np.full(len(codes), np.nan)
    seen = codes >= 0
    if not seen.any():
        return rates
    people = int(subject.max()) + 1
    found = np.unique(codes[seen] * people + subject[seen]) // people
    sizes = np.bincount(found, minlength=codes.max() + 1)
    group = np.where(sizes >= SMALL_CELL, np.arange(len(sizes)), len(sizes))[np.maximum(codes, 0)]
    n = np.bincount(group[seen], minlength=len(sizes) + 1)
    events = np.bincount(group[seen], y[seen], minlength=len(sizes) + 1)
    rates[seen] = (events / np.maximum(n, 1))[group[seen]]
    return rates


def row_keys(columns: Iterator[NDArray[np.float32]], rows: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """((n,) a hash of each row's values, (n,) how many of them are numbers other than 0 and 1)."""
    key, rich = np.zeros(rows, dtype=np.uint64), np.zeros(rows, dtype=np.int64)
    for j, x in enumerate(columns):
        x = np.asarray(x, dtype=np.float32)
        seen = np.isfinite(x)
        bits = np.where(seen, x + np.float32(0), np.float32(0)).view(np.uint32).astype(np.uint64) + (~seen).astype(
            np.uint64
        )
        salt = np.uint64((0x9E3779B97F4A7C15 * (2 * j + 1)) % 2**64)
        mixed = (bits + np.uint64(1)) * salt
        key += (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        rich += seen & (x != 0) & (x != 1)
    return key, rich


def repeated_patients(key: NDArray[np.uint64], rich: NDArray[np.int64], subject: Ids, least: int = 8) -> int:
    """How many patients share a row of values with another patient, rows of fewer than ``least`` real numbers apart."""
    at = np.flatnonzero(rich >= least)
    pairs = np.unique(np.stack([key[at], subject[at].astype(np.int64).view(np.uint64)]), axis=1)
    _, which, counts = np.unique(pairs[0], return_inverse=True, return_counts=True)
    return len(np.unique(pairs[1][counts[which.reshape(-1)] > 1]))

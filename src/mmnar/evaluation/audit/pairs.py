"""Do two columns together copy a label that neither tells alone: their XOR, sum, difference, maximum?

Every pair is screened by two figures that need no fit: the share of a label's variance that the joint cells of the two
columns, cut into four parts each, explain; and the share that the best line through both explains. The most suspicious
pairs are judged by a tree fitted on one half of the patients and scored on the other. Its AUROC has an interval for as
many pairs as were screened (Bonferroni), so that among thousands of pairs chance finds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mmnar.evaluation.audit.columns import COPY, TOO_GOOD, auroc_limits, patients
from mmnar.evaluation.audit.findings import Finding, Severity
from mmnar.evaluation.metrics import auroc
from mmnar.privacy import SMALL_CELL

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Ids = NDArray[np.int64]

PARTS: Final = 4
ROWS: Final = 10_000
"""Most rows that are screened, drawn at random."""
WORK: Final = 4e9
"""Most multiplications of a screening: some seconds."""
JUDGED: Final = 12
"""Most pairs judged by each figure."""
WORTH: Final = 0.08
"""Share of a label's variance that a figure must explain: what separates an outcome of two in a hundred explains it."""
SHOWN: Final = 5
WEAK: Final = 0.80
"""A pair is only worth a suspicion where neither column alone has such an AUROC."""
CHECK: Final = "two columns copy a label"


@dataclass(frozen=True)
class Searched:
    """How many pairs were screened, of how many columns out of how many."""

    pairs: int
    columns: int
    of: int

    def words(self) -> str:
        rest = f"; not among the other {self.of - self.columns:,}" if self.of > self.columns else ""
        return f"{self.pairs:,} pairs of {self.columns:,} columns{rest}"


def pair_copies(
    columns: Mapping[str, Float], y: Bool, subject: Ids, task: str, seed: int = 0
) -> tuple[list[Finding], Searched]:
    """Pairs of columns that copy a label together.

    Args:
        columns: Name → (n,) numbers, or numbers of categories; NaN where missing. None of them copies the label alone.
        y: (n,) label.
        subject: (n,) whose rows they are, numbered from 0.
    """
    rng = np.random.default_rng(seed)
    at = np.arange(len(y)) if len(y) <= ROWS else np.sort(rng.choice(len(y), ROWS, replace=False))
    told = {name: x for name, x in columns.items() if _varies(x[at])}
    most = int((WORK / len(at)) ** 0.5 / PARTS)
    names = sorted(told, key=lambda name: int(np.isnan(told[name]).sum()))[:most]  # the best filled first
    pairs = len(names) * (len(names) - 1) // 2
    searched = Searched(pairs, len(names), len(told))
    if not pairs or min(patients(subject[y]), patients(subject[~y])) < SMALL_CELL:
        return [], searched
    x = np.stack([told[name][at] for name in names], axis=1)
    half = rng.permutation(int(subject.max()) + 1)[subject] % 2
    z = float(norm.ppf(1 - 0.025 / pairs))
    found = []
    for i, j in _suspicious(x, y[at]):
        judged = _judge(x[:, [i, j]], y[at], subject[at], half[at], z)
        if judged:
            found.append((names[i], names[j], *judged))
    found.sort(key=lambda pair: -pair[3])
    leaks = [f for f in found if f[2] == "leak"] or found
    findings = [Finding(s, CHECK, f"{a} with {b}", f"{words} for '{task}'") for a, b, s, _, words in leaks[:SHOWN]]
    return findings, searched


def tells_alone(findings: list[Finding]) -> bool:
    """Whether a column is found to copy a label by itself: with any other it would copy it too."""
    return any(f.severity == "leak" or f.check == "copies a label" for f in findings)


def _varies(x: Float) -> bool:
    seen = x[np.isfinite(x)]
    return len(seen) >= SMALL_CELL and bool((seen != seen[0]).any() or len(seen) < len(x))


def _suspicious(x: Float, y: Bool) -> list[tuple[int, int]]:
    """Pairs of columns, the most suspicious by each figure: cells of all rows, cells of rows with both, the line."""
    p = x.shape[1]
    upper = np.triu_indices(p, 1)
    chosen: dict[tuple[int, int], None] = {}
    for score in (*_cells(x, y), _line(x, y)):
        values = score[upper]
        for k in np.argsort(-values, kind="stable")[:JUDGED]:
            if values[k] > WORTH:
                chosen.setdefault((int(upper[0][k]), int(upper[1][k])))
    return list(chosen)


def _parts(x: Float) -> NDArray[np.int64]:
    """(n,) which part each value is in, from 1; 0 = missing. Few values are parts of their own, the rest one."""
    seen = np.isfinite(x)
    part = np.zeros(len(x), dtype=np.int64)
    values, counts = np.unique(x[seen], return_counts=True)
    if len(values) <= PARTS:
        part[seen] = np.searchsorted(values, x[seen]) + 1
        return part
    if counts.max() > 1 and counts[np.argsort(-counts)[: PARTS - 1]].sum() > 0.8 * counts.sum():
        frequent = values[np.argsort(-counts, kind="stable")[: PARTS - 1]]
        for k, v in enumerate(frequent):
            part[x == v] = k + 1
        part[seen & (part == 0)] = PARTS
        return part
    cuts = np.quantile(x[seen], np.arange(1, PARTS) / PARTS)
    part[seen] = np.searchsorted(cuts, x[seen], side="right") + 1
    return part


def _cells(x: Float, y: Bool) -> tuple[Float, Float]:
    """((p, p) share of the variance the joint cells explain in all rows, the same in rows that have both values)."""
    n, p = x.shape
    k = PARTS + 1
    hot = np.zeros((n, p, k), dtype=np.float32)
    for j in range(p):
        hot[np.arange(n), j, _parts(x[:, j])] = 1
    flat = hot.reshape(n, p * k)
    size = (flat.T @ flat).reshape(p, k, p, k).transpose(0, 2, 1, 3).astype(np.float64)
    events = (flat[y].T @ flat[y]).reshape(p, k, p, k).transpose(0, 2, 1, 3).astype(np.float64)
    return _explained(size, events), _explained(size[:, :, 1:, 1:], events[:, :, 1:, 1:])


def _explained(size: Float, events: Float) -> Float:
    """(p, p) from (p, p, k, k) rows and events: η², less what as many cells explain by chance."""
    n, e = size.sum((2, 3)), events.sum((2, 3))
    between = (events**2 / np.maximum(size, 1)).sum((2, 3)) - e**2 / np.maximum(n, 1)
    total = e * (1 - e / np.maximum(n, 1))
    chance = (size > 0).sum((2, 3)) / np.maximum(n, 1)
    return np.where(total > 0, between / np.maximum(total, 1e-9) - chance, 0.0)


def _line(x: Float, y: Bool) -> Float:
    """(p, p) squared multiple correlation of the label with two columns, missing values at the mean."""
    mean = np.nanmean(x, axis=0)
    z = np.where(np.isfinite(x), x - mean, 0.0)
    z /= np.maximum(np.sqrt((z**2).mean(axis=0)), 1e-12)
    t = (y - y.mean()) / max(float(y.std()), 1e-12)
    r, c = z.T @ t / len(y), z.T @ z / len(y)
    apart = np.maximum(1 - c**2, 1e-6)
    return np.where(np.abs(c) > 0.999, 0.0, (r[:, None] ** 2 + r[None] ** 2 - 2 * r[:, None] * r[None] * c) / apart)


def _judge(x: Float, y: Bool, subject: Ids, half: NDArray[np.int64], z: float) -> tuple[Severity, float, str] | None:
    """(severity, AUROC, words) of a pair in the rows that have both values, or in all; None = no suspicion."""
    both = np.isfinite(x).all(axis=1)
    for at, where in ((both, "rows that have both"), (np.ones(len(y), dtype=bool), "all rows")):
        yes, no = patients(subject[at & y]), patients(subject[at & ~y])
        if min(yes, no) < SMALL_CELL:
            continue
        risk = _out_of_fold(x[at], y[at], half[at])
        if risk is None:
            continue
        a = auroc(y[at], risk)
        low, high = auroc_limits(a, yes, no, z)
        words = f"together AUROC {a:.3f} ({low:.3f} to {high:.3f}, for all pairs searched) in {where}"
        if a >= COPY and low > TOO_GOOD:
            return "leak", a, words
        if low > TOO_GOOD and max(_alone(x[at, k], y[at]) for k in (0, 1)) < WEAK:
            return "suspect", a, words
    return None


def _alone(x: Float, y: Bool) -> float:
    seen = np.isfinite(x)
    if len(np.unique(y[seen])) < 2:
        return 0.5
    a = auroc(y[seen], x[seen])
    return max(a, 1 - a)


def _out_of_fold(x: Float, y: Bool, half: NDArray[np.int64]) -> Float | None:
    """(n,) risk of each row by a tree that was fitted on the other half of the patients."""
    from sklearn.tree import DecisionTreeClassifier

    risk = np.zeros(len(y))
    for side in (0, 1):
        fit, rest = half == side, half != side
        if len(np.unique(y[fit])) < 2 or not rest.any():
            return None
        tree = DecisionTreeClassifier(max_depth=8, min_samples_leaf=5, random_state=0)
        table = _together(x, y, fit)
        risk[rest] = tree.fit(table[fit], y[fit]).predict_proba(table[rest])[:, 1]
    return risk


def _together(x: Float, y: Bool, fit: Bool) -> Float:
    """(n, 6) both columns, sum, difference, product, and the best line through them by the rows ``fit``."""
    missing = ~np.isfinite(x)
    mean = np.nanmean(np.where(missing[fit], np.nan, x[fit]), axis=0)
    a, b = np.where(missing, mean, x).T
    low = np.nanmin(x, axis=0)
    kept = np.where(missing, low - 1 - np.abs(low), x)
    centred = np.stack([a, b], axis=1) - mean
    weights, *_ = np.linalg.lstsq(centred[fit], y[fit] - y[fit].mean(), rcond=None)
    product = (a - np.median(a[fit])) * (b - np.median(b[fit]))
    return np.column_stack([kept, a + b, a - b, product, centred @ weights])

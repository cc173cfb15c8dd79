"""Pattern rectifiers: one offset per observation pattern δ and task.

``ThresholdRectifier`` is the published rule (CRL-MMNAR, section 3.3, step 2). ``LatticeRectifier`` is our default: it
replaces the threshold by the shrinkage that a small hierarchical model of the offsets asks for. An offset is the mean
error of these risks among patients with this pattern. It says nothing about what observing a modality would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmnar.errors import ConfigError
from mmnar.ops.threads import one_thread
from mmnar.posthoc.base import EXCLUSIVE, Correction, FittedCorrection, Offset, bound_tasks, fitting_keys, too_few
from mmnar.posthoc.platt import APPLY_CLIP, CLIP
from mmnar.predictions import Predictions
from mmnar.privacy import refusals_by_group
from mmnar.roles import Calibration, subject_keys

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]
Counts = list[tuple[int | None, int | None]]

Z90: Final = 1.6448536269514722
LARGEST: Final = 3.0
"""Offsets on the logit scale stay within ±3 (odds × 20)."""
SCALES: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Standard deviations a prior component may have, logit scale. A bounded grid cannot diverge; an optimiser can."""
LEAST_INFORMATION: Final = 1e-4
INFLATION: Final = 1.25
"""Measured: unwidened 90 % intervals of the offsets cover .60-.94; posterior sd is widened by this. Approximate."""


# --- the published rule ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedThreshold(FittedCorrection):
    """τ per pattern and task, applied where ``|τ| > κ``.

    Attributes:
        offsets: task -> one Offset per pattern seen, probability scale.
        kappa: task -> the threshold chosen.
        no_effect: Empty: this rule states no probability that patterns do not matter.
    """

    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    offsets: dict[str, tuple[Offset, ...]]
    kappa: dict[str, float]
    fitted_on: NDArray[np.uint64] = field(repr=False)
    no_effect: dict[str, float] = field(default_factory=dict)
    suffix: str = "+rectifier"

    def risks(self, predictions: Predictions[Any]) -> Float:
        index, patterns = predictions.pattern_ids()
        names = pattern_names(patterns, self.modalities)
        columns = []
        for task in self.tasks:
            tau = {o.pattern: o.value for o in self.offsets[task]}
            per_pattern = np.array([tau.get(name, 0.0) for name in names])
            columns.append(threshold(predictions.task(task)[0], per_pattern[index], self.kappa[task]))
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "threshold",
            "tasks": list(self.tasks),
            "modalities": list(self.modalities),
            "offsets": {t: [asdict(o) for o in rows] for t, rows in self.offsets.items()},
            "kappa": self.kappa,
            "fitted_on": self.fitted_on.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FittedThreshold:
        """Rebuild exactly what ``to_dict`` wrote."""
        keys = np.array(data["fitted_on"], dtype=np.uint64)
        offsets = {t: _offsets(rows) for t, rows in data["offsets"].items()}
        return cls(tuple(data["tasks"]), tuple(data["modalities"]), offsets, dict(data["kappa"]), keys)


@dataclass(frozen=True)
class ThresholdRectifier(Correction):
    """The published rectifier (CRL-MMNAR, section 3.3; worked example in its appendix A).

    ``τ_δ = mean(y − p)`` over the labels of pattern δ; ``p' = clip(p + 1{|τ_δ| > κ} τ_δ, 0, 1)``. κ is chosen per task
    by the Brier score over ``folds`` folds of subjects, τ estimated on the other folds and applied to the one left out
    (two folds are the published swap). The τ kept are then estimated from all calibration labels: the swap would throw
    half of them away. Of equally good κ the largest, which corrects least, is taken.

    Args:
        kappas: Candidates for κ.
        folds: Folds of subjects for choosing κ.
        seed: Of the assignment of subjects to folds.
    """

    kappas: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.05)
    folds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigError("ThresholdRectifier.folds", "at least 2", f"{self.folds}", "use 2 or 5")
        if not self.kappas or min(self.kappas) < 0:
            raise ConfigError("ThresholdRectifier.kappas", "numbers >= 0", f"{self.kappas}", "use the defaults")

    def fit(self, calibration: Predictions[Calibration]) -> FittedThreshold:
        keys = fitting_keys(calibration)
        index, patterns = calibration.pattern_ids()
        names = pattern_names(patterns, calibration.modalities)
        fold = (subject_keys(calibration.subject_id, self.seed) % np.uint64(self.folds)).astype(np.int64)
        bound = bound_tasks(calibration)
        offsets: dict[str, tuple[Offset, ...]] = {}
        kappa = {}
        for task in calibration.tasks:
            p, labels, asked = calibration.task(task)
            if task in bound:  # no offset at all: risks of an exclusive panel sum to 1
                offsets[task], kappa[task] = (), 0.0
                continue
            p, y, g = p[asked], labels[asked].astype(np.float64), index[asked]
            kappa[task] = self._choose(p, y, g, fold[asked], len(names))
            counts = _counts(g, y, calibration.subject_id[asked], len(names))
            offsets[task] = _threshold_offsets(names, p, y, g, counts, kappa[task])
        return FittedThreshold(calibration.tasks, calibration.modalities, offsets, kappa, keys)

    def _choose(self, p: Float, y: Float, g: Int, fold: Int, groups: int) -> float:
        """κ with the smallest cross-validated Brier score."""
        tau = np.zeros_like(p)
        for k in range(self.folds):
            held = fold == k
            tau[held] = residual_means(p[~held], y[~held], g[~held], groups)[g[held]]
        loss = {kappa: float(np.sum((threshold(p, tau, kappa) - y) ** 2)) for kappa in self.kappas}
        return min(loss, key=lambda kappa: (loss[kappa], -kappa))


def threshold(proba: Float, tau: Float, kappa: float) -> Float:
    """``clip(p + 1{|τ| > κ} τ, 0, 1)``, elementwise.

    >>> threshold(np.array([.30, .30, .95]), np.array([.08, .05, .08]), .05).round(3).tolist()
    [0.38, 0.3, 1.0]
    """
    return np.asarray(np.clip(proba + np.where(np.abs(tau) > kappa, tau, 0.0), 0, 1))


def residual_means(proba: Float, y: Float, group: Int, groups: int) -> Float:
    """(G,) mean of y − p per pattern; 0 for a pattern without labels.

    >>> residual_means(np.array([.2, .4, .5]), np.array([0., 1., 1.]), np.array([0, 0, 2]), 3).round(2).tolist()
    [0.2, 0.0, 0.5]
    """
    n = np.bincount(group, minlength=groups)
    return np.asarray(np.bincount(group, y - proba, groups) / np.maximum(n, 1))


def _threshold_offsets(
    names: list[tuple[str, ...]], p: Float, y: Float, g: Int, counts: Counts, kappa: float
) -> tuple[Offset, ...]:
    groups = len(names)
    tau, n = residual_means(p, y, g, groups), np.bincount(g, minlength=groups)
    half = Z90 * np.sqrt(np.bincount(g, p * (1 - p), groups)) / np.maximum(n, 1)
    rows = [
        Offset(names[i], *counts[i], float(tau[i]), float(tau[i] - half[i]), float(tau[i] + half[i]),
               bool(abs(tau[i]) > kappa))
        for i in np.flatnonzero(n)
    ]  # fmt: skip
    return tuple(rows)


# --- the lattice ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedLattice(FittedCorrection):
    """Posterior mean offsets per pattern and task, logit scale.

    Attributes:
        offsets: task -> one Offset per pattern seen; empty where nothing was fitted.
        unseen: task -> [intercept, coefficient of each modality's ±1 bit], for patterns not seen.
        no_effect: task -> posterior probability that the pattern does not matter.
        reasons: task -> why the task's risks are left as they are; "" where they are not.
    """

    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    offsets: dict[str, tuple[Offset, ...]]
    unseen: dict[str, tuple[float, ...]]
    no_effect: dict[str, float]
    reasons: dict[str, str]
    fitted_on: NDArray[np.uint64] = field(repr=False)
    suffix: str = "+rectifier"

    def offset(self, task: str, patterns: Bool) -> Float:
        """(G,) offset of each of (G, M) patterns, seen or not; clipped to ±3."""
        known = {o.pattern: o.value for o in self.offsets[task]}
        new = np.clip(lattice_design(patterns) @ np.array(self.unseen[task]), -LARGEST, LARGEST)
        names = pattern_names(patterns, self.modalities)
        return np.array([known.get(name, float(a)) for name, a in zip(names, new, strict=True)])

    def risks(self, predictions: Predictions[Any]) -> Float:
        index, patterns = predictions.pattern_ids()
        columns = []
        for task in self.tasks:
            proba = predictions.task(task)[0]
            columns.append(proba if self.reasons[task] else shift(proba, self.offset(task, patterns)[index]))
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "lattice",
            "tasks": list(self.tasks),
            "modalities": list(self.modalities),
            "offsets": {t: [asdict(o) for o in rows] for t, rows in self.offsets.items()},
            "unseen": {t: list(b) for t, b in self.unseen.items()},
            "no_effect": self.no_effect,
            "reasons": self.reasons,
            "fitted_on": self.fitted_on.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FittedLattice:
        """Rebuild exactly what ``to_dict`` wrote."""
        return cls(
            tuple(data["tasks"]),
            tuple(data["modalities"]),
            {t: _offsets(rows) for t, rows in data["offsets"].items()},
            {t: tuple(b) for t, b in data["unseen"].items()},
            dict(data["no_effect"]),
            dict(data["reasons"]),
            np.array(data["fitted_on"], dtype=np.uint64),
        )


@dataclass(frozen=True)
class LatticeRectifier(Correction):
    """Hierarchical shrinkage of pattern offsets on the logit scale; the default.

    For pattern g with M bits, ``logit p' = logit p + a_g`` and

        ``a_g = b_0 + Σ_m b_m f_gm + e_g``,  ``f_gm = ±1``,
        ``b_0 ~ N(0, s₀²)``, ``b_m ~ N(0, s₁²/M')``, ``e_g ~ N(0, s₂²)``

    over the M' bits that vary. The likelihood of a_g is the normal one of the working response of logistic regression
    (penalised quasi-likelihood, Breslow & Clayton 1993), taken at 0 and again at the posterior mean. s₀, s₁, s₂ each
    range over ``SCALES`` with prior mass ``p0`` on zero, the rest spread evenly; all 216 combinations are averaged by
    their marginal likelihood. Tasks with fewer than 40 events are left as they are and say so.

    Args:
        p0: Prior probability that a component is absent: .85 is safe where patterns may not matter, .5 is eager.
    """

    p0: float = 0.85

    def __post_init__(self) -> None:
        if not 0 < self.p0 < 1:
            raise ConfigError("LatticeRectifier.p0", "a number within (0, 1)", f"{self.p0}", "use 0.85")

    def fit(self, calibration: Predictions[Calibration]) -> FittedLattice:
        keys, bound = fitting_keys(calibration), bound_tasks(calibration)
        index, patterns = calibration.pattern_ids()
        m = len(calibration.modalities)
        offsets: dict[str, tuple[Offset, ...]] = {}
        unseen, no_effect, reasons = {}, {}, {}
        for task in calibration.tasks:
            p, labels, asked = calibration.task(task)
            p, y, g = p[asked], labels[asked].astype(np.float64), index[asked]
            reasons[task] = EXCLUSIVE if task in bound else too_few(int(y.sum()))
            if reasons[task]:
                # no labels, no update: the probability of "no effect" stays what it was before
                offsets[task], unseen[task], no_effect[task] = (), (0.0,) * (m + 1), self.p0**2
                continue
            seen, g = np.unique(g, return_inverse=True)
            lattice = fit_lattice(p, y, g, patterns[seen], self.p0)
            counts = _counts(g, y, calibration.subject_id[asked], len(seen))
            offsets[task] = _lattice_offsets(pattern_names(patterns[seen], calibration.modalities), lattice, counts)
            unseen[task] = tuple(float(b) for b in lattice.coefficients)
            no_effect[task] = lattice.no_effect
        return FittedLattice(
            calibration.tasks, calibration.modalities, offsets, unseen, no_effect, reasons, fitted_on=keys
        )


@dataclass(frozen=True)
class Lattice:
    """Posterior of the offsets of G patterns.

    Attributes:
        mean, sd: (G,) posterior mean (clipped to ±3) and standard deviation.
        coefficients: (M + 1,) posterior mean of b; 0 for a bit that does not vary.
        no_effect: Posterior probability of s₁ = s₂ = 0.
    """

    mean: Float
    sd: Float
    coefficients: Float
    no_effect: float


def fit_lattice(proba: Float, y: Float, group: Int, patterns: Bool, p0: float, dispersion: float = 1.0) -> Lattice:
    """Posterior offsets from (N,) risks, (N,) outcomes and (N,) pattern numbers into (G, M) patterns, all with rows.

    Args:
        proba: Clipped to [1e-4, 1 − 1e-4] here.
        y: 0/1, or true risks where they are known.
        group, patterns: Which pattern a row has.
        p0: Prior probability that a variance component is zero.
        dispersion: Variance of y − p relative to p(1−p): 1 for labels, less where y are true risks.

    Returns:
        The posterior, averaged over the grid.
    """
    l = logit(np.clip(proba, CLIP, 1 - CLIP))  # noqa: E741
    X = lattice_design(patterns)
    offset = np.zeros(len(patterns))
    # The second pass starts at the shrunken offsets: from the unshrunken ones, one event in a pattern of five patients
    # would look like strong evidence (the working variance collapses or explodes), and thousands of such patterns harm.
    for _ in range(2):
        z, v = working_response(l, y, group, offset)
        lattice = average_grid(z, v * dispersion, X, p0)
        offset = lattice.mean
    return lattice


def working_response(l: Float, y: Float, group: Int, offset: Float) -> tuple[Float, Float]:  # noqa: E741
    """(G,) working response z and its variance v at (G,) offsets a.

    ``q = sig(l + a_g)``, ``I_g = max(Σ q(1−q), 1e-4)``, ``z_g = a_g + Σ (y − q) / I_g``, ``v_g = 1 / I_g``. At a = 0 z
    is the mean residual of the pattern, rescaled to logits.
    """
    q = expit(l + offset[group])
    information = np.maximum(np.bincount(group, q * (1 - q), len(offset)), LEAST_INFORMATION)
    return offset + np.bincount(group, y - q, len(offset)) / information, 1 / information


def lattice_design(patterns: Bool) -> Float:
    """(G, M + 1): ones, then +1 for an observed and −1 for a missing modality.

    >>> lattice_design(np.array([[True, False]])).tolist()
    [[1.0, 1.0, -1.0]]
    """
    return np.concatenate([np.ones((len(patterns), 1)), np.where(patterns, 1.0, -1.0)], axis=1)


@one_thread
def average_grid(z: Float, v: Float, X: Float, p0: float) -> Lattice:
    """Average the 216 normal models ``z ~ N(Xb + e, diag(v))`` by their marginal likelihoods.

    With ``D = diag(prior sd of b)``, ``W = 1/(v+s₂²)`` and ``P = I + D X'WX D``:
    ``b̂ = D P⁻¹ D X'Wz`` and ``log m = −½[Σ log(v+s₂²) + z'Wz − b̂'X'Wz + log|P|]``. Columns with prior sd 0 drop out of
    this form by themselves, so that the whole grid is one batched solve. Given a combination,
    ``a = f + h (z − f)``, ``f = X b̂``, ``h = s₂²/(v+s₂²)``, ``Var a = (1−h)² x'Cov(b)x + h v``.
    """
    s = np.array(SCALES)
    log_prior = np.log(np.where(s == 0, p0, (1 - p0) / (len(s) - 1)))
    varies = np.concatenate([[True], (X[:, 1:] != X[0, 1:]).any(axis=0)])
    bits = max(int(varies[1:].sum()), 1)
    # (36, M + 1) prior sd of b for every (s0, s1)
    s0, s1 = (a.reshape(-1) for a in np.meshgrid(s, s, indexing="ij"))
    D = np.concatenate([s0[:, None], np.repeat(s1[:, None] / np.sqrt(bits), X.shape[1] - 1, axis=1)], axis=1) * varies
    W = 1 / (v + s[:, None] ** 2)  # (6, G)
    XWX = np.einsum("kg,gi,gj->kij", W, X, X, optimize=True)
    XWz = (W * z) @ X  # (6, M + 1)
    P = np.eye(X.shape[1]) + D[:, None, :, None] * XWX * D[:, None, None, :]  # (36, 6, M + 1, M + 1)
    cov = D[:, None, :, None] * np.linalg.inv(P) * D[:, None, None, :]
    b = np.einsum("ckij,kj->cki", cov, XWz)
    fit = np.log(v + s[:, None] ** 2).sum(axis=1) + (W * z**2).sum(axis=1)  # (6,)
    log_m = -0.5 * (fit - np.einsum("cki,ki->ck", b, XWz) + np.linalg.slogdet(P)[1])
    prior = (log_prior[:, None] + log_prior).reshape(-1)[:, None] + log_prior  # (36, 6)
    weight = np.exp(log_m + prior - (log_m + prior).max())
    weight /= weight.sum()

    h = s[:, None] ** 2 * W  # (6, G)
    mean, second = np.zeros_like(z), np.zeros_like(z)
    for k in range(len(s)):
        f = b[:, k] @ X.T  # (36, G)
        a = f + h[k] * (z - f)
        shared = np.einsum("gi,ij,gj->g", X, np.einsum("c,cij->ij", weight[:, k], cov[:, k]), X, optimize=True)
        mean += weight[:, k] @ a
        second += weight[:, k] @ a**2 + (1 - h[k]) ** 2 * shared + weight[:, k].sum() * h[k] * v
    sd = np.sqrt(np.maximum(second - mean**2, 0))
    null = float(weight.reshape(6, 6, 6)[:, 0, 0].sum())
    return Lattice(np.clip(mean, -LARGEST, LARGEST), sd, np.einsum("ck,cki->i", weight, b), min(null, 1.0))


def shift(proba: Float, offset: Float) -> Float:
    """``sig(logit p + a)``, elementwise: stays in (0, 1) and keeps the order within a pattern.

    >>> shift(np.array([.5, .2]), np.array([np.log(3), 0.])).round(6).tolist()
    [0.75, 0.2]
    """
    return np.asarray(expit(logit(np.clip(proba, APPLY_CLIP, 1 - APPLY_CLIP)) + offset))


def _lattice_offsets(names: list[tuple[str, ...]], lattice: Lattice, counts: Counts) -> tuple[Offset, ...]:
    half = Z90 * INFLATION * lattice.sd
    rows = zip(names, counts, lattice.mean, half, strict=True)
    return tuple(Offset(name, *count, float(a), float(a - w), float(a + w)) for name, count, a, w in rows)


# --- what is told of patterns ---------------------------------------------------------------------------------------


def _counts(group: Int, y: Float, subject: Int, groups: int) -> Counts:
    """Labels and events of each group; None where they are few or would tell of few."""
    n, events = np.bincount(group, minlength=groups), np.bincount(group, y, groups)
    return [
        (None if no_size else int(n[i]), None if no_events else int(events[i]))
        for i, (no_size, no_events) in enumerate(refusals_by_group(group, subject, y == 1, groups))
    ]


def pattern_names(patterns: Bool, modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The modalities present in each of (G, M) patterns.

    >>> pattern_names(np.array([[True, False], [True, True]]), ("ehr", "cxr"))
    [('ehr',), ('ehr', 'cxr')]
    """
    return [tuple(m for m, there in zip(modalities, row, strict=True) if there) for row in patterns]


def _offsets(rows: Iterator[dict[str, Any]]) -> tuple[Offset, ...]:
    return tuple(Offset(**{**row, "pattern": tuple(row["pattern"])}) for row in rows)

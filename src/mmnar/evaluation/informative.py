"""Is missingness informative? Tests of the observation pattern δ against an outcome y, per task.

Three questions, from weak to strong:

* does δ alone rank patients? AUROC of cross-fitted pattern rates (y + 10 ȳ)/(n + 10), p by permuting patients;
* does δ say anything that an always observed part x₀ of the record does not? Generalised covariance measure of Shah &
  Peters (2020): R_im = (δ_im − e_m(x₀ᵢ))(yᵢ − p₀(x₀ᵢ)), T = n R̄ᵀ Cov(R)⁻¹ R̄ ~ χ², with cross-fitted nuisances. Valid
  where the pattern follows x₀ alone (missing at random), where the first question already answers yes;
* how much does it say? Cross-fitted log-likelihood gain of (x₀, δ) over x₀, one-sided z.

Rows of one patient are summed before anything is squared, and folds never split a patient. No test can tell whether δ
stands for what made clinicians look (selection) or changes the outcome itself: the observed data fit both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import chi2, norm

from mmnar.dataset.content import Content, SeriesArrays
from mmnar.dataset.store import PatientDataset
from mmnar.dataset.table import SUMMARIES, series_columns
from mmnar.errors import ConfigError, RequirementError
from mmnar.evaluation.compare import holm
from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Auroc
from mmnar.evaluation.result import COARSE, DIGITS, Estimate
from mmnar.ops.threads import one_thread
from mmnar.privacy import FEW_OUTCOMES, SMALL_CELL, few, in_tens
from mmnar.schema import ModalitySpec

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Columns = Callable[[PatientDataset, Sequence[str]], Float]
"""(N, P) columns of the named modalities, finite everywhere: the always observed part x₀."""

NEARLY_ALWAYS: Final = 0.99
"""Modalities that at least this share of samples has form x₀."""
OFTEN_TOGETHER: Final = 0.90
"""Otherwise x₀ is the largest set of modalities that this share of samples has together; the others are left out."""
FOLDS: Final = 5
SMOOTHING: Final = 10.0
RIDGE: Final = 1.0
MOST_SUBJECTS: Final = 10_000
NATS_PER_BIT: Final = float(np.log(2))
NO_ANCHOR: Final = "not testable without an always observed modality"
NO_BITS: Final = "every other modality is present, or absent, for all but fewer than 10 patients"
ALL_ALWAYS: Final = "every modality is always observed"


@dataclass(frozen=True)
class ModalitySignal:
    """One modality's presence given x₀; ``z`` > 0: those who have it have the outcome more often than x₀ says."""

    modality: str
    z: float
    p: float
    p_holm: float | None = None


@dataclass(frozen=True)
class Conditional:
    """δ given x₀.

    Args:
        statistic, df, p: Of the generalised covariance measure.
        modalities: Each bit by itself.
        gain: Cross-fitted log-likelihood gain of δ in nats a sample, with its 95 % interval.
        gain_p: One-sided, of gain > 0; conservative.
        p_holm, gain_p_holm: Corrected over the tasks.
    """

    statistic: float
    df: int
    p: float
    modalities: tuple[ModalitySignal, ...]
    gain: Estimate
    gain_p: float
    p_holm: float | None = None
    gain_p_holm: float | None = None

    @property
    def bits(self) -> float | None:
        """The gain in bits."""
        return None if self.gain.value is None else self.gain.value / NATS_PER_BIT


@dataclass(frozen=True)
class TaskSignal:
    """One task.

    Args:
        samples, patients: Asked, among those used; None where all but fewer than ten patients were.
        pattern_auroc: Of the pattern's cross-fitted outcome rate, pairs of one fold only.
        pattern_p: One-sided, patients permuted.
        conditional: None where not testable; ``reason`` says why.
        left_out: Modalities that fewer than ten of the patients asked have, or lack: no bit to test.
    """

    samples: int | None
    patients: int | None
    pattern_auroc: Estimate
    pattern_p: float | None = None
    pattern_p_holm: float | None = None
    conditional: Conditional | None = None
    reason: str = ""
    left_out: tuple[str, ...] = ()

    def disclosed(self) -> TaskSignal:
        """The digits that may be saved or shown."""
        c = self.conditional
        if c is not None:
            z = tuple(replace(m, z=round(m.z, COARSE)) for m in c.modalities)
            c = replace(c, statistic=round(c.statistic, COARSE), modalities=z, gain=c.gain.rounded(DIGITS + 2))
        return replace(self, pattern_auroc=self.pattern_auroc.rounded(COARSE), conditional=c)


@dataclass(frozen=True)
class Informativeness:
    """Answers for a dataset.

    Args:
        tasks: task → answers.
        always: Modalities of x₀.
        rule: In words, how they were chosen.
        kept: Share of samples that have all of x₀ and were used for the tests given x₀, to the nearest ten samples.
        subjects_used, subjects: Patients used, and in the dataset; fewer where it is very large.
        permutations: Behind ``pattern_p``.
    """

    tasks: dict[str, TaskSignal]
    always: tuple[str, ...]
    rule: str
    kept: float
    subjects_used: int
    subjects: int
    permutations: int

    def disclosed(self) -> Informativeness:
        """The digits that may be saved or shown: more of a pattern's AUROC would tell how few events are spread."""
        return replace(self, tasks={task: answer.disclosed() for task, answer in self.tasks.items()})


READABLE: Final = ("static", "series")
"""Kinds of modalities that ``table_columns`` can read without anything fitted."""


def table_columns(dataset: PatientDataset, modalities: Sequence[str]) -> Float:
    """(N, P) columns of static modalities and series: standardised numbers and their squares, categories one-hot.

    Of a series the last value and the mean of each feature. A missing value becomes the mean, and whether a feature was
    observed is a column too: what is missing *within* x₀ is part of what x₀ says. Numbers are cut at three standard
    deviations, so that squares stay small. No outcome is looked at; the moments are those of the whole dataset.
    """
    columns = [np.empty((len(dataset), 0))]
    for spec in dataset.schema.modalities:
        if spec.name in modalities:
            for v, categories in features_of(dataset.values[spec.name], spec):
                columns += _coded(v, categories)
    return _informative_columns(np.concatenate(columns, axis=1))


def features_of(content: Content, spec: ModalitySpec) -> Iterator[tuple[Float, int]]:
    """(N,) values of each feature with NaN where missing, and its number of categories."""
    if isinstance(content, SeriesArrays):
        table = series_columns(content, len(spec.features)).reshape(len(content), len(spec.features), len(SUMMARIES))
        for summary in ("last", "mean"):
            yield from ((table[:, j, SUMMARIES.index(summary)], 0) for j in range(len(spec.features)))
    elif isinstance(content, np.ndarray):
        for j, feature in enumerate(spec.features):
            yield np.asarray(content[:, j], dtype=np.float64), len(feature.categories)
    else:
        raise RequirementError(
            f"modality '{spec.name}'", f"one of the kinds {READABLE}", spec.kind, "name other anchors"
        )


def _coded(v: Float, categories: int) -> Iterator[Float]:
    """Columns of one feature."""
    seen = np.isfinite(v)
    if 0 < seen.sum() < len(v):
        yield seen[:, None].astype(np.float64)
    if categories:
        yield (v[:, None] == np.arange(categories)).astype(np.float64)
    elif seen.any():
        z = np.clip(_standardised(np.where(seen, v, v[seen].mean())), -3.0, 3.0)
        yield np.column_stack([z, z * z])


def _standardised(x: Float) -> Float:
    spread = x.std(axis=0)
    centred: Float = x - x.mean(axis=0)
    return np.asarray(centred / np.where(spread > 0, spread, 1.0))


def _informative_columns(x: Float) -> Float:
    """Standardised, constants left out."""
    return _standardised(x[:, x.std(axis=0) > 1e-9])


@one_thread
def informativeness(
    dataset: PatientDataset,
    *,
    permutations: int = 500,
    resamples: int = 200,
    most_subjects: int = MOST_SUBJECTS,
    seed: int = 0,
    columns: Columns = table_columns,
    anchors: Sequence[str] | None = None,
) -> Informativeness:
    """Ask of every task whether the observation pattern is informative.

    Args:
        permutations: Of patients, at least 200.
        resamples: Of the bootstrap behind the AUROC's interval.
        most_subjects: A larger dataset is represented by this many subjects, drawn with ``seed``.
        columns: Gives x₀'s columns of a dataset.
        anchors: Modalities that ``columns`` can read and may serve as x₀; None: those of ``READABLE`` kinds.

    Raises:
        ConfigError: Fewer than 200 permutations.
    """
    if permutations < 200:
        raise ConfigError("permutations", "at least 200", f"{permutations}", "use 500")
    able = [m.name for m in dataset.schema.modalities if m.kind in READABLE] if anchors is None else list(anchors)
    always, rule = choose_anchor(dataset, able)
    rows = sampled_rows(dataset.subject_id, most_subjects, seed)
    has = np.asarray(dataset.present[:, [dataset.schema.modality_names.index(m) for m in always]].all(axis=1))
    if rule.startswith("each"):
        has[:] = True  # the few who lack one are told apart by x₀'s own missing values
    x = columns(dataset, always) if always else np.empty((len(dataset), 0))
    fold = subject_folds(dataset.subject_id, seed)
    resampling = Resampling.draw(dataset.subject_id[rows], resamples, seed)
    tasks = {}
    for k, task in enumerate(dataset.schema.task_names):
        asked = dataset.label_mask[rows, k]
        inside = np.flatnonzero(asked)
        at = rows[inside]
        y, subject = dataset.labels[at, k].astype(np.float64), dataset.subject_id[at]
        if _fewest_patients(y > 0, subject) < SMALL_CELL:
            tasks[task] = TaskSignal(None, None, Estimate(None, reason=FEW_OUTCOMES), reason=FEW_OUTCOMES)
            continue
        signal = _pattern_signal(y, dataset.present[at], subject, fold[at], resampling, inside, permutations, seed)
        usable = has[at]
        if few(len(np.unique(dataset.subject_id[rows[~asked]]))):
            signal = replace(signal, samples=None, patients=None)
        others = [m for m in dataset.schema.modality_names if m not in always]
        tasks[task] = _with_conditional(signal, dataset, at[usable], k, x, fold, others, bool(always))
    subjects = len(np.unique(dataset.subject_id))
    used = len(np.unique(dataset.subject_id[rows]))
    return Informativeness(
        _corrected(tasks), always, rule, in_tens(int(has.sum())) / max(len(has), 1), used, subjects, permutations
    )


def choose_anchor(dataset: PatientDataset, able: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Modalities that form x₀ and how they were chosen, in words; none where no set is common enough."""
    names = dataset.schema.modality_names
    share = {m: float(dataset.present[:, names.index(m)].mean()) if len(dataset) else 0.0 for m in able}
    nearly = tuple(m for m in able if share[m] >= NEARLY_ALWAYS)
    if nearly:
        return nearly, f"each is present in at least {NEARLY_ALWAYS:.0%} of samples"
    often = [m for m in able if share[m] >= OFTEN_TOGETHER]
    for size in range(len(often), 0, -1):
        sets = list(combinations(often, size))
        together = {c: float(dataset.present[:, [names.index(m) for m in c]].all(axis=1).mean()) for c in sets}
        best = max(together, key=lambda c: together[c])
        if together[best] >= OFTEN_TOGETHER:
            return best, f"the largest set that at least {OFTEN_TOGETHER:.0%} of samples have together"
    return (), NO_ANCHOR


def sampled_rows(subject_id: Int, most: int, seed: int) -> Int:
    """Rows of at most ``most`` subjects, whole subjects at a time."""
    subjects = np.unique(subject_id)
    if len(subjects) <= most:
        return np.arange(len(subject_id))
    chosen = np.random.default_rng(seed).choice(subjects, most, replace=False)
    return np.flatnonzero(np.isin(subject_id, chosen))


def subject_folds(subject_id: Int, seed: int) -> Int:
    """(N,) fold of each row, 0 … FOLDS−1; folds of equally many subjects, none of them split."""
    subjects, which = np.unique(subject_id, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(subjects))
    return (order % FOLDS)[which.reshape(-1)].astype(np.int64)


def _fewest_patients(split: Bool, subject: Int) -> int:
    """The smaller of the numbers of patients with and without."""
    return min(len(np.unique(subject[split])), len(np.unique(subject[~split])))


# --- the pattern alone ------------------------------------------------------------------------------------------------


def _pattern_signal(
    y: Float, present: Bool, subject: Int, fold: Int, resampling: Resampling, rows: Int, permutations: int, seed: int
) -> TaskSignal:
    group = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1)
    rate = pattern_rates(y[:, None], group, fold)[:, 0]
    metric = Auroc(y, rate, fold)
    auroc = point(metric, len(y))
    words = interval(auroc, resampling.values(metric, rows), "no pair in the same fold")
    patients = len(np.unique(subject))
    if not np.isfinite(auroc):
        return TaskSignal(len(y), patients, words)
    reached = 0
    for labels in permuted_labels(y, subject, permutations, seed):
        reached += int((fold_auroc(labels, group, fold) >= auroc - 1e-12).sum())
    return TaskSignal(len(y), patients, words, (reached + 1) / (permutations + 1))


def pattern_rates(y: Float, group: Int, fold: Int) -> Float:
    """(n, B) smoothed outcome rate of each row's pattern in the other folds, for (n, B) outcomes.

    (Σy + 10 ȳ)/(n + 10), sums and ȳ over the other folds; a pattern seen nowhere else gets ȳ.
    """
    rates = np.empty_like(y)
    for f in range(FOLDS):
        held = fold == f
        rates[held] = _rates_elsewhere(y, group, ~held)[group[held]]
    return rates


def _rates_elsewhere(y: Float, group: Int, rest: Bool) -> Float:
    """(G, B) smoothed rates over the rows ``rest``."""
    n = np.bincount(group[rest], minlength=group.max() + 1).astype(np.float64)
    mean = y[rest].mean(axis=0)
    return np.asarray((_group_sums(y[rest], group[rest], len(n)) + SMOOTHING * mean) / (n[:, None] + SMOOTHING))


def _group_sums(y: Float, group: Int, groups: int) -> Float:
    """(G, B) sums of (n, B) by group."""
    order = np.argsort(group, kind="stable")
    found, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((groups, y.shape[1]))
    if len(found):
        sums[found] = np.add.reduceat(y[order], starts, axis=0)
    return sums


def fold_auroc(y: Float, group: Int, fold: Int) -> Float:
    """(B,) AUROC of ``pattern_rates`` for (n, B) outcomes over pairs of the same fold; ties count half.

    All rows of a pattern share a rate within a fold, so patterns are ranked, not rows.
    """
    right, pairs = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    groups = int(group.max()) + 1
    for f in range(FOLDS):
        held = fold == f
        rate = _rates_elsewhere(y, group, ~held)
        positive = _group_sums(y[held], group[held], groups)
        negative = np.bincount(group[held], minlength=groups)[:, None] - positive
        order = np.argsort(rate, axis=0, kind="stable")
        rate, positive, negative = (np.take_along_axis(a, order, axis=0) for a in (rate, positive, negative))
        new = np.ones(rate.shape, dtype=bool)
        new[1:] = rate[1:] != rate[:-1]
        total = np.cumsum(negative, axis=0)
        # negatives below the first pattern of each tie, and up to its last
        below = np.maximum.accumulate(np.where(new, total - negative, 0.0), axis=0)
        last = np.ones(rate.shape, dtype=bool)
        last[:-1] = new[1:]
        upto = np.minimum.accumulate(np.where(last, total, np.inf)[::-1], axis=0)[::-1]
        right += (positive * (below + upto) / 2).sum(axis=0)
        pairs += positive.sum(axis=0) * negative.sum(axis=0)
    return np.asarray(np.divide(right, pairs, out=np.full(len(pairs), 0.5), where=pairs > 0))


def permuted_labels(y: Float, subject: Int, permutations: int, seed: int, block: int = 50) -> list[Float]:
    """Blocks of (n, b) outcomes in which patients have swapped outcomes with patients of equally many rows."""
    rng = np.random.default_rng([seed, 0x9E27])
    order = np.argsort(subject, kind="stable")
    _, starts, sizes = np.unique(subject[order], return_index=True, return_counts=True)
    strata = [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]
    blocks = []
    for begin in range(0, permutations, block):
        labels = np.empty((len(y), min(block, permutations - begin)))
        for b in range(labels.shape[1]):
            for rows in strata:  # (S, size) rows of the patients of one size
                labels[rows, b] = y[rows[rng.permutation(len(rows))]]
        blocks.append(labels)
    return blocks


# --- given x₀ ---------------------------------------------------------------------------------------------------------


def _with_conditional(
    signal: TaskSignal,
    dataset: PatientDataset,
    rows: Int,
    task: int,
    x: Float,
    fold: Int,
    others: Sequence[str],
    anchored: bool,
) -> TaskSignal:
    """Add what δ says beyond x₀, or the reason it cannot be said."""
    if not anchored:
        return replace(signal, reason=NO_ANCHOR)
    if not others:
        return replace(signal, reason=ALL_ALWAYS)
    subject = dataset.subject_id[rows]
    y = dataset.labels[rows, task].astype(np.float64)
    if _fewest_patients(y > 0, subject) < SMALL_CELL:
        return replace(signal, reason=FEW_OUTCOMES)
    bit = {m: dataset.present[rows, dataset.schema.modality_names.index(m)] for m in others}
    bits = [m for m in others if _fewest_patients(bit[m], subject) >= SMALL_CELL]
    left_out = tuple(m for m in others if m not in bits)
    if not bits:
        return replace(signal, reason=NO_BITS, left_out=left_out)
    delta = np.column_stack([bit[m] for m in bits]).astype(np.float64)
    found = conditional(y, delta, x[rows], subject, fold[rows], bits)
    return replace(signal, conditional=found, left_out=left_out)


def conditional(y: Float, delta: Float, x: Float, subject: Int, fold: Int, names: Sequence[str]) -> Conditional:
    """The generalised covariance measure and the likelihood gain of bits ``delta`` (n, M') given ``x`` (n, P).

    Args:
        y: (n,) outcomes, 0 or 1.
        subject, fold: (n,) rows of one subject are in one fold.
        names: M' modalities.
    """
    p0 = cross_fitted(x, y, fold)
    e = np.column_stack([cross_fitted(x, d, fold) for d in delta.T])
    which = np.unique(subject, return_inverse=True)[1].reshape(-1)
    residual = _group_sums((delta - e) * (y - p0)[:, None], which, int(which.max()) + 1)
    statistic, df, z = covariance_test(residual)
    modalities = tuple(ModalitySignal(m, float(v), float(2 * norm.sf(abs(v)))) for m, v in zip(names, z, strict=True))
    p1 = cross_fitted(np.column_stack([x, _standardised(delta)]), y, fold)
    gain, gain_p = _gain(_log_likelihood(y, p1) - _log_likelihood(y, p0), which)
    return Conditional(statistic, df, float(chi2.sf(statistic, df)), modalities, gain, gain_p)


def covariance_test(residual: Float) -> tuple[float, int, Float]:
    """(T, rank, z): T = n R̄ᵀ Cov(R)⁻ R̄ of (S, M') patients' sums, its degrees of freedom, and each column's z.

    Bits that repeat each other make Cov(R) singular: the generalised inverse is taken and the rank is the χ²'s degrees
    of freedom.
    """
    n, mean = len(residual), residual.mean(axis=0)
    cov = np.atleast_2d(np.cov(residual, rowvar=False))
    scale = np.sqrt(np.diag(cov))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(cov / np.outer(scale, scale))
    used = values > 1e-8 * values.max()
    z = np.sqrt(n) * mean / scale
    statistic = float((((vectors.T @ z) ** 2)[used] / values[used]).sum())
    return statistic, int(used.sum()), np.asarray(z)


def _gain(per_row: Float, which: Int) -> tuple[Estimate, float]:
    """Mean gain a sample with its interval over patients, and the one-sided p of gain > 0."""
    total = np.bincount(which, per_row)
    rows = np.bincount(which)
    mean = float(total.sum() / rows.sum())
    # linearised ratio: rows of one patient hang together
    spread = float((total - mean * rows).std(ddof=1) * np.sqrt(len(total)) / rows.sum())
    if spread == 0:
        return Estimate(mean, mean, mean), 1.0
    return Estimate(mean, mean - 1.96 * spread, mean + 1.96 * spread), float(norm.sf(mean / spread))


def _log_likelihood(y: Float, p: Float) -> Float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(y * np.log(p) + (1 - y) * np.log1p(-p))


def cross_fitted(x: Float, y: Float, fold: Int) -> Float:
    """(n,) risks of ridge-logistic regressions, each row's from the other folds."""
    risk, start = np.empty(len(y)), np.zeros(x.shape[1] + 1)
    for f in range(FOLDS):
        held = fold == f
        # the folds' solutions lie close together
        start = ridge_logistic(x[~held], y[~held], start)
        risk[held] = expit(start[0] + x[held] @ start[1:])
    return risk


def ridge_logistic(x: Float, y: Float, start: Float, tolerance: float = 1e-8) -> Float:
    """(1 + P,) intercept and slopes that minimise Σ log(1 + e^{−(2y−1)(b₀ + xᵀb)}) + ½ λ |b|², λ = RIDGE.

    Newton's method from ``start``, each step halved until it descends; the intercept is not penalised.
    """
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 1e-6  # keeps a one-class fold finite
    b, sign = start, 1 - 2 * y

    def loss(b: Float) -> float:
        return float(np.logaddexp(0, sign * (design @ b)).sum() + 0.5 * (penalty * b * b).sum())

    now = loss(b)
    for _ in range(50):
        p = expit(design @ b)
        gradient = design.T @ (p - y) + penalty * b
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (then := loss(b - size * step)) > now and size > 1e-6:
            size /= 2
        b, before, now = b - size * step, now, then
        if before - now < tolerance * max(1.0, abs(now)):
            break
    return b


def _corrected(tasks: dict[str, TaskSignal]) -> dict[str, TaskSignal]:
    """Holm's correction within each question: over the tasks, and for single modalities over tasks and modalities."""
    asked = [t for t, s in tasks.items() if s.pattern_p is not None]
    for t, p in zip(asked, holm([tasks[t].pattern_p or 0.0 for t in asked]), strict=True):
        tasks[t] = replace(tasks[t], pattern_p_holm=p)
    found = {t: s.conditional for t, s in tasks.items() if s.conditional is not None}
    tests, gains = holm([c.p for c in found.values()]), holm([c.gain_p for c in found.values()])
    single = iter(holm([m.p for c in found.values() for m in c.modalities]))
    for (t, c), p, q in zip(found.items(), tests, gains, strict=True):
        modalities = tuple(replace(m, p_holm=next(single)) for m in c.modalities)
        tasks[t] = replace(tasks[t], conditional=replace(c, p_holm=p, gain_p_holm=q, modalities=modalities))
    return tasks

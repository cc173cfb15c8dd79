"""Do clinicians order otherwise in another store? Asked without any outcome.

Between a source store, that a model may have learned from, and a target store of the same schema:

    rates        how many have each modality, and the difference
    law          total variation ½ Σ_δ |P_source(δ) − P_target(δ)| of the observation patterns δ
    selection    e_m(x₀): who gets modality m in the source, a logistic regression on what is always observed; in the
                 target logit P(δ_m = 1) = α_m + ρ_m logit e_m(x₀).  ρ about 1: patients are chosen as in the source;
                 0: whatever made clinicians order there does not here; below 0: they choose the other way round.
                 α_m, with ρ_m held at 1: ordered more often (> 0) or less than in the source, of like patients
    rare         share of target samples whose pattern fewer than 20 source patients have

ρ is pooled over modalities by inverse variance, and held against the source's own: each patient's e_m, in either store,
is of one of five fits, none of which saw them, for regressions are somewhat too sure of themselves. p values permute
patients between the stores (rates, law) or come from resamples of patients (ρ). A difference in rates alone may be one
in patients; no weights on (x, δ) repair a change of what δ means, for P(y | x, δ) changes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mmnar.dataset.store import PatientDataset
from mmnar.errors import SchemaError
from mmnar.evaluation.compare import holm
from mmnar.evaluation.informative import NO_ANCHOR, READABLE, choose_anchor, sampled_rows
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.metrics import Mean
from mmnar.evaluation.recalibration import line_draws
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.evaluation.selection import Selection
from mmnar.ops.threads import one_thread
from mmnar.predictions import pattern_words
from mmnar.privacy import FEW, SMALL_CELL, in_tens

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

PERMUTATIONS: Final = 499
MOST_SUBJECTS: Final = 10_000
RARE: Final = 20
"""A pattern that fewer source patients have is rare."""
LEVEL: Final = 0.05
TOO_FEW: Final = f"{FEW} have it, or lack it"
UNLIKE: Final = (0.7, 1.3)
"""ρ whose interval lies outside: patients are chosen otherwise."""


@dataclass(frozen=True)
class ModalityShift:
    """One modality.

    Args:
        source, target, difference: Share of samples that have it; target less source.
        p, p_holm: Of the difference; corrected over modalities.
        alpha, rho: Of the target; refused where the modality is part of x₀, or there is none.
        rho_source: Of the source, out of fold.
    """

    modality: str
    source: Estimate
    target: Estimate
    difference: Estimate
    p: float | None
    p_holm: float | None
    alpha: Estimate
    rho: Estimate
    rho_source: Estimate


@dataclass(frozen=True)
class Shift:
    """What differs between two stores.

    Args:
        modalities: In schema order.
        variation, variation_p: Of the law of patterns.
        rho, rho_source, rho_p: Pooled; p of their difference.
        shown: Names of the two tests that survive Holm over both, at .05: ``law``, ``selection``.
        rare: See above.
        always, rule: Modalities of x₀, and how they were chosen; none of them is asked for α and ρ.
        patients: Of source and target, to the nearest ten.
    """

    modalities: tuple[ModalityShift, ...]
    variation: float
    variation_p: float
    rho: Estimate
    rho_source: Estimate
    rho_p: float | None
    shown: tuple[str, ...]
    rare: Estimate
    always: tuple[str, ...]
    rule: str
    patients: tuple[int, int]

    def disclosed(self) -> Shift:
        """With the digits that may be shown: more of a share would tell a small count."""
        names = ("source", "target", "difference", "alpha", "rho", "rho_source")
        rounded = tuple(replace(m, **{n: getattr(m, n).rounded(COARSE) for n in names}) for m in self.modalities)
        estimates = {n: getattr(self, n).rounded(COARSE) for n in ("rho", "rho_source", "rare")}
        return replace(self, modalities=rounded, variation=round(self.variation, COARSE), **estimates)


@one_thread
def shift(source: PatientDataset, target: PatientDataset, *, resamples: int = 400, seed: int = 0) -> Shift:
    """What differs in who has which modality.

    Args:
        resamples: Of each store's patients.
        seed: Of resamples, permutations and folds, and of the 10,000 patients by which a larger store is represented.

    Raises:
        SchemaError: Other modalities or features, or a store without samples.
    """
    _refuse_unlike(source, target)
    rows = [sampled_rows(d.subject_id, MOST_SUBJECTS, seed) for d in (source, target)]
    present = [d.present[r] for d, r in zip((source, target), rows, strict=True)]
    subject = [d.subject_id[r] for d, r in zip((source, target), rows, strict=True)]
    drawn = [Resampling.draw(s, resamples, seed + i) for i, s in enumerate(subject)]
    dealt = _Dealt(present, subject, seed)
    always, rule = choose_anchor(source, [m.name for m in source.schema.modalities if m.kind in READABLE])
    selection = Selection(source, target, rows, always, seed) if always else None
    found = [
        _modality(m, name, present, subject, drawn, dealt, None if name in always else selection, rule)
        for m, name in enumerate(source.schema.modality_names)
    ]
    asked = [f for f in found if f.shift.p is not None]
    corrected = dict(zip([f.shift.modality for f in asked], holm([f.shift.p or 0.0 for f in asked]), strict=True))
    rho, rho_source, rho_p = _pooled([f for f in found if f.draws], NO_ANCHOR if not always else "nothing left to ask")
    variation, variation_p = dealt.variation()
    tests = {"law": variation_p, **({} if rho_p is None else {"selection": rho_p})}
    shown = tuple(n for n, p in zip(tests, holm(list(tests.values())), strict=True) if p < LEVEL)
    return Shift(
        tuple(replace(f.shift, p_holm=corrected.get(f.shift.modality)) for f in found),
        variation,
        variation_p,
        rho,
        rho_source,
        rho_p,
        shown,
        _rare(present, subject, drawn[1]),
        always,
        rule,
        tuple(in_tens(len(np.unique(s))) for s in subject),  # type: ignore[arg-type]
    )


def _refuse_unlike(source: PatientDataset, target: PatientDataset) -> None:
    if source.schema.modalities != target.schema.modalities:
        ours, theirs = (", ".join(d.schema.modality_names) for d in (source, target))
        fact = f"modalities {theirs}" if ours != theirs else "the same names with other features"
        remedy = "prepare it with --like RUN, or with the same spec"
        raise SchemaError("the second store", f"the first one's modalities and features ({ours})", fact, remedy)
    for name, data in (("first", source), ("second", target)):
        if not len(data):
            raise SchemaError(f"the {name} store", "samples", "none", "prepare it again")


# --- rates and patterns -----------------------------------------------------------------------------------------------


class _Dealt:
    """Counts of patterns in both stores, and where patients are dealt out anew between them.

    Attributes:
        patterns: (G, M) bool.
        law: (1 + PERMUTATIONS, 2, G) share of samples with each pattern, in source and target.
    """

    def __init__(self, present: Sequence[Bool], subject: Sequence[Int], seed: int) -> None:
        self.patterns, which = np.unique(np.concatenate(present), axis=0, return_inverse=True)
        people = [np.unique(s, return_inverse=True)[1].reshape(-1) for s in subject]
        sizes = [int(p.max()) + 1 for p in people]
        patient = np.concatenate([people[0], people[1] + sizes[0]])
        counts = np.zeros((sum(sizes), len(self.patterns)))
        np.add.at(counts, (patient, which.reshape(-1)), 1.0)
        rng, law = np.random.default_rng(seed), []
        order = np.arange(sum(sizes))
        for _ in range(1 + PERMUTATIONS):
            first = counts[order[: sizes[0]]].sum(0)
            law.append([first / first.sum(), (counts.sum(0) - first) / (counts.sum() - first.sum())])
            order = rng.permutation(order)
        self.law = np.array(law)

    def variation(self) -> tuple[float, float]:
        """Total variation, and its p value."""
        values = 0.5 * np.abs(self.law[:, 0] - self.law[:, 1]).sum(1)
        return float(values[0]), _p(values)

    def rate_p(self, m: int) -> float:
        """Of the difference of modality ``m``'s rates."""
        rates = self.law @ self.patterns[:, m]  # (1 + PERMUTATIONS, 2)
        return _p(np.abs(rates[:, 1] - rates[:, 0]))


def _p(values: Float) -> float:
    """Of the first value among itself and those by chance."""
    return float((values >= values[0] - 1e-12).sum() / len(values))


def _rare(present: Sequence[Bool], subject: Sequence[Int], drawn: Resampling) -> Estimate:
    patterns, which = np.unique(np.concatenate(present), axis=0, return_inverse=True)
    first, second = which.reshape(-1)[: len(present[0])], which.reshape(-1)[len(present[0]) :]
    pairs = np.unique(np.stack([first, subject[0]]), axis=1)
    rare = np.bincount(pairs[0], minlength=len(patterns))[second] < RARE
    people = [len(np.unique(subject[1][of])) for of in (rare, ~rare)]
    if any(0 < n < SMALL_CELL for n in people):
        return Estimate(None, reason=f"{FEW} on one side")
    return _share(rare, drawn)


def pattern_share(target: PatientDataset, wanted: Callable[[str], bool]) -> Estimate:
    """Share of samples whose pattern (such as "1011") is wanted, without an interval; refused where it tells of few."""
    patterns, which = np.unique(target.present, axis=0, return_inverse=True)
    chosen = np.array([wanted(pattern) for pattern in pattern_words(patterns)])[which.reshape(-1)]
    people = [len(np.unique(target.subject_id[of])) for of in (chosen, ~chosen)]
    if any(0 < n < SMALL_CELL for n in people):
        return Estimate(None, reason=f"{FEW} on one side")
    return Estimate(round(float(chosen.mean()), COARSE))


def _share(has: Bool, drawn: Resampling) -> Estimate:
    return interval(float(has.mean()), drawn.values(Mean(has.astype(np.float64)), np.arange(len(has))), "")


# --- modality by modality ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A modality's figures, and its ρ with resamples in the source and in the target; () where it is not asked."""

    shift: ModalityShift
    draws: tuple[tuple[float, Float], ...] = ()


def _modality(
    m: int,
    name: str,
    present: Sequence[Bool],
    subject: Sequence[Int],
    drawn: Sequence[Resampling],
    dealt: _Dealt,
    selection: Selection | None,
    rule: str,
) -> _Found:
    has = [p[:, m] for p in present]
    people = [len(np.unique(s[h == side])) for h, s in zip(has, subject, strict=True) for side in (True, False)]
    refused = Estimate(None, reason=rule if rule == NO_ANCHOR else "part of what is always observed")
    if any(0 < n < SMALL_CELL for n in people):
        few = Estimate(None, reason=TOO_FEW)
        return _Found(ModalityShift(name, few, few, few, None, None, few, few, few))
    rates = [_share(h, d) for h, d in zip(has, drawn, strict=True)]
    values = [d.values(Mean(h.astype(np.float64)), np.arange(len(h))) for h, d in zip(has, drawn, strict=True)]
    difference = interval(float(has[1].mean() - has[0].mean()), values[1] - values[0], "")
    plain = ModalityShift(name, rates[0], rates[1], difference, dealt.rate_p(m), None, refused, refused, refused)
    if selection is None:
        return _Found(plain)
    asked = [h[of] for h, of in zip(has, selection.has, strict=True)]
    inside = [
        np.unique(s[of][h == side])
        for h, s, of in zip(asked, subject, selection.has, strict=True)
        for side in (True, False)
    ]
    chances = None if min(map(len, inside)) < SMALL_CELL else selection.chances(has[0])
    if chances is None:
        few = Estimate(None, reason=TOO_FEW)
        return _Found(replace(plain, alpha=few, rho=few, rho_source=few))
    at = [np.flatnonzero(of) for of in selection.has]
    draws = tuple(
        line_draws(h.astype(np.float64), e, r, d) for h, e, r, d in zip(asked, chances, at, drawn, strict=True)
    )
    alpha = line_draws(asked[1].astype(np.float64), chances[1], at[1], drawn[1], held=True)
    said = [interval(value, values, TOO_FEW) for value, values in (alpha, *draws)]
    return _Found(replace(plain, alpha=said[0], rho_source=said[1], rho=said[2]), draws)


def _pooled(found: Sequence[_Found], reason: str) -> tuple[Estimate, Estimate, float | None]:
    """ρ over modalities in target and source, weighed by inverse variance, and the p value of their difference."""
    kept = [f.draws for f in found if all(np.isfinite(v) and np.isfinite(d).all() for v, d in f.draws)]
    if not kept:
        none = Estimate(None, reason=reason)
        return none, none, None
    pooled = []
    for store in (1, 0):
        weight = np.array([1 / max(draws[store][1].var(), 1e-12) for draws in kept])
        weight /= weight.sum()
        value = float(weight @ [draws[store][0] for draws in kept])
        pooled.append((value, weight @ np.stack([draws[store][1] for draws in kept])))
    (target, theirs), (source, ours) = pooled
    spread = float(np.sqrt(theirs.var() + ours.var()))
    p = float(2 * norm.sf(abs(target - source) / max(spread, 1e-12)))
    return interval(target, theirs, reason), interval(source, ours, reason), p

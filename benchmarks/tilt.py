"""If ordering changes: does the tilt's advice help, what does a refit win, and do label sets keep their promise?

    python benchmarks/tilt.py [--smallest]

Simulated patients; KL is the excess log loss over the exact risks of the second store's policy, in 1e-4 nats, mean over
three outcomes. Tilt: logistic regression with and without the pattern, fitted on one store and held against others of
other policies at each ω; beside it the ω that `mmnar shift` speaks for. η = 0: patterns are selection alone; η = .5:
they have a direct effect, too, and the advice is expected to go too far. Refit: the factor posterior, fitted on one
store, with a rectifier of so many labelled patients of the other. Bars (B7), of the outcome that a fifth have (the
others: 11 and 8 %): at most .01 AUROC are lost where nobody is selected; where selection is reversed, 1,000 labels
leave at most 30 % of the KL. Sets: exact risks, 2,000 calibration patients, α = .1; share of each label held, by how
many of them had that pattern and label. Bars (B8): from 20 on .89 to .92, and no infinite limits of the default with
M = 4; of all with the outcome .89 to .93.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from mmnar.cohort.build import build_cohort
from mmnar.cohort.split import Split
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.estimators.base import Predictor
from mmnar.estimators.registry import estimator
from mmnar.evaluation.metrics import Auroc
from mmnar.evaluation.shift import shift
from mmnar.evaluation.simulated import excess_kl
from mmnar.evaluation.tilt import OMEGAS, advised, tilted
from mmnar.posthoc import LatticeRectifier
from mmnar.posthoc.refit import Refit
from mmnar.posthoc.sets import BORROWED, OF_MEANS, limit, weights
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

Float = NDArray[np.float64]
_NOBODY = np.empty(0, dtype=np.uint64)
"""Patients of another seed have the numbers of those fitted on, and are others."""
POLICIES: dict[str, dict[str, Any]] = {
    "same": {},
    "higher rates": {"rate_shift": 1.0},
    "half": {"gamma": 0.5},
    "none": {"mcar": 1.0},
    "reversed": {"gamma": -1.0},
}
BINS = ((0, 20), (20, 50), (50, 100), (100, 300), (300, 10**9))


def store(patients: int, seed: int, **policy: Any) -> PatientDataset:
    """One store, through events, cohort and features like real records."""
    extract = read_synthetic(simulate(patients, 4, seed, **policy))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def kl(data: PatientDataset, risks: Float) -> Float:
    """(3,) of each outcome, 1e-4 nats."""
    assert data.bayes is not None
    every = enumerate(data.label_mask.T)
    return 1e4 * np.array([excess_kl(data.bayes[asked, k], risks[asked, k]).mean() for k, asked in every])


# --- ω ----------------------------------------------------------------------------------------------------------------


def tilt(patients: int, seeds: int) -> None:
    print(f"tilt: {patients} patients fitted on, {seeds} seeds; KL at each ω, then at the ω advised")
    for eta in (0.0, 0.5):
        print(f"{f'η = {eta:g}':14}" + "".join(f"{w:8.2f}" for w in OMEGAS) + "  advised      KL")
        for name, policy in POLICIES.items():
            rows = [_tilted(patients, seed, eta, policy) for seed in range(seeds)]
            means = np.mean([row[0] for row in rows], axis=0)
            ours = np.mean([row[1:] for row in rows], axis=0)
            print(f"{name:14}" + "".join(f"{v:8.1f}" for v in means) + f"{ours[0]:9.2f}{ours[1]:8.1f}", flush=True)


def _tilted(patients: int, seed: int, eta: float, policy: dict[str, Any]) -> tuple[Float, float, float]:
    home, there = store(patients, 2 * seed, eta=eta), store(4000, 2 * seed + 1, eta=eta, **policy)
    split, everyone = Split(tune=0.2, test=0.0), there.fold(Split.external(), "test")
    aware, blind = (
        estimator("logistic-pattern", f"model.append_pattern={append}")
        .fit(home.fold(split, "train"), home.fold(split, "tune"))
        .predict_proba(everyone)
        for append in ("true", "false")
    )
    omega = advised(shift(home, there, resamples=100)).omega
    assert omega is not None
    at = [float(kl(there, tilted(blind, aware, w)).mean()) for w in (*OMEGAS, omega)]
    return np.array(at[:-1]), omega, at[-1]


# --- refit ------------------------------------------------------------------------------------------------------------


def refit(patients: int, seeds: int, labels: Sequence[int], fresh: int) -> None:
    print(f"refit: {patients} patients fitted on, {seeds} seeds, η = .5; KL without, then by labels; safe: p0 = .85")
    gaps = {}
    print(f"{'':14}{'none':>8}" + "".join(f"{n:8}" for n in labels) + "".join(f"{f'safe {n}':>10}" for n in labels))
    homes = [store(patients, 3 * seed) for seed in range(seeds)]
    split = Split(tune=0.2, test=0.0)
    fitted = [estimator("factor-posterior").fit(h.fold(split, "train"), h.fold(split, "tune")) for h in homes]
    for name, policy in POLICIES.items():
        rows = [
            _refitted(predictor, home, labels, fresh, 3 * seed + 1, policy)
            for seed, (predictor, home) in enumerate(zip(fitted, homes, strict=True))
        ]
        gaps[name] = float(np.mean([gap for _, gap in rows]))
        means = np.mean([row for row, _ in rows], axis=0)  # (1 + 2 L, 3)
        none, ours, safe = np.split(means.mean(axis=1), [1, 1 + len(labels)])
        print(f"{name:14}{none[0]:8.1f}" + "".join(f"{v:8.1f}" for v in ours) + "".join(f"{v:10.1f}" for v in safe))
        if name == "reversed" and 1000 in labels:
            share = means[1 + list(labels).index(1000)] / means[0]
            met = "met" if share[0] <= 0.3 else "NOT MET"
            words = ", ".join(f"{of:.0%}" for of in share)
            print(
                f"B7  reversed, 1,000 labels: {words} of the KL without   bar, of the first, <= 30%   {met}", flush=True
            )

    lost = gaps["none"] - gaps["same"]
    words = "AUROC gap where nobody is selected, less that where nothing has changed"
    print(f"B7  {words}: {lost:.4f}   bar <= .01   {'met' if lost <= 0.01 else 'NOT MET'}", flush=True)


def _refitted(
    predictor: Predictor, home: PatientDataset, labels: Sequence[int], fresh: int, seed: int, policy: dict[str, Any]
) -> tuple[Float, float]:
    """(1 + 2 L, 3) KL, and the first outcome's AUROC gap to the exact risks before a refit."""
    judged, given = (store(n, seed + i, **policy).keyed_like(home) for i, n in enumerate((fresh, max(labels))))
    base = predictor.predict(judged.fold(Split.external(), "test"))
    found: dict[str, list[Float]] = {"ours": [], "safe": []}
    for n in labels:
        fold = given.fold(Split(everything="calibration"), "calibration")
        calibration = replace(predictor.predict(fold), fitted_subjects=(_NOBODY,))
        calibration = replace(calibration, label_mask=calibration.label_mask & (np.arange(len(fold)) < n)[:, None])
        calibration = replace(calibration, labels=calibration.labels & calibration.label_mask)
        for kind, recipe in (("ours", Refit()), ("safe", LatticeRectifier())):
            found[kind].append(kl(judged, recipe.fit(calibration).risks(base)))
    truth, own = judged.bayes[:, 0], base.proba[:, 0]  # type: ignore[index]
    ones = np.ones((len(truth), 1))
    gap = float(Auroc(truth, truth)(ones)[0] - Auroc(truth, own)(ones)[0])
    return np.stack([kl(judged, base.proba), *found["ours"], *found["safe"]]), gap


# --- label sets -------------------------------------------------------------------------------------------------------


def sets(modalities: int, draws: int, fresh: int) -> None:
    """B8, cell by cell of pattern and label, with exact risks: what is held is an expectation, without label noise."""
    there = simulate(fresh, modalities, 1000)
    patterns, group = np.unique(there.present, axis=0, return_inverse=True)
    print(f"sets: M = {modalities}, {draws} draws; held of negatives − and positives + (mean, mean distance from .9)")
    kinds: dict[str, tuple[float | None, float]] = {
        "risks as they are": (None, BORROWED),
        "less mean of 40": (BORROWED, BORROWED),
        "default": (OF_MEANS, BORROWED),
        "exact": (OF_MEANS, 0.0),
    }
    for name, (of_means, borrowed) in kinds.items():
        cells, overall, size, infinite = [], [], [], 0
        for seed in range(draws):
            home = simulate(2000, modalities, seed)
            own, theirs = (
                _scored(home.present, home.bayes, of_means, home),
                _scored(there.present, there.bayes, of_means, home),
            )
            kept = np.empty((fresh, 2), dtype=bool)
            for label, sign in ((0, 1), (1, -1)):
                mine = home.labels[:, 0] == bool(label)
                limits = np.array(
                    [limit(sign * own[mine], weights(home.present[mine], g, borrowed), 0.1) for g in patterns]
                )
                infinite += int(np.isinf(limits).sum())
                kept[:, label] = sign * theirs <= limits[group.reshape(-1)]
                truth = there.bayes[:, 0] if label else 1 - there.bayes[:, 0]
                held, mass = (np.bincount(group.reshape(-1), v, len(patterns)) for v in (truth * kept[:, label], truth))
                n = [(home.present[mine] == g).all(1).sum() for g in patterns]
                cells += [(label, count, share) for count, share in zip(n, held / mass, strict=True)]
                overall.append((label, held.sum() / mass.sum()))
            size.append(np.where(kept.any(1), kept.sum(1), 2).mean())
        _said(name, np.array(cells), np.array(overall), float(np.mean(size)), infinite / draws)


def _scored(present: NDArray[np.bool_], risks: Float, of_means: float | None, home: Any) -> Float:
    own = logit(risks[:, 0])
    if of_means is None:
        return np.asarray(own)
    patterns, group = np.unique(present, axis=0, return_inverse=True)
    among = logit(home.bayes[:, 0])
    means = np.array([np.average(among, weights=weights(home.present, g, of_means)) for g in patterns])
    return np.asarray(own - means[group.reshape(-1)])


def _said(name: str, cells: Float, overall: Float, size: float, infinite: float) -> None:
    means = " ".join(f"{'−+'[of]}{overall[overall[:, 0] == of, 1].mean():.3f}" for of in (0, 1))
    words = [f"{name:18} all {means} size {size:.2f} infinite {infinite:.1f}"]
    for low, high in BINS:
        for of in (0, 1):
            share = cells[(cells[:, 0] == of) & (cells[:, 1] >= low) & (cells[:, 1] < high), 2]
            if len(share):
                words.append(f"{'−+'[of]}{low}…: {share.mean():.3f} ({np.abs(share - 0.9).mean():.3f})")
    print("  ".join(words), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    if parser.parse_args().smallest:
        tilt(600, 1)
        refit(600, 1, (400, 1000), 1000)
        sets(4, 1, 2000)
        return
    tilt(8000, 4)
    refit(12_000, 6, (100, 200, 500, 1000, 4000), 10_000)
    sets(4, 12, 20_000)
    sets(10, 4, 20_000)


if __name__ == "__main__":
    main()

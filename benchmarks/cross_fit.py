"""What a cross-fitted fit should tune on, and what its mean is a mean of: measured where the exact risks are known.

    python benchmarks/cross_fit.py [--methods logistic-pattern,lightgbm-pattern,zero-fill,crl-mmnar] [--seeds 10]
    python benchmarks/cross_fit.py --smallest

4,000 simulated patients, four modalities, K = 5; 20,000 fresh ones to score. By whether each fit stops on patients of
its own or on those it holds out: KL to the exact risks (1e-4 nats) of one fit, of the mean of risks and of the mean of
logits; and how far the out-of-fold risks lean to their patients' own outcomes, mean (y − p*) logit p (1e-4 nats),
against the first row of the same seeds: 0 where nothing of an outcome reaches the risk it is judged by.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from population import population
from scipy.special import expit, logit

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, PatientDataset, cross_folds
from mmnar.estimators.base import Predictor
from mmnar.estimators.registry import estimator
from mmnar.evaluation.simulated import excess_kl
from mmnar.roles import Calibration, Development, Train, Tune

Float = NDArray[np.float64]
Folds = tuple[Fold[Train], Fold[Tune], Fold[Calibration]]
SHARES = {"own, 15 %": 0.15, "own, 10 %": 0.10, "held out": 0.0}
UNIT = 1e4


def triples(development: Fold[Development], share: float, seed: int) -> Iterator[Folds]:
    """The folds of each fit; a share of 0 tunes on whom the fit holds out."""
    for train, tune, held in cross_folds(development, 5, share or 0.15, seed):
        if share:
            yield train, tune, held
        else:
            everybody_else = replace(train, rows=np.sort(np.r_[train.rows, tune.rows]))
            yield everybody_else, Fold(held.dataset, held.rows, Tune, held.number), held


def figures(name: str, data: PatientDataset, fresh: PatientDataset, share: float, seed: int, *settings: str) -> Float:
    """(4,) KL of one fit, of the mean of risks, of the mean of logits; leaning."""
    assert data.bayes is not None
    assert fresh.bayes is not None
    recipe, test = estimator(name, *settings), fresh.fold(Split.external(), "test")
    each: list[Float] = []
    leaning: list[Float] = []
    for train, tune, held in triples(data.fold(Split(test=0.0), "development"), share, seed):
        fitted: Predictor = recipe.fit(train, tune, seed=seed)
        each.append(fitted.predict_proba(test))
        p, truth = fitted.predict_proba(held), data.bayes[held.rows]
        leaning.append(((held.labels - truth) * logit(np.clip(p, 1e-6, 1 - 1e-6)))[held.label_mask])
    risks, logits = np.mean(each, axis=0), expit(np.mean([logit(np.clip(p, 1e-6, 1 - 1e-6)) for p in each], axis=0))
    kl = [np.mean([excess_kl(fresh.bayes, p).mean() for p in each])]
    kl += [excess_kl(fresh.bayes, p).mean() for p in (risks, logits)]
    return UNIT * np.array([*kl, np.concatenate(leaning).mean()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="logistic-pattern,lightgbm-pattern,zero-fill,crl-mmnar")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--smallest", action="store_true", help="400 patients, two seeds, one method")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods, seeds, n, many = arguments.methods.split(","), arguments.seeds, 4000, 20_000
    if arguments.smallest:
        methods, seeds, n, many = ["logistic-pattern"], 2, 400, 400
    print(f"{n} patients, {seeds} seeds; mean over seeds, ± standard error of the leaning against the first row")
    print(f"{'method':18} {'tunes on':10} {'one fit':>8} {'risks':>7} {'logits':>7} {'leans by':>9}")
    for name in methods:
        found = {how: np.empty((seeds, 4)) for how in SHARES}
        for seed in range(seeds):
            data, fresh = population(n, 4, seed=1 + seed), population(many, 4, seed=501 + seed)
            for how, share in SHARES.items():
                found[how][seed] = figures(name, data, fresh, share, seed)
        first = next(iter(found.values()))[:, 3]
        for how, of in found.items():
            one, risks, logits, _ = of.mean(axis=0)
            apart = of[:, 3] - first
            error = apart.std(ddof=1) / np.sqrt(seeds)
            print(
                f"{name:18} {how:10} {one:8.1f} {risks:7.1f} {logits:7.1f} {apart.mean():6.1f} ± {error:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

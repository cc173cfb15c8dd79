"""Simulated populations as datasets, straight from the simulator: shared by the benchmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmnar.cohort.build import build_cohort
from mmnar.cohort.split import Split
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import Fold, PatientDataset
from mmnar.roles import Test
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

ALL_BUT_TEST = Split(tune=0.15, test=0.0)


def population(patients: int, modalities: int, seed: int, gamma: float = 1.0, eta: float = 0.5) -> PatientDataset:
    """A fresh sample of the simulated world, through events, cohort and features like real records."""
    extract = read_synthetic(simulate(patients, modalities, seed, gamma=gamma, eta=eta))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def strangers(test: PatientDataset, train: PatientDataset) -> Fold[Test]:
    """All of one population as people whom a fit on another never saw, under the other's key."""
    return replace(test, subject_id=test.subject_id + 10**9, secret=train.secret).fold(Split.external(), "test")


def gaps(risk: np.ndarray, bayes: np.ndarray) -> np.ndarray:
    """(K,) expected AUROC of the exact risks minus that of ``risk``; noise-free: no label is drawn."""
    return np.array([expected_auroc(bayes[:, k], t) - expected_auroc(risk[:, k], t) for k, t in enumerate(bayes.T)])


def expected_auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """Every patient counts as a positive with weight p* and as a negative with weight 1 − p*."""
    order = np.argsort(score, kind="stable")
    score, positive = score[order], truth[order]
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    p, q = np.add.reduceat(positive, starts), np.add.reduceat(1 - positive, starts)
    return float((p * (np.cumsum(q) - q / 2)).sum() / p.sum() / q.sum())

"""Settings of the boosted controls, by the log loss of tune folds; no test fold is looked at.

    python benchmarks/controls.py [--store NAME=PATH …] [--repeats 4]
    python benchmarks/controls.py --smallest

On the stores given and on two simulated populations; per data set, mean over repeats and tasks of the tune fold's log
loss less that of the first line of the method, in 1e-4 nats. Of a large store one tenth of the subjects.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from population import population

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, PatientDataset, open_store
from mmnar.estimators.registry import estimator
from mmnar.evaluation.metrics import log_terms
from mmnar.roles import subject_keys

EVERY = "model.columns_most=1000000"
SLOW = ("model.learning_rate=0.03", "model.max_trees=2000")
TRIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "lightgbm-pattern": (
        (EVERY,),
        (),
        SLOW,
        (*SLOW, "model.columns_most=40"),
        (*SLOW, "model.leaves=6"),
        (*SLOW, "model.min_patients=40"),
    ),
    "boosting-pattern": (
        (EVERY, "model.columns_share=1", "model.learning_rate=0.05"),
        (),
        ("model.learning_rate=0.05",),
        ("model.columns_most=60",),
        ("model.columns_share=0.3",),
    ),
}
LARGE = 20_000


def part(fold: Fold[Any]) -> Fold[Any]:
    """A tenth of the subjects of a large fold."""
    if len(fold) < LARGE:
        return fold
    return replace(fold, rows=fold.rows[subject_keys(fold.subject_id, 5) % np.uint64(10) == 0])


def tune_loss(name: str, settings: tuple[str, ...], data: PatientDataset, seed: int) -> float:
    split = Split(seed=seed, tune=0.2, test=0.25)
    train, tune = part(data.fold(split, "train")), part(data.fold(split, "tune"))
    risks = estimator(name, *settings).fit(train, tune, seed=seed).predict_proba(tune)
    terms = np.where(tune.label_mask, log_terms(tune.labels.astype(np.float64), risks), 0)
    return float((terms.sum(0) / tune.label_mask.sum(0)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", nargs="*", default=[], help="NAME=PATH of prepared stores")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--smallest", action="store_true", help="500 simulated patients, once, two settings a method")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    patients, repeats = (500, 1) if arguments.smallest else (4000, arguments.repeats)
    stores = {name: open_store(Path(path)) for name, path in (word.split("=", 1) for word in arguments.store)}
    stores |= {f"simulated, M = {m}": population(patients, m, seed=1) for m in (4, 10)}
    for name, every in TRIED.items():
        reference: dict[str, float] = {}
        for settings in every[:2] if arguments.smallest else every:
            cells = []
            for of, data in stores.items():
                loss = float(np.mean([tune_loss(name, settings, data, seed) for seed in range(repeats)]))
                cells.append(f"{of} {1e4 * (loss - reference.setdefault(of, loss)):+.1f}")
            print(f"{name} {' '.join(settings) or 'defaults'}: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()

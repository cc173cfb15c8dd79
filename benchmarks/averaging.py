"""Is the stack's gain more than averaging? Beside it, each member averaged over five seeds, at no less cost.

    python benchmarks/averaging.py [--smallest] [--patients 4000] [--worlds 2] [--out averaging.json]

Each is cross-fitted on simulated patients and judged on 20,000 fresh ones: excess log loss over the exact risks, 1e-4
nats, mean of the three tasks, and processor seconds. ``worlds`` populations of other seeds; shown are means, and of the
differences from the stack the spread over worlds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from population import population, strangers

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset
from mmnar.estimators.base import Estimator
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator, is_trained
from mmnar.estimators.stack import Stack
from mmnar.evaluation.simulated import excess_kl

MEMBERS = ("crl-mmnar", "lightgbm-pattern", "logistic-pattern")
SEEDS = 5


def recipes(short: Sequence[str]) -> dict[str, Estimator]:
    """The stack, each member alone, and each that a seed changes averaged over five."""
    own = {name: short if is_trained(name) else () for name in MEMBERS}
    alone = {name: estimator(name, *words) for name, words in own.items()}
    several = {
        f"{name}, {SEEDS} seeds": estimator(name, *own[name], ensemble=SEEDS)
        for name in MEMBERS
        if name != "logistic-pattern"
    }
    return {"stack": Stack(alone), **alone, **several}


def judged(recipe: Estimator, train: PatientDataset, test: PatientDataset) -> tuple[float, float]:
    """Excess log loss and processor seconds."""
    begun = time.process_time()
    crossed = cross_fit(recipe, train.fold(Split(test=0.0), "development"))
    seconds = time.process_time() - begun
    scored = strangers(test, train)
    assert test.bayes is not None
    return 1e4 * float(excess_kl(test.bayes, crossed.predictor.predict(scored).proba).mean()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--patients", type=int, default=4000)
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    patients, fresh, worlds = (300, 300, 1) if asked.smallest else (asked.patients, 20_000, asked.worlds)
    short = ("train.max_epochs=1", "train.min_steps=0", "model.width=16") if asked.smallest else ()
    found: dict[str, list[tuple[float, float]]] = {}
    for world in range(worlds):
        train, test = population(patients, 4, seed=10 + world), population(fresh, 4, seed=50 + world)
        for name, recipe in recipes(short).items():
            found.setdefault(name, []).append(judged(recipe, train, test))
            loss, seconds = found[name][-1]
            print(f"  world {world}: {name:28} {loss:7.1f}  {seconds:7.0f} CPU s", flush=True)
    stack = np.array([loss for loss, _ in found["stack"]])
    for name, values in found.items():
        losses, seconds = np.array(values).T
        more = losses - stack
        print(f"{name:28} {losses.mean():7.1f}  stack {more.mean():+6.1f} less ({more.min():+.1f} to {more.max():+.1f})"
              f"  {seconds.mean():7.0f} CPU s")  # fmt: skip
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

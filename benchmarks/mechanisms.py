"""Does the rectifier do harm where its story is not true? Cross-fitted methods in worlds of other mechanisms.

    python benchmarks/mechanisms.py [--smallest] [--methods logistic-pattern crl-mmnar] [--out mechanisms.json]

Each method is cross-fitted on 8,000 patients, its rectifier fitted on its risks out of fold and applied to the mean of
its fits on 20,000 fresh ones. Shown: excess log loss over the exact risks (1e-4 nats) before and after, averaged over
the three tasks, and the change of the worst task. Bar: no task worse than +15.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import torch
from population import population, strangers

from mmnar.cohort.split import Split
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator, is_trained
from mmnar.evaluation.simulated import excess_kl
from mmnar.posthoc.rectify import LatticeRectifier

WORLDS: Final[dict[str, dict[str, Any]]] = {
    "as simulated": {},
    "reversed policy": {"gamma": -1.0},
    "direct effects of +2": {"eta": 2.0},
    "direct effects of -2": {"eta": -2.0},
    "at random (MCAR)": {"gamma": 0.0, "eta": 0.0},
    "ten modalities": {"modalities": 10},
}
SHORT: Final = ("train.max_epochs=1", "train.min_steps=0", "model.width=16")


def change(
    method: str, world: dict[str, Any], patients: int, fresh: int, overrides: tuple[str, ...]
) -> dict[str, float]:
    """Excess log loss (1e-4 nats) before and after the rectifier, and the change of the worst task."""
    arguments = {"modalities": 4, **world}
    train, test = (population(n, seed=seed, **arguments) for n, seed in ((patients, 1), (fresh, 2)))
    crossed = cross_fit(estimator(method, *overrides), train.fold(Split(test=0.0), "development"))
    scored = strangers(test, train)
    before = crossed.predictor.predict(scored)
    after = LatticeRectifier().fit(crossed.out_of_fold).apply(before)
    assert test.bayes is not None
    losses = [1e4 * excess_kl(test.bayes, of.proba).mean(axis=0) for of in (before, after)]
    return {
        "before": float(losses[0].mean()),
        "after": float(losses[1].mean()),
        "worst": float((losses[1] - losses[0]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--methods", nargs="+", default=["logistic-pattern", "crl-mmnar"])
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    patients, fresh = (400, 400) if asked.smallest else (8_000, 20_000)
    worlds = {name: WORLDS[name] for name in (asked.worlds[:2] if asked.smallest else asked.worlds)}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for method in asked.methods:
        overrides = SHORT if asked.smallest and is_trained(method) else ()
        for name, world in worlds.items():
            found = figures.setdefault(method, {})[name] = change(method, world, patients, fresh, overrides)
            met = "" if asked.smallest else "met" if found["worst"] <= 15 else "NOT MET"
            told = (
                f"before {found['before']:7.1f}  after {found['after']:7.1f}  worst task {found['worst']:+6.1f}  {met}"
            )
            print(f"{method:18} {name:22} {told}", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

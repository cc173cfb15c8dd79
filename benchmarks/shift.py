"""Does `mmnar shift` find a change of ordering practice, and only then?

    python benchmarks/shift.py [--smallest] [--patients 2000] [--stores 40]

Simulated pairs of stores, the second ordered by another policy: the same, a higher rate of every modality, half the
selection, none, reversed. Shown over pairs: how often law and selection are said to differ (Holm over both, .05), mean
ρ of source and target, mean α. Bars: the same policy is called different in at most 5 % of pairs (of 40: at most 5);
reversed and none are found in all at 2,000 patients.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from mmnar.cohort.build import build_cohort
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.evaluation.shift import shift
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

POLICIES: dict[str, dict[str, Any]] = {
    "same": {},
    "higher rates": {"rate_shift": 0.5},
    "half": {"gamma": 0.5},
    "none": {"mcar": 1.0},
    "reversed": {"gamma": -1.0},
}


def store(patients: int, seed: int, **policy: Any) -> PatientDataset:
    """One store, through events, cohort and features like real records."""
    extract = read_synthetic(simulate(patients, 4, seed, **policy))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--stores", type=int, default=40)
    asked = parser.parse_args()
    patients, stores = (600, 1) if asked.smallest else (asked.patients, asked.stores)
    print(f"{stores} pairs of {patients} patients, M = 4")
    print(f"{'second store':14} {'law':>6} {'selection':>10} {'ρ source':>9} {'ρ target':>9} {'α':>6}")
    for name, policy in POLICIES.items():
        found = [
            shift(store(patients, 2 * s), store(patients, 2 * s + 1, **policy), resamples=200) for s in range(stores)
        ]
        said = [np.mean([test in f.shown for f in found]) for test in ("law", "selection")]
        rho = [np.mean([getattr(f, key).value for f in found]) for key in ("rho_source", "rho")]
        alpha = np.mean([m.alpha.value for f in found for m in f.modalities if m.alpha.value is not None])
        print(f"{name:14} {said[0]:6.2f} {said[1]:10.2f} {rho[0]:9.2f} {rho[1]:9.2f} {alpha:6.2f}", flush=True)


if __name__ == "__main__":
    main()

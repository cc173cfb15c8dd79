"""How fast a fitted network scores: one patient, many patients, and how much of it is the network itself.

    python benchmarks/scoring.py [--store NAME=PATH …] [--rows 2000]
    python benchmarks/scoring.py --smallest

One member of CRL-MMNAR (default width, one epoch: speed does not depend on what was learned), one thread, processor
time; the least of five rounds. Bars: 1.5 ms for one patient of static modalities, 5 ms on PhysioNet 2012; 50,000 rows a
second of static modalities.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from population import population

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.estimators.fusion import FusionPredictor
from mmnar.estimators.registry import estimator

SHORT = ("train.max_epochs=1", "train.min_steps=0")


def least(action: Callable[[], object], times: int) -> float:
    """Processor seconds of one call: the least mean of five rounds."""
    action()
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            action()
        rounds.append((time.process_time() - begun) / times)
    return min(rounds)


def measure(name: str, data: PatientDataset, rows: int, times: int) -> None:
    fitted = estimator("crl-mmnar", *SHORT).fit(data.fold(Split(), "train"), data.fold(Split(), "tune"))
    assert isinstance(fitted, FusionPredictor)
    everybody = data.fold(Split.external(), "test")
    one, many = replace(everybody, rows=everybody.rows[:1]), replace(everybody, rows=everybody.rows[:rows])
    batch = fitted.preprocessor.transform(one)

    def network() -> None:
        with torch.inference_mode():
            fitted.network(batch)

    single, bare = least(lambda: fitted.predict_proba(one), times), least(network, times)
    per_second = len(many) / least(lambda: fitted.predict_proba(many), 1)
    print(
        f"{name:24} one patient {1000 * single:6.2f} ms, {single / bare:4.1f} times the bare network; "
        f"{per_second:9,.0f} rows a processor second",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", nargs="*", default=[], help="NAME=PATH of prepared stores")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--smallest", action="store_true", help="400 simulated patients, few repeats")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    patients, rows, times = (400, 200, 5) if arguments.smallest else (4000, arguments.rows, 100)
    measure("simulated, static, M = 4", population(patients, 4, seed=1), rows, times)
    for word in arguments.store:
        name, _, path = word.partition("=")
        measure(name, open_store(Path(path)), rows, times)


if __name__ == "__main__":
    main()

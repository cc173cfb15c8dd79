"""CPU seconds per training epoch of the full objective: 20,000 patients, M = 4, d = 128, batch 256. Bar: ≤ 8.

python benchmarks/epoch.py
python benchmarks/epoch.py --smallest
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch
from population import population

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import PatientDataset
from mmnar.estimators.registry import estimator
from mmnar.models.registry import model_class
from mmnar.training.loop import train
from mmnar.training.monitor import Silent


class Clock(Silent):
    """CPU seconds between the ends of epochs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = time.process_time()

    def epoch(self, record: dict[str, object]) -> None:
        now = time.process_time()
        self.seconds.append(now - self.last)
        self.last = now


def cpu_per_epoch(name: str, data: PatientDataset, epochs: int) -> float:
    """Median over epochs after the first, tune evaluation included; one thread."""
    recipe = estimator(name, f"train.max_epochs={epochs}", "train.min_steps=0", "train.patience=999")
    fold = data.fold(Split(tune=0.001, test=0.0), "train")
    batch = Preprocessor.fit(fold).transform(fold)
    tune = Preprocessor.fit(fold).transform(data.fold(Split(tune=0.001, test=0.0), "tune"))
    kind = model_class(name)
    clock = Clock()
    train(kind(data.schema, kind.Config()), batch, tune, recipe.train, 0, clock)  # type: ignore[attr-defined]
    return statistics.median(clock.seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    patients, epochs = (1000, 3) if arguments.smallest else (20_000, 6)
    data = population(patients, 4, seed=1)
    full, plain = cpu_per_epoch("crl-mmnar", data, epochs), cpu_per_epoch("zero-fill", data, epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{patients} patients, M = 4, d = 128, batch 256, one thread")
    print(f"  crl-mmnar, full objective   {full:.2f} CPU-s per epoch   bar 8")
    print(f"  zero-fill net               {plain:.2f} CPU-s per epoch   ratio {full / plain:.1f}")
    print(f"  peak memory                 {peak:.2f} GiB")


if __name__ == "__main__":
    main()

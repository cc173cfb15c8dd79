"""What outcomes in panels cost: an epoch of 33 outcomes beside one of three, and the tests of panels.

    python benchmarks/panels.py [--smallest]

Epochs are timed in turn, on one thread, in simulated records of CareBench's world; ratios of medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import open_store
from mmnar.estimators.registry import estimator
from mmnar.evaluation import evaluate
from mmnar.models.registry import model_class
from mmnar.study.data import store_of
from mmnar.study.spec import Data
from mmnar.training.loop import train
from mmnar.training.monitor import Silent

THREE = ("mortality", "sepsis", "arf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    patients, rounds = (120, 1) if asked.smallest else (900, 5)
    with tempfile.TemporaryDirectory(prefix="mmnar-panels-") as folder:
        world = {"patients": patients, "seed": 1, "image_side": 32}
        data = open_store(store_of(Data("world", carebench=world), Path(folder)))
    fold, split = data.fold(Split(test=0.3), "train"), Split(test=0.3)
    epoch_of("zero-fill", fold)  # the first one imports
    three = [task for task in data.schema.task_names if task in THREE]
    print(f"{len(fold)} samples, {len(data.schema.tasks)} and {len(three)} outcomes")
    for name in ("zero-fill", "crl-mmnar", "drfuse"):
        seconds: dict[int, list[float]] = {}
        for _ in range(rounds):
            for tasks in (data.schema.task_names, three):
                seconds.setdefault(len(tasks), []).append(epoch_of(name, fold.asking(tasks)))
        many, few = (statistics.median(of) for of in seconds.values())
        print(f"{name}: an epoch of all outcomes {many:.2f} CPU s, of three {few:.2f}: {many / few:.2f} x", flush=True)
    fitted = [estimator(name).fit(fold, data.fold(split, "tune")) for name in ("logistic-pattern", "pattern-only")]
    scored = [of.predict(data.fold(split, "test")) for of in fitted]
    begun = time.process_time()
    evaluate(*scored, controls=["pattern-only"], resamples=100 if asked.smallest else 1000)
    print(f"evaluate, {len(scored[0])} test samples, one comparison: {time.process_time() - begun:.1f} CPU s")


def epoch_of(name: str, fold: object) -> float:
    """CPU seconds of the second epoch of a fit."""
    batch = Preprocessor.fit(fold).transform(fold)  # type: ignore[arg-type]
    torch.manual_seed(0)
    kind = model_class(name)
    model = kind(batch.schema, estimator(name, "model.image.backbone=tiny", "model.series.encoder=lstm").model)  # type: ignore[attr-defined]
    config = TrainConfig(max_epochs=1, min_steps=0, batch_size=64)
    begun = time.process_time()
    train(model, batch, batch.take(torch.arange(32)), config, 0, Silent())
    return time.process_time() - begun


if __name__ == "__main__":
    main()

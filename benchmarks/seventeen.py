"""What each of CareBench's seventeen methods costs on its records: an epoch, a prediction, and memory.

    python benchmarks/seventeen.py [--smallest] [--patients 2000] [--side 64] [--methods aug,umse]

Simulated records with films for half of the stays (1,300 measurements each), hourly series in a transformer, the
smallest network of films, batch 64, one thread; each method in a process of its own, one after the other, with late
fusion before and after it: its ratio is to the mean of these two. An epoch is the median after the first, of the last
phase, in processor seconds; then 1,000 stays are predicted. Bars: an epoch ≤ 4 times late fusion's, or the card says
why; no process above 2 GB in predicting.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import Clock

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, open_store
from mmnar.estimators.registry import estimator
from mmnar.models.registry import CAREBENCH_MODELS, model_class
from mmnar.study.data import store_of
from mmnar.study.spec import Data

PLAIN = "late-fusion"
BAR, MOST_MB = 4.0, 2048
SPLIT = Split(tune=0.02, test=0.0)


def settings(name: str) -> tuple[str, ...]:
    """One configuration of encoders for all that have them."""
    known = {f.name for f in fields(model_class(name).Config)}
    shared = {"image": "model.image.backbone=tiny", "series": "model.series.encoder=transformer"}
    return ("train.batch_size=64", *(word for key, word in shared.items() if key in known))


def measure(name: str, store: str, epochs: int, predicted: int) -> dict[str, float]:
    """Epoch, seconds and peak memory of training; then those of predicting."""
    torch.set_num_threads(1)
    data = open_store(store)
    recipe = estimator(name, *settings(name), f"train.max_epochs={epochs}", "train.min_steps=0", "train.patience=999")
    clock = Clock()
    fitted = recipe.fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), monitor=clock)
    trained = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    everybody = data.fold(SPLIT, "train")
    fold: Fold[Any] = replace(everybody, rows=np.resize(everybody.rows, predicted))
    before, begun = _high_water(), time.process_time()
    fitted.predict_proba(fold)
    return {
        "epoch": statistics.median(list(clock.seconds.values())[-1][1:]),
        "trained_mb": trained,
        "predict": time.process_time() - begun,
        "predict_mb": _high_water(before),
    }


def _high_water(reset: float | None = None) -> float:
    """Largest resident memory in MB since the last call without an argument."""
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    if reset is None:
        Path("/proc/self/clear_refs").write_text("5")
    return peak


def in_a_process(name: str, *words: str) -> dict[str, float]:
    """``measure`` in a process of its own, so that its memory is its own."""
    done = subprocess.run([sys.executable, __file__, "--one", name, *words], check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--methods", default="", help="names, separated by commas")
    asked = parser.parse_args()
    patients, epochs, predicted = (60, 2, 50) if asked.smallest else (asked.patients, 4, 1000)
    names = ["umse"] if asked.smallest else [name for name in CAREBENCH_MODELS if name != PLAIN]
    names = asked.methods.split(",") if asked.methods else names
    with tempfile.TemporaryDirectory(prefix="mmnar-seventeen-") as folder:
        world = {"patients": patients, "seed": 1, "image_side": 32 if asked.smallest else asked.side}
        words = (str(store_of(Data("world", carebench=world), Path(folder))), str(epochs), str(predicted))
        print(f"{patients} stays, side {world['image_side']}, {predicted} predicted")
        print(f"{'method':14} {'epoch, CPU s':>12} {'ratio':>6} {'trained, MB':>12} {'predicted, CPU s':>17} {'MB':>6}")
        plain = [in_a_process(PLAIN, *words)]
        for name in names:
            got = in_a_process(name, *words)
            plain.append(in_a_process(PLAIN, *words))
            ratio = got["epoch"] / statistics.mean(of["epoch"] for of in plain[-2:])
            over = " *" * (ratio > BAR or got["predict_mb"] > MOST_MB)
            cells = f"{got['epoch']:12.2f} {ratio:6.1f} {got['trained_mb']:12.0f} {got['predict']:17.2f}"
            print(f"{name:14} {cells} {got['predict_mb']:6.0f}{over}", flush=True)
        seconds = sorted(of["epoch"] for of in plain)
        print(f"{PLAIN:14} {statistics.median(seconds):12.2f} from {seconds[0]:.2f} to {seconds[-1]:.2f}")


def only(name: str, store: str, epochs: str, predicted: str) -> None:
    """One method, as JSON."""
    print(json.dumps(measure(name, store, int(epochs), int(predicted))))


if __name__ == "__main__":
    only(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()

"""CPU seconds per training epoch of every deep method beside the zero-fill net's, and peak memory.

    python benchmarks/epoch.py [--methods crl-mmnar,smil]
    python benchmarks/epoch.py --smallest

20,000 patients, M = 4, d = 128, batch 256, one thread, defaults; each method in a process of its own, one after the
other, with the zero-fill net before and after it: its ratio is to the mean of these two, since machines drift. Bars:
crl-mmnar's full objective ≤ 8 CPU-s; every method ≤ 6 times zero-fill, those with an inner gradient or generators of
their own ≤ 15 times, and so MT, whose three kinds of views pass all layers apart, and HEALNet, whose array passes all
layers once more for each modality. They are for the last phase, the one that lasts; the dearest stands beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import replace
from typing import Any

import torch
from clock import Clock
from population import population

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.estimators.registry import estimator
from mmnar.models.registry import MODELS, model_class
from mmnar.training.loop import train

PLAIN = "zero-fill"
BAR, BARS = "6 ×", {"crl-mmnar": "8 s", "healnet": "15 ×", "smil": "15 ×", "flexgen-ehr": "15 ×", "mt": "15 ×"}


def measure(name: str, patients: int, epochs: int) -> dict[str, Any]:
    """CPU seconds of an epoch of the last and of the dearest phase, peak memory in GiB.

    The median over epochs after the first, tune evaluation included. Phases of a fixed length are made ``epochs`` long.
    """
    torch.set_num_threads(1)
    data, split = population(patients, 4, seed=1), Split(tune=0.001, test=0.0)
    recipe = estimator(name, f"train.max_epochs={epochs}", "train.min_steps=0", "train.patience=999")
    refusal = recipe.refuses(data.schema)
    if refusal:
        return {"refused": refusal}
    fold = data.fold(split, "train")
    preprocessor = Preprocessor.fit(fold)
    batch, tune = preprocessor.transform(fold), preprocessor.transform(data.fold(split, "tune"))
    kind = model_class(name)
    model, clock = kind(data.schema, kind.Config()), Clock()
    phases = tuple(phase if phase.epochs is None else replace(phase, epochs=epochs) for phase in model.phases())
    model.phases = lambda: phases  # type: ignore[method-assign]
    train(model, batch, tune, recipe.train, 0, clock)  # type: ignore[attr-defined]
    seconds = [statistics.median(s[1:]) for s in clock.seconds.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds[-1], "dearest": max(seconds), "peak": peak}


def in_a_process(name: str, patients: int, epochs: int) -> dict[str, Any]:
    """``measure`` in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--one", name, "--patients", str(patients), "--epochs", str(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="names, separated by commas")
    parser.add_argument("--patients", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--smallest", action="store_true", help="1,000 patients, 2 epochs, one method")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    patients, epochs = (1000, 2) if arguments.smallest else (arguments.patients, arguments.epochs)
    if arguments.one:
        print(json.dumps(measure(arguments.one, patients, epochs)))
        return
    every = ["crl-mmnar"] if arguments.smallest else [n for n in MODELS if n != PLAIN]
    names = arguments.methods.split(",") if arguments.methods else every
    print(f"{patients} patients, M = 4, d = 128, batch 256, one thread")
    print(f"{'method':22} {'CPU-s/epoch':>11} {'ratio':>7} {'bar':>5} {'dearest phase':>14} {'GiB':>6}")
    plain = [in_a_process(PLAIN, patients, epochs)]
    for name in names:
        got = in_a_process(name, patients, epochs)
        if "refused" in got:
            print(f"{name:22} {got['refused']}", flush=True)
            continue
        plain.append(in_a_process(PLAIN, patients, epochs))
        beside = statistics.mean(of["seconds"] for of in plain[-2:])
        ratio, dearest = got["seconds"] / beside, got["dearest"] / beside
        cells = f"{got['seconds']:11.2f} {ratio:7.1f} {BARS.get(name, BAR):>5} {dearest:14.1f} {got['peak']:6.2f}"
        print(f"{name:22} {cells}", flush=True)
    seconds = sorted(of["seconds"] for of in plain)
    spread = f"from {seconds[0]:.2f} to {seconds[-1]:.2f}, {max(of['peak'] for of in plain):.2f} GiB"
    print(f"{PLAIN:22} {statistics.median(seconds):11.2f}  {spread}")


if __name__ == "__main__":
    main()

"""The cross-fitted fit and the stack on a prepared store: every member and control, alone and weighed together.

    python benchmarks/stack.py --store STORE --work FOLDER [--json stack.json]
    python benchmarks/stack.py --smallest      # 500 simulated patients, two folds, no network

K-fold cross-validation by patient around cross-fitted runs (``mmnar train``); runs are folders under --work, finished
ones are not repeated. The stacks are weighed by the runs' risks out of fold, as ``--model stack`` does it, so that a
member is fitted once for all of them. Paired tests of stacks and CRL-MMNAR against every control, Holm over these.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from population import population

from mmnar.dataset.store import write_store
from mmnar.estimators.stack import fit_weights
from mmnar.evaluation.evaluate import evaluate
from mmnar.predictions import Predictions, concat, load
from mmnar.report.terminal import result_text
from mmnar.roles import Test
from mmnar.workflow import Run, train_run

CONTROLS: tuple[str, ...] = (
    "lightgbm-pattern",
    "boosting-pattern",
    "logistic-pattern",
    "factor-posterior",
    "late-logistic",
    "pattern-submodels",
    "pattern-only",
)
STACKS: dict[str, tuple[str, ...]] = {
    "stack": ("crl-mmnar", "lightgbm-pattern", "logistic-pattern"),
    "stack of controls": ("lightgbm-pattern", "boosting-pattern", "logistic-pattern"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("overrides", nargs="*", help="overrides for every run, e.g. fits=3")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work or Path(tempfile.mkdtemp())
    store, folds, resamples = arguments.store, arguments.folds, arguments.resamples
    names: tuple[str, ...] = ("crl-mmnar", *CONTROLS)
    overrides, stacks = tuple(arguments.overrides), STACKS
    if arguments.smallest:
        store, names, folds, resamples = work / "store", CONTROLS[1:3], 2, 100
        write_store(store, population(500, 4, seed=1))
        overrides, stacks = ("fits=2",), {"stack": names}
    elif store is None:
        print("skipped: no --store")
        return
    scored: dict[str, list[Predictions[Test]]] = {name: [] for name in (*names, *stacks)}
    for fold in range(folds):
        split = (f"split.folds={folds}", f"split.fold={fold}", *overrides)
        runs = {name: fitted(store, name, work / f"{name}-{fold}", split) for name in names}
        for name, run in runs.items():
            scored[name].append(run.test)
        for name, members in stacks.items():
            scored[name].append(stacked(name, [runs[member] for member in members]))
    pooled = [concat(parts) for parts in scored.values()]
    controls = [name for name in names if name in CONTROLS]
    result = evaluate(*pooled, controls=controls, resamples=resamples)
    print(result_text(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")


def fitted(store: Path, name: str, out: Path, overrides: Sequence[str]) -> Run:
    run = train_run(store, name, out, overrides, resume=True)
    seconds = f"{run.record['cpu_seconds']:.0f} processor seconds"
    print(f"  {out.name}: {seconds}", flush=True)
    return run


def stacked(name: str, runs: Sequence[Run]) -> Predictions[Test]:
    """The runs' test risks, weighed by their risks out of fold."""
    parts: list[Predictions[Any]] = [load(run.folder / "predictions" / "calibration.parquet") for run in runs]
    weights = fit_weights(parts)
    shown = ", ".join(f"{run.name} {w:.2f}" for run, w in zip(runs, weights.weight[0], strict=True))
    print(f"  {name}: {shown}, intercept {weights.intercept[0]:.2f}", flush=True)
    first = runs[0].test
    return replace(first, provenance={**first.provenance, "model": name}).with_proba(
        weights.risks(np.stack([run.test.proba for run in runs]))
    )


if __name__ == "__main__":
    main()

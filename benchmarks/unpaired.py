"""When patients who lack a modality help to learn from those who have both: expected log loss above the exact risks'.

    python benchmarks/unpaired.py [--smallest] [--draws 4] [--methods medfuse,crl-mmnar,logistic-pattern]

Simulated patients with a record, which nobody lacks, and a second modality, which a third have. Learned from: so many
pairs and a share of the others (``rows.train``; the tune fold likewise). Judged by exact risks, so without the noise of
labels, in milli-nats a question, mean of three outcomes and of the draws of patients, ± its standard error; always the
same 2,000 test patients of a draw. Who has the second modality: whoever a coin says; or more often the ill, and having
it tells of the outcome beyond that. "Nothing" gives everybody the mean risk of all test patients; numbers of pairs and
others are those of the largest draw.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.config import RowsConfig
from mmnar.dataset.regimes import Regime
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.estimators.registry import estimator, is_network
from mmnar.evaluation.simulated import excess_kl
from mmnar.study.data import store_of
from mmnar.study.spec import Data

WORLDS: Final = {
    "presence by chance": {"gamma": 0.0, "eta": 0.0},
    "presence by illness": {"gamma": 1.0, "eta": 0.5},
}
SHARES: Final = (0.0, 0.1, 0.5, 1.0)
KEPT: Final = (0.05, 0.2, 0.75)
"""Of the patients so many are learned from; the test patients are those that none of them takes."""
NETWORK: Final = ("train.batch_size=128", "train.lr=0.003", "train.min_steps=200", "model.width=32")
Kept = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--methods", default="medfuse,crl-mmnar,logistic-pattern", help="separated by commas")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    methods, draws, patients = asked.methods.split(","), asked.draws, 8000
    worlds: dict[str, dict[str, float]] = WORLDS
    shares: tuple[float, ...] = SHARES
    kept: tuple[float, ...] = KEPT
    if asked.smallest:
        methods, draws, patients, shares, kept = ["logistic-pattern"], 1, 1600, (0.0, 1.0), (0.75,)
        worlds = {"presence by chance": WORLDS["presence by chance"]}
    for name, world in worlds.items():
        print(f"\n{name}: mnats above the exact risks, on pairs / on the others")
        print(f"{'method':18} {'pairs':>6} {'others':>7} " + " ".join(f"{f'share {s:g}':>23}" for s in shares))
        begun = time.process_time()
        with tempfile.TemporaryDirectory(prefix="mmnar-unpaired-") as folder:
            draw = [made(Path(folder), patients, seed, world) for seed in range(draws)]
            nothing = np.mean([losses(data, tested(data, kept), None) for data in draw], axis=0)
            print(f"{'nothing':18} {'':6} {'':7} {nothing[0]:.1f} / {nothing[1]:.1f}")
            for learned in kept:
                for method in methods:
                    row(method, draw, learned, shares, kept)
        print(f"{time.process_time() - begun:.0f} CPU s", flush=True)


def made(folder: Path, patients: int, seed: int, world: dict[str, float]) -> PatientDataset:
    """One draw of patients."""
    asked = {"patients": patients, "modalities": 2, "seed": seed, **world}
    return open_store(store_of(Data(f"draw{seed}", simulated=asked), folder))


def row(
    method: str, draw: Sequence[PatientDataset], learned: float, shares: Sequence[float], kept: Sequence[float]
) -> None:
    """One line: a method with so many pairs, at each share of the others."""
    cells, sizes = [], []
    for share in shares:
        found = []
        for seed, data in enumerate(draw):
            split = Split(tune=0.2 * learned, test=1 - learned)
            chosen = Regime(rows=RowsConfig(("m0", "m1"), train=str(share))).chosen(data, split)
            train, tune = chosen.fold(split, "train"), chosen.fold(split, "tune")
            own = NETWORK if is_network(method) else ()
            fitted = estimator(method, *own).fit(train, tune, seed=seed)
            test = data.fold(split, "test")
            whole = np.full((len(data), len(data.schema.tasks)), np.nan)
            whole[test.rows] = fitted.predict_proba(test)
            found.append(losses(data, tested(data, kept), whole))
            sizes.append([train.present[:, 1].sum(), (~train.present[:, 1]).sum()])
        mean, error = np.mean(found, axis=0), np.std(found, axis=0) / max(len(found) - 1, 1) ** 0.5
        cells.append(f"{mean[0]:5.1f} ±{error[0]:4.1f} / {mean[1]:6.1f}")
    pairs, others = np.max(sizes, axis=0)
    print(f"{method:18} {pairs:6} {others:7} " + " ".join(f"{cell:>23}" for cell in cells), flush=True)


def tested(data: PatientDataset, kept: Sequence[float]) -> Kept:
    """(N,) who is a test patient however many are learned from."""
    there = np.ones(len(data), dtype=bool)
    for learned in kept:
        split = Split(tune=0.2 * learned, test=1 - learned)
        there &= split.roles(data.subject_id, data.attributes) == "test"
    return there


def losses(data: PatientDataset, test: Kept, risks: NDArray[np.float64] | None) -> tuple[float, float]:
    """Expected log loss above the exact risks' of test patients with both and of the others.

    Args:
        risks: (N, K); None: the mean of all test patients.
    """
    assert data.bayes is not None
    if risks is None:
        risks = np.broadcast_to(data.labels[test].mean(0), data.labels.shape)
    above = 1000 * excess_kl(data.bayes, np.asarray(risks)).mean(1)
    both = data.present.all(1)
    return float(above[test & both].mean()), float(above[test & ~both].mean())


if __name__ == "__main__":
    main()

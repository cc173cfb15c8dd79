"""Do the tests of informative missingness keep their level, and do they find what is there? Rejections beside the bars.

    python benchmarks/informative.py [--smallest]

Each replication draws fresh patients of the simulated world (M = 4, η = 0) and asks of the first outcome, at α = .05:
does the pattern say something that the always observed modality does not? Under MCAR and MAR it does not. The bars,
set before this code existed: size at most .07, power at least .8 at n = 2000 and γ = 1.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest

from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.evaluation.informative import informativeness
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.simulation.population import DIMENSIONS, Simulation, simulate

ALPHA = 0.05
# law of the pattern, patients, whether the null holds given x₀
SCENARIOS = (
    ("mcar", 2000, True),
    ("mar", 2000, True),
    ("mar, both extremes", 2000, True),
    ("mar", 500, True),
    ("mnar gamma=.5", 2000, False),
    ("mnar gamma=1", 500, False),
    ("mnar gamma=1", 2000, False),
    ("direct eta=.2", 2000, False),
)


def dataset(simulation: Simulation, present: np.ndarray) -> PatientDataset:
    """One sample a patient; modalities as ``present`` says."""
    names = [f"m{m}" for m in range(present.shape[1])]
    features = tuple(Feature(f"x{j}") for j in range(DIMENSIONS))
    schema = Schema(tuple(ModalitySpec(m, features) for m in names), (Task("first", "at once", "the first outcome"),))
    content = np.where(present[:, :, None], simulation.content, np.nan).astype(np.float32)
    ids = np.arange(len(simulation))
    values = {m: content[:, i] for i, m in enumerate(names)}
    asked = np.ones((len(ids), 1), dtype=bool)
    return make_dataset(schema, values, simulation.labels[:, :1], asked, ids, ids, ids, ids, {})


def draw(law: str, patients: int, seed: int) -> PatientDataset:
    """Patients whose pattern follows ``law``."""
    kind, _, size = law.partition(" ")
    value = float(size.partition("=")[2] or 0)
    gamma, eta = (value, 0.0) if kind == "mnar" else (0.0, value if kind == "direct" else 0.0)
    simulation = simulate(patients, 4, seed, gamma=gamma, eta=eta)
    present = simulation.present
    if kind.startswith("mar"):
        # what is ordered follows what the first modality showed, and nothing else
        score = simulation.content[:, 0] @ simulation.world.loadings[0, :, 0]
        score = (score - score.mean()) / score.std()
        if "extremes" in law:
            score = np.abs(score) - np.sqrt(2 / np.pi)
        rates = simulation.world.rates[1:]
        ordered = np.random.default_rng([seed, 1]).random((patients, 3)) < expit(logit(rates) + score[:, None])
        present = np.column_stack([present[:, :1], ordered])
    return dataset(simulation, present)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a few replications: does it run at all?")
    smallest = parser.parse_args().smallest
    replications = 4 if smallest else 400
    print(f"{replications} replications; share rejected at {ALPHA} with its exact binomial 95 % interval\n")
    print(f"{'law':20} {'n':>5}  {'given x0 (default)':>22}  {'likelihood gain':>22}  {'pattern alone':>22}  AUROC")
    started, verdicts = time.time(), []
    for law, patients, null in SCENARIOS:
        found = np.array([_answers(law, patients, seed) for seed in range(replications)])
        cells = "  ".join(f"{_rate(found[:, j]):>22}" for j in range(3))
        print(f"{law:20} {patients:5}  {cells}  {found[:, 3].mean():.3f}", flush=True)
        rejected = float((found[:, 0] <= ALPHA).mean())
        if null:
            verdicts.append((f"size, {law}, n = {patients}", rejected, "<= .07", rejected <= 0.07))
        elif (law, patients) == ("mnar gamma=1", 2000):
            verdicts.append((f"power, {law}, n = {patients}", rejected, ">= .80", rejected >= 0.8))
    print()
    for what, rejected, bar, met in verdicts:
        print(f"B9   {what:36} {rejected:.3f}   bar {bar}   {'met' if met else 'NOT MET'}")
    print(f"\n{time.time() - started:.0f} s")


def _answers(law: str, patients: int, seed: int) -> tuple[float, float, float, float]:
    signal = informativeness(draw(law, patients, seed), permutations=200, resamples=1, seed=seed).tasks["first"]
    assert signal.conditional is not None
    assert signal.pattern_p is not None
    return signal.conditional.p, signal.conditional.gain_p, signal.pattern_p, signal.pattern_auroc.value or 0.5


def _rate(p: np.ndarray) -> str:
    hits = int((p <= ALPHA).sum())
    low, high = binomtest(hits, len(p)).proportion_ci()
    return f"{hits / len(p):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()

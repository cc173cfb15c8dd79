"""Choices that cards speak of: what each costs or gains where the exact risks are known.

    python benchmarks/choices.py [--methods crl-mmnar,com,mt,mt-late,hgmf] [--worlds m3,m4] [--seeds 3]
    python benchmarks/choices.py --smallest

Of each method what it does by default, then what was weighed against it, with the same patients, seeds and epochs: log
loss of the tune fold and KL to the exact risks of 6,000 fresh simulated patients (1e-4 nats), means over seeds; and by
how much either is above the first's, ± standard error over seeds. Worlds: ``m3`` and ``m4`` are simulated patients of
three and four modalities, others are the planted mechanisms of ``mmnar.simulation.planted``. A fit stops after a
quarter of all epochs without a better one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from population import population
from torch import Tensor

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import PatientDataset
from mmnar.evaluation.simulated import excess_kl
from mmnar.models.base import Model
from mmnar.models.hgmf import HGMF
from mmnar.models.mt import MT
from mmnar.models.registry import model_class
from mmnar.ops.hypergraph import Edges
from mmnar.simulation.planted import planted
from mmnar.training.loop import batches_of, train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch

FRESH: Final = 500
"""What is added to the seed of the fitted patients for those who are scored."""


SCALE: Final = 20.0
"""Of a single number that is learned: the rate of all weights is too low for it to get anywhere."""


class Evidence(MT):
    """logits = prior + Σ_{m ∈ view} (Head_m(cls_m) − prior): what modalities tell adds up."""

    def read(self, tokens: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        logits, h = super().read(tokens, views)
        return self.null + self._power(views) * (logits - self.null), h

    def _power(self, views: Tensor) -> Tensor:
        return views.sum(1, keepdim=True).clamp(min=1).to(self.null.dtype)


class Tempered(Evidence):
    """The same to a learned power of how many there are: 0 is the mean, 1 the sum."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.power = torch.nn.Parameter(torch.zeros(()))

    def _power(self, views: Tensor) -> Tensor:
        return super()._power(views) ** (self.power * SCALE)


class Alone(HGMF):
    """Nobody has neighbours, in training and at prediction."""

    def search(self, batch: PatientBatch, own: Tensor) -> Edges:
        edges = super().search(batch, own)
        return edges._replace(valid=torch.zeros_like(edges.valid))


@dataclass(frozen=True)
class Choice:
    """Settings, or a variant that is in no release.

    Args:
        label: What the table says.
        settings: Of the method's ``Config``.
        kind: In place of the method's own class.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: type[Model] | None = None


def _weights(value: float) -> dict[str, float]:
    return {f"weight_{name}": value for name in ("adv", "within", "across")}


LATE: Final = {"fusion_layer": 3}
METHODS: Final = {"mt-late": "mt"}
"""Whose choices they are, where the name does not say so."""
CHOICES: Final[dict[str, tuple[Choice, ...]]] = {
    "crl-mmnar": (Choice("hides one"), Choice("hides each", {"holdout": "all"})),
    "com": tuple(Choice(f"λ = {value:g}", _weights(value)) for value in (0.001, 0.0, 0.01)),
    "mt": (Choice("early fusion"), Choice("late fusion", LATE)),
    "mt-late": (
        Choice("mean of logits", LATE),
        Choice("evidence adds up", LATE, Evidence),
        Choice("learned power", LATE, Tempered),
    ),
    "hgmf": (
        Choice("half have neighbours"),
        Choice("all have neighbours", {"graph_dropout": 0.0}),
        Choice("nobody has neighbours", kind=Alone),
    ),
}
"""Of each method; the others are held against the first, which is the default but of ``mt-late``."""


def world(name: str, patients: int, seed: int) -> PatientDataset:
    """Fresh patients of a world."""
    return population(patients, int(name[1:]), seed) if name in ("m3", "m4") else planted(name, patients, seed)


def measure(
    method: str, choice: Choice, data: PatientDataset, fresh: PatientDataset, seed: int, config: TrainConfig
) -> tuple[float, float]:
    """Log loss of the tune fold at its best epoch, KL to the exact risks of ``fresh`` in 1e-4 nats."""
    assert fresh.bayes is not None
    split = Split(tune=0.15, test=0.0, seed=seed)
    fold = data.fold(split, "train")
    preprocessor = Preprocessor.fit(fold)
    kind = choice.kind or model_class(METHODS.get(method, method))
    torch.manual_seed(seed)
    model = kind(data.schema, kind.Config(**choice.settings))
    tune = preprocessor.transform(data.fold(split, "tune"))
    history = train(model, preprocessor.transform(fold), tune, config, seed, Silent())
    scored = preprocessor.transform(fresh.fold(Split.external(), "test"))
    with torch.no_grad():
        risk = torch.cat([model(part).logits.double() for part in batches_of(scored, 2048)]).sigmoid().numpy()
    return min(record["tune"]["task"] for record in history), 1e4 * float(excess_kl(fresh.bayes, risk).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(CHOICES), help="names, separated by commas")
    parser.add_argument("--worlds", default="m3,m4", help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=4000, help="who are fitted")
    parser.add_argument("--smallest", action="store_true", help="one world, 200 patients, two seeds, one epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    patients, many, config = arguments.patients, 6000, TrainConfig(patience=3)
    if arguments.smallest:
        patients, many, config = 200, 200, TrainConfig(max_epochs=1, min_steps=0)
        arguments.worlds, arguments.seeds = "m3", 2
    seeds = range(arguments.seeds)
    print(f"{patients} patients, seeds {seeds.start} to {seeds.stop - 1}; KL in 1e-4 nats")
    print(f"{'world':9} {'method':10} {'choice':22} {'tune':>7} {'above the first':>18} {'KL':>7} {'above':>12}")
    for name in arguments.worlds.split(","):
        pairs = [(world(name, patients, 1 + seed), world(name, many, 1 + FRESH + seed)) for seed in seeds]
        for method in arguments.methods.split(","):
            first = None
            for choice in CHOICES[method]:
                found = np.array(
                    [measure(method, choice, *pair, seed, config) for seed, pair in zip(seeds, pairs, strict=True)]
                )
                first = found if first is None else first
                (tune, kl), (more, above) = found.mean(axis=0), (found - first).mean(axis=0)
                errors = (found - first).std(axis=0, ddof=1) / np.sqrt(len(seeds))
                print(
                    f"{name:9} {method:10} {choice.label:22} {tune:7.4f} {more:9.4f} ± {errors[0]:.4f} "
                    f"{kl:7.1f} {above:6.1f} ± {errors[1]:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

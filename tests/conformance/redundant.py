"""Two modalities that tell the same, one at once and one slowly: who learns from both together neglects the other."""

from __future__ import annotations

from typing import Final

import torch
from sklearn.metrics import roc_auc_score

from mmnar.config import TrainConfig
from mmnar.models.base import Model
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch, Static

FEATURES: Final = 8
EASY, HARD = 0, 1
REDUNDANT: Final = Schema(
    (
        ModalitySpec("easy", (Feature("told"), Feature("noise"))),
        ModalitySpec("hard", tuple(Feature(f"x{i}") for i in range(FEATURES))),
    ),
    (Task("death", "now", "death"),),
)


def redundant(n: int, seed: int) -> PatientBatch:
    """y = sign of the easy one's first feature, nearly; sign of the product of the hard one's first two, exactly."""
    g = torch.Generator().manual_seed(seed)
    y, a = (torch.rand(2, n, generator=g) < 0.5).float()
    s, sign = 2 * y - 1, 2 * a - 1
    easy = torch.stack([s + 0.25 * torch.randn(n, generator=g), torch.randn(n, generator=g)], 1)
    hard = torch.randn(n, FEATURES, generator=g)
    hard[:, :2] = torch.stack([sign, sign * s], 1) * (0.3 + hard[:, :2].abs())
    contents = {name: Static(x, torch.ones_like(x, dtype=torch.bool)) for name, x in (("easy", easy), ("hard", hard))}
    everything = torch.ones(n, 2, dtype=torch.bool)
    return PatientBatch(REDUNDANT, contents, everything, y[:, None], everything[:, :1], torch.arange(n))


def fit(model: Model, epochs: int, seed: int) -> Model:
    """On 600 patients."""
    config = TrainConfig(min_steps=0, max_epochs=epochs, patience=epochs, batch_size=64, lr=2e-3, accelerator="cpu")
    train(model, redundant(600, seed), redundant(300, 100 + seed), config, seed, Silent())
    return model


@torch.no_grad()
def by_the_hard_one_alone(model: Model, seed: int) -> float:
    """AUROC of new patients of whom the easy modality is unknown."""
    b = redundant(2000, 200 + seed)
    b = b.drop(torch.tensor([False, True]).expand(len(b), 2))
    return float(roc_auc_score(b.labels[:, 0], model(b).logits[:, 0]))

"""Unified: a linear head for every combination of modalities; each learns from all who have what it reads.

Hayat, Geras, Shamout: "Towards dynamic multi-modal phenotyping using chest radiographs and physiological data" (2021),
the baseline "Unified" of MedFuse (MLHC 2022). h^m is the vector of modality m, O a patient's modalities, 𝒫 the
combinations with a head: none, each modality alone, and those that are common in the training fold.

    o^P = Σ_{m∈P} W_P^m h^m + b_P             for P ∈ 𝒫, P ⊆ O
    L = Σ_{P∈𝒫} ℓ(o^P, y) over those with P ⊆ O
    ŷ = o^O, or where O ∉ 𝒫 the o^P of the largest P ⊂ O of 𝒫, of several the one that most have
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmnar.config import MEDFUSE
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class UnifiedConfig:
    """Settings of Unified; letters are those of the equations above.

    Args:
        width: D, the width of every h^m.
        dropout: Dropout in the encoders.
        append_pattern: Every head also reads δ.
        least: Training samples with exactly a combination of two or more that give it a head.
        most: Heads of such combinations; the most common have them.
        image, series: How those are encoded.

    Raises:
        ConfigError: ``least`` is below 1, or ``most`` below 0.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    least: int = 50
    most: int = 32
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        for key, value, floor in (("least", self.least, 1), ("most", self.most, 0)):
            if value < floor:
                raise ConfigError(f"model.{key}", f"{floor} or more", str(value), "correct it")


class Unified(Model):
    """One set of encoders, a head for each common combination of what is present."""

    patterns: Tensor
    rank: Tensor

    card = ModelCard(
        title="Unified",
        paper="Hayat, Geras, Shamout (2021), as a baseline of MedFuse (MLHC 2022)",
        missing="a patient is scored by the head of the modalities they have; absent ones enter no head",
        deviations=(
            "Built from MedFuse's account (a classifier and a prediction for every possible combination of inputs); "
            "the paper's own text was not at hand, and no release trains it.",
            "A head learns from all who have what it reads, whatever else they have. Where absence itself informs, the "
            "risk of those without a film is therefore that of a record alone, not of a record whose patient got no "
            "film.",
            "Any M modalities. Each modality alone has a head; of larger combinations those that at least model.least "
            "training samples have, at most model.most. Whoever has another one is scored by the largest "
            "combination within it that has a head, of several the one that most have.",
            "There the film's own head learns findings of radiology reports; here all heads learn the same labels.",
            "Whoever has nothing has a learned risk: that of all.",
            "preset=original has the rate MedFuse found best for phenotypes; for death in hospital it is 2.606e-4. "
            "Epochs are chosen by log loss, not AUROC; films are never mirrored.",
        ),
        original={**MEDFUSE, "train.lr": 2.042e-4},
    )
    Config = UnifiedConfig

    def __init__(self, schema: Schema, config: UnifiedConfig) -> None:
        super().__init__(schema, config)
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        self.width = d
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        heads = 1 + m + min(config.most, 2**m - 1 - m)  # S: none, each alone, larger ones
        self.weight = nn.Parameter(torch.randn(heads, m, d, k) / (m * d) ** 0.5)  # W
        self.bias = nn.Parameter(torch.zeros(heads, k))  # b
        self.pattern_weight = nn.Parameter(torch.zeros(heads, m, k)) if config.append_pattern else None
        alone = torch.cat([torch.zeros(1, m), torch.eye(m)]).bool()
        self.register_buffer("patterns", torch.cat([alone, torch.zeros(heads - 1 - m, m, dtype=torch.bool)]))  # 𝒫
        # the higher the sooner a head scores; −1: no head, as from here on before a training fold was seen
        self.register_buffer("rank", torch.where(torch.arange(heads) < 1 + m, torch.arange(heads), -1))

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once; ``task``, the loss of the head that scores, is one of those in ``heads``."""
        return (Phase("joint", {"task": 0.0, "heads": 1.0}),)

    def prepare(self, train: PatientBatch) -> None:
        """𝒫: the common combinations of the training fold."""
        present, first = train.present.cpu(), 1 + train.present.shape[1]
        found, counts = torch.unique(present[present.sum(1) > 1], dim=0, return_counts=True)
        order = counts.argsort(descending=True, stable=True)
        order = order[counts[order] >= self.config.least][: len(self.patterns) - first]
        last = first + len(order)
        self.patterns[first:] = False
        self.patterns[first:last] = found[order].to(self.patterns.device)
        have = torch.stack([present[:, pattern].all(1).sum() for pattern in self.patterns[:last].cpu()])
        place = (self.patterns[:last].sum(1).cpu() * (len(present) + 1) + have).argsort(stable=True)
        self.rank.fill_(-1)
        self.rank[place.to(self.rank.device)] = torch.arange(last, device=self.rank.device)

    def forward(self, batch: PatientBatch) -> Output:
        h = encode(self.encoders, batch, self.width)  # (B, M, D)
        o = self.heads(h, batch.present)  # (B, S, K)
        own = self.scoring(batch.present)  # (B,)
        logits = o[torch.arange(len(own), device=own.device), own]
        read = (h * self.patterns[own, :, None]).flatten(1)  # (B, M D)
        return Output(logits, read, {"heads": self._loss(o, batch)} if self.training else {})

    def heads(self, h: Tensor, present: Tensor) -> Tensor:
        """o^P of every head (B, S, K), meaningless where P is not all there."""
        w = self.weight * self.patterns[..., None, None]
        o = torch.einsum("bmd,smdk->bsk", h, w.to(h.dtype)) + self.bias
        if self.pattern_weight is not None:
            o = o + torch.einsum("bm,smk->bsk", present.to(o.dtype), self.pattern_weight)
        return o

    def knows(self, present: Tensor) -> Tensor:
        """P ⊆ O: (B, S) bool."""
        return ~(self.patterns & ~present[:, None]).any(2) & (self.rank >= 0)

    def scoring(self, present: Tensor) -> Tensor:
        """Which head scores each patient: (B,)."""
        return torch.where(self.knows(present), self.rank, -1).argmax(1)

    def _loss(self, o: Tensor, batch: PatientBatch) -> Tensor:
        """Σ_P ℓ(o^P, y) over those with P ⊆ O."""
        knows = self.knows(batch.present)
        losses = [
            self.task_loss(o[:, s], replace(batch, label_mask=batch.label_mask & knows[:, [s]]))
            for s in range(int((self.rank >= 0).sum()))
        ]
        return torch.stack(losses).sum()

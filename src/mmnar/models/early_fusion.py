"""Early fusion: encoders learn alone and stay as they are; then one linear layer learns to read their vectors.

The baseline of this name in MedFuse (Hayat, Geras, Shamout, MLHC 2022). v^m is the vector of modality m, a^m stands for
it where it is absent; g_m and the head are linear, φ_m is nothing for a series and linear for all else.

    stage 1:  Σ_m ℓ(g_m(v^m), y) over those who have m         encoders and g_m, which are dropped then
    stage 2:  v*^m = φ_m(v^m) where present, else a^m          encoders frozen
              ŷ_k = w_k'[v*¹, …, v*ᴹ] + b_k,  ℓ(ŷ, y)          φ, a, w and b
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from mmnar.config import MEDFUSE
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.alone import OwnHeads
from mmnar.ops.beside import Absent, SideBySide
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class EarlyFusionConfig:
    """Settings of early fusion; letters are those of the equations above.

    Args:
        width: D, the width of v.
        dropout: Dropout in the encoders while they learn.
        append_pattern: Concatenate δ to what the head sees.
        absent: What a^m is: a ``learned`` vector, or ``zeros``.
        pretrain_rate: Factor on the learning rate of stage 1.
        image, series: How those are encoded.

    Raises:
        ConfigError: ``pretrain_rate`` is not above 0.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    absent: Absent = "learned"
    pretrain_rate: float = 1.0
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        if not self.pretrain_rate > 0:
            raise ConfigError("model.pretrain_rate", "a number above 0", str(self.pretrain_rate), "correct it")


class EarlyFusion(Model):
    """Frozen encoders that learned alone, and a linear head on their vectors side by side."""

    card = ModelCard(
        title="Early fusion",
        paper="A baseline of MedFuse (Hayat, Geras, Shamout, MLHC 2022): encoders trained alone, then frozen",
        missing="a learned vector stands for an absent modality (or zeros: model.absent=zeros)",
        deviations=(
            "Any M modalities and any pattern; each has a vector for its absence. The paper has a time series, which "
            "nobody lacks, and a film.",
            "The film's encoder learns the labels of the patients at hand, those who have a film. Stage 1 trains all "
            "encoders in one pass, as they share no weight, and ends when the mean of their logits is best on the "
            "tune fold; its heads stay in the file of weights, unused.",
            "Frozen means without dropout, too, and films are not changed at random in stage 2; the release leaves the "
            "frozen encoders in training mode, so that their statistics move.",
            "Whoever has nothing has the risk that the absences together say.",
            "The paper's other version knows complete patients only: rows.train=paired rows.modalities=…; its tables "
            "find no clear difference between zeros and a learned vector.",
            "preset=original has the rates found best for phenotypes on all patients (9.08e-5, encoders 5.4e-4); for "
            "death in hospital train.lr=3.095e-4 model.pretrain_rate=1.74. Epochs are chosen by log loss, not AUROC; "
            "films are never mirrored.",
        ),
        original={**MEDFUSE, "train.lr": 9.084e-5, "model.pretrain_rate": 5.94},
    )
    Config = EarlyFusionConfig

    def __init__(self, schema: Schema, config: EarlyFusionConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.own = OwnHeads(schema, d)  # g_m
        self.beside = SideBySide(schema, d, config.absent)
        self.head = TaskHead(schema, len(schema.modalities) * d, config.append_pattern)
        self.loss_weights = self.phases()[-1].weights  # a loaded model is past its first stage

    def phases(self) -> tuple[Phase, ...]:
        """Encoders alone, then what reads them."""
        c: EarlyFusionConfig = self.config
        return Phase("alone", {"task": 0.0, "alone": 1.0}, rate=c.pretrain_rate), Phase("fusion", {"task": 1.0})

    @property
    def frozen(self) -> bool:
        """Whether stage 1 is over."""
        return not self.loss_weights.get("alone")

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoders.eval()
        return self

    def forward(self, batch: PatientBatch) -> Output:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            v = encode(self.encoders, batch, self.width)  # (B, M, D)
        if not self.frozen:
            return self.own.stage(v, batch, self.task_loss if self.training else None)
        z = self.beside(v, batch.present)  # (B, M D)
        return Output(self.head(z, batch.present), z)

"""Zero-fill concatenation net: the plain control that sees the pattern only through zeros.

The "basic baseline" of the CRL-MMNAR paper's Table 2 and the "zero-filling + masking" row of its Table 3:
modality embeddings, zero where absent, concatenated with δ and fed to an MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.models.base import Model, ModelCard
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class ZeroFillConfig:
    """Args:
    width: D.
    dropout: In encoders and trunk.
    append_pattern: Concatenate δ to the embeddings.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = True


class ZeroFill(Model):
    """h = MLP([δ¹e¹, …, δᴹeᴹ, δ]); ŷ_t = w_t'h."""

    card = ModelCard(
        title="Zero-fill concatenation net",
        paper="Control; the basic baseline of Liang, Pan, Xiong (2025), Tables 2 and 3",
        missing="an absent modality is a zero vector; the pattern is appended",
        control=True,
    )
    Config = ZeroFillConfig

    def __init__(self, schema: Schema, config: ZeroFillConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.width, self.append_pattern = d, config.append_pattern
        self.encoders = encoders_of(schema, d, config.dropout)
        self.trunk = nn.Sequential(
            nn.Linear(m * d + (m if config.append_pattern else 0), d),
            nn.GELU(),
            nn.LayerNorm(d),
            nn.Dropout(config.dropout),
            nn.Linear(d, d),
            nn.GELU(),
        )
        self.heads = nn.Linear(d, len(schema.tasks))

    def forward(self, batch: PatientBatch) -> Output:
        e = encode(self.encoders, batch, self.width).flatten(1)  # (B, M D)
        if self.append_pattern:
            e = torch.cat([e, batch.pattern], dim=1)
        h = self.trunk(e)  # (B, D)
        return Output(self.heads(h), h)

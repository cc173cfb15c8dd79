"""Zero-fill concatenation net: the plain control that sees the pattern only through zeros.

The "basic baseline" of the CRL-MMNAR paper's Table 2 and the "zero-filling + masking" row of its Table 3:
modality embeddings, zero where absent, concatenated with δ and fed to an MLP. With ``fill = "mean"`` an absent
modality has the mean embedding of those who have it in place of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import trunk
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

FOLD_ROWS: Final = 2048
"""Patients of the training fold that are encoded at once."""


@dataclass(frozen=True)
class ZeroFillConfig:
    """Settings of Zero-fill concatenation net; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in encoders and trunk.
        append_pattern: Concatenate δ to the embeddings.
        fill: What stands for an absent modality: ``zero``, or the ``mean`` embedding of the training fold (while
            training, of the batch).
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = True
    fill: Literal["zero", "mean"] = "zero"
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class ZeroFill(Model):
    """h = MLP([δ¹e¹ + (1 − δ¹)f¹, …, δᴹeᴹ + (1 − δᴹ)fᴹ, δ]), f = 0 or the mean of e; ŷ_t = w_t'h."""

    card = ModelCard(
        title="Zero-fill concatenation net",
        paper="Control; the basic baseline of Liang, Pan, Xiong (2025), Tables 2 and 3",
        missing="an absent modality is a zero vector (or its mean embedding); the pattern is appended",
        control=True,
    )
    Config = ZeroFillConfig

    def __init__(self, schema: Schema, config: ZeroFillConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.width, self.append_pattern = d, config.append_pattern
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.trunk = trunk(m * d + m * config.append_pattern, d, config.dropout)
        self.heads = nn.Linear(d, len(schema.tasks))
        self.mean: Tensor | None
        self.register_buffer("mean", torch.zeros(m, d) if config.fill == "mean" else None)

    def forward(self, batch: PatientBatch) -> Output:
        e = self.embed(batch).flatten(1)  # (B, M D)
        if self.append_pattern:
            e = torch.cat([e, batch.pattern], dim=1)
        h = self.trunk(e)  # (B, D)
        return Output(self.heads(h), h)

    def embed(self, batch: PatientBatch) -> Tensor:
        """(B, M, D) with f where absent."""
        e = encode(self.encoders, batch, self.width)
        if self.mean is None:
            return e
        f = self.mean.to(e.dtype)
        if self.training:
            own = masked_mean(e.detach().transpose(0, 1), batch.present.T)  # (M, D)
            f = torch.where(batch.present.any(0)[:, None], own, f)
        return torch.where(batch.present[..., None], e, f)

    def after_epoch(self, train: PatientBatch) -> None:
        """f of the training fold; zeros for a modality that nobody has."""
        if self.mean is None:
            return
        sums = torch.zeros_like(self.mean)
        for rows in torch.split(torch.arange(len(train), device=self.mean.device), FOLD_ROWS):
            sums += encode(self.encoders, train.take(rows), self.width).sum(0)
        self.mean.copy_(sums / train.present.sum(0).clamp(min=1)[:, None])

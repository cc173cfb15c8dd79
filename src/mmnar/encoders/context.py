"""What a sequence model sees beside its sequence: all other modalities, as vectors without time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmnar.encoders.modality import encode_present, encoder_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.schema import ModalityKind, Schema
from mmnar.types import PatientBatch

How = Literal["none", "delta_only", "embeddings"]


class Context(nn.Module):
    """st = [δ¹e¹, …, δᴶeᴶ, δ¹, …, δᴶ] of the J modalities that are not the sequence.

    Args:
        schema: All modalities.
        sequence: Kind of those that make the sequence and are left out here.
        how: ``embeddings`` as above, ``delta_only`` without the e, ``none`` nothing at all.
        width: D of each e.
        dropout: Of the encoders.
        image, series: How those are encoded, where they are not the sequence.

    Attributes:
        width: Length of st; 0 where there is nothing.
    """

    def __init__(
        self,
        schema: Schema,
        sequence: ModalityKind,
        how: How,
        width: int,
        dropout: float,
        image: ImageConfig = IMAGE,
        series: SeriesConfig = SERIES,
    ) -> None:
        super().__init__()
        self.embedding = width
        self.others = [i for i, m in enumerate(schema.modalities) if m.kind != sequence and how != "none"]
        encoded = self.others if how == "embeddings" else []
        self.encoders = nn.ModuleList(encoder_of(schema.modalities[i], width, dropout, image, series) for i in encoded)
        self.width = len(encoded) * width + len(self.others)

    def forward(self, batch: PatientBatch) -> Tensor:
        """(B, width of st)."""
        contents = list(batch.modalities.values())
        embedded = [
            encode_present(encoder, contents[i], batch.present[:, i], self.embedding)
            for i, encoder in zip(self.others, self.encoders, strict=False)
        ]
        return torch.cat([*embedded, batch.pattern[:, self.others]], dim=1)

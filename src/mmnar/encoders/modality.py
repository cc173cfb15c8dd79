"""One encoder per modality, by its kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmnar.encoders.series import SeriesEncoder
from mmnar.encoders.static import StaticEncoder
from mmnar.encoders.vectors import VectorsEncoder
from mmnar.schema import ModalitySpec
from mmnar.types import Content


def encoder_of(spec: ModalitySpec, width: int, dropout: float = 0.0) -> nn.Module:
    """Content of ``spec`` → (B, width)."""
    if spec.kind == "series":
        return SeriesEncoder(spec, width, dropout)
    if spec.kind == "image":
        from mmnar.encoders.image import ImageEncoder  # MONAI takes seconds to import

        return ImageEncoder(spec.shape[0], width, dropout)
    if spec.kind == "static":
        return StaticEncoder(spec, width, dropout)
    # hashed notes arrive as vectors of the basis that the preprocessor fitted
    return VectorsEncoder(spec.shape[-1], width, dropout)


def encode_present(encoder: nn.Module, content: Content, present: Tensor, width: int) -> Tensor:
    """Encode only the rows in which the modality is present; (B, D) with zeros elsewhere."""
    rows = present.nonzero().squeeze(1)
    if len(rows) == len(present):
        return encoder(content)  # type: ignore[no-any-return]
    if not len(rows):
        return torch.zeros(len(present), width, device=present.device)
    encoded = encoder(content.take(rows))
    return encoded.new_zeros(len(present), width).index_copy(0, rows, encoded)  # type: ignore[no-any-return]

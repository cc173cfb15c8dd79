"""One encoder per modality, by its kind: the same for every method, so that comparisons do not measure encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.series import LSTMEncoder, SeriesEncoder, TransformerEncoder
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.encoders.static import StaticEncoder
from mmnar.encoders.vectors import VectorsEncoder
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Content, PatientBatch


def encoder_of(
    spec: ModalitySpec, width: int, dropout: float = 0.0, image: ImageConfig = IMAGE, series: SeriesConfig = SERIES
) -> nn.Module:
    """Content of ``spec`` → (B, width).

    Args:
        image, series: How those are encoded.
    """
    if spec.kind == "series":
        if series.encoder == "set":
            return SeriesEncoder(spec, width, dropout)
        kind = LSTMEncoder if series.encoder == "lstm" else TransformerEncoder
        return kind(spec, width, dropout, series)
    if spec.kind == "image":
        return ImageEncoder(spec.shape[0], width, dropout, image)
    if spec.kind == "static":
        return StaticEncoder(spec, width, dropout)
    # hashed notes arrive as vectors of the basis that the preprocessor fitted
    return VectorsEncoder(spec.shape[-1], width, dropout, of=spec.name)


def encode_present(encoder: nn.Module, content: Content, present: Tensor, width: int) -> Tensor:
    """Encode only the rows in which the modality is present; (B, D) with zeros elsewhere."""
    rows = present.nonzero().squeeze(1)
    if len(rows) == len(present):
        return encoder(content)  # type: ignore[no-any-return]
    if not len(rows):
        return torch.zeros(len(present), width, device=present.device)
    encoded = encoder(content.take(rows))
    return encoded.new_zeros(len(present), width).index_copy(0, rows, encoded)  # type: ignore[no-any-return]


def encoders_of(
    schema: Schema, width: int, dropout: float = 0.0, image: ImageConfig = IMAGE, series: SeriesConfig = SERIES
) -> nn.ModuleList:
    """Enc_m of every modality, in schema order."""
    return nn.ModuleList(encoder_of(spec, width, dropout, image, series) for spec in schema.modalities)


def encode(encoders: nn.ModuleList, batch: PatientBatch, width: int) -> Tensor:
    """h^m = Enc_m(e^m): (B, M, D), zeros where absent."""
    return torch.stack(
        [
            encode_present(encoder, content, batch.present[:, i], width)
            for i, (encoder, content) in enumerate(zip(encoders, batch.modalities.values(), strict=True))
        ],
        dim=1,
    )

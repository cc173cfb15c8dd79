"""LateFusion: vectors of all modalities side by side and one linear layer, trained end to end.

The baseline of this name in CareBench (Yin et al. 2026). h^m is the vector of modality m, δ^m whether it is present.

    z = [δ¹ h¹, …, δᴹ hᴹ]
    ŷ_k = w_k'z + b_k = Σ_m δ^m w_k^m'h^m + b_k

Logits are sums over modalities: nothing that two of them tell only together can be found.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class LateFusionConfig:
    """Settings of LateFusion; letters are those of the equations above.

    Args:
        width: D, the width of every h^m.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to z; logits stay sums over modalities.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class LateFusion(Model):
    """Concatenation of the modalities' vectors, zero where absent, and a linear head."""

    card = ModelCard(
        title="LateFusion",
        paper="A baseline of CareBench (Yin et al. 2026): concatenated vectors and one linear layer",
        missing="an absent modality is a zero vector: it adds nothing to any logit",
        deviations=(
            "Any M modalities; the benchmark has a time series and a film.",
            "A patient with nothing present has the risk of the offset b alone.",
            "The release encodes a black film in place of an absent one, so that it adds a constant and enters the "
            "network's batch statistics; here, as the paper says, its vector is zero, and nothing is encoded.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
            "There the image encoder starts from ImageNet's weights. Such a file is the user's and no part of "
            "preset=original: model.image.weights=FILE model.image.norm=frozen.",
        ),
        original={**CAREBENCH, **CAREBENCH_ENCODERS},
    )
    Config = LateFusionConfig

    def __init__(self, schema: Schema, config: LateFusionConfig) -> None:
        super().__init__(schema, config)
        self.width = config.width
        self.encoders = encoders_of(schema, config.width, config.dropout, config.image, config.series)
        self.head = TaskHead(schema, len(schema.modalities) * config.width, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        z = encode(self.encoders, batch, self.width).flatten(1)  # (B, M D)
        return Output(self.head(z, batch.present), z)

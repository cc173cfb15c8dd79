"""DAFT: what else is known of a patient scales and shifts the maps of the film's network.

Pölsterl, Wolf, Wachinger: "Combining 3D Image and Tabular Data via the Dynamic Affine Feature Map Transform", MICCAI
2021. h^m is the vector of modality m, δ^m whether it is present, F the map of C channels that a stage gives.

    a = [δ^m h^m : m is no film]                                  what else is known
    s = [mean of F over space; a]
    [γ; β] = W_2 relu( W_1 s ),  W_1: ⌊(C + |a|) / 7⌋ rows        no offsets
    F'_c = (1 + γ_c) F_c + β_c                                    goes to the next stage
    ŷ_k = w_k'[δ¹ h¹, …, δᴹ hᴹ] + b_k                             h of a film: what its network makes of F'

With ``direction = "series"``, as MedFuse and CareBench compare it, F are the states of a series after a stretch of its
layers, their mean is over time, and a has, of every film, the mean over space of the map that a stage gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.image import PART
from mmnar.encoders.modality import encoder_of
from mmnar.encoders.passage import channels_at, passages, squeezed
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig, check_stages
from mmnar.encoders.stream import SeriesStream
from mmnar.errors import SchemaError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.parts import by_parts
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Output, PatientBatch

NARROWER: Final = 7
"""(C + |a|) / rows of W_1."""


@dataclass(frozen=True)
class DAFTConfig:
    """Settings of DAFT; letters are those of the equations above.

    Args:
        width: D, the width of every h^m.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to what the head sees.
        direction: What is scaled and shifted: maps of the ``image``, or states of the ``series``.
        stages: Of the ResNet, some of 1 to 4: whose maps are scaled and shifted; or, with ``direction`` series, whose
            maps tell about the film after the first, second, … stretch of the series' layers.
        image: How films are encoded.
        series: How series are encoded; with ``direction`` series, layers, step and hours of each stretch.

    Raises:
        ConfigError: The stages are no stages.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    direction: Literal["image", "series"] = "image"
    stages: tuple[int, ...] = (3,)
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        check_stages(self.stages)


class DAFT(Model):
    """Scale and shift of one modality's feature maps by what is known of the others."""

    card = ModelCard(
        title="DAFT",
        paper="Pölsterl, Wolf, Wachinger (MICCAI 2021)",
        missing="an absent modality is a zero in a, and a zero vector before the head; an absent film is not encoded",
        deviations=(
            "Any M modalities and any pattern; the paper has complete pairs of a volume and a table. A film is told "
            "all that is no film; with direction=series a series is told all that is no series.",
            "The head is linear on all vectors side by side, so that a patient without a film has a risk of their own; "
            "the paper's head sees the image's network alone.",
            "F' = (1 + γ) F + β; the paper writes γ F + β. Without the 1 several transforms in a row shrink whatever "
            "they act on towards zero at the start, since W_1 and W_2 have no offsets.",
            "The release acts inside the last residual block, or on what that block is given. Here it is on the map "
            "between two stages: with one block a stage, stages=3 is the second of these places.",
            "W_1 has as many rows as the code's bottleneck factor of 7 gives; γ has no activation, as there.",
            "direction=series: MedFuse acts after the first of two LSTM layers, on what stage 3 or 4 tells. CareBench "
            "repeats the pooled vector of the series over time and transforms it five times in a row, without the 1: "
            "there is no sequence to act on, and little of it is left. Here it is as in MedFuse, at as many stages as "
            "wanted, each followed by layers of the series, which add to what they are given.",
            "preset=original: CareBench's training and encoders, at MedFuse's place (stage 3) in MedFuse's direction. "
            "Their films start from ImageNet's weights. Such a file is the user's and no part of it: "
            "model.image.weights=FILE model.image.norm=frozen.",
            "CareBench encodes a black film in place of an absent one; here nothing is encoded.",
        ),
        needs=("image",),
        original={**CAREBENCH, **CAREBENCH_ENCODERS, "model.direction": "series", "model.stages": (3,)},
    )
    Config = DAFTConfig
    config: DAFTConfig

    def __init__(self, schema: Schema, config: DAFTConfig) -> None:
        super().__init__(schema, config)
        kinds = [spec.kind for spec in schema.modalities]
        if config.direction not in kinds or len(set(kinds)) < 2:
            expected, fact = f"a {config.direction} and a modality of another kind", ", ".join(sorted(set(kinds)))
            raise SchemaError(f"DAFT with direction={config.direction}", expected, fact, "choose another model")
        self.acted = [i for i, kind in enumerate(kinds) if kind == config.direction]
        self.told = [i for i, kind in enumerate(kinds) if kind != config.direction]
        self.encoders = nn.ModuleList(self._encoder(spec) for spec in schema.modalities)
        # of stage after stage, one for each modality that is acted on
        self.transforms = nn.ModuleList(self._transform(i, stage) for stage in config.stages for i in self.acted)
        self.head = TaskHead(schema, len(kinds) * config.width, config.append_pattern)

    def _encoder(self, spec: ModalitySpec) -> nn.Module:
        c = self.config
        if spec.kind == "series" and c.direction == "series":
            return SeriesStream(spec, c.width, c.dropout, c.series, len(c.stages) + 1)
        return encoder_of(spec, c.width, c.dropout, c.image, c.series)

    def _transform(self, i: int, stage: int) -> Transform:
        """Of modality i at a stage."""
        c, *a = (channels_at(self.encoders[m], stage, self.config.width) for m in (i, *self.told))
        return Transform(c, sum(a))

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, PART)

    def _outputs(self, batch: PatientBatch) -> Output:
        ways, h = passages(self.encoders, batch, self.config.width, self.config.stages)
        transforms = iter(self.transforms)
        for place in range(len(self.config.stages)):
            for way in ways.values():
                way.go(place)
            a = squeezed(ways, h, self.told)  # (B, |a|)
            for i in self.acted:
                ways[i].values = next(transforms)(ways[i].values, ways[i].mean(), a[ways[i].patient])
        h |= {i: way.vector() for i, way in ways.items()}
        z = torch.cat([h[i] for i in range(len(h))], dim=1)  # (B, M D)
        return Output(self.head(z, batch.present), z)


class Transform(nn.Module):
    """F' = (1 + γ) F + β of C channels, [γ; β] = W_2 relu( W_1 [mean of F; a] ).

    Args:
        channels: C.
        told: |a|.
    """

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        bottleneck = max(1, (channels + told) // NARROWER)
        self.w1 = nn.Linear(channels + told, bottleneck, bias=False)
        self.w2 = nn.Linear(bottleneck, 2 * channels, bias=False)

    def forward(self, f: Tensor, mean: Tensor, a: Tensor) -> Tensor:
        """(n, C, …), (n, C), (n, |a|) → (n, C, …)."""
        gamma, beta = self.w2(torch.relu(self.w1(torch.cat([mean, a], dim=1)))).chunk(2, dim=1)
        everywhere = (*gamma.shape, *(1 for _ in f.shape[2:]))
        changed: Tensor = (1 + gamma.view(everywhere)) * f + beta.view(everywhere)
        return changed.to(f.dtype)

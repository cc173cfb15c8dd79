"""MMTM: at stage after stage, what all streams show decides which channels of each stream go on.

Vaezi Joze, Shaban, Iuzzolino, Koishida: "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020. The streams are
films, on their way through the stages of a ResNet, and series, through layers that take turns with these stages. A^m
are the maps or states of stream m at a stage, C_m channels; δ^m whether the modality is present.

    S^m = mean of A^m over space or time, 0 where δ^m = 0         squeeze; of a modality without stages its vector
    Z = relu( W [S¹, …, Sᴹ] + b ),  2 Σ_m C_m / ratio numbers     what they have in common
    E^m = W^m Z + b^m,  A^m ← 2 σ(E^m) ⊙ A^m                      excitation, the same everywhere and at all times
    ŷ_k = Σ_m δ^m w_k^m'h^m + b_k                                 h^m: the vector at the end of stream m
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.image import PART
from mmnar.encoders.modality import encoder_of
from mmnar.encoders.passage import channels_at, passages, squeezed
from mmnar.encoders.settings import IMAGE, ImageConfig, SeriesConfig, check_stages
from mmnar.encoders.stream import SeriesStream
from mmnar.errors import ConfigError, SchemaError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.parts import by_parts
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Output, PatientBatch

LAYERS: Final = SeriesConfig("lstm")


@dataclass(frozen=True)
class MMTMConfig:
    """Settings of MMTM; letters are those of the equations above.

    Args:
        width: D, the width of vectors and of a series' states.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to what the head sees.
        stages: Of the ResNet, some of 1 to 4: behind each the streams meet. A series has a stretch of layers before
            each and one behind the last.
        ratio: Σ_m C_m is so many times half the length of Z.
        image: How films are encoded.
        series: Kind, number, step and hours of the layers of each stretch; ``lstm`` or ``transformer``.

    Raises:
        ConfigError: The stages are no stages; the ratio is below 1.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    stages: tuple[int, ...] = (2, 3, 4)
    ratio: int = 4
    image: ImageConfig = IMAGE
    series: SeriesConfig = LAYERS

    def __post_init__(self) -> None:
        check_stages(self.stages)
        if self.ratio < 1:
            raise ConfigError("model.ratio", "1 or more", str(self.ratio), "correct it")


class MMTM(Model):
    """Squeeze and excitation across films, series and vectors, at stages of their networks."""

    card = ModelCard(
        title="MMTM",
        paper="Vaezi Joze, Shaban, Iuzzolino, Koishida (CVPR 2020)",
        missing="an absent modality is not encoded: its squeeze is zero, and so is its vector before the head",
        deviations=(
            "Any M modalities and any pattern; the paper has complete pairs of networks. Whoever lacks one stream has "
            "the others excited by what there is.",
            "A series has layers between the stages as the release's second stream has; LSTM layers, which add to what "
            "they are given, or a transformer's.",
            "A modality without stages (tables, notes) tells its vector at each stage and is not excited itself.",
            "2 σ(E) as in the paper, so that E = 0 changes nothing; the release leaves out the 2, which halves both "
            "streams at each stage. Stages 2, 3 and 4 and the length of Z are the release's.",
            "One loss on the sum of what the streams say, a linear head on their vectors side by side. The release "
            "adds the streams' scores as well, but starts from streams trained alone and trains each by a loss and an "
            "optimizer of its own.",
            "Neither paper nor release has the term of MedFuse's port that pulls the distributions of film and series "
            "vectors together, nor has this (CareBench computes it and leaves it unused).",
            "CareBench lets the film's network run to its end first and excites stored maps: only the last stage's "
            "excitation reaches the film's vector there. It repeats the series' pooled vector over time, encodes a "
            "black film in place of an absent one, and steps four optimizers on the same loss. Here each stage goes on "
            "from excited maps, layers of the series lie between, and nothing absent is encoded.",
            "preset=original: CareBench's training and encoders, all four stages; MedFuse has stage 4 alone "
            "(model.stages=4). Their films start from ImageNet's weights. Such a file is the user's and no part of it: "
            "model.image.weights=FILE model.image.norm=frozen.",
        ),
        needs=("image",),
        original={**CAREBENCH, **CAREBENCH_ENCODERS, "model.stages": (1, 2, 3, 4)},
    )
    Config = MMTMConfig
    config: MMTMConfig

    def __init__(self, schema: Schema, config: MMTMConfig) -> None:
        super().__init__(schema, config)
        kinds = [spec.kind for spec in schema.modalities]
        if "image" not in kinds or len(kinds) < 2:
            raise SchemaError("MMTM", "a film and another modality", ", ".join(kinds), "choose another model")
        self.excited = [i for i, kind in enumerate(kinds) if kind in ("image", "series")]
        self.encoders = nn.ModuleList(self._encoder(spec) for spec in schema.modalities)
        self.transfers = nn.ModuleList(self._transfer(stage) for stage in config.stages)
        self.head = TaskHead(schema, len(kinds) * config.width, config.append_pattern)

    def _encoder(self, spec: ModalitySpec) -> nn.Module:
        c = self.config
        if spec.kind == "series":
            return SeriesStream(spec, c.width, c.dropout, c.series, len(c.stages) + 1)
        return encoder_of(spec, c.width, c.dropout, c.image)

    def _transfer(self, stage: int) -> Transfer:
        channels = [channels_at(encoder, stage, self.config.width) for encoder in self.encoders]
        return Transfer(channels, [channels[i] for i in self.excited], self.config.ratio)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, PART)

    def _outputs(self, batch: PatientBatch) -> Output:
        ways, h = passages(self.encoders, batch, self.config.width, self.config.stages)
        everybody = range(len(self.encoders))
        for place, transfer in enumerate(self.transfers):
            for way in ways.values():
                way.go(place)
            for i, factor in zip(self.excited, transfer(squeezed(ways, h, everybody)), strict=True):  # (B, C_m)
                ways[i].scale(factor)
        h |= {i: way.vector() for i, way in ways.items()}
        z = torch.cat([h[i] for i in everybody], dim=1)  # (B, M D)
        return Output(self.head(z, batch.present), z)


class Transfer(nn.Module):
    """2 σ(E^m) of the excited streams, from the squeezes of all.

    Args:
        squeezed: C_m of all streams.
        excited: C_m of those that are excited.
        ratio: See ``MMTMConfig``.
    """

    def __init__(self, squeezed: Sequence[int], excited: Sequence[int], ratio: int) -> None:
        super().__init__()
        z = max(1, 2 * sum(squeezed) // ratio)
        self.squeeze = nn.Linear(sum(squeezed), z)
        self.excite = nn.ModuleList(nn.Linear(z, c) for c in excited)

    def forward(self, s: Tensor) -> list[Tensor]:
        """[S¹, …, Sᴹ] (B, Σ C_m) → (B, C_m) each."""
        z = torch.relu(self.squeeze(s))
        return [2 * torch.sigmoid(excite(z)) for excite in self.excite]

"""ResNet: the films alone.

A uni-modal baseline of CareBench (Yin et al. 2026); He, Zhang, Ren, Sun: "Deep Residual Learning for Image
Recognition", CVPR 2016. x^m is the patient's film of modality m, O those that are there, t^m its age.

    v^m = W_v^m pool(ResNet^m(x^m)) + b_v^m + W_t^m φ(t^m)
    h = mean_{m∈O} drop(v^m)
    ŷ_k = w_k'h + b_k
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mmnar.config import CAREBENCH, CAREBENCH_IMAGE
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, ImageConfig
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.kinds import of_kind, schema_of
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class ResNetConfig:
    """Settings of ResNet; letters are those of the equations above.

    Args:
        width: D, the width of v and h.
        dropout: Dropout of v.
        append_pattern: Concatenate δ, of all modalities, to h.
        image: The network, where it starts from, what training does to films.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    image: ImageConfig = IMAGE


class ResNet(Model):
    """One residual network for each modality of films, and a linear head."""

    card = ModelCard(
        title="ResNet",
        paper="A uni-modal baseline of CareBench (Yin et al. 2026); He, Zhang, Ren, Sun (CVPR 2016)",
        missing="reads films alone: other modalities, and their absence, tell it nothing; "
        "a patient without a film has one learned risk",
        deviations=(
            "The release trains and scores patients without a film on a black one, which then is most of what the "
            "network and its batch statistics see; here nothing is encoded for them.",
            "Several modalities of films have a network each, and the mean of their vectors is taken; the benchmark "
            "has one.",
            "The age of the film is added to its vector, as in all methods here.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
            "There the network starts from ImageNet's weights. Such a file is the user's and no part of "
            "preset=original: model.image.weights=FILE model.image.norm=frozen.",
        ),
        needs=("image",),
        original={**CAREBENCH, **CAREBENCH_IMAGE},
    )
    Config = ResNetConfig

    def __init__(self, schema: Schema, config: ResNetConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        self.encoders = encoders_of(schema_of(schema, "image"), d, config.dropout, config.image)
        self.null = nn.Parameter(torch.randn(d) * 0.02)  # h of a patient without a film
        self.head = TaskHead(schema, d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        films = of_kind(batch, "image")
        h = masked_mean(encode(self.encoders, films, self.width), films.present)  # (B, D)
        h = torch.where(films.present.any(1, keepdim=True), h, self.null)
        return Output(self.head(h, batch.present), h)

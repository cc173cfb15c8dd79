"""Transformer: the time series alone, its steps attending to each other.

A uni-modal baseline of CareBench (Yin et al. 2026); Vaswani et al., "Attention Is All You Need", NeurIPS 2017. x_t are
the values last known in step t, m_t which of them were measured in it, p a learned vector of the step's place.

    u_t = W_u [x_t, m_t] + b_u + p_{T−t}
    v = LN(u + Attention(u)),  u ← LN(v + W_2 relu(W_1 v + b_1) + b_2)        in each layer
    h = mean_t u_t                                                            over the patient's steps
    ŷ_k = w_k'h + b_k
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from mmnar.config import CAREBENCH
from mmnar.encoders.modality import encode_present
from mmnar.encoders.series import TransformerEncoder
from mmnar.encoders.settings import SeriesConfig, check_steps
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.kinds import of_kind, one_series, one_series_of
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

ROWS: Final = 512
"""Patients predicted at a time: the inner layers of all their steps together are large."""


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of Transformer; letters are those of the equations above.

    Args:
        width: D, the width of u and h; W_1 has 4 D rows.
        dropout: Dropout in the layers and of h.
        hours: Before the prediction, that are read.
        step: Hours of each step.
        layers: How many.
        heads: Of the attention; a divisor of ``width``.
        append_pattern: Concatenate δ, of all modalities, to h.

    Raises:
        ConfigError: A number that is none of its kind, hours that are no whole number of steps, or heads that do not
            divide the width.
    """

    width: int = 128
    dropout: float = 0.2
    hours: float = 48.0
    step: float = 1.0
    layers: int = 1
    heads: int = 4
    append_pattern: bool = False

    def __post_init__(self) -> None:
        check_steps("model", self.hours, self.step, self.layers, self.heads)
        if self.width % self.heads:
            expected = f"a divisor of model.width ({self.width})"
            raise ConfigError("model.heads", expected, str(self.heads), "change one of them")


class Transformer(Model):
    """Transformer layers over all series of the data set as one, their mean over time, and a linear head."""

    card = ModelCard(
        title="Transformer",
        paper="A uni-modal baseline of CareBench (Yin et al. 2026); Vaswani et al. (NeurIPS 2017)",
        missing="reads series alone: other modalities, and their absence, tell it nothing; "
        "a patient without series has one learned risk",
        deviations=(
            "All series of the data set are read as one; the benchmark has one, which nobody lacks.",
            "Steps end at the prediction, and places count back from it; steps before a patient's first measurement "
            "are left out. A value never seen is the training median.",
            "The release adds 1 to the scores of padded steps in place of leaving them out, and counts them in the "
            "mean; here they are never read.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
        ),
        needs=("series",),
        original=CAREBENCH,
    )
    Config = TransformerConfig

    def __init__(self, schema: Schema, config: TransformerConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        steps = SeriesConfig(
            "transformer", hours=config.hours, step=config.step, layers=config.layers, heads=config.heads
        )
        self.encoder = TransformerEncoder(one_series_of(schema), d, config.dropout, steps)
        self.null = nn.Parameter(torch.randn(d) * 0.02)  # h of a patient without series
        self.head = TaskHead(schema, d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        there = of_kind(batch, "series").present.any(1)
        h = encode_present(self.encoder, one_series(batch), there, self.width)  # (B, D)
        h = torch.where(there[:, None], h, self.null)
        return Output(self.head(h, batch.present), h)

"""LSTM: the time series alone, read in equal steps.

A uni-modal baseline of CareBench (Yin et al. 2026); Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural
Computation 9(8), 1997. x_t are the values last known in step t, m_t which of them were measured in it.

    u_t = W_u [x_t, m_t] + b_u
    i, f, o = σ(W u_t + U h_{t−1} + b),  g = tanh(W_g u_t + U_g h_{t−1} + b_g)
    c_t = f ∘ c_{t−1} + i ∘ g,  h_t = o ∘ tanh c_t            and h'_t likewise from the end to the start
    h = W_h [h_T, h'_1] + b_h
    ŷ_k = w_k'h + b_k
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mmnar.config import CAREBENCH
from mmnar.encoders.modality import encode_present
from mmnar.encoders.series import LSTMEncoder
from mmnar.encoders.settings import SeriesConfig, check_steps
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.kinds import of_kind, one_series, one_series_of
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class LSTMConfig:
    """Settings of LSTM; letters are those of the equations above.

    Args:
        width: D, the width of u, of each state and of h.
        dropout: Dropout of the last states, and between layers.
        hours: Before the prediction, that are read.
        step: Hours of each step.
        layers: Of the LSTM.
        both_ways: Whether it also reads from the end to the start.
        append_pattern: Concatenate δ, of all modalities, to h.

    Raises:
        ConfigError: A number that is none of its kind, or hours that are no whole number of steps.
    """

    width: int = 128
    dropout: float = 0.2
    hours: float = 48.0
    step: float = 1.0
    layers: int = 1
    both_ways: bool = True
    append_pattern: bool = False

    def __post_init__(self) -> None:
        check_steps("model", self.hours, self.step, self.layers)


class LSTM(Model):
    """One LSTM over all series of the data set, and a linear head."""

    card = ModelCard(
        title="LSTM",
        paper="A uni-modal baseline of CareBench (Yin et al. 2026); Hochreiter, Schmidhuber (1997)",
        missing="reads series alone: other modalities, and their absence, tell it nothing; "
        "a patient without series has one learned risk",
        deviations=(
            "All series of the data set are read as one; the benchmark has one, which nobody lacks.",
            "Steps end at the prediction; those before a patient's first measurement are left out. A value never seen "
            "is the training median.",
            "One dropout, before the last linear layer; the release has a second one behind it.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
        ),
        needs=("series",),
        original=CAREBENCH,
    )
    Config = LSTMConfig

    def __init__(self, schema: Schema, config: LSTMConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        steps = SeriesConfig(
            "lstm", hours=config.hours, step=config.step, layers=config.layers, both_ways=config.both_ways
        )
        self.encoder = LSTMEncoder(one_series_of(schema), d, config.dropout, steps)
        self.null = nn.Parameter(torch.randn(d) * 0.02)  # h of a patient without series
        self.head = TaskHead(schema, d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        there = of_kind(batch, "series").present.any(1)
        h = encode_present(self.encoder, one_series(batch), there, self.width)  # (B, D)
        h = torch.where(there[:, None], h, self.null)
        return Output(self.head(h, batch.present), h)

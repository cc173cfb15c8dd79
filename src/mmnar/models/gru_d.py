"""GRU-D: a gated recurrent unit whose inputs and state decay while nothing is measured.

Che, Purushotham, Cho, Sontag, Liu: "Recurrent Neural Networks for Multivariate Time Series with Missing Values",
Scientific Reports 8, 6085 (2018). x_t are the values at observation time s_t, m_t which of them were observed, Δ_t the
hours since each was last observed, x' its last value.

    γ_x = exp(−max(0, w_x ∘ Δ_t + b_x))                     one rate per variable
    γ_h = exp(−max(0, W_h Δ_t + b_h))
    x̂ = m_t ∘ x_t + (1 − m_t) ∘ (γ_x ∘ x' + (1 − γ_x) ∘ μ)  towards the training mean μ
    h = γ_h ∘ h_{t−1}
    z = σ(W_z x̂ + U_z h + V_z m_t + b_z)                    r likewise
    h̃ = tanh(W x̂ + U (r ∘ h) + V m_t + b)
    h_t = (1 − z) ∘ h + z ∘ h̃
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.context import Context, How
from mmnar.encoders.plain import PlainVectors
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard
from mmnar.ops.grid import Grid, carried, gaps, series_grid
from mmnar.ops.heads import TaskHead, trunk
from mmnar.ops.kinds import of_kind, schema_of
from mmnar.ops.parts import by_parts
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

DAY: Final = 24.0
"""Hours: the time constant at which decays start. γ_h sums over V gaps, so its rates start V times smaller."""

ROWS: Final = 256
"""Patients predicted at a time: gates and decays of all their times together are large."""

PAPER: Final = "Che, Purushotham, Cho, Sontag, Liu (2018), Scientific Reports 8, 6085"


@dataclass(frozen=True)
class GRUDConfig:
    """Settings of GRU-D; letters are those of the equations above.

    Args:
        width: H, the width of the state, and D, that of embeddings.
        dropout: Dropout of inputs and state, the same units at every time, and before the head.
        static: How the modalities that are not series enter: by their ``embeddings`` and their part of δ, by
            ``delta_only``, or not at all (``none``).
        max_steps: Patients with more observation times get hourly bins.
        append_pattern: Concatenate δ to what the head sees.
        image: How images are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    static: How = "embeddings"
    max_steps: int = 300
    append_pattern: bool = False
    image: ImageConfig = IMAGE


class GRUD(Model):
    """GRU-D over all series of the data set as one; the last state joins the other modalities."""

    card = ModelCard(
        title="GRU-D",
        paper=PAPER,
        missing="each measurement's absence is an input, and lets its last value and the state decay; "
        "a patient without series keeps the initial state",
        deviations=(
            "All series modalities are one sequence. Other modalities are not the paper's: their embeddings and "
            "pattern join the last state.",
            "Values are normal scores of the training fold, so that the empirical mean μ is 0.",
            "Gaps are hours between real times; a patient with more than max_steps times has hourly bins, wider ones "
            "where their span exceeds max_steps hours.",
            "The last state is that of the last observation: as in the paper it does not decay until the prediction.",
            "Decay weights start positive, at a time constant of a day: from the release's zeros, where the slope of "
            "max(0, ·) is 0, no gradient ever reaches them.",
            "The decayed state enters gates, candidate and update alike; the release mixes the undecayed one into the "
            "update, uses hard sigmoids and a sigmoid candidate.",
            "Two layers between state and head, those of the zero-fill net (the release has one).",
            "No weight penalty of its own; optimiser, width and dropout are those of all deep methods "
            "(preset=original: width 64, dropout 0.3, batch 32).",
        ),
        needs=("series",),
        original={**PLAIN_TRAINING, "model.width": 64, "model.dropout": 0.3, "train.batch_size": 32},
    )
    Config = GRUDConfig

    def __init__(self, schema: Schema, config: GRUDConfig) -> None:
        super().__init__(schema, config)
        v = sum(len(m.features) for m in schema_of(schema, "series").modalities)
        d, self.max_steps = config.width, config.max_steps
        self.rate_x, self.shift_x = nn.Parameter(torch.rand(v) * 2 / DAY), nn.Parameter(torch.zeros(v))  # w_x, b_x
        self.rate_h, self.shift_h = nn.Parameter(torch.rand(d, v) * 2 / DAY / v), nn.Parameter(torch.zeros(d))  # W_h
        self.inputs = nn.Linear(2 * v, 3 * d)  # W and V of z, r and h̃ side by side, and their b
        self.gates = nn.Linear(d, 2 * d, bias=False)  # U_z, U_r
        self.candidate = nn.Linear(d, d, bias=False)  # U
        self.dropout = nn.Dropout(config.dropout)
        self.context = Context(schema, "series", config.static, d, config.dropout, config.image)
        self.trunk = trunk(d + self.context.width, d, config.dropout)
        self.head = TaskHead(schema, d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, ROWS)

    def _outputs(self, batch: PatientBatch) -> Output:
        last = self.last_state(series_grid(batch, self.max_steps))
        h = self.trunk(torch.cat([last, self.context(batch)], dim=1))
        return Output(self.head(h, batch.present), h)

    def last_state(self, grid: Grid) -> Tensor:
        """h_T of every patient (B, H); zeros for one without any time."""
        gap = gaps(grid)  # (S, V)
        inputs = torch.cat([self.imputed(grid, gap), grid.observed.to(gap.dtype)], dim=1)
        inputs = self.inputs(inputs * self._kept(grid, inputs.shape[1])[grid.patient])  # (S, 3 H)
        decay = torch.exp(-torch.relu(gap @ self.rate_h.T + self.shift_h))  # γ_h (S, H)
        order, sizes, rank = _by_time(grid)
        h = decay.new_zeros(len(grid), decay.shape[1])  # patients with the most times first
        kept = self._kept(grid, h.shape[1])
        ended = []
        for x, gamma in zip(*(torch.split(rows[order], sizes) for rows in (inputs, decay)), strict=True):
            n = len(x)  # patients who have a t-th time
            ended.append(h[n:])
            h = self.step(x, gamma * h[:n], kept[:n])
        return torch.cat([h, *reversed(ended)])[rank]

    def imputed(self, grid: Grid, gap: Tensor) -> Tensor:
        """x̂ (S, V); μ = 0."""
        gamma = torch.exp(-torch.relu(self.rate_x * gap + self.shift_x))
        return torch.where(grid.observed, grid.values, gamma * carried(grid))

    def step(self, x: Tensor, h: Tensor, kept: Tensor) -> Tensor:
        """One time of n patients: projected inputs (n, 3 H), decayed state and its dropout (n, H) → h_t."""
        of_gates, of_new = x.tensor_split([2 * h.shape[1]], dim=1)
        z, r = torch.sigmoid(of_gates + self.gates(kept * h)).chunk(2, dim=1)
        new: Tensor = torch.tanh(of_new + self.candidate(r * kept * h))  # h̃
        return h + z * (new - h)

    def _kept(self, grid: Grid, width: int) -> Tensor:
        """(B, width) dropout that stays the same over a patient's times."""
        return self.dropout(torch.ones(len(grid), width, device=grid.hours.device))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class GRUDStaticConfig:
    """Settings of GRU-D-static; letters are those of the equations above.

    Args:
        width: H, the width of the state, and D, that of embeddings.
        dropout: Dropout of inputs, and before the head.
        static: How the modalities that are not static features enter, as in ``GRUDConfig``.
        append_pattern: Concatenate δ to what the head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    static: How = "embeddings"
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class GRUDStatic(Model):
    """What is left of GRU-D where every feature is an aggregate: one step from h_0 = 0, so h_1 = z ∘ h̃."""

    card = ModelCard(
        title="GRU-D-static",
        paper=PAPER,
        missing="an unobserved feature is its training mean; its absence is an input",
        deviations=(
            "Not the paper's model: with one time nothing decays, the state before it is zero, and what remains of "
            "GRU-D is a gated layer on mean-imputed features and their mask. For data without series.",
            "Categories are indicators, centred, so that the mean is 0.",
            "Modalities of other kinds join the state by their embeddings and pattern.",
        ),
        needs=("static",),
        original=GRUD.card.original,
    )
    Config = GRUDStaticConfig

    def __init__(self, schema: Schema, config: GRUDStaticConfig) -> None:
        super().__init__(schema, config)
        d = config.width
        self.features = PlainVectors(schema_of(schema, "static"))
        self.dropout = nn.Dropout(config.dropout)
        self.inputs = nn.Linear(2 * sum(self.features.widths), 2 * d)  # W and V of z and h̃, and their b
        self.context = Context(schema, "static", config.static, d, config.dropout, config.image, config.series)
        self.trunk = trunk(d + self.context.width, d, config.dropout)
        self.head = TaskHead(schema, d, config.append_pattern)

    def prepare(self, train: PatientBatch) -> None:
        self.features.fit(of_kind(train, "static"))

    def forward(self, batch: PatientBatch) -> Output:
        values, masks = zip(*self.features(of_kind(batch, "static")), strict=True)
        x, m = torch.cat(values, dim=1), torch.cat(masks, dim=1)  # (B, V); x̂ = m ∘ x as μ = 0
        z, new = self.inputs(self.dropout(torch.cat([x, m.to(x.dtype)], dim=1))).chunk(2, dim=1)
        state = torch.sigmoid(z) * torch.tanh(new)
        h = self.trunk(torch.cat([state, self.context(batch)], dim=1))
        return Output(self.head(h, batch.present), h)


def _by_time(grid: Grid) -> tuple[Tensor, list[int], Tensor]:
    """Rows of the grid time by time, so that nobody is padded.

    Returns:
        Order (S,) of rows: first those of every patient's first time, patients with the most times leading; how many
        rows each time has; where in that order of patients each patient stands (B,).
    """
    longest = grid.counts.argsort(descending=True, stable=True)
    rank = torch.empty_like(longest).scatter_(0, longest, torch.arange(len(longest), device=longest.device))
    t = torch.arange(len(grid.hours), device=longest.device) - grid.starts
    return torch.argsort(t * len(grid) + rank[grid.patient]), torch.bincount(t).tolist(), rank

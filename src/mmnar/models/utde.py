"""UTDE: irregular sequences on one grid of time, each imputed and attended to; self- and cross-attention in turn.

Zhang, Li, Chen, Yan, Petzold: "Improving Medical Predictions by Irregular Multimodal Electronic Health Records
Modeling", ICML 2023. T steps end at the prediction; r are their ends, t_i the times of observations.

    E_imp = W_imp [x̄ ; m̄]                                  values carried forward, and whether measured in the step
    E_att = TimeAttention(φ(r); φ(t_i), x_i)                mTAND: a softmax over time for each feature by itself
    g = σ( MLP [E_imp ; E_att] ),  E^m = g ∘ E_att + (1 − g) ∘ E_imp          of a series; of notes E^m = E_att
    z^m = √D E^m + p^m                                      p: a learned vector of each step
    J times:  z^m ← z^m + Self( LN z^m )
              z^m ← z^m + Cross( LN z^m ; {LN z^n : n ≠ m present} )
              z^m ← z^m + FFN( LN z^m )
    u = [LN z^m_T]_m, 0 where m is absent;  ŷ = W_o ( u + W_2 relu( W_1 u ) )
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH
from mmnar.encoders.modality import encoder_of
from mmnar.encoders.settings import IMAGE, ImageConfig, check_steps
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.grid import content_grid, hourly
from mmnar.ops.heads import TaskHead
from mmnar.ops.packed import TIME_WIDTH, held, padded, time_features
from mmnar.ops.parts import by_parts
from mmnar.ops.time_attention import TimeAttention, TimeEmbedding
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Items, Output, PatientBatch, Series

ROWS: Final = 256
"""Patients predicted at a time: every step attends to every time."""

ONCE: Final = ("static", "image")
"""Kinds of at most one item."""

Gate = Literal["patient", "step", "dimension"]


@dataclass(frozen=True)
class UTDEConfig:
    """Settings of UTDE; letters are those of the equations above.

    Args:
        width: D, the width of steps.
        dropout: Dropout in encoders, layers and readout.
        hours: Before the prediction, that the grid covers: T steps.
        step: Hours of each step.
        time_width: Width of φ.
        heads: Of all attention; a divisor of ``width`` and ``time_width``.
        layers: J, how many self- and cross-attention layers.
        gate: g is a number per ``patient`` (of the highest of each dimension over time), per ``step``, or per step and
            ``dimension``.
        max_steps: The time attention sees a patient's last values in each hour where there are more distinct times.
        append_pattern: Concatenate δ to what the head sees.
        image: How images are encoded.

    Raises:
        ConfigError: A number that is none of its kind, hours that are no whole number of steps, or heads that do not
            divide both widths.
    """

    width: int = 128
    dropout: float = 0.2
    hours: float = 48.0
    step: float = 1.0
    time_width: int = 64
    heads: int = 4
    layers: int = 3
    gate: Gate = "dimension"
    max_steps: int = 300
    append_pattern: bool = False
    image: ImageConfig = IMAGE

    def __post_init__(self) -> None:
        check_steps("model", self.hours, self.step, self.layers, self.heads)
        for key in ("time_width", "max_steps"):
            if getattr(self, key) < 2:
                raise ConfigError(f"model.{key}", "2 or more", str(getattr(self, key)), "correct it")
        for key in ("width", "time_width"):
            if getattr(self, key) % self.heads:
                expected = f"a divisor of model.{key} ({getattr(self, key)})"
                raise ConfigError("model.heads", expected, str(self.heads), "change one of them")

    @property
    def steps(self) -> int:
        """T."""
        return round(self.hours / self.step)


class UTDE(Model):
    """Every modality a sequence of steps (``SeriesSteps``, ``ItemSteps``) or one that stands for all (``OneStep``)."""

    card = ModelCard(
        title="UTDE",
        paper="Zhang, Li, Chen, Yan, Petzold (ICML 2023)",
        missing="an absent modality is attended to by nobody and a zero vector in the readout; a feature that was "
        "never measured is zero in both branches, and its flags say so",
        deviations=(
            "Any M modalities; the paper has a series and notes, CareBench a series and a film, all always there. A "
            "sequence attends to those of all other present modalities side by side, in one softmax; each gives the "
            "same keys and values to all who ask. With two this is the paper's cross-attention.",
            "Three layers, as in the paper; CareBench has one (preset=original).",
            "A static modality, and a film, are an irregular sequence of one vector. Attention over a single key gives "
            "that vector at every step, so it is held once and weighs as T equal keys; it has no positions of its own. "
            "Its age is part of the vector, of a note's too: attention over one key cannot tell it.",
            "Before the window of T steps nothing is imputed, but the time attention sees what is older, at a time "
            "that falls with the logarithm; beyond max_steps distinct times it sees hourly bins.",
            "Frequencies of φ start spread over half a period of the window to two steps; the release starts them "
            "all below one radian in the window.",
            "In the last layer only the last step asks, since no other is read: the same result for less.",
            "CareBench's port has neither gate nor time attention for the series, repeats one vector 500 times, places "
            "the film's time on another scale than the grid's, and encodes a blank image where there is none; nothing "
            "of it is here.",
            "There epochs are chosen by the tune fold's AUPRC or accuracy, here by its log loss, and the image encoder "
            "starts from ImageNet's weights, a file that is the user's: model.image.weights=FILE "
            "model.image.norm=frozen.",
        ),
        needs=("series",),
        original={
            **CAREBENCH,
            "model.layers": 1,
            "model.image.backbone": "resnet50",
            "model.image.channels": 3,
            "model.image.augment": "strong",
        },
    )
    Config = UTDEConfig

    def __init__(self, schema: Schema, config: UTDEConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.c = config
        self.time = TimeEmbedding(config.time_width, config.steps, config.step)
        self.streams = nn.ModuleList(_stream(spec, config) for spec in schema.modalities)
        lengths = [1 if spec.kind in ONCE else config.steps for spec in schema.modalities]
        self.positions = nn.ParameterList(torch.randn(length, d) * 0.02 for length in lengths)  # p
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Interleaved(lengths, config) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(m))
        self.first, self.second = nn.Linear(m * d, m * d), nn.Linear(m * d, m * d)  # W_1, W_2
        self.head = TaskHead(schema, m * d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, ROWS)

    def _outputs(self, batch: PatientBatch) -> Output:
        rows = [there.nonzero().squeeze(1) for there in batch.present.unbind(1)]  # who has m, (n_m,)
        streams = zip(self.streams, batch.modalities.values(), rows, strict=True)
        e = [stream(content if len(r) == len(batch) else content.take(r), self.time) for stream, content, r in streams]
        z = [self.dropout(x * self.c.width**0.5 + p) for x, p in zip(e, self.positions, strict=True)]  # (n_m, L_m, D)
        for i, layer in enumerate(self.layers):
            z = layer(z, rows, batch.present, only_last=i == len(self.layers) - 1)
        last = [norm(x[:, -1]) for norm, x in zip(self.norms, z, strict=True)]
        u = torch.cat(
            [x.new_zeros(len(batch), x.shape[1]).index_copy(0, r, x) for x, r in zip(last, rows, strict=True)], 1
        )
        u = u + self.second(self.dropout(F.relu(self.first(u))))  # (B, M D)
        return Output(self.head(u, batch.present), u)


class SeriesSteps(nn.Module):
    """E of a series, (n, T, D): imputed, attended to, and the gate between both."""

    def __init__(self, features: int, c: UTDEConfig) -> None:
        super().__init__()
        self.features, self.c = features, c
        self.imputed = nn.Linear(2 * features, c.width)  # W_imp, a convolution with a kernel of one step
        self.attention = TimeAttention(c.time_width, features, c.width, c.heads)
        self.gate = nn.Sequential(
            nn.Linear(2 * c.width, c.width), nn.ReLU(), nn.Linear(c.width, c.width if c.gate == "dimension" else 1)
        )

    def forward(self, content: Series, time: TimeEmbedding) -> Tensor:
        imputed, attended = self.branches(content, time)
        g = self.gates(imputed, attended)
        return g * attended + (1 - g) * imputed

    def branches(self, content: Series, time: TimeEmbedding) -> tuple[Tensor, Tensor]:
        """E_imp and E_att, (n, T, D) each."""
        values, flags = hourly(content, self.features, self.c.steps, self.c.step)  # (n, T, V)
        imputed = self.imputed(torch.cat([values, flags.to(values.dtype)], 2))
        grid = content_grid(content, self.features, self.c.max_steps)
        times = time(padded(grid.hours, grid))  # (n, S, P)
        x, observed = padded(grid.values, grid), padded(grid.observed, grid)
        return imputed, self.attention(time.references(), times, x, observed)

    def gates(self, imputed: Tensor, attended: Tensor) -> Tensor:
        """g in (0, 1): (n, T, D), (n, T, 1) or (n, 1, 1)."""
        both = torch.cat([imputed, attended], 2)
        return torch.sigmoid(self.gate(both.amax(1, keepdim=True) if self.c.gate == "patient" else both))


class ItemSteps(nn.Module):
    """E of vectors at their times, (n, T, D): time attention over each patient's items."""

    def __init__(self, inputs: int, c: UTDEConfig) -> None:
        super().__init__()
        self.vector = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, c.width))
        self.age = nn.Linear(TIME_WIDTH, c.width, bias=False)
        self.attention = TimeAttention(c.time_width, c.width, c.width, c.heads)

    def forward(self, content: Items, time: TimeEmbedding) -> Tensor:
        vectors = self.vector(content.values) + self.age(time_features(content.hours))  # (E, D)
        x = padded(vectors, content)  # (n, S, D)
        observed = held(content)[..., None].expand_as(x)
        times = time(padded(content.hours, content))
        return self.attention(time.references(), times, x, observed)  # type: ignore[no-any-return]


class OneStep(nn.Module):
    """E of a modality with at most one item, by the shared encoder, (n, 1, D): the same at every step."""

    def __init__(self, spec: ModalitySpec, c: UTDEConfig) -> None:
        super().__init__()
        self.encoder = encoder_of(spec, c.width, c.dropout, c.image)

    def forward(self, content: Items, time: TimeEmbedding) -> Tensor:
        return self.encoder(content)[:, None]  # type: ignore[no-any-return]


class Interleaved(nn.Module):
    """One layer over all streams: each attends to itself, then to the others, then thinks it over.

    Args:
        lengths: L_m of each stream: T, or 1 for one that is the same at every step.
        c: Width, heads, dropout, T.
    """

    weight: Tensor

    def __init__(self, lengths: list[int], c: UTDEConfig) -> None:
        super().__init__()
        self.lengths = lengths
        self.parts = nn.ModuleList(StreamLayer(c, alone=len(lengths) == 1) for _ in lengths)
        # ln of how many equal keys each step stands for
        each = [math.log(c.steps / length) for length in lengths for _ in range(length)]
        self.register_buffer("weight", torch.tensor(each), persistent=False)

    def forward(self, z: list[Tensor], rows: list[Tensor], present: Tensor, only_last: bool) -> list[Tensor]:
        """
        Args:
            z: (n_m, L_m, D) of each stream m.
            rows: (n_m,) whose they are.
            present: (B, M) bool.
            only_last: The last steps alone are wanted.
        """
        parts: list[StreamLayer] = list(self.parts)  # type: ignore[arg-type]
        z = [part.to_itself(x) for part, x in zip(parts, z, strict=True)]
        if len(z) > 1:
            offers = [part.offer(x) for part, x in zip(parts, z, strict=True)]  # keys and values (n_m, L_m, 2D)
            every = [
                offer.new_zeros(len(present), *offer.shape[1:]).index_copy(0, r, offer)
                for offer, r in zip(offers, rows, strict=True)
            ]
            z = [x[:, -1:] for x in z] if only_last else z
            z = [self._crossed(m, parts[m], x, rows[m], every, present) for m, x in enumerate(z)]
        z = [x[:, -1:] for x in z] if only_last else z
        return [part.thought_over(x) for part, x in zip(parts, z, strict=True)]

    def _crossed(
        self, m: int, part: StreamLayer, x: Tensor, rows: Tensor, every: list[Tensor], present: Tensor
    ) -> Tensor:
        """Stream m after a look at the others that are present; as it was where none is."""
        others = [n for n in range(len(every)) if n != m]
        there = present[rows][:, others]  # (n_m, M − 1)
        steps = torch.tensor([self.lengths[n] for n in others], device=rows.device)
        weight = torch.cat([w for n, w in enumerate(torch.split(self.weight, self.lengths)) if n != m])
        bias = weight.to(x.dtype).masked_fill(~there.repeat_interleave(steps, 1), -torch.inf)  # (n_m, Σ L)
        some = there.any(1)[:, None]
        seen = torch.cat([every[n][rows] for n in others], 1)  # (n_m, Σ L, 2D)
        return part.to_others(x, seen, torch.where(some, bias, 0.0), some)


class StreamLayer(nn.Module):
    """What one stream has of a layer; ``alone``: there is no other stream in the data."""

    def __init__(self, c: UTDEConfig, alone: bool) -> None:
        super().__init__()
        d, self.heads = c.width, c.heads
        self.norm_self, self.qkv, self.out_self = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        if not alone:
            self.norm_cross, self.query, self.keys = nn.LayerNorm(d), nn.Linear(d, d), nn.Linear(d, 2 * d)
            self.out_cross = nn.Linear(d, d)
        self.feed = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.ReLU(), nn.Dropout(c.dropout), nn.Linear(4 * d, d)
        )
        self.dropout = nn.Dropout(c.dropout)

    def to_itself(self, z: Tensor) -> Tensor:
        q, kv = self.qkv(self.norm_self(z)).tensor_split([z.shape[2]], 2)
        return z + self.dropout(self.out_self(self._attend(q, kv, None)))  # type: ignore[no-any-return]

    def offer(self, z: Tensor) -> Tensor:
        """Keys and values for the other streams, (n, L, 2D)."""
        return self.keys(self.norm_cross(z))  # type: ignore[no-any-return]

    def to_others(self, z: Tensor, seen: Tensor, bias: Tensor, some: Tensor) -> Tensor:
        """(n, L, D) with keys and values (n, S, 2D), bias of their scores (n, S), ``some`` (n, 1): anything to see."""
        mixed = self.out_cross(self._attend(self.query(self.norm_cross(z)), seen, bias))
        return z + self.dropout(mixed) * some[..., None]  # type: ignore[no-any-return]

    def thought_over(self, z: Tensor) -> Tensor:
        return z + self.dropout(self.feed(z))  # type: ignore[no-any-return]

    def _attend(self, q: Tensor, kv: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (self._by_head(x) for x in (q, *kv.chunk(2, 2)))
        mask = None if bias is None else bias[:, None, None].expand(-1, -1, q.shape[2], -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        """(n, L, D) → (n, H, L, D/H)."""
        n, length, d = x.shape
        return x.reshape(n, length, self.heads, d // self.heads).transpose(1, 2)


def _stream(spec: ModalitySpec, c: UTDEConfig) -> nn.Module:
    if spec.kind == "series":
        return SeriesSteps(len(spec.features), c)
    return OneStep(spec, c) if spec.kind in ONCE else ItemSteps(spec.shape[-1], c)

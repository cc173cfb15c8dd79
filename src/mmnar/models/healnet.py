"""HEALNet: a learned array asks every modality's raw tokens in turn, round after round, and an absent one is passed by.

Hemker, Simidjievski, Jamnik: "HEALNet: Multimodal Fusion for Heterogeneous Biomedical Data", NeurIPS 2024. S (L, E) is
the latent array, X^m (N_m, C_m) the raw tokens of modality m with the Fourier positions of their axes.

    in each of R rounds, for each present m in order:
        S ← S + Att_m( LN S ; LN X^m ),   S ← S + F_m( LN S )        what m tells: weights of its own
        S ← S + Att( LN S ; LN S ),       S ← S + F( LN S )          what follows of it: one for all m
    Att(s; x) = lrelu( W_o [softmax( q k' / (τ √d) ) v]_heads + b ),  q = W_q s,  k = W_k x,  v = W_v x
    F(s) = W_2 ( a ∘ selu(g) ) + b_2,  [a, g] = W_1 s + b_1
    ŷ_k = w_k' LN( mean_l S_l ) + b_k

All rounds have the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH
from mmnar.encoders.settings import Augment, check_steps
from mmnar.encoders.tokens import RawTokens
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.parts import by_parts
from mmnar.schema import Schema
from mmnar.types import Content, Output, PatientBatch

NUMBERS: Final = 2**26
"""Of tokens, keys, values and inner layers that prediction holds at once (256 MB)."""

EXPANSION: Final = 4
"""F's inner width in widths of S."""


@dataclass(frozen=True)
class HEALNetConfig:
    """Settings of HEALNet; letters are those of the equations above.

    Args:
        width: Width of all heads of an attention together.
        dropout: Dropout of attention weights and after each F.
        append_pattern: Concatenate δ to what the head sees.
        latents: L, rows of S.
        latent_width: E, columns of S.
        depth: R, the number of rounds.
        heads: Of all attention; a divisor of ``width``.
        temperature: τ; below 1 attention is sharper.
        bands, max_freq: Frequencies of each axis' positions: so many, from 1 to half of ``max_freq`` (periods on an
            axis of length 2).
        hours: Before the prediction, that is read of series, and the length of the axis of time.
        step: Hours of a series' tokens.
        patch: Pixels of an image token's side; 1 = every pixel is a token.
        augment: What training does to images, as ``model.image.augment`` of other methods.

    Raises:
        ConfigError: A number that is none of its kind, hours that are no whole number of steps, or heads that do not
            divide the width.
    """

    width: int = 64
    dropout: float = 0.2
    append_pattern: bool = False
    latents: int = 8
    latent_width: int = 64
    depth: int = 1
    heads: int = 4
    temperature: float = 0.5
    bands: int = 4
    max_freq: float = 10.0
    hours: float = 48.0
    step: float = 1.0
    patch: int = 4
    augment: Augment = "slight"

    def __post_init__(self) -> None:
        for key in ("latents", "latent_width", "depth", "bands", "patch"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key}", "1 or more", str(getattr(self, key)), "correct it")
        check_steps("model", self.hours, self.step, 1, self.heads)
        if not self.temperature > 0:
            raise ConfigError("model.temperature", "more than 0", str(self.temperature), "correct it")
        if self.max_freq < 2:
            raise ConfigError("model.max_freq", "2 or more", str(self.max_freq), "correct it")
        if self.width % self.heads:
            expected = f"a divisor of model.width ({self.width})"
            raise ConfigError("model.heads", expected, str(self.heads), "change one of them")


class HEALNet(Model):
    """Cross-attention from one latent array to the raw tokens of M modalities in turn, weights tied over rounds."""

    card = ModelCard(
        title="HEALNet",
        paper="Hemker, Simidjievski, Jamnik (NeurIPS 2024)",
        missing="the loop passes an absent modality by, as if the data set did not have it; "
        "a patient with nothing has the risk of the learned array",
        deviations=(
            "Any M modalities of any kind: tokens are a series' steps, the features of a static modality, vectors of "
            "notes and other embeddings, pixels. The age of a film is not told, as in the paper.",
            "An image token is a square of 4 × 4 raw pixels, S has 8 rows of 64 numbers, and there is one round: what "
            "fits the budget that all methods share. preset=original has CareBench's sizes, every pixel by itself, "
            "and the depth and frequencies that it found best for phenotypes; at 224 pixels that needs a GPU.",
            "What follows of an absent modality is left out too, patient by patient. The paper's release passes by "
            "whole batches, and this only while it prints; otherwise it swallows the error of the attention and goes "
            "on to the self-attention. CareBench's release attends to black films.",
            "All rounds have the same weights, and each modality an F of its own. Where the release ties weights, its "
            "first round has others than those that the later ones share, and in these all modalities have one F.",
            "Time is an axis from −1, the start of the window, to 1, the prediction; older vectors fall behind it with "
            "the logarithm. Steps of a series end at the prediction, the last known value is carried forward, and "
            "nothing from before the window is known.",
            "Films are grey: one channel, where CareBench has three equal ones.",
            "CareBench chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
        ),
        original={
            **CAREBENCH,
            "model.latents": 256,
            "model.latent_width": 256,
            "model.depth": 1,
            "model.bands": 4,
            "model.max_freq": 10.0,
            "model.patch": 1,
            "model.augment": "strong",
        },
    )
    Config = HEALNetConfig

    def __init__(self, schema: Schema, config: HEALNetConfig) -> None:
        super().__init__(schema, config)
        c = self.c = config
        self.tokens = nn.ModuleList(
            RawTokens(spec, c.bands, c.max_freq, c.hours, c.step, c.patch, c.augment) for spec in schema.modalities
        )
        self.latents = nn.Parameter(torch.randn(c.latents, c.latent_width))  # S before the first round
        self.ask = nn.ModuleList(Update(tokens.channels, c) for tokens in self.tokens)  # type: ignore[arg-type]
        self.think = Update(c.latent_width, c)
        self.norm = nn.LayerNorm(c.latent_width)
        self.head = TaskHead(schema, c.latent_width, c.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, self.rows(batch))

    def rows(self, batch: PatientBatch) -> int:
        """How many patients are predicted at a time: tokens of an image are many."""
        c = self.c
        numbers = c.latents * 3 * (EXPANSION * c.latent_width + c.width)
        for content, tokens in zip(batch.modalities.values(), self.tokens, strict=True):
            numbers += tokens.count(content) * 2 * (c.width + tokens.channels)  # type: ignore[operator]
        return max(1, NUMBERS // numbers)

    def _outputs(self, batch: PatientBatch) -> Output:
        s = self.read(batch)  # (B, L, E)
        h = self.norm(s.mean(1))
        return Output(self.head(h, batch.present), h)

    def read(self, batch: PatientBatch) -> Tensor:
        """S after all rounds, (B, L, E)."""
        s = self.latents.expand(len(batch), -1, -1)
        sources = [self._source(m, content, batch.present[:, m]) for m, content in enumerate(batch.modalities.values())]
        for _ in range(self.c.depth):
            for ask, source in zip(self.ask, sources, strict=True):
                if source is not None:
                    rows, known = source
                    own = ask(s[rows], known)
                    own = self.think(own, self.think.source(own))
                    s = s.index_copy(0, rows, own.to(s.dtype))
        return s

    def _source(self, m: int, content: Content, present: Tensor) -> tuple[Tensor, Source] | None:
        """Who has modality m and the keys and values of their tokens, which are the same in all rounds."""
        rows = present.nonzero().squeeze(1)
        if not len(rows):
            return None
        tokens, there = self.tokens[m](content.take(rows))  # (B', N, C)
        return rows, self.ask[m].source(tokens, there)  # type: ignore[operator]


@dataclass(frozen=True)
class Source:
    """What is asked: keys and values (B, heads, N, D / heads), and which tokens there are (B, N) bool; None = all."""

    keys: Tensor
    values: Tensor
    there: Tensor | None


class Update(nn.Module):
    """S ← S + Att( LN S ; LN X ),  S ← S + F( LN S ).

    Args:
        channels: Columns of X.
        config: Sizes, temperature, dropout.
    """

    def __init__(self, channels: int, config: HEALNetConfig) -> None:
        super().__init__()
        c, e = config, config.latent_width
        self.heads, self.dropout = c.heads, c.dropout
        self.scale = (c.heads / c.width) ** 0.5 / c.temperature  # 1 / (τ √d)
        self.norm_asking, self.norm_asked, self.norm_feed = nn.LayerNorm(e), nn.LayerNorm(channels), nn.LayerNorm(e)
        self.query = nn.Linear(e, c.width, bias=False)
        self.known = nn.Linear(channels, 2 * c.width, bias=False)  # W_k, W_v
        self.out = nn.Linear(c.width, e)
        self.first, self.second = nn.Linear(e, 2 * EXPANSION * e), nn.Linear(EXPANSION * e, e)  # W_1, W_2
        self.drop = nn.Dropout(c.dropout)

    def source(self, x: Tensor, there: Tensor | None = None) -> Source:
        """k and v of tokens (B, N, C)."""
        keys, values = (self._by_head(y) for y in self.known(self.norm_asked(x)).chunk(2, dim=-1))
        return Source(keys, values, there)

    def forward(self, s: Tensor, source: Source) -> Tensor:
        """(B, L, E) → (B, L, E)."""
        s = s + self.attention(s, source)
        a, g = self.first(self.norm_feed(s)).chunk(2, dim=-1)
        return s + self.drop(self.second(a * F.selu(g)))  # type: ignore[no-any-return]

    def attention(self, s: Tensor, source: Source) -> Tensor:
        """Att( LN S ; LN X ), (B, L, E)."""
        q = self._by_head(self.query(self.norm_asking(s)))
        mask = None if source.there is None else source.there[:, None, None]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, source.keys, source.values, mask, dropout, scale=self.scale)
        return F.leaky_relu(self.out(mixed.transpose(1, 2).flatten(2)), 0.01)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, heads, N, D / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

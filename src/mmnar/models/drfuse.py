"""DrFuse: what modalities share and what each alone knows, weighed for every outcome by itself.

Yao, Yin, Cheung, Liu, Qin: "DrFuse: Learning Disentangled Representation for Clinical Multi-Modal Fusion with Missing
Modality and Modal Inconsistency", AAAI 2024. O is the set of present modalities.

    s^m = Proj(Sh^m(x^m)),  u^m = Di^m(x^m)                          shared and distinct; Sh^m, Di^m share a first layer
    s = logit( mean_{m∈O} σ(s^m) )                                   pooling in logit space
    t ∈ {u^m : m ∈ O} ∪ {s},  q̄ = mean_t q(t)                        tokens and their common query
    w_k = softmax_t( q̄ · k_k(t) / √D ),  f_k = Σ_t w_k(t) v(t)       attention of outcome k
    ŷ_k = out_k · f_k + b_k
    L = L_task + L_align + L_orth + L_shared + L_distinct + L_rank
    L_align = JSD( {σ(s^m)}_{m∈O} ),  L_orth = |cos(s^m, u^m)|
    L_rank: where the head of token a has the smaller loss for outcome k than that of b, max(0, w_k(b) − w_k(a))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS, PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.bernoulli import jensen_shannon, pooled_logit
from mmnar.ops.losses import cross_entropy
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class DrFuseConfig:
    """Settings of DrFuse; defaults under the shared budget; all weights are 1 in the release.

    Args:
        width: D, the width of encoders, tokens and attention.
        dropout: Dropout in encoders and branches.
        append_pattern: Concatenate δ to every f_k.
        weight_align: Weight of the divergence of the shared vectors.
        weight_orth: Weight of the cosine of shared and distinct.
        weight_shared, weight_distinct: Weights of the label losses of the tokens' own heads.
        weight_rank: Weight of the ranking of attention weights.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    weight_align: float = 1.0
    weight_orth: float = 1.0
    weight_shared: float = 1.0
    weight_distinct: float = 1.0
    weight_rank: float = 1.0
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class DrFuse(Model):
    """Shared and distinct vectors of M modalities, pooled in logit space, attended to per outcome."""

    card = ModelCard(
        title="DrFuse",
        paper="Yao, Yin, Cheung, Liu, Qin (AAAI 2024)",
        missing="shared vectors are pooled over what is present; absent distinct tokens are masked in the attention",
        deviations=(
            "Any M modalities and any pattern; the paper has two, of which the first is always present.",
            "The first layer of Sh and Di is the encoder that all methods here have; each adds a layer of its own. The "
            "release has transformers for the time series and a residual network for the image.",
            "A patient with nothing present has one token, a learned null vector.",
            "L_align is the Jensen-Shannon divergence of Bernoulli distributions, averaged over dimensions and the "
            "patients with at least two modalities; the release leaves out the terms of 1 − p, sums over dimensions "
            "and over patients without a pair too, and divides by the number of pairs.",
            "L_orth is the mean over patients and their present modalities; the release sums the modalities' means.",
            "L_rank reaches the attention's query and keys alone; in the release its gradient runs on into the "
            "encoders. A pair with equal losses is not ranked; a label that was not asked ranks nothing.",
            "L_rank averages, as the release does, over the entries of a pair that are in the wrong order, then over "
            "all pairs of the M + 1 tokens; as there, only patients with at least two modalities are ranked.",
            "L_distinct is the sum over modalities: with more of them it weighs more beside the others.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.width": 256,
            "model.dropout": 0.3,
            "train.lr": 1e-4,
            "train.batch_size": 16,
            "train.max_epochs": 100,
            "train.patience": 10,
        },
        carebench={
            **CAREBENCH,
            **CAREBENCH_ENCODERS,
            "model.weight_align": 0.01,
            "model.weight_orth": 2.76,  # there .76 and 2 of the two modalities, whose mean this is of
            "model.weight_shared": 2.0,
            "model.weight_distinct": 2.0,
            "model.weight_rank": 1.86,
        },
    )
    Config = DrFuseConfig

    def __init__(self, schema: Schema, config: DrFuseConfig) -> None:
        super().__init__(schema, config)
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        self.c = config
        # the first layer that Sh and Di share
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.shared = nn.ModuleList(_branch(d, config.dropout) for _ in range(m))
        self.distinct = nn.ModuleList(_branch(d, config.dropout) for _ in range(m))
        self.project = nn.Sequential(  # one for all modalities
            nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, d)
        )
        self.null = nn.Parameter(torch.randn(d) * 0.02)
        self.query, self.value = nn.Linear(d, d), nn.Linear(d, d)
        self.keys = nn.Linear(d, k * d, bias=False)  # a bias would add the same to all tokens
        self.token_heads = nn.ModuleList(nn.Linear(d, k) for _ in range(m + 1))
        self.out = nn.Linear(d + m * config.append_pattern, k)

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once."""
        c: DrFuseConfig = self.config
        weights = {
            "align": c.weight_align,
            "orth": c.weight_orth,
            "shared": c.weight_shared,
            "distinct": c.weight_distinct,
            "rank": c.weight_rank,
        }
        return (Phase("joint", {"task": 1.0, **weights}),)

    def forward(self, batch: PatientBatch) -> Output:
        s, u = self.disentangle(batch)  # (B, M, D) each
        tokens, there = self.tokens(s, u, batch.present)  # (B, M + 1, D), (B, M + 1)
        f = self.value(self.weights(tokens, there) @ tokens)  # (B, K, D); weights sum to 1, so V's offset stays itself
        logits = self.classify(f, batch.pattern)
        return Output(logits, f.mean(1), self._losses(s, u, tokens, there, batch) if self.training else {})

    def disentangle(self, batch: PatientBatch) -> tuple[Tensor, Tensor]:
        """s^m and u^m, (B, M, D) each; meaningless where m is absent."""
        first = encode(self.encoders, batch, self.c.width).unbind(1)
        shared = [branch(x) for branch, x in zip(self.shared, first, strict=True)]
        distinct = [branch(x) for branch, x in zip(self.distinct, first, strict=True)]
        s = torch.stack(shared, 1)
        s[batch.present] = self.project(s[batch.present])
        return s, torch.stack(distinct, 1)

    def tokens(self, s: Tensor, u: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """{u^m} and s, (B, M + 1, D), and which of them are there, (B, M + 1); s always is, or null in its place."""
        some = present.any(1, keepdim=True)
        pooled = torch.where(some, pooled_logit(s, present), self.null)
        return torch.cat([u, pooled[:, None]], 1), torch.cat([present, torch.ones_like(some)], 1)

    def weights(self, tokens: Tensor, there: Tensor) -> Tensor:
        """w_k(t): (B, K, M + 1), exactly 0 for an absent token."""
        d = tokens.shape[-1]
        query = self.query(masked_mean(tokens, there))  # q̄ (B, D): the mean of queries is the query of the mean
        sought = torch.einsum("bd,kde->bke", query, self.keys.weight.view(-1, d, d))  # W_kᵀq̄, so that
        scores: Tensor = torch.einsum("bke,bte->bkt", sought, tokens) / d**0.5  # q̄'(W_k t) costs no W_k t of every t
        return scores.float().masked_fill(~there[:, None], -torch.inf).softmax(-1)

    def classify(self, f: Tensor, pattern: Tensor) -> Tensor:
        """ŷ_k from f_k alone: (B, K, D), δ (B, M) → (B, K)."""
        if self.c.append_pattern:
            f = torch.cat([f, pattern[:, None].expand(-1, f.shape[1], -1)], -1)
        return (f * self.out.weight).sum(-1) + self.out.bias

    def _losses(self, s: Tensor, u: Tensor, tokens: Tensor, there: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        wanted = {name for name, weight in self.loss_weights.items() if weight}
        losses = {}
        if "align" in wanted:
            several = (batch.present.sum(1) >= 2).float()
            losses["align"] = _average(jensen_shannon(s, batch.present).mean(1), several)
        if "orth" in wanted:
            losses["orth"] = _average(F.cosine_similarity(s.float(), u.float(), dim=-1).abs(), batch.present.float())
        told = torch.stack([head(t) for head, t in zip(self.token_heads, tokens.unbind(1), strict=True)], 2)
        of_token = [
            self.task_loss(told[..., t], replace(batch, label_mask=batch.label_mask & there[:, t, None]))
            for t in range(there.shape[1])
        ]
        if "shared" in wanted:
            losses["shared"] = of_token[-1]
        if "distinct" in wanted:
            losses["distinct"] = torch.stack(of_token[:-1]).sum()
        if "rank" in wanted:
            losses["rank"] = ranking_loss(self.weights(tokens.detach(), there), told.detach(), there, batch)
        return losses


def ranking_loss(weights: Tensor, told: Tensor, there: Tensor, batch: PatientBatch) -> Tensor:
    """How far attention is from preferring tokens whose own head errs less.

    Args:
        weights: (B, K, T) attention.
        told: (B, K, T) logits of the tokens' own heads.
        there: (B, T) bool.
        batch: Gives the labels.
    """
    labels = batch.labels[..., None].expand_as(told)
    error = cross_entropy(told.float().movedim(2, 1), labels.movedim(2, 1), batch.schema.exclusive).movedim(1, 2)
    a, b = torch.triu_indices(there.shape[1], there.shape[1], 1, device=there.device)  # the P pairs
    several = batch.present.sum(1) >= 2
    ranked = (there[:, a] & there[:, b] & several[:, None])[:, None] & batch.label_mask[..., None]  # (B, K, P)
    a_is_better = torch.sign(error[..., b] - error[..., a])
    wrong = F.relu(-a_is_better * (weights[..., a] - weights[..., b])) * ranked  # (B, K, P)
    return (wrong.sum((0, 1)) / (wrong > 0).sum((0, 1)).clamp(min=1)).mean()


def _branch(width: int, dropout: float) -> nn.Sequential:
    """What Sh and Di each have to themselves."""
    return nn.Sequential(nn.GELU(), nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, width))


def _average(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where all weights are."""
    return (values * weight).sum() / weight.sum().clamp(min=1)

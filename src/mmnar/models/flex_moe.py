"""Flex-MoE: absent modalities from a bank that the observed combination indexes, experts per combination.

Yun, Choi, Peng, Wu, Bao, Zhang, Xin, Long, Chen: "Flex-MoE: Modeling Arbitrary Modality Combination via the Flexible
Mixture-of-Experts", NeurIPS 2024. O is the set of present modalities, c(O) ∈ {1 … E} the expert of a combination.

    t^m = patches of Enc^m(x^m)  if m ∈ O,  else  bank[O, m]                     P tokens per modality
    g(t) = softmax over the k largest of  W_g t + ε ⊙ softplus(W_n t)            noisy gate, ε ~ N(0, 1)
    MoE(t) = Σ_e g_e(t) FFN_e(t)                                                 in place of a transformer's FFN
    h = mean of the tokens after the transformer,  ŷ = head(h)
    L = L_task + λ (L_balance + L_route)
    L_balance = CV²(Σ_t g(t)) + CV²(Σ_t P(e among the k largest))                G-router: complete patients
              + CV²(Σ_t g_e(t), e ≠ c(O))                                        the rest of the others' gates
    L_route = −log softmax(W_g t)_{c(O)}                                         S-router: incomplete patients
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS, PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

TABLE_MODALITIES: Final = 6
"""Most modalities of which the bank has a row for every combination."""


@dataclass(frozen=True)
class FlexMoEConfig:
    """Settings of Flex-MoE; defaults under the shared budget.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in encoders and transformer.
        append_pattern: Concatenate δ to what the head sees.
        patches: P, tokens per modality.
        layers, heads: Layers and attention heads of the transformer.
        experts: E, the number of experts; more than ``top_k``.
        top_k: k, how many experts a token goes to.
        weight_balance, weight_route: λ of each.
        warmup_epochs: Length of the first phase, in which patients come in order of completeness.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    patches: int = 1
    layers: int = 1
    heads: int = 4
    experts: int = 16
    top_k: int = 2
    weight_balance: float = 0.01
    weight_route: float = 0.01
    warmup_epochs: int = 1
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        if not 0 < self.top_k < self.experts:
            raise ConfigError("model.top_k", "1 … experts − 1", f"{self.top_k} of {self.experts}", "lower it")


class Routing(NamedTuple):
    """Of N tokens: gates (N, E), zero but for k; clean logits (N, E); P(e among the k largest) (N, E)."""

    gates: Tensor
    logits: Tensor
    load: Tensor


class FlexMoE(Model):
    """Missing-modality bank, sparse mixture of experts, G- and S-router."""

    card = ModelCard(
        title="Flex-MoE",
        paper="Yun, Choi, Peng, Wu, Bao, Zhang, Xin, Long, Chen (NeurIPS 2024)",
        missing="tokens of an absent modality are learned per observed combination; experts specialise in combinations",
        deviations=(
            "Tokens are a linear map of the encoder that all methods here have: one per modality instead of 16. A "
            "token visits 2 of 16 experts instead of 4, each with an inner width of D.",
            "With more than six modalities the bank has an entry per pair (present, missing) instead of one per "
            "combination and missing modality; an absent token is the mean over what is present.",
            "Complete are the patients with the most modalities that the training fold has of anybody.",
            "Each expert has one of the most frequent incomplete combinations of the training fold; rarer ones go to "
            "the expert of the combination that differs in the fewest modalities.",
            "In the first phase the patients of each batch come in order of completeness, in two steps; the release "
            "sorts the whole fold, for 5 of 50 epochs.",
            "Balance is of importance and load (Shazeer et al. 2017). Of incomplete patients it is the importance of "
            "all experts but that of their own combination; the release's is importance and load of all but the first.",
            "L_route is of the gate's logits without their noise.",
            "Tokens have no learned positions: those of a modality are told apart by its own linear map.",
            "All tokens are averaged and normalised for the head; the release averages by modality and concatenates.",
            "The attention has a skip connection to its input; the release's adds its output to itself.",
            "Every layer has experts; of several the release gives them to the first, third, … alone. Dropout, also "
            "the 0.5 of preset=original, acts in the encoders, too.",
            "Each token is sent to its k experts by plain tensor operations; the release needs FastMoE.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.dropout": 0.5,
            "model.patches": 16,
            "model.top_k": 4,
            "model.warmup_epochs": 5,
            "train.lr": 1e-4,
            "train.batch_size": 8,
            "train.max_epochs": 45,  # 50 with those of the first phase
            "train.patience": 45,
        },
        carebench={
            **CAREBENCH,
            **CAREBENCH_ENCODERS,
            "model.patches": 16,
            "model.experts": 8,
            "model.top_k": 4,
            "model.weight_balance": 0.1,
            "model.weight_route": 0.1,
        },
    )
    Config = FlexMoEConfig

    def __init__(self, schema: Schema, config: FlexMoEConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d, p = len(schema.modalities), config.width, config.patches
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.to_patches = nn.ModuleList(nn.Linear(d, p * d) for _ in range(m))
        self.factorised = m > TABLE_MODALITIES
        # the last factorised row, and the first of the table, are of patients with nothing at all
        self.bank = nn.Parameter(torch.randn(m + 1 if self.factorised else 2**m, m, p, d) * 0.02)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.head = TaskHead(schema, d, config.append_pattern)
        self.by_completeness = False
        self.most: Tensor
        self.combinations: Tensor
        self.known: Tensor
        self.register_buffer("most", torch.tensor(m))  # modalities of the most complete patients
        self.register_buffer("combinations", torch.zeros(config.experts, m, dtype=torch.bool))  # of each expert
        self.register_buffer("known", torch.tensor(0))  # how many experts have one

    def phases(self) -> tuple[Phase, ...]:
        """In order of completeness, then at random."""
        c: FlexMoEConfig = self.config
        weights = {"task": 1.0, "balance": c.weight_balance, "route": c.weight_route}
        first = (Phase("by completeness", weights, c.warmup_epochs),) if c.warmup_epochs else ()
        return (*first, Phase("joint", weights))

    def prepare(self, train: PatientBatch) -> None:
        """Which combination is whose."""
        present = train.present.long()
        self.most.copy_(present.sum(1).max())
        found, counts = torch.unique(present[present.sum(1) < self.most], dim=0, return_counts=True)
        found = found[counts.argsort(descending=True, stable=True)][: self.c.experts]
        self.combinations.zero_()[: len(found)] = found.bool()
        self.known.fill_(len(found))

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        """Whether batches are sorted."""
        self.by_completeness = phase.name == "by completeness"

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """The whole batch; in the first phase its more complete half, then the other."""
        if not self.by_completeness:
            yield from super().objectives(batch, forward)
            return
        order = batch.present.sum(1).argsort(descending=True, stable=True)
        for rows in order.tensor_split(2):
            if len(rows):
                yield from super().objectives(batch.take(rows), forward)

    def forward(self, batch: PatientBatch) -> Output:
        x = self.tokens(batch)  # (B, T, D), T = M P
        routings = []
        for layer in self.layers:
            x, routing = layer(x)
            routings.append(routing)
        h = self.norm(x.mean(1))
        return Output(self.head(h, batch.present), h, self._losses(routings, batch.present) if self.training else {})

    def tokens(self, batch: PatientBatch) -> Tensor:
        """t: (B, M P, D)."""
        b, m = batch.present.shape
        e = encode(self.encoders, batch, self.c.width).unbind(1)
        own = torch.stack([net(x) for net, x in zip(self.to_patches, e, strict=True)], 1)
        own = own.view(b, m, self.c.patches, self.c.width)
        there = batch.present[:, :, None, None]
        return torch.where(there, own, self.from_bank(batch.present).to(own.dtype)).flatten(1, 2)

    def from_bank(self, present: Tensor) -> Tensor:
        """bank[O, ·]: (B, M) → (B, M, P, D)."""
        if not self.factorised:
            code = (present.long() << torch.arange(present.shape[1], device=present.device)).sum(1)
            return self.bank[code]
        rows = torch.cat([present, ~present.any(1, keepdim=True)], 1).to(self.bank.dtype)  # (B, M + 1)
        return torch.einsum("br,rmpd->bmpd", rows / rows.sum(1, keepdim=True), self.bank)

    def expert_of(self, present: Tensor) -> Tensor:
        """c(O) of incomplete patients, −1 of complete ones: (B, M) → (B,)."""
        experts = self.combinations.shape[0]
        owned = torch.arange(experts, device=present.device)
        distance = (present[:, None] != self.combinations).sum(-1)  # (B, E)
        # of equally near ones the more frequent, which comes first
        nearest = (distance * experts + owned).masked_fill(owned >= self.known, torch.iinfo(torch.long).max).argmin(1)
        incomplete = (present.sum(1) < self.most) & (self.known > 0)
        return torch.where(incomplete, nearest, -1)

    def _losses(self, routings: list[Routing], present: Tensor) -> dict[str, Tensor]:
        target = self.expert_of(present).repeat_interleave(present.shape[1] * self.c.patches)  # of each token
        complete, incomplete = (target < 0).nonzero().squeeze(1), (target >= 0).nonzero().squeeze(1)
        target = target[incomplete]
        losses = {}
        if self.loss_weights["balance"]:
            losses["balance"] = torch.stack([balance_loss(r, complete, incomplete, target) for r in routings]).sum()
        if self.loss_weights["route"]:
            terms = [F.cross_entropy(r.logits[incomplete], target, reduction="sum") for r in routings]
            losses["route"] = torch.stack(terms).sum() / max(len(target), 1)
        return losses


def balance_loss(routing: Routing, complete: Tensor, incomplete: Tensor, target: Tensor) -> Tensor:
    """L_balance of one layer.

    Args:
        routing: Of N tokens.
        complete, incomplete: Positions of their patients' tokens.
        target: The expert of each incomplete one's combination.
    """
    rest = routing.gates[incomplete].scatter(1, target[:, None], 0.0)
    general = squared_variation(routing.gates[complete].sum(0)) + squared_variation(routing.load[complete].sum(0))
    return general + squared_variation(rest.sum(0))


def squared_variation(x: Tensor) -> Tensor:
    """CV² = variance / mean² of the E entries; 0 where all are 0.

    >>> squared_variation(torch.tensor([2.0, 2.0, 2.0])), squared_variation(torch.zeros(3))
    (tensor(0.), tensor(0.))
    """
    return x.var(correction=0) / (x.mean() ** 2 + 1e-10)


class _Layer(nn.Module):
    """Pre-norm transformer layer with a mixture of experts as its feed-forward part."""

    def __init__(self, c: FlexMoEConfig) -> None:
        super().__init__()
        self.norm_attention, self.norm_experts = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.attention = nn.MultiheadAttention(c.width, c.heads, c.dropout, batch_first=True)
        self.experts = SparseExperts(c.width, c.experts, c.top_k)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """(B, T, D) → the same, and how its B T tokens were routed."""
        y = self.norm_attention(x)
        x = x + self.dropout(self.attention(y, y, y, need_weights=False)[0])
        mixed, routing = self.experts(self.norm_experts(x).flatten(0, 1))
        return x + self.dropout(mixed.view_as(x)), routing


class SparseExperts(nn.Module):
    """MoE(t): E small networks D → D → D, of which each token visits k.

    Args:
        width: D.
        experts: E.
        top_k: k < E.
    """

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(width, experts, bias=False)
        self.noise = nn.Linear(width, experts, bias=False)
        nn.init.zeros_(self.noise.weight)
        self.w1 = nn.Parameter(torch.randn(experts, width, width) / width**0.5)
        self.b1 = nn.Parameter(torch.zeros(experts, width))
        self.w2 = nn.Parameter(torch.randn(experts, width, width) / width**0.5)
        self.b2 = nn.Parameter(torch.zeros(experts, width))

    def forward(self, t: Tensor) -> tuple[Tensor, Routing]:
        """(N, D) → (N, D)."""
        clean = self.gate(t).float()  # (N, E)
        spread = F.softplus(self.noise(t).float()) + 1e-2
        logits = clean + torch.randn_like(clean) * spread if self.training else clean
        largest, order = logits.topk(self.top_k + 1)
        chosen, weights = order[:, :-1], largest[:, :-1].softmax(1)  # (N, k)
        gates = torch.zeros_like(clean).scatter(1, chosen, weights)
        # what an expert's logit must exceed to be among the k largest, the others as they are
        bar = torch.where(gates > 0, largest[:, -1:], largest[:, -2:-1])
        return self.visit(t, chosen, weights), Routing(gates, clean, torch.special.ndtr((clean - bar) / spread))

    def visit(self, t: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Σ_e g_e FFN_e(t): tokens (N, D), experts and gates of each (N, k) → (N, D)."""
        by_expert = chosen.flatten().argsort(stable=True)
        token = by_expert // self.top_k
        counts = torch.bincount(chosen.flatten(), minlength=len(self.w1)).tolist()
        networks = zip(self.w1.unbind(), self.b1.unbind(), self.w2.unbind(), self.b2.unbind(), strict=True)
        parts = zip(torch.split(t[token], counts), networks, strict=True)
        out = torch.cat([F.gelu(x @ w1 + b1) @ w2 + b2 for x, (w1, b1, w2, b2) in parts])
        out = out * weights.flatten()[by_expert, None].to(out.dtype)
        return torch.zeros_like(t, dtype=out.dtype).index_add(0, token, out)

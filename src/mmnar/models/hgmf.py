"""HGMF: incomplete patients as hypernodes of a graph, typed by what they have, fused along their neighbours.

Chen, Zhang: "HGMF: Heterogeneous Graph-based Fusion for Multimodal Data with Incompleteness", KDD 2020.

    u_i^m = f_m(x_i^m)                                                        of every modality i has
    g_i^m = U_m u_i^m + V_m vec(u_i^m u_i^mᵀ) + b_m,  g_i^S = V_S vec(⊗_{m∈S} u_i^m) + b_S     interactions
    z_i^0 = [g_i^S : S ⊆ O_i, |S| ≤ q]                                        hypernode of type p = O_i
    t_j = W_{q→p} z_j                                                         neighbour j of type q, seen from type p
    α_ij = softmax_{j ∈ N_i^q} LeakyReLU(a_pqᵀ [t_i; t_j; edge]),  s_i^q = Σ_j α_ij t_j        within a type
    β_i^q = softmax_q LeakyReLU(b_pᵀ [t_i; s_i^q])                            across types
    z_i' = t_i + ELU(Σ_q β_i^q s_i^q)                                         two such layers

N_i: for every modality of i, the k training patients nearest in it; and i itself, in its own type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.plain import PlainVectors
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.grouped import grouped_matmul
from mmnar.ops.heads import TaskHead
from mmnar.ops.hypergraph import BilevelAttention, Edges, Interactions
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

ROWS = 1024
"""Patients encoded at a time."""
SEARCHED = 64
"""Patients compared with the bank at a time: the similarities stay in the cache."""
OF_TRAINING: Final = ("fold_rows", "fold_edges", "fold_near", "fold_valid", "bank_place")
"""Buffers of the training fold that prediction does not need."""
NOBODY: Final = torch.iinfo(torch.int64).min
"""Rank of whoever is no neighbour."""


@dataclass(frozen=True)
class HGMFConfig:
    """Settings of HGMF; letters are those of the equations above.

    Args:
        width: D, the width of t and z.
        dropout: Dropout in encoders and after each layer.
        graph_dropout: Share of a step's patients who are trained without neighbours.
        order: q, the largest subset with an interaction vector; never above 2 with more than four modalities.
        unimodal: R, width of every u^m and rank of the interaction tensors.
        interaction: Width of every g^S, the interaction vectors.
        heads: Attention heads of both attentions.
        neighbours: k, neighbours per modality.
        bank: The most training patients kept as neighbours; of a larger fold a random choice.
        types: The most types; the commonest patterns have one each.
        least: A pattern of fewer training patients has no type and takes that of its largest part.
        append_pattern: Concatenate δ before the head.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    graph_dropout: float = 0.5
    order: int = 3
    unimodal: int = 32
    interaction: int = 8
    heads: int = 4
    neighbours: int = 3
    bank: int = 4096
    types: int = 32
    least: int = 100
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class HGMF(Model):
    """Interaction vectors, a graph of typed hypernodes, two layers of bilevel attention."""

    card = ModelCard(
        title="HGMF",
        paper="Chen, Zhang (2020), KDD",
        missing="what a patient has is their type in a graph of neighbours; nothing is filled in",
        deviations=(
            "The paper's abstract and no code were at hand; the equations are as we understand it, and there is no "
            "preset=original.",
            "Inductive, where the paper is transductive: neighbours are training patients, at most 4,096 by default (a "
            "random choice of a larger fold), and nobody is their own neighbour in training.",
            "Edges point from a patient to their k nearest in each modality (cosine of untrained vectors) and are not "
            "made symmetric; near in two modalities is two edges. An edge tells modality and cosine. Of training "
            "patients equally near in a modality (to 1e-6), as many are where it has one number or one category, those "
            "come first whose mean cosine over all modalities is highest, one that either lacks counting 0.",
            "f_m is the encoder that all methods share and a linear map. A neighbour's u is that of the last epoch's "
            "end: through neighbours gradients reach interactions and attention, through the patient also f_m.",
            "A neighbour's z¹ is that of the last epoch's end, too (historical embeddings), so that a step needs no "
            "neighbours of neighbours.",
            "V_S has rank R, with factors that are f_m's own linear map; vec(uuᵀ) has a vector of its own; interaction "
            "vectors pass a GELU.",
            "W_{q→p} = P_p [Z_S : S ⊆ q], with an offset of q: a matrix for every pair of types would be too many. For "
            "the same reason a_pq is a_p and a number for every pair.",
            "In each step half of the patients are trained without neighbours (model.graph_dropout), who are otherwise "
            "trusted more than they are worth: with all of them the tune log loss of 4,000 simulated patients (M = 4, "
            "three seeds, ± standard error) is higher by 0.0071 ± 0.0033 and KL to the exact risks by 37 ± 29 of 130 "
            "(1e-4 nats); with none, in training and at prediction, lower by 0.0010 ± 0.0007 and 16.7 ± 8.1. "
            "benchmarks/choices.py.",
            "z' has t_i added: without it a patient's own record is only one among its neighbours.",
            "A rare pattern keeps its interaction vectors and takes the type of its largest frequent part.",
        ),
        keeps_patients=True,
    )
    Config = HGMFConfig
    config: HGMFConfig
    types: Tensor
    type_used: Tensor
    bank_size: Tensor
    bank_present: Tensor
    bank_type: Tensor
    bank_u: Tensor
    bank_z1: Tensor
    bank_place: Tensor
    fold_rows: Tensor
    fold_edges: Tensor
    fold_near: Tensor
    fold_valid: Tensor

    def __init__(self, schema: Schema, config: HGMFConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.plain = PlainVectors(schema)
        order = config.order if m <= 4 else min(config.order, 2)
        self.t = min(config.types, 2**m)
        # one start for the matrices of all types, here and in P_p: a rare type begins where the others do
        self.unimodal = nn.Parameter(torch.randn(m, d, config.unimodal) / d**0.5)  # f_m's linear map
        self.unimodal_bias = nn.Parameter(torch.ones(m, 1, config.unimodal))  # so that products hold lower orders, too
        self.interactions = Interactions(m, config.unimodal, config.interaction, order)
        self.z_slots = nn.Linear(self.interactions.width, d, bias=False)  # [Z_S]
        self.z_types = nn.Parameter(torch.randn(d, d).repeat(self.t, 1, 1) / d**0.5)  # Z_q of the second layer
        self.offsets = nn.Parameter(torch.randn(2, self.t, d) * 0.02)
        self.layers = nn.ModuleList(BilevelAttention(m, d, config.heads, self.t) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)
        self.head = TaskHead(schema, d, config.append_pattern)
        self._register_bank(m)

    def _register_bank(self, m: int) -> None:
        c = self.config
        self.register_buffer("types", torch.zeros(self.t, m, dtype=torch.bool))  # the first is: nothing
        self.register_buffer("type_used", torch.zeros(self.t, dtype=torch.bool))
        self.register_buffer("bank_size", torch.zeros((), dtype=torch.long))
        for i, width in enumerate(self.plain.widths):
            self.register_buffer(f"bank_x{i}", torch.zeros(c.bank, width))  # unit length, for the search
        self.register_buffer("bank_present", torch.zeros(c.bank, m, dtype=torch.bool))
        self.register_buffer("bank_type", torch.zeros(c.bank, dtype=torch.long))
        self.register_buffer("bank_u", torch.zeros(c.bank, m, c.unimodal))
        self.register_buffer("bank_z1", torch.zeros(c.bank, c.width))
        for name in OF_TRAINING:
            self.register_buffer(name, torch.zeros(0), persistent=False)

    def prepare(self, train: PatientBatch) -> None:
        """Types, the bank and the graph of the training fold."""
        c = self.config
        self.plain.fit(train)
        self._name_types(train.present)
        place = torch.randperm(len(train))[: c.bank].sort().values.to(train.rows.device)
        n = len(place)
        self.bank_size.fill_(n)
        self.bank_place = place
        self.bank_present[:n] = train.present[place]
        self.bank_type[:n] = self.type_of(train.present[place])
        for part in torch.split(torch.arange(n, device=place.device), ROWS):
            for i, x in enumerate(self._directions(train.take(place[part]))):
                getattr(self, f"bank_x{i}")[part] = x
        own = place.new_full((len(train),), -1)
        own[place] = torch.arange(n, device=place.device)
        order = train.rows.argsort()
        found = [self.search(train.take(part), own[part]) for part in torch.split(order, ROWS)]
        self.fold_rows = train.rows[order]
        self.fold_edges, self.fold_near, self.fold_valid = (torch.cat(column) for column in zip(*found, strict=True))

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        self.after_epoch(train)

    def after_epoch(self, train: PatientBatch) -> None:
        """u and z¹ of the bank by the present weights."""
        parts = list(torch.split(torch.arange(len(self.bank_place), device=train.rows.device), ROWS))
        for part in parts:
            self.bank_u[part] = self.embed(train.take(self.bank_place[part]))
        for part in parts:
            own = self.bank_present[part], self.bank_type[part]
            edges = self._fold_edges(train.rows[self.bank_place[part]], own[0])
            y = self.first_source(self.bank_u[part], *own)
            self.bank_z1[part] = self.layers[0](y, own[1], *self._neighbours(edges, 0), edges)

    def finish(self) -> None:
        for name in OF_TRAINING:
            setattr(self, name, torch.zeros(0))

    def forward(self, batch: PatientBatch) -> Output:
        if self.training:
            edges = self._some_alone(self._fold_edges(batch.rows, batch.present))
        else:
            edges = self.search(batch, torch.full_like(batch.rows, -1))
        p = self.type_of(batch.present)
        y = self.first_source(self.embed(batch), batch.present, p)  # (B, D)
        z = self.dropout(self.layers[0](y, p, *self._neighbours(edges, 0), edges))
        y = self.second_source(z, p)
        z = self.dropout(self.layers[1](y, p, *self._neighbours(edges, 1), edges))
        return Output(self.head(z, batch.present), z)

    def embed(self, batch: PatientBatch) -> Tensor:
        """u^m = f_m(x^m): (B, M, R); meaningless where absent."""
        e = encode(self.encoders, batch, self.config.width).transpose(0, 1)  # (M, B, D)
        return torch.baddbmm(self.unimodal_bias, e, self.unimodal).transpose(0, 1)

    def first_source(self, u: Tensor, present: Tensor, types: Tensor) -> Tensor:
        """Σ_{S ⊆ q} Z_S g^S and the offset of q: (N, M, R) → (N, D); P_p makes W_{q→p} z⁰ of it."""
        return self.z_slots(self.interactions(u, present)) + F.embedding(types, self.offsets[0])  # type: ignore[no-any-return]

    def second_source(self, z: Tensor, types: Tensor) -> Tensor:
        """Z_q z¹ and the offset of q: (N, D) → (N, D)."""
        return grouped_matmul(z, self.z_types, types) + F.embedding(types, self.offsets[1])

    def type_of(self, present: Tensor) -> Tensor:
        """The largest named part of each pattern, of equal ones the commonest: (B, M) → (B,)."""
        lacks = (self.types & ~present[:, None]).any(2)  # (B, T)
        n = len(self.types)
        size = self.types.sum(1) * n + torch.arange(n, 0, -1, device=present.device)
        return torch.where(self.type_used & ~lacks, size, -1).argmax(1)

    def _name_types(self, present: Tensor) -> None:
        c = self.config
        patterns, counts = torch.unique(present, dim=0, return_counts=True)
        frequent = (counts >= c.least) & patterns.any(1)
        order = counts.argsort(descending=True, stable=True)
        named = patterns[order[frequent[order]]][: self.t - 1]
        self.types[1 : len(named) + 1] = named
        self.type_used[: len(named) + 1] = True

    def _directions(self, batch: PatientBatch) -> list[Tensor]:
        """x^m at unit length, entries unknown at the mean."""
        return [F.normalize(x, dim=1) for x, _ in self.plain(batch)]

    def search(self, batch: PatientBatch, own: Tensor) -> Edges:
        """The k nearest of the bank in every modality; nobody at ``own`` (B,), −1 = nowhere."""
        directions = self._directions(batch)
        found = [
            self._nearest([x[part] for x in directions], batch.present[part], own[part])
            for part in torch.split(torch.arange(len(batch), device=own.device), SEARCHED)
        ]
        rows, near, valid = (torch.cat(column) for column in zip(*found, strict=True))
        return Edges(rows, near, valid)

    def _nearest(self, directions: list[Tensor], present: Tensor, own: Tensor) -> Edges:
        k, n = self.config.neighbours, max(int(self.bank_size), self.config.neighbours)
        known = (own >= 0).nonzero().squeeze(1)
        # float64: with another batch the product rounds otherwise, and must not choose another neighbour
        bank = [getattr(self, f"bank_x{m}")[:n].double() for m in range(len(directions))]
        cosines = torch.stack([x.double() @ y.T for x, y in zip(directions, bank, strict=True)])  # (M, B, n)
        alike = cosines.mean(0)  # 0 of a modality that one of the two lacks: whoever shares little is not the nearest
        rows, near, valid = [], [], []
        for m, cosine in enumerate(cosines):
            rank = ranked(cosine, alike).masked_fill_(~self.bank_present[:n, m], NOBODY)
            rank[known, own[known]] = NOBODY
            best = rank.topk(k, dim=1)
            rows.append(best.indices)
            near.append(cosine.gather(1, best.indices).float())
            valid.append((best.values > NOBODY) & present[:, m, None])
        has = torch.cat(valid, 1)
        return Edges(torch.cat(rows, 1) * has, torch.cat(near, 1) * has, has)

    def _fold_edges(self, rows: Tensor, present: Tensor) -> Edges:
        """Edges of patients of the training fold; none through a modality that was dropped since."""
        at = torch.searchsorted(self.fold_rows, rows).clamp(max=len(self.fold_rows) - 1)
        valid = self.fold_valid[at] & present.repeat_interleave(self.config.neighbours, dim=1)
        return Edges(self.fold_edges[at], self.fold_near[at], valid)

    def _some_alone(self, edges: Edges) -> Edges:
        """Without any edge of some patients, drawn anew each step."""
        kept = torch.rand(len(edges.valid), 1, device=edges.valid.device) >= self.config.graph_dropout
        return edges._replace(valid=edges.valid & kept)

    def _neighbours(self, edges: Edges, layer: int) -> tuple[Tensor, Tensor]:
        """What a layer takes of the neighbours, and their types: (B, J, D), (B, J)."""
        rows, index = torch.unique(edges.rows, return_inverse=True)  # many patients share a neighbour
        q = self.bank_type[rows]
        if layer == 0:
            y = self.first_source(self.bank_u[rows], self.bank_present[rows], q)
        else:
            y = self.second_source(self.bank_z1[rows], q)
        return F.embedding(index, y), q[index]


def ranked(cosine: Tensor, alike: Tensor) -> Tensor:
    """Whole numbers in the order of the cosine (to 2⁻²⁰), of equal ones of ``alike`` (to 2⁻¹⁷), then the earlier place.

    Args:
        cosine, alike: (B, n) in [−1, 1], float64.

    >>> cosine, alike = torch.tensor([[0.5, 0.5, 0.5, 0.7]]), torch.tensor([[0.1, 0.2, 0.2, -1.0]])
    >>> ranked(cosine.double(), alike.double()).argsort(descending=True).tolist()
    [[3, 1, 2, 0]]
    """
    n = cosine.shape[1]
    rank = (cosine * 2**20).round_().mul_(2**19).add_((alike * 2**17).round_())  # exact in float64
    return rank.long().mul_(n).sub_(torch.arange(n, device=cosine.device))

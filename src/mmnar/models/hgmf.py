"""HGMF: incomplete patients as hypernodes of a graph, typed by what they have, fused along their neighbours.

Chen, Zhang: "HGMF: Heterogeneous Graph-based Fusion for Multimodal Data with Incompleteness", KDD 2020.

    u_i^m = f_m(x_i^m)                                                        of every modality i has
    g_i^m = U_m u_i^m + V_m vec(u_i^m u_i^mᵀ) + b_m,  g_i^S = V_S vec(⊗_{m∈S} u_i^m) + b_S     interactions
    z_i^0 = [g_i^S : S ⊆ O_i, |S| ≤ q]                                        hypernode of type p = O_i
    t_j = W_{q→p} z_j                                                         neighbour j of type q, seen from type p
    α_ij = softmax_{j ∈ N_i^q} LeakyReLU(a_pqᵀ [t_i; t_j; edge]),  s_i^q = Σ_j α_ij t_j        within a type
    β_i^q = softmax_q LeakyReLU(b_pᵀ [t_i; s_i^q])                            across types
    z_i' = ELU(Σ_q β_i^q s_i^q)                                               two such layers

N_i: for every modality of i, the k training patients nearest in it; and i itself, in its own type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.plain import PlainVectors
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.grouped import grouped_matmul
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

ROWS = 1024
"""Patients walked through at a time."""
GRID = 1024
"""Similarities are compared in steps of 1/1024, ties go to the earlier patient: in other company the matrix product
rounds otherwise, and must not choose another neighbour."""


@dataclass(frozen=True)
class HGMFConfig:
    """Args:
    width: D of u, t and z.
    dropout: In encoders and after each layer.
    order: q, the largest subset with an interaction vector; never above 2 with more than four modalities.
    rank: R of the interaction tensors.
    interaction: Width of each g^S.
    heads: Of both attentions.
    neighbours: k per modality.
    bank: The most training patients kept as neighbours; of a larger fold a random choice.
    types: The most types; the commonest patterns have one each.
    rare: A pattern with less than this share of the training fold has none and takes that of its largest part.
    append_pattern: Concatenate δ before the head.
    """

    width: int = 128
    dropout: float = 0.2
    order: int = 3
    rank: int = 32
    interaction: int = 16
    heads: int = 4
    neighbours: int = 5
    bank: int = 8192
    types: int = 32
    rare: float = 0.005
    append_pattern: bool = False


class Edges(NamedTuple):
    """J hyperedges of each of B patients; with k neighbours in each modality J = M k, sorted by modality.

    Args:
        rows: (B, J) places in the bank.
        near: (B, J) cosine in the modality.
        valid: (B, J) bool; false where the patient lacks the modality, or nobody else has it.
    """

    rows: Tensor
    near: Tensor
    valid: Tensor


class HGMF(Model):
    """Interaction vectors, a graph of typed hypernodes, two layers of bilevel attention."""

    card = ModelCard(
        title="HGMF",
        paper="Chen, Zhang (2020), KDD",
        missing="what a patient has is their type in a graph of neighbours; nothing is filled in",
        deviations=(
            "The paper's abstract and no code were at hand; the equations are as we understand it.",
            "Inductive, where the paper is transductive: neighbours come from the training fold alone, and nobody is "
            "their own neighbour in training.",
            "Edges point from a patient to their k nearest in each modality (cosine of untrained vectors) and are not "
            "made symmetric; near in two modalities is two edges. An edge tells modality and cosine.",
            "f_m is the encoder that all methods share. A neighbour's u is that of the last epoch's end: gradients "
            "reach interactions and attention through neighbours, the encoders through the patient alone.",
            "A neighbour's z¹ is that of the last epoch's end, too (historical embeddings), so that a step needs no "
            "neighbours of neighbours.",
            "V_S has rank R with factors of the modalities shared by all S; vec(uuᵀ) has a vector of its own; "
            "interaction vectors pass a GELU.",
            "W_{q→p} = P_p [Z_S : S ⊆ q], with an offset of q: a matrix for every pair of types would be too many.",
            "A rare pattern keeps its interaction vectors and takes the type of its largest frequent part.",
        ),
        keeps_patients=True,
    )
    Config = HGMFConfig

    def __init__(self, schema: Schema, config: HGMFConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d = len(schema.modalities), config.width
        self.encoders = encoders_of(schema, d, config.dropout)
        self.plain = PlainVectors(schema)
        order = config.order if m <= 4 else min(config.order, 2)
        self.interactions = Interactions(m, d, config.rank, config.interaction, order)
        self.z_slots = nn.Linear(self.interactions.width, d, bias=False)  # [Z_S]
        self.z_types = nn.Parameter(_same_for_all(config.types, d, d))  # Z_q of the second layer
        self.offsets = nn.Parameter(torch.randn(2, config.types, d) * 0.02)
        self.layers = nn.ModuleList(BilevelAttention(m, d, config.heads, config.types) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)
        self.head = TaskHead(schema, d, config.append_pattern)
        self._register_bank(m)

    def _register_bank(self, m: int) -> None:
        c: HGMFConfig = self.config
        self.register_buffer("types", torch.zeros(c.types, m, dtype=torch.bool))  # the first is: nothing
        self.register_buffer("type_used", torch.zeros(c.types, dtype=torch.bool))
        self.register_buffer("bank_size", torch.zeros((), dtype=torch.long))
        for i, width in enumerate(self.plain.widths):
            self.register_buffer(f"bank_x{i}", torch.zeros(c.bank, width))  # unit length, for the search
        self.register_buffer("bank_present", torch.zeros(c.bank, m, dtype=torch.bool))
        self.register_buffer("bank_type", torch.zeros(c.bank, dtype=torch.long))
        self.register_buffer("bank_u", torch.zeros(c.bank, m, c.width))
        self.register_buffer("bank_z1", torch.zeros(c.bank, c.width))
        # of the training fold, needed in training alone
        for name in ("fold_rows", "fold_edges", "fold_near", "fold_valid", "bank_place"):
            self.register_buffer(name, torch.zeros(0), persistent=False)

    def prepare(self, train: PatientBatch) -> None:
        """Types, the bank and the graph of the training fold."""
        c: HGMFConfig = self.config
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
            self.bank_u[part] = encode(self.encoders, train.take(self.bank_place[part]), self.c.width)
        for part in parts:
            own = self.bank_present[part], self.bank_type[part]
            edges = self._fold_edges(train.rows[self.bank_place[part]], own[0])
            y = self.first_source(self.bank_u[part], *own)
            self.bank_z1[part] = self.layers[0](y, own[1], *self._neighbours(edges, 0), edges)

    def forward(self, batch: PatientBatch) -> Output:
        edges = self._fold_edges(batch.rows, batch.present) if self.training else self._searched(batch)
        p = self.type_of(batch.present)
        u = encode(self.encoders, batch, self.c.width)  # (B, M, D)
        y = self.first_source(u, batch.present, p)  # (B, D)
        z = self.dropout(self.layers[0](y, p, *self._neighbours(edges, 0), edges))
        y = self.second_source(z, p)
        z = self.dropout(self.layers[1](y, p, *self._neighbours(edges, 1), edges))
        return Output(self.head(z, batch.present), z)

    def first_source(self, u: Tensor, present: Tensor, types: Tensor) -> Tensor:
        """Σ_{S ⊆ q} Z_S g^S and the offset of q: (N, M, D) → (N, D); P_p makes W_{q→p} z⁰ of it."""
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
        c: HGMFConfig = self.config
        patterns, counts = present.unique(dim=0, return_counts=True)
        frequent = (counts >= c.rare * len(present)) & patterns.any(1)
        order = counts.argsort(descending=True, stable=True)
        named = patterns[order[frequent[order]]][: c.types - 1]
        self.types[1 : len(named) + 1] = named
        self.type_used[: len(named) + 1] = True

    def _directions(self, batch: PatientBatch) -> list[Tensor]:
        """x^m at unit length, entries unknown at the mean."""
        return [F.normalize(x, dim=1) for x, _ in self.plain(batch)]

    def search(self, batch: PatientBatch, own: Tensor) -> Edges:
        """The k nearest of the bank in every modality; nobody at ``own`` (B,), −1 = nowhere."""
        k, n = self.c.neighbours, max(int(self.bank_size), self.c.neighbours)
        place = torch.arange(n, device=own.device)
        nobody = torch.iinfo(torch.int32).min
        rows, near, valid = [], [], []
        for i, x in enumerate(self._directions(batch)):
            cosine = x @ getattr(self, f"bank_x{i}")[:n].T  # (B, n)
            rank = (cosine * GRID).round().int() * n - place.int()
            closed = ~self.bank_present[:n, i] | (place == own[:, None]) | ~batch.present[:, i, None]
            best = rank.masked_fill(closed, nobody).topk(k, dim=1)
            rows.append(best.indices)
            near.append(cosine.gather(1, best.indices))
            valid.append(best.values > nobody)
        edges = Edges(torch.cat(rows, 1), torch.cat(near, 1), torch.cat(valid, 1))
        return Edges(edges.rows * edges.valid, edges.near * edges.valid, edges.valid)

    def _searched(self, batch: PatientBatch) -> Edges:
        """Edges of patients whom the graph does not have."""
        found = [
            self.search(part, part.rows.new_full((len(part),), -1)) for part in _chunks(batch, ROWS)
        ]
        rows, near, valid = (torch.cat(column) for column in zip(*found, strict=True))
        return Edges(rows, near, valid)

    def _fold_edges(self, rows: Tensor, present: Tensor) -> Edges:
        """Edges of patients of the training fold; none through a modality that was dropped since."""
        at = torch.searchsorted(self.fold_rows, rows).clamp(max=len(self.fold_rows) - 1)
        valid = self.fold_valid[at] & present.repeat_interleave(self.c.neighbours, dim=1)
        return Edges(self.fold_edges[at], self.fold_near[at], valid)

    def _neighbours(self, edges: Edges, layer: int) -> tuple[Tensor, Tensor]:
        """What a layer takes of the neighbours, and their types: (B, J, D), (B, J)."""
        rows, index = edges.rows.unique(return_inverse=True)  # many patients share a neighbour
        q = self.bank_type[rows]
        if layer == 0:
            y = self.first_source(self.bank_u[rows], self.bank_present[rows], q)
        else:
            y = self.second_source(self.bank_z1[rows], q)
        return F.embedding(index, y), q[index]


class Interactions(nn.Module):
    """g^S of every subset of up to ``order`` modalities, zero where one of them is absent.

    V_S vec(⊗_{m∈S} u^m) = V_S ⊙_{m∈S} A^m u^m, a tensor of rank R (Liu et al. 2018, low-rank fusion).

    Args:
        modalities: M.
        inputs: D of u.
        rank: R.
        width: Of each g^S.
        order: q.
    """

    members: Tensor

    def __init__(self, modalities: int, inputs: int, rank: int, width: int, order: int) -> None:
        super().__init__()
        subsets = [s for size in range(1, order + 1) for s in combinations(range(modalities), size)]
        subsets += [(m, m) for m in range(modalities)]  # vec(uuᵀ)
        length = max(len(s) for s in subsets)
        padded = [[*s, *([modalities] * (length - len(s)))] for s in subsets]
        self.register_buffer("members", torch.tensor(padded).T.contiguous(), persistent=False)  # (≤ q, S); M = none
        self.width = len(subsets) * width
        self.factors = nn.Parameter(torch.randn(modalities, inputs, rank) / inputs**0.5)
        self.factor_bias = nn.Parameter(torch.ones(modalities, 1, rank))  # [u; 1]: the lower orders, too
        self.v = nn.Parameter(torch.randn(len(subsets), rank, width) / rank**0.5)
        self.bias = nn.Parameter(torch.zeros(len(subsets), 1, width))

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """(N, M, D), present (N, M) bool → (N, S · width)."""
        a = torch.baddbmm(self.factor_bias, u.transpose(0, 1), self.factors)  # (M, N, R)
        a = torch.cat([a, torch.ones_like(a[:1])])
        product = a.index_select(0, self.members[0])
        for more in self.members[1:]:
            product = product * a.index_select(0, more)
        g = F.gelu(torch.baddbmm(self.bias, product, self.v))  # (S, N, width)
        has = torch.cat([present, torch.ones_like(present[:, :1])], dim=1)[:, self.members].all(1)  # (N, S)
        return torch.where(has.T[..., None], g, 0.0).transpose(0, 1).flatten(1)


class BilevelAttention(nn.Module):
    """One layer: within each type of neighbours, then across the types.

    Args:
        modalities: M.
        width: D.
        heads: H.
        types: T.
    """

    def __init__(self, modalities: int, width: int, heads: int, types: int) -> None:
        super().__init__()
        self.heads, self.types = heads, types
        self.p = nn.Parameter(_same_for_all(types, width, width))  # P_p
        self.a_own = nn.Parameter(torch.randn(types * types, width) * (heads / width) ** 0.5)  # a_pq, in three parts
        self.a_other = nn.Parameter(torch.randn(types * types, width) * (heads / width) ** 0.5)
        self.a_link = nn.Parameter(torch.zeros(modalities + 1, heads))  # the modality of an edge; M = oneself
        self.a_near = nn.Parameter(torch.zeros(heads))
        self.b_own = nn.Parameter(torch.randn(types, width) * (heads / width) ** 0.5)  # b_p, in two parts
        self.b_other = nn.Parameter(torch.randn(types, width) * (heads / width) ** 0.5)

    def forward(self, y: Tensor, p: Tensor, others: Tensor, q: Tensor, edges: Edges) -> Tensor:
        """z' (B, D).

        Args:
            y: (B, D) of the patients, not yet projected by P_p.
            p: (B,) their types.
            others: (B, J, D) of their neighbours, likewise.
            q: (B, J) the types of these.
            edges: To them.
        """
        b, j = q.shape
        t = grouped_matmul(torch.cat([y[:, None], others], 1), self.p, p)  # (B, 1 + J, D), oneself first
        q = torch.cat([p[:, None], q], 1)
        valid = F.pad(edges.valid, (1, 0), value=True)
        pair = p[:, None] * self.types + q
        link = torch.arange(j, device=y.device) // (j // (len(self.a_link) - 1))
        link = torch.cat([link.new_tensor([len(self.a_link) - 1]), link])
        score = F.embedding(pair, self.a_own) * t[:, :1] + F.embedding(pair, self.a_other) * t
        score = score.view(b, 1 + j, self.heads, -1).sum(-1) + self.a_link[link]
        score = F.leaky_relu(score + F.pad(edges.near, (1, 0), value=1.0)[..., None] * self.a_near, 0.2)  # (B, 1+J, H)
        # neighbour by neighbour the sum over its type, so that a type of n neighbours stands there n times
        same = (q[:, :, None] == q[:, None]) & valid[:, None] | torch.eye(1 + j, dtype=torch.bool, device=y.device)
        alpha = score.float().transpose(1, 2)[:, :, None].masked_fill(~same[:, None], -torch.inf).softmax(-1)
        t = t.view(b, 1 + j, self.heads, -1).transpose(1, 2)  # (B, H, 1 + J, D/H)
        s = alpha.to(t.dtype) @ t
        own = F.embedding(p, self.b_own).view(b, self.heads, 1, -1) * t[:, :, :1]
        score = F.leaky_relu((own + F.embedding(p, self.b_other).view(b, self.heads, 1, -1) * s).sum(-1), 0.2)
        once = score.float() - same.sum(-1)[:, None].log()  # n times 1/n: each type counts once
        beta = once.masked_fill(~valid[:, None], -torch.inf).softmax(-1)  # (B, H, 1 + J)
        return F.elu((beta.to(s.dtype)[..., None] * s).sum(2).flatten(1))


def _same_for_all(groups: int, inputs: int, outputs: int) -> Tensor:
    """One random matrix for every group, so that a rare one starts where the others do."""
    return (torch.randn(inputs, outputs) / inputs**0.5).repeat(groups, 1, 1)


def _chunks(batch: PatientBatch, rows: int) -> Iterator[PatientBatch]:
    if len(batch) <= rows:
        yield batch
        return
    for index in torch.split(torch.arange(len(batch), device=batch.rows.device), rows):
        yield batch.take(index)

"""Patients as typed nodes of a graph: interactions of what they have, attention within and across types of neighbours.

Chen, Zhang: "HGMF: Heterogeneous Graph-based Fusion for Multimodal Data with Incompleteness", KDD 2020.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.ops.grouped import grouped_matmul
from mmnar.ops.packed import segment_softmax, segment_sum


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


class Interactions(nn.Module):
    """g^S of every subset of up to ``order`` modalities and of every u^m with itself, zero where one is absent.

    V_S vec(⊗_{m∈S} u^m) with V_S of rank R: Σ_r V_S[:, r] Π_{m∈S} u^m_r.

    Args:
        modalities: M.
        rank: R, also the width of u.
        width: Of every g^S.
        order: q.
    """

    members: Tensor

    def __init__(self, modalities: int, rank: int, width: int, order: int) -> None:
        super().__init__()
        subsets: list[tuple[int, ...]] = [(m,) for m in range(modalities)]
        self.grown: list[tuple[list[int], list[int]]] = []  # each size is a smaller subset and one modality more
        smaller = subsets
        for size in range(2, order + 1):
            pairs = [(m, m) for m in range(modalities)] if size == 2 else []  # vec(uuᵀ)
            larger = [*combinations(range(modalities), size), *pairs]
            self.grown.append(([smaller.index(s[:-1]) for s in larger], [s[-1] for s in larger]))
            smaller, subsets = larger, subsets + larger
        members = torch.tensor([[m in s for m in range(modalities)] for s in subsets])
        self.register_buffer("members", members, persistent=False)  # (S, M)
        self.width = len(subsets) * width
        self.v = nn.Parameter(torch.randn(len(subsets), rank, width) / rank**0.5)
        self.bias = nn.Parameter(torch.zeros(len(subsets), 1, width))

    def forward(self, u: Tensor, present: Tensor) -> Tensor:
        """(N, M, R), present (N, M) bool → (N, S · width)."""
        u = u.transpose(0, 1)
        products = [u]  # by size, (S, N, R) each
        for parents, more in self.grown:
            # the gradient of [...] with a list is summed by several threads, in an order that is another each time
            first, second = (torch.tensor(places, device=u.device) for places in (parents, more))
            products.append(products[-1].index_select(0, first) * u.index_select(0, second))
        g = F.gelu(torch.baddbmm(self.bias, torch.cat(products), self.v))  # (S, N, width)
        lacks = (self.members & ~present[:, None]).any(2)  # (N, S)
        return g.transpose(0, 1).masked_fill(lacks[..., None], 0.0).flatten(1)


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
        self.p = nn.Parameter(torch.randn(heads, width, width // heads).repeat(types, 1, 1, 1) / width**0.5)  # P_p
        # what is multiplied with t_i and with t_j: a_p, a_p, then with t_i and with s_i^q: b_p, b_p
        self.ab = nn.Parameter(torch.randn(types, heads, width // heads, 4) * (heads / width) ** 0.5)
        self.a_pair = nn.Parameter(torch.zeros(types * types, heads))
        self.a_link = nn.Parameter(torch.zeros(modalities + 1, heads))  # the modality of an edge; M = to oneself
        self.a_near = nn.Parameter(torch.zeros(heads))

    def forward(self, y: Tensor, p: Tensor, others: Tensor, q: Tensor, edges: Edges) -> Tensor:
        """z' (B, D).

        Args:
            y: (B, D) of the patients, not yet projected by P_p.
            p: (B,) their types.
            others: (B, J, D) of their neighbours, likewise.
            q: (B, J) the types of these.
            edges: To them.
        """
        y, q = torch.cat([y[:, None], others], 1), torch.cat([p[:, None], q], 1)  # oneself first: (B, L, D), (B, L)
        b, length, h = *q.shape, self.heads
        # all is linear in t_j = P_p y_j: scores take (P_pᵀ a_p)ᵀ y_j, and P_p meets the weighted sum alone
        ab = F.embedding(p, (self.p @ self.ab).transpose(1, 2).flatten(1)).view(b, -1, h * 4)  # (B, D, 4 H)
        a_own, a_other, b_own, b_other = (y @ ab).float().view(b, length, h, 4).unbind(-1)  # (B, L, H)
        pair = p[:, None] * self.types + q
        alpha_score = F.leaky_relu(a_own[:, :1] + a_other + F.embedding(pair, self.a_pair) + self._edge(edges), 0.2)
        # N_i^q are the edges with one number; the last number is that of edges that are none
        cells = b * self.types
        cell = torch.arange(b, device=q.device)[:, None] * self.types + q
        cell = torch.where(F.pad(edges.valid, (1, 0), value=True), cell, cells).flatten()
        alpha = segment_softmax(alpha_score.flatten(0, 1), cell, cells + 1)  # (B L, H)
        s = segment_sum(alpha * b_other.flatten(0, 1), cell, cells + 1)[:-1].view(b, -1, h)  # b_pᵀ s_i^q: (B, T, H)
        empty = cell.bincount(minlength=cells + 1)[:-1].view(b, -1, 1) == 0
        beta = F.leaky_relu(b_own[:, :1] + s, 0.2).masked_fill(empty, -torch.inf).softmax(1)  # (B, T, H)
        weight = (alpha * F.embedding(cell, F.pad(beta.flatten(0, 1), (0, 0, 0, 1)))).view(b, length, h)  # β_i^q α_ij
        mixed = weight.transpose(1, 2).to(y.dtype) @ y  # (B, H, D)
        head = p[:, None] * h + torch.arange(h, device=p.device)
        both = torch.stack([y[:, :1].expand_as(mixed), mixed], dim=2)  # (B, H, 2, D)
        t, z = grouped_matmul(both.flatten(0, 1), self.p.flatten(0, 1), head.flatten()).unbind(1)
        return (t + F.elu(z)).view(b, -1)

    def _edge(self, edges: Edges) -> Tensor:
        """What an edge itself adds to a score: (B, 1 + J, H)."""
        links, j = len(self.a_link) - 1, edges.rows.shape[1]
        link = torch.arange(links, device=edges.rows.device).repeat_interleave(j // links)
        near = F.pad(edges.near, (1, 0), value=1.0)
        return self.a_link[F.pad(link, (1, 0), value=links)] + near[..., None] * self.a_near

"""Edge-aware SAGE on a dense bipartite graph: B rows (patients), M columns (modalities), a state on every edge.

    n_v  = mean over u ∈ N(v) of ReLU(P [h_u; e_uv])
    h_v' = ReLU(Q [n_v; h_v])
    e_uv' = ReLU(W [h_u'; h_v'; e_uv])                        between layers

P, Q and W serve both sides. An edge has two states, one per direction: they are equal at first and part with W. M is
small, so edges are a (B, M, E) tensor and neighbourhoods are masked means over one of its axes. Where asked, node
states are scaled to unit mean square; GRAPE's length one is the same up to the next weights, but shrinks with D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.ops.masked import masked_mean
from mmnar.types import PatientBatch

CHUNK_ROWS = 2048


def linear_of_parts(linear: nn.Linear, *parts: Tensor) -> Tensor:
    """``linear`` of the concatenation of parts that broadcast against each other, without making it.

    >>> a, b, linear = torch.ones(5, 1, 2), torch.ones(3, 4), nn.Linear(6, 7)
    >>> linear_of_parts(linear, a, b).shape
    torch.Size([5, 3, 7])
    """
    weights = torch.split(linear.weight, [part.shape[-1] for part in parts], dim=1)
    first, *others = (F.linear(part, weight) for part, weight in zip(parts, weights, strict=True))
    return sum(others, start=first + linear.bias)


def scaled_linear(inputs: int, outputs: int, nonlinearity: Literal["relu", "linear"] = "relu") -> nn.Linear:
    """A linear layer that starts by keeping the scale of its input through what follows it (He et al. 2015).

    With torch's own start a state fades through the seven maps between a patient and a logit.
    """
    linear = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(linear.weight, nonlinearity=nonlinearity)
    nn.init.zeros_(linear.bias)
    return linear


class EdgeSage(nn.Module):
    """P and Q of one layer.

    Args:
        node, edge: Widths of the states that come in.
        width: D of the node states that go out.
        normalise: Scale them to unit mean square.
    """

    def __init__(self, node: int, edge: int, width: int, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.message = scaled_linear(node + edge, width)
        self.node = scaled_linear(width + node, width)

    def messages(self, senders: Tensor, edges: Tensor) -> Tensor:
        """ReLU(P [h_u; e_uv]); senders (B, 1, N) or (M, N), edges (B, M, E) → (B, M, D)."""
        return F.relu(linear_of_parts(self.message, senders, edges))

    def update(self, nodes: Tensor, mean: Tensor) -> Tensor:
        """h' of nodes (n, N) from the mean message (n, D) of each, zeros where a node has no neighbours."""
        updated = F.relu(linear_of_parts(self.node, mean, nodes))
        return F.normalize(updated, dim=-1, eps=1e-6) * updated.shape[-1] ** 0.5 if self.normalise else updated


class BipartiteSage(nn.Module):
    """L layers; rows begin as ones, columns and edges as given.

    In training a column's neighbourhood is the batch. In eval mode columns come from ``bank``: what ``fit`` found on
    the whole training fold. So rows depend on nobody beside them.

    Args:
        columns: M.
        node, edge: Widths of the given states.
        width: D of all others.
        layers: L.
        pooled: Number of layers whose columns anybody reads: L, or L − 1 where only rows are wanted.
        normalise: Scale node states to unit mean square.
        dropout: On node states between layers.
    """

    bank: Tensor

    def __init__(
        self,
        columns: int,
        node: int,
        edge: int,
        width: int,
        layers: int,
        pooled: int,
        normalise: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pooled, self.dropout = pooled, nn.Dropout(dropout)
        nodes, edges = ([given] + [width] * (layers - 1) for given in (node, edge))
        self.layers = nn.ModuleList(EdgeSage(n, e, width, normalise) for n, e in zip(nodes, edges, strict=True))
        self.between = nn.ModuleList(scaled_linear(2 * width + e, width) for e in edges[:-1])  # W
        self.register_buffer("bank", torch.zeros(pooled, columns, width))

    def forward(self, columns: Tensor, edges: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, D) after the last layer and columns (M, D) after the last pooled one.

        Args:
            columns: (M, N).
            edges: (B, M, E).
            keep: (B, M) bool; which edges there are, in both directions.
        """
        rows, columns, _ = self._run(columns, edges, keep, len(self.layers))
        return rows, columns

    @torch.no_grad()
    def fit(
        self,
        columns: Tensor,
        train: PatientBatch,
        edges_of: Callable[[PatientBatch], Tensor],
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        """Fill the bank with the columns of the training fold: layer by layer, a chunk of rows at a time. In eval mode.

        Args:
            columns: (M, N).
            train: The training fold.
            edges_of: Gives (B, M, E) of some of its patients.
            chunk_rows: Bounds the memory.
        """
        parts = torch.split(torch.arange(len(train), device=train.rows.device), chunk_rows)
        for number in range(self.pooled):
            layer = self._layer(number)
            total = torch.zeros_like(self.bank[number], dtype=torch.float64)
            for rows in parts:
                part = train.take(rows)
                states, _, leaving = self._run(columns, edges_of(part), part.present, number)
                sent = layer.messages(states[:, None], leaving) * part.pattern[..., None]
                total += sent.double().sum(0)
            mean = total / train.present.sum(0).clamp(min=1)[:, None]
            before = self.bank[number - 1] if number else columns
            self.bank[number] = layer.update(before, mean.to(before.dtype))

    def _run(self, columns: Tensor, edges: Tensor, keep: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, columns and edge states towards the columns after ``depth`` layers."""
        rows, arriving, leaving = edges.new_ones(len(edges), columns.shape[-1]), edges, edges
        for number in range(depth):
            layer = self._layer(number)
            updated = layer.update(rows, masked_mean(layer.messages(columns, arriving), keep))
            if number < self.pooled:
                columns = self._columns(number, rows, columns, leaving, keep)
            rows = updated
            if number < len(self.between):
                w: nn.Linear = self.between[number]  # type: ignore[assignment]
                rows, columns = self.dropout(rows), self.dropout(columns)
                arriving = F.relu(linear_of_parts(w, columns, rows[:, None], arriving))
                if number + 1 < self.pooled:
                    leaving = F.relu(linear_of_parts(w, rows[:, None], columns, leaving))
        return rows, columns, leaving

    def _columns(self, number: int, rows: Tensor, columns: Tensor, leaving: Tensor, keep: Tensor) -> Tensor:
        """Columns after layer ``number``, (M, D)."""
        if not self.training:
            return self.bank[number]
        layer = self._layer(number)
        sent = layer.messages(rows[:, None], leaving)
        return layer.update(columns, masked_mean(sent.transpose(0, 1), keep.T))

    def _layer(self, number: int) -> EdgeSage:
        layer: EdgeSage = self.layers[number]  # type: ignore[assignment]
        return layer

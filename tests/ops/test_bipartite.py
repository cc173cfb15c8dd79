"""The dense bipartite graph against a literal walk over a list of edges, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmnar.ops.bipartite import BipartiteSage, linear_of_parts
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch

B, M, N, E, D = 9, 3, 4, 5, 6


def graph(layers: int = 3, pooled: int = 3, normalise: bool = True) -> BipartiteSage:
    torch.manual_seed(0)
    made = BipartiteSage(M, N, E, D, layers, pooled, normalise).double()
    for name, weight in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.3)
    return made


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, edges, and which there are; row 0 has none, column states differ."""
    torch.manual_seed(seed)
    keep = torch.rand(B, M) < 0.6
    keep[0] = False
    return torch.randn(M, N).double(), torch.randn(B, M, E).double(), keep


def literal(net: BipartiteSage, columns: Tensor, edges: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, int]:
    """Nodes 0 … B − 1 are rows, B … B + M − 1 columns; every edge is listed once per direction."""
    h = [torch.ones(N).double() for _ in range(B)] + list(columns)
    e = {}
    for i, m in keep.nonzero().tolist():
        e[i, B + m] = e[B + m, i] = edges[i, m]
    for number, layer in enumerate(net.layers):
        new = []
        for v in range(B + M):
            sent = [torch.relu(layer.message(torch.cat([h[a], x]))) for (a, b), x in e.items() if b == v]
            n = torch.stack(sent).mean(0) if sent else torch.zeros(D).double()
            state = torch.relu(layer.node(torch.cat([n, h[v]])))
            length = state.norm()
            new.append(state * (D**0.5 / length if layer.normalise and length else 1.0))
        h = new
        if number < len(net.between):
            e = {(a, b): torch.relu(net.between[number](torch.cat([h[a], h[b], x]))) for (a, b), x in e.items()}
    parted = sum(not torch.equal(e[a, b], e[b, a]) for a, b in e)
    return torch.stack(h[:B]), torch.stack(h[B:]), parted


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rows_and_columns_against_a_list_of_edges(layers: int, normalise: bool) -> None:
    net = graph(layers, layers, normalise).train()
    columns, edges, keep = inputs()
    rows, after = net(columns, edges, keep)
    want_rows, want_columns, parted = literal(net, columns, edges, keep)
    assert (rows - want_rows).abs().max() < 1e-12
    assert (after - want_columns).abs().max() < 1e-12
    assert (parted > 0) == (layers > 1)  # the two directions of an edge have states of their own


def test_columns_that_nobody_reads_change_no_row() -> None:
    columns, edges, keep = inputs()
    full, fewer = graph(3, 3).train(), graph(3, 2).train()
    fewer.load_state_dict({**full.state_dict(), "bank": fewer.bank})
    assert torch.equal(full(columns, edges, keep)[0], fewer(columns, edges, keep)[0])


def test_a_linear_map_of_parts_is_that_of_their_concatenation() -> None:
    linear, a, b = nn.Linear(7, 4).double(), torch.randn(5, 1, 3).double(), torch.randn(2, 4).double()
    whole = torch.cat([a.expand(5, 2, 3), b.expand(5, 2, 4)], dim=2)
    assert (linear_of_parts(linear, a, b) - linear(whole)).abs().max() < 1e-12


def test_what_an_edge_carries_that_is_not_there_changes_nothing() -> None:
    net = graph().train()
    columns, edges, keep = inputs()
    other = torch.where(keep[..., None], edges, 1e6)
    assert all(torch.equal(x, y) for x, y in zip(net(columns, edges, keep), net(columns, other, keep), strict=True))


def test_permuted_rows_and_copies_leave_columns_as_they_are() -> None:
    net = graph().train()
    columns, edges, keep = inputs()
    rows, after = net(columns, edges, keep)
    order = torch.randperm(B)
    permuted, same = net(columns, edges[order], keep[order])
    assert (permuted - rows[order]).abs().max() < 1e-12
    assert (same - after).abs().max() < 1e-12
    _, doubled = net(columns, edges.repeat(2, 1, 1), keep.repeat(2, 1))
    assert (doubled - after).abs().max() < 1e-12


def test_rows_without_edges_are_one_and_the_same_finite_state() -> None:
    net = graph().train()
    columns, edges, keep = inputs()
    keep[4] = False
    rows, _ = net(columns, edges, keep)
    assert torch.isfinite(rows).all()
    assert torch.equal(rows[0], rows[4])
    rows, after = net(columns, edges, torch.zeros_like(keep))
    assert torch.isfinite(rows).all()
    assert torch.isfinite(after).all()


def fold() -> tuple[PatientBatch, Tensor]:
    """A training fold and edges of its patients, by row number."""
    b = batch(80)
    b = replace(b, rows=torch.arange(len(b)), checked=True)
    torch.manual_seed(1)
    return b, torch.randn(len(b), M, E).double()


@pytest.mark.parametrize("chunk_rows", [7, 10_000])
def test_the_bank_filled_in_chunks_holds_the_columns_of_the_whole_fold(chunk_rows: int) -> None:
    """Training mode computes columns from its batch: with the whole fold as one batch they are the bank."""
    net, (b, edges) = graph(), fold()
    columns, _, _ = inputs()
    rows, after = net.train()(columns, edges, b.present)
    net.eval().fit(columns, b, lambda part: edges[part.rows], chunk_rows)
    assert (net.bank[-1] - after).abs().max() < 1e-12
    banked, last = net(columns, edges, b.present)
    assert (banked - rows).abs().max() < 1e-12
    assert torch.equal(last, net.bank[-1])


def test_in_eval_mode_a_row_depends_on_its_own_edges_alone() -> None:
    net, (b, edges) = graph().eval(), fold()
    columns, _, _ = inputs()
    net.fit(columns, b, lambda part: edges[part.rows])
    together, _ = net(columns, edges, b.present)
    alone = torch.cat([net(columns, edges[i : i + 1], b.present[i : i + 1])[0] for i in range(len(b))])
    assert (alone - together).abs().max() < 1e-12
    with_batch, _ = net.train()(columns, edges[:5], b.present[:5])
    assert (with_batch - together[:5]).abs().max() > 1e-3  # not so without the bank


def test_one_layer_needs_no_bank() -> None:
    net = graph(1, 0)
    columns, edges, keep = inputs()
    assert net.bank.shape == (0, M, D)
    together, _ = net.train()(columns, edges, keep)
    alone = torch.cat([net(columns, edges[i : i + 1], keep[i : i + 1])[0] for i in range(B)])
    assert (alone - together).abs().max() < 1e-12

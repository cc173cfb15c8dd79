"""Raindrop's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mmnar.models import raindrop
from mmnar.models.raindrop import (
    Edges,
    Raindrop,
    RaindropConfig,
    RaindropStatic,
    RaindropStaticConfig,
    SensorGraph,
    disagreement,
    highest,
    pruned,
    readings_of,
)
from mmnar.ops.grid import Grid
from mmnar.ops.packed import TIME_WIDTH, time_features
from tests.conformance.test_gru_d import COUNTS, grid
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA

V, D, R, P = 3, 4, 6, TIME_WIDTH


def graph(prune: float = 0.5, layers: int = 2, times: int = P) -> SensorGraph:
    torch.manual_seed(0)
    return SensorGraph([1] * V, D, R, times, layers, prune).double()


def observations() -> Grid:
    """Of the third patient one sensor alone is ever seen."""
    g = grid()
    g.observed[4] = torch.tensor([False, True, False])
    return replace(g, values=torch.where(g.observed, torch.randn(len(g.hours), V).double(), 0.0))


def literal(m: SensorGraph, g: Grid, p: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """h (T, V, d) and e (V, V) of each patient, by loops over layers, times and pairs of sensors."""
    states, graphs = [], []
    for i in range(len(g)):
        rows = list(range(int(g.offsets[i]), int(g.offsets[i + 1])))
        times = {u: [t for t, row in enumerate(rows) if g.observed[row, u]] for u in range(V)}
        active = [u for u in range(V) if times[u]]
        h = torch.zeros(len(rows), V, D).double()
        for u in range(V):
            for t in times[u]:
                h[t, u] = torch.relu(g.values[rows[t], u] * m.scale[u] + m.shift[u])
        e = torch.ones(V, V).double()
        e[[u for u in range(V) if u not in active]] = 0
        for w, attention in zip(m.weights, m.attention, strict=True):
            alpha = torch.zeros(len(rows), V, V).double()
            for u in range(V):
                for t in times[u]:
                    for v in range(V):
                        receiver = torch.cat([m.receiver[v], p[rows[t]]])
                        alpha[t, u, v] = torch.sigmoid((attention.weight.T @ receiver) @ h[t, u])
            for u in active:
                e[u] = e[u] * alpha[times[u], u].mean(0)
            ranked = sorted((float(e[u, v]), u, v) for u in active for v in range(V))
            for _, u, v in ranked[: int(m.prune * len(ranked))]:
                e[u, v] = 0
            new = torch.zeros_like(h)
            for t in range(len(rows)):
                for v in range(V):
                    heard = sum(
                        (h[t, u] @ w[u] * alpha[t, u, v] * e[u, v] for u in active if t in times[u]), 0 * w[v, 0]
                    )
                    new[t, v] = torch.relu(heard * w[v]) + (h[t, v] if t in times[v] else 0)
            h = new
        states.append(h)
        graphs.append(e)
    return states, graphs


def dense(edges: Edges, patients: int) -> Tensor:
    """(B, V, V), 0 of sensors that were never seen."""
    e = edges.weights.new_zeros(patients, V, edges.weights.shape[1])
    return e.index_put((edges.patient, edges.sensor), edges.weights)


@pytest.mark.parametrize("prune", [0.0, 0.5])
@torch.no_grad()
def test_propagation_against_a_literal_loop(prune: float) -> None:
    m, g = graph(prune), observations()
    p = time_features(g.hours)
    h, edges = m(g, p)
    e = dense(edges, len(g))
    states, graphs = literal(m, g, p)
    assert torch.allclose(h, torch.cat(states), atol=1e-7)  # α is taken in single precision
    assert torch.allclose(e, torch.stack(graphs), atol=1e-7)
    assert not torch.allclose(e[0], e[3])  # a graph of each patient's own


def test_observed_sensors_reach_others_and_the_rest_send_nothing() -> None:
    m, g = graph(prune=0.0, layers=1), observations()
    with torch.no_grad():
        for weight in (m.scale, m.shift, *m.weights):
            weight.abs_()  # no relu is closed
    values = g.values.abs().requires_grad_()
    row = 0  # one time: what do its sensors hear of each other?
    for v in range(V):
        h, _ = m(replace(g, values=values), time_features(g.hours))
        (told,) = torch.autograd.grad(h[row, v].sum(), values)
        assert bool((told[row] != 0).eq(g.observed[row])[torch.arange(V) != v].all())
        assert not told[~g.observed].any()
    hidden = replace(g, values=torch.where(g.observed, g.values, 1e3))
    assert torch.equal(m(hidden, time_features(g.hours))[0], m(g, time_features(g.hours))[0])


def test_pruning_keeps_exactly_half_of_the_edges_that_carry_anything() -> None:
    torch.manual_seed(0)
    patient = (torch.rand(50, V) < 0.6).nonzero()[:, 0]
    e = torch.rand(len(patient), V, requires_grad=True)
    kept = pruned(e, patient, 0.5)
    for i in range(50):
        before, after = e[patient == i], kept[patient == i]
        assert int((after == 0).sum()) == before.numel() // 2
        low = before[after == 0]
        assert not len(low) or low.max() <= after[after > 0].min()
        assert torch.equal(after[after > 0], before[after > 0])
    again = pruned(kept, patient, 0.5)  # the second layer removes the same
    assert torch.equal(again, kept)
    kept.sum().backward()
    assert torch.equal(e.grad, torch.ones_like(e))  # a removed edge can come back
    assert torch.equal(pruned(e[:0], patient[:0], 0.5), e[:0])  # nobody has anything


@pytest.mark.parametrize("lost", [0, 1, 3, 5, 8])
def test_of_equal_edges_the_last_go_first(lost: int) -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 3, (8,)).float()
    order = sorted(range(8), key=lambda i: (float(values[i]), -i))
    assert set(highest(values, lost).nonzero().flatten().tolist()) == set(order[lost:])


def test_disagreement_against_a_loop_over_pairs_of_patients() -> None:
    torch.manual_seed(0)
    e, sends = torch.rand(7, V, V), torch.rand(7, V) < 0.7
    total = 0.0
    for i in range(7):
        for j in range(7):
            both = (sends[i] & sends[j])[:, None]
            total += float((both * (e[i] - e[j]) ** 2).sum())

    def packed(e: Tensor, sends: Tensor) -> Edges:
        return Edges(*sends.nonzero(as_tuple=True), e[sends])

    assert abs(float(disagreement(packed(e, sends), 7)) - total / (6**2 * V**2)) < 1e-6
    same = e[:1].expand(7, -1, -1)
    assert float(disagreement(packed(same, torch.ones(7, V, dtype=torch.bool)), 7)) < 1e-12
    assert float(disagreement(packed(e[:1], sends[:1]), 1)) == 0


@torch.no_grad()
def test_sensors_in_another_order_with_their_weights_give_the_same() -> None:
    m, g = graph(), observations()
    h, edges = m(g, time_features(g.hours))
    e = dense(edges, len(g))
    order = torch.tensor([2, 0, 1])
    for weight in (m.scale, m.shift, m.receiver, *m.weights):
        weight.copy_(weight[order].clone())
    h2, edges = m(replace(g, values=g.values[:, order], observed=g.observed[:, order]), time_features(g.hours))
    assert torch.allclose(h2, h[:, order], atol=1e-9)
    assert torch.allclose(dense(edges, len(g)), e[:, order][:, :, order], atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("times", ["own", "all"])
def test_attention_over_time_against_its_definition(times: Literal["own", "all"]) -> None:
    torch.manual_seed(0)
    m = Raindrop(MIXED, RaindropConfig(width=16, times=times)).eval().double()
    g = grid()
    h, p = torch.randn(len(g.hours), V, 4).double(), time_features(g.hours)
    z = m.over_time(h, p, g)
    assert not z[1].any()  # nobody without a time has anything
    for i, n in enumerate(COUNTS):
        rows = slice(int(g.offsets[i]), int(g.offsets[i + 1]))
        for v in range(V if n else 0):
            tokens = torch.cat([h[rows, v], p[rows]], dim=1)  # (T, d + P)
            seen = g.observed[rows, v]
            if times == "own" and seen.any():
                tokens = tokens[seen]
            n = len(tokens)
            q, k = m.query(tokens), m.key(tokens)
            weights = torch.softmax(q @ k.T @ torch.full((n,), 1 / n).double() / 4, dim=0)
            assert torch.allclose(z[i, v], torch.relu(weights @ m.value(tokens)), atol=1e-6)


def test_a_regulariser_without_weight_is_not_computed() -> None:
    for kind, config, b in (
        (Raindrop, RaindropConfig, mixed(40)),
        (RaindropStatic, RaindropStaticConfig, batch(40)),
    ):
        for weight, names in ((0.02, {"graph"}), (0.0, set())):
            m = kind(b.schema, config(width=16, weight_graph=weight)).train()  # type: ignore[arg-type]
            assert set(m(b).losses) == names
            assert m.eval()(b).losses == {}


def test_without_series_features_speak_through_one_layer() -> None:
    b = batch(60)
    torch.manual_seed(0)
    m = RaindropStatic(SCHEMA, RaindropStaticConfig(width=16, static="none")).eval()
    m.prepare(b)
    values, known = (torch.cat(parts, dim=1) for parts in zip(*m.features(b), strict=True))
    readings = [length for spec in SCHEMA.modalities for length in readings_of(spec)]
    assert max(readings) > 1  # a category is one sensor
    for i in (0, 7, 20):
        h, last, sent = torch.zeros(len(readings), 4), 0, []
        for u, length in enumerate(readings):
            columns, last = slice(last, last + length), last + length
            if known[i, columns].all():
                sent.append(u)
                h[u] = torch.relu(values[i, columns] @ m.graph.scale[columns] + m.graph.shift[u])
        sends = torch.tensor(sent)
        alpha = torch.sigmoid(m.graph.attention[0](h[sends]) @ m.graph.receiver.T)
        e = pruned(alpha, torch.zeros(len(alpha), dtype=torch.int64), 0.5)
        w = m.graph.weights[0]
        heard = ((h * w).sum(1)[sends, None] * alpha * e).sum(0)
        one = m(b.take(torch.tensor([i]))).representation
        assert torch.allclose(m.trunk((h + torch.relu(heard[:, None] * w)).flatten()[None]), one, atol=1e-5)


def test_who_sends() -> None:
    g = observations()
    edges = graph()(g, time_features(g.hours))[1]
    for i in range(len(g)):
        rows = slice(int(g.offsets[i]), int(g.offsets[i + 1]))
        assert edges.sensor[edges.patient == i].tolist() == g.observed[rows].any(0).nonzero().flatten().tolist()


@pytest.mark.parametrize(("kind", "config"), [(Raindrop, RaindropConfig), (RaindropStatic, RaindropStaticConfig)])
@torch.no_grad()
def test_a_prediction_needs_no_more_memory_than_a_training_batch(
    kind: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = mixed(80)
    torch.manual_seed(0)
    m = kind(b.schema, config(width=16)).eval()
    m.prepare(b)
    whole, sizes = m(b), []
    m.graph.register_forward_hook(lambda _, arguments, __: sizes.append(len(arguments[0])))
    monkeypatch.setattr(raindrop, "ROWS", 30)
    parts = m(b)
    assert sizes == [*[30] * (len(b) // 30), len(b) % 30]
    assert torch.allclose(parts.logits, whole.logits, atol=1e-6)
    assert torch.allclose(parts.representation, whole.representation, atol=1e-6)

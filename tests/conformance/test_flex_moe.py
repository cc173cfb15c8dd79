"""Flex-MoE's own invariants, each against its definition."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmnar.errors import ConfigError
from mmnar.models.flex_moe import FlexMoE, FlexMoEConfig, Routing, SparseExperts, balance_loss
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA


def model(schema: Schema = SCHEMA, **changes: object) -> FlexMoE:
    torch.manual_seed(0)
    return FlexMoE(schema, FlexMoEConfig(**{"width": 16, "dropout": 0.0, "experts": 5, **changes}))  # type: ignore[arg-type]


def experts(k: int = 2) -> tuple[SparseExperts, torch.Tensor]:
    torch.manual_seed(0)
    layer = SparseExperts(8, 5, k).double()
    torch.nn.init.normal_(layer.noise.weight)
    return layer, torch.randn(40, 8, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_sparse_experts_are_the_sum_over_all_experts_of_gate_times_network(k: int) -> None:
    layer, t = experts(k)
    got, routing = layer.eval()(t)
    assert ((routing.gates > 0).sum(1) == k).all()
    for i in range(len(t)):
        logits = layer.gate.weight @ t[i]
        kept = sorted(range(5), key=lambda e: -logits[e].item())[:k]
        gates = dict(zip(kept, torch.softmax(logits[kept].float(), 0), strict=True))
        want = sum(g * (F.gelu(t[i] @ layer.w1[e] + layer.b1[e]) @ layer.w2[e] + layer.b2[e]) for e, g in gates.items())
        assert torch.allclose(got[i], want, atol=1e-6)
        assert torch.allclose(routing.gates[i, kept], torch.stack(list(gates.values())), atol=1e-6)


def test_noise_is_of_training_alone_and_load_is_the_chance_to_be_among_the_k_largest() -> None:
    layer, t = experts()
    with torch.no_grad():
        assert torch.equal(layer.eval()(t)[0], layer(t)[0])
        layer.train()
        torch.manual_seed(1)
        _, routing = layer(t)
        torch.manual_seed(1)
        noise = torch.randn(40, 5)
        clean, spread = layer.gate(t).float(), F.softplus(layer.noise(t).float()) + 1e-2
    noisy = clean + noise * spread
    draws = torch.randn(20_000)
    for i in range(8):
        assert set(routing.gates[i].nonzero().flatten().tolist()) == set(noisy[i].topk(2).indices.tolist())
        for e in range(5):  # the noise of e drawn again, the others' kept
            others = torch.cat([noisy[i, :e], noisy[i, e + 1 :]])
            chance = (clean[i, e] + draws * spread[i, e] > others.topk(2).values[1]).float().mean()
            assert abs(chance - routing.load[i, e]) < 0.015


@pytest.mark.parametrize("patches", [1, 3])
def test_an_absent_token_is_the_banks_of_this_combination(patches: int) -> None:
    m, b = model(patches=patches), batch(40)
    tokens = m.tokens(b).view(len(b), 3, patches, 16)
    for i in range(len(b)):
        row = sum(2**j for j in range(3) if b.present[i, j])
        for j in range(3):
            same = torch.equal(tokens[i, j], m.bank[row, j])
            assert same == (not b.present[i, j])


def test_with_many_modalities_it_is_the_mean_over_pairs_of_present_and_missing() -> None:
    m, b = model(MIXED), mixed(60)
    assert m.bank.shape[0] == 8
    present = torch.cat([b.present, torch.zeros(1, 7, dtype=torch.bool)])
    got = m.from_bank(present)
    for i in range(len(b)):
        rows = present[i].nonzero().flatten().tolist() or [7]
        assert torch.allclose(got[i], torch.stack([m.bank[r] for r in rows]).mean(0), atol=1e-6)
    assert torch.allclose(got[-1], m.bank[7])


def test_frequent_incomplete_combinations_have_experts_and_the_others_the_nearest() -> None:
    m, b = model(experts=4), batch(200)
    m.prepare(b)
    patterns = [tuple(row) for row in b.present.tolist()]
    counts = Counter(p for p in patterns if sum(p) < 3)
    owned = [tuple(row) for row in m.combinations[: m.known].tolist()]
    assert sorted(counts.values(), reverse=True)[:4] == [counts[p] for p in owned]
    assert len(counts) > 4
    every = [tuple(bool(i >> j & 1) for j in range(3)) for i in range(8)]
    for pattern, expert in zip(every, m.expert_of(torch.tensor(every)).tolist(), strict=True):
        distance = [sum(a != c for a, c in zip(pattern, o, strict=True)) for o in owned]
        assert expert == (-1 if all(pattern) else distance.index(min(distance)))


def test_the_most_complete_are_complete_where_nobody_has_everything() -> None:
    m, b = model(), batch(60)
    keep = torch.tensor([True, True, False]).expand_as(b.present)
    m.prepare(b.drop(keep))
    assert m.expert_of(torch.tensor([[True, True, False]])).tolist() == [-1]
    assert m.expert_of(torch.tensor([[True, False, False]])).item() >= 0
    same = b.drop(torch.zeros_like(b.present))
    m.prepare(same)  # all alike: nobody is incomplete
    assert m.known == 0
    assert (m.expert_of(same.present) == -1).all()


def test_losses_against_a_literal_loop_over_tokens() -> None:
    m, b = model(layers=2).train(), batch(40)
    m.prepare(b)
    torch.manual_seed(3)
    losses = m(b).losses
    torch.manual_seed(3)
    x, balance, route = m.tokens(b), 0.0, 0.0
    for layer in m.layers:
        x, routing = layer(x)
        general, load, rest, crossed, n = torch.zeros(5), torch.zeros(5), torch.zeros(5), 0.0, 0
        for i, expert in enumerate(m.expert_of(b.present).tolist()):
            for token in range(3 * i, 3 * i + 3):
                if expert < 0:
                    general += routing.gates[token].detach()
                    load += routing.load[token].detach()
                else:
                    crossed -= torch.log_softmax(routing.logits[token], 0)[expert].item()
                    rest += torch.where(torch.arange(5) == expert, 0.0, routing.gates[token].detach())
                    n += 1
        balance += sum(float(v.var(correction=0) / v.mean() ** 2) for v in (general, load, rest))
        route += crossed / n
    assert abs(losses["balance"].item() - balance) < 1e-4
    assert abs(losses["route"].item() - route) < 1e-4


def test_balance_is_zero_for_equal_use_and_finite_without_tokens() -> None:
    even = Routing(torch.full((6, 5), 0.2), torch.zeros(6, 5), torch.full((6, 5), 0.4))
    nobody = torch.zeros(0, dtype=torch.long)
    assert balance_loss(even, torch.arange(6), nobody, nobody) < 1e-6
    one = Routing(torch.eye(5)[torch.zeros(6, dtype=torch.long)], even.logits, even.load)
    assert abs(balance_loss(one, torch.arange(6), nobody, nobody) - 4) < 1e-4  # all on one of five: CV² = 4
    assert balance_loss(one, nobody, torch.arange(6), torch.zeros(6, dtype=torch.long)) == 0  # on their own expert


def test_the_s_router_sends_combinations_to_their_experts() -> None:
    m, b = model(weight_route=1.0, weight_balance=0.0, experts=7).train(), batch(120)
    m.prepare(b)
    m.loss_weights = {"task": 1.0, "balance": 0.0, "route": 1.0}
    optimizer = torch.optim.Adam(m.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        losses = m(b).losses
        assert set(losses) == {"route"}
        losses["route"].backward()
        optimizer.step()
    _, routing = m.eval().layers[0](m.tokens(b))
    target = m.expert_of(b.present).repeat_interleave(3)
    incomplete = target >= 0
    assert (routing.logits.argmax(1)[incomplete] == target[incomplete]).float().mean() > 0.95


def test_the_first_phase_takes_the_more_complete_half_of_a_batch_first() -> None:
    m, b = model(), batch(41)
    first, second = m.phases()
    assert (first.epochs, second.epochs) == (1, None)
    assert [phase.name for phase in model(warmup_epochs=0).phases()] == ["joint"]
    shown: list[PatientBatch] = []

    def forward(part: PatientBatch) -> Output:
        shown.append(part)
        return m.eval()(part)

    for phase, parts in ((first, 2), (second, 1)):
        shown.clear()
        m.begin_phase(phase, b)
        m.loss_weights = {"task": 1.0}
        assert len(list(m.objectives(b, forward))) == parts
        assert sorted(torch.cat([s.rows for s in shown]).tolist()) == sorted(b.rows.tolist())
        counts = torch.cat([s.present.sum(1) for s in shown])
        assert (counts.diff() <= 0).all() == (parts == 2)
    m.begin_phase(first, b)
    assert len(list(m.objectives(b.take(torch.tensor([0])), forward))) == 1


def test_more_chosen_experts_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="top_k"):
        replace(FlexMoEConfig(), top_k=16)

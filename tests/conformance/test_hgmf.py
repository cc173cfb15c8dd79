"""HGMF's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.models.hgmf import HGMF, HGMFConfig
from mmnar.ops.hypergraph import BilevelAttention, Edges, Interactions
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> HGMF:
    torch.manual_seed(0)
    settings = {"width": 16, "dropout": 0.0, "bank": 64, "neighbours": 2, "least": 1, **changes}
    return HGMF(SCHEMA, HGMFConfig(**settings))  # type: ignore[arg-type]


def seen(b: PatientBatch, **changes: object) -> HGMF:
    m = model(**changes).eval()
    m.prepare(b)
    with torch.no_grad():
        m.begin_phase(m.phases()[0], b)
    return m


def nowhere(b: PatientBatch) -> Tensor:
    return torch.full((len(b),), -1)


def test_interaction_vectors_against_full_outer_products() -> None:
    torch.manual_seed(0)
    part = Interactions(3, 4, 5, 3).double()
    u, present = torch.randn(6, 3, 4).double(), torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0]] * 2).bool()
    torch.nn.init.normal_(part.bias)
    got = part(u, present).view(6, -1, 5)
    subsets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 0), (1, 1), (2, 2), (0, 1, 2)]
    assert got.shape[1] == len(subsets)
    for i in range(6):
        for n, s in enumerate(subsets):
            if not all(present[i, m] for m in s):
                assert not got[i, n].any()
                continue
            tensor = torch.zeros((5,) + (4,) * len(s)).double()  # V_S, not zero on its diagonal alone
            for r in range(4):
                tensor[(slice(None),) + (r,) * len(s)] = part.v[n, r]
            outer = u[i, s[0]]
            for m in s[1:]:
                outer = torch.tensordot(outer, u[i, m], dims=0)
            want = (tensor.flatten(1) @ outer.flatten()) + part.bias[n, 0]
            assert torch.allclose(got[i, n], F.gelu(want))


def layer_by_loops(layer: BilevelAttention, y: Tensor, p: Tensor, others: Tensor, q: Tensor, edges: Edges) -> Tensor:
    """The equations, one patient, head and neighbour at a time."""
    types, links = layer.types, len(layer.a_link) - 1
    out = []
    for i in range(len(y)):
        heads = []
        for h in range(layer.heads):
            project, ab = layer.p[p[i], h], layer.ab[p[i], h]
            t_i = y[i] @ project
            members: dict[int, list[tuple[Tensor, Tensor, float]]] = {}
            members[int(p[i])] = [(t_i, layer.a_link[links, h], 1.0)]
            for j in range(q.shape[1]):
                if edges.valid[i, j]:
                    link = j // (q.shape[1] // links)
                    one = (others[i, j] @ project, layer.a_link[link, h], float(edges.near[i, j]))
                    members.setdefault(int(q[i, j]), []).append(one)
            s, b = [], []
            for kind, group in members.items():
                pair = layer.a_pair[p[i] * types + kind, h]
                scores = [
                    ab[:, 0] @ t_i + ab[:, 1] @ t + pair + link + near * layer.a_near[h] for t, link, near in group
                ]
                alpha = torch.stack([v if v > 0 else 0.2 * v for v in scores]).softmax(0)
                s.append(sum(a * t for a, (t, _, _) in zip(alpha, group, strict=True)))
                score = ab[:, 2] @ t_i + ab[:, 3] @ s[-1]
                b.append(score if score > 0 else 0.2 * score)
            beta = torch.stack(b).softmax(0)
            heads.append(t_i + F.elu(sum(w * v for w, v in zip(beta, s, strict=True))))
        out.append(torch.cat(heads))
    return torch.stack(out)


def setting() -> tuple[BilevelAttention, Tensor, Tensor, Tensor, Tensor, Edges]:
    torch.manual_seed(0)
    layer = BilevelAttention(modalities=3, width=8, heads=2, types=4)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    b, j = 12, 6
    edges = Edges(torch.zeros(b, j, dtype=torch.long), torch.rand(b, j), torch.rand(b, j) < 0.6)
    edges.valid[0] = False
    return layer, torch.randn(b, 8), torch.randint(4, (b,)), torch.randn(b, j, 8), torch.randint(4, (b, j)), edges


def test_bilevel_attention_against_loops() -> None:
    layer, *inputs = setting()
    assert torch.allclose(layer(*inputs), layer_by_loops(layer, *inputs), atol=1e-4)


def test_without_neighbours_a_patient_is_alone() -> None:
    layer, y, p, others, q, edges = setting()
    t = torch.cat([y[0] @ layer.p[p[0], h] for h in range(2)])
    assert torch.allclose(layer(y, p, others, q, edges)[0], t + F.elu(t), atol=1e-5)


def test_what_is_no_edge_moves_nothing() -> None:
    layer, y, p, others, q, edges = setting()
    z = layer(y, p, others, q, edges)
    noise = torch.where(edges.valid[..., None], others, torch.randn_like(others))
    kinds = torch.where(edges.valid, q, (q + 1) % 4)
    assert torch.equal(layer(y, p, noise, kinds, edges), z)


def test_neighbours_are_seen_through_the_matrix_of_the_target_alone() -> None:
    """P_p of a type that no target has moves nothing; that of a target's own does."""
    layer, y, _, others, q, edges = setting()
    p = torch.zeros(len(y), dtype=torch.long)
    before = layer(y, p, others, q, edges)
    with torch.no_grad():
        layer.p[1:] += 1
    assert torch.equal(layer(y, p, others, q, edges), before)
    with torch.no_grad():
        layer.p[0] += 1
    assert not torch.allclose(layer(y, p, others, q, edges), before)


def test_a_neighbour_of_type_q_goes_through_the_matrix_of_q() -> None:
    """The second layer's Z_q, moved, moves those of type q and nobody else."""
    b = batch(60)
    m = seen(b)
    z, types = torch.randn(30, 16), m.bank_type[:30]
    before, kind = m.second_source(z, types), int(types[0])
    with torch.no_grad():
        m.z_types[kind] += 1
    moved = (m.second_source(z, types) != before).any(1)
    assert torch.equal(moved, types == kind)


def test_search_against_sorted_cosines() -> None:
    b = batch(60)
    m = seen(b)
    edges = m.search(b, nowhere(b))
    n = int(m.bank_size)
    for k, (x, known) in enumerate(m.plain(b)):
        assert not x[~known].any()
        direction = F.normalize(x.double(), dim=1)
        have = [j for j in range(n) if b.present[j, k]]
        for i in range(len(b)):
            mine = slice(2 * k, 2 * k + 2)
            if not b.present[i, k]:
                assert not edges.valid[i, mine].any()
                continue
            assert edges.valid[i, mine].all()
            cosines = sorted((float(direction[i] @ direction[j]) for j in have), reverse=True)[:2]
            found = edges.rows[i, mine]
            assert all(int(j) in have for j in found)
            assert all(abs(float(a) - c) < 2e-6 for a, c in zip(edges.near[i, mine], cosines, strict=True))


def test_nobody_is_their_own_neighbour_in_training() -> None:
    b = batch(60)
    m = seen(b)
    place = {int(row): at for at, row in enumerate(b.rows)}
    edges = m._fold_edges(b.rows, b.present)
    own = torch.tensor([place[int(row)] for row in b.rows])
    assert not ((edges.rows == own[:, None]) & edges.valid).any()
    found = m.search(b, nowhere(b))  # who is looked up as if unseen is found first
    assert ((found.rows == own[:, None]) & found.valid).any()


def test_a_modality_dropped_in_training_has_no_edges() -> None:
    b = batch(60)
    m = seen(b)
    less = b.drop(torch.tensor([True, False, True]).expand_as(b.present))
    edges = m._fold_edges(less.rows, less.present)
    assert not edges.valid[:, 2:4].any()
    assert edges.valid[:, :2].any()


def test_duplicates_in_the_bank_are_chosen_alike_in_any_company() -> None:
    b = batch(60)
    b = b.take(torch.arange(len(b)) // 8)  # eight of each
    b = replace(b, rows=torch.arange(len(b)))
    m = seen(b)
    together = m.search(b, nowhere(b))
    for i in range(len(b)):
        one = b.take(torch.tensor([i]))
        assert torch.equal(m.search(one, nowhere(one)).rows[0], together.rows[i])
        if b.modalities["vitals"].values[i].any():
            assert together.rows[i, :2].tolist() == [i // 8 * 8, i // 8 * 8 + 1]  # the earliest


def tied(n: int) -> PatientBatch:
    """In the vitals everybody has one of four values, in the unit one of three; only the labs tell patients apart."""
    torch.manual_seed(0)
    level, unit = torch.randint(4, (n, 1)).float().expand(-1, 3), torch.randint(3, (n, 1)).float() * torch.eye(2)[0]
    contents = (level.contiguous(), torch.randn(n, 2), unit)
    b = PatientBatch(
        SCHEMA,
        {m.name: Static(x, torch.ones_like(x).bool()) for m, x in zip(SCHEMA.modalities, contents, strict=True)},
        torch.ones(n, 3, dtype=torch.bool),
        torch.zeros(n, 2),
        torch.ones(n, 2, dtype=torch.bool),
        torch.arange(n),
    )
    return b.drop(torch.rand(n, 3) < torch.tensor([0.8, 0.7, 0.8]))


def test_of_the_equally_near_those_are_neighbours_who_are_near_in_the_rest() -> None:
    """On ties the k that a sort by (cosine, mean cosine) finds; not the same few for everybody."""
    b = tied(1200)
    b, others = b.take(torch.arange(1000)), b.take(torch.arange(1000, 1200))
    m = seen(b, bank=1000)
    edges = m.search(others, nowhere(others))
    x, y = ([F.normalize(v.double(), dim=1) for v, _ in m.plain(part)] for part in (others, b))
    cosine = torch.stack([own @ other.T for own, other in zip(x, y, strict=True)])  # (M, 200, 1000)
    both = (others.present[:, None] & b.present).permute(2, 0, 1)
    alike = (cosine * both).mean(0)
    for k in range(3):
        mine = slice(2 * k, 2 * k + 2)
        for i in others.present[:, k].nonzero().squeeze(1).tolist():
            have = b.present[:, k].nonzero().squeeze(1).tolist()
            want = sorted(((round(float(cosine[k, i, j]), 7), float(alike[i, j])) for j in have), reverse=True)[:2]
            got = [(float(cosine[k, i, j]), float(alike[i, j])) for j in edges.rows[i, mine].tolist()]
            told = 1 if k == 1 else 2  # in the labs nobody ties, so cosines alone tell
            assert torch.allclose(torch.tensor(got)[:, :told], torch.tensor(want)[:, :told], atol=2e-5)
        assert len(edges.rows[:, mine][edges.valid[:, mine]].unique()) > 60


def test_risks_on_tied_data_do_not_depend_on_company() -> None:
    b = tied(300)
    m = seen(b, bank=300)
    others = tied(400).take(torch.arange(300, 400))
    together = m(others).logits
    order = torch.randperm(len(others))
    assert torch.allclose(m(others.take(order)).logits, together[order], atol=1e-6)
    alone = torch.cat([m(others.take(torch.tensor([i]))).logits for i in range(len(others))])
    assert torch.allclose(alone, together, atol=1e-6)


def test_nobody_is_near_in_a_modality_they_lack() -> None:
    b = batch(60)
    few = torch.ones_like(b.present)
    few[(b.present[:, 1].cumsum(0) > 2), 1] = False  # two have it
    b = b.drop(few)
    edges = seen(b).search(b, nowhere(b))
    have = b.present[:, 1].nonzero().squeeze(1).tolist()
    assert len(have) == 2
    assert sorted(edges.rows[have[0], 2:4].tolist()) == have
    m = seen(b)
    assert m._fold_edges(b.rows, b.present).valid[have[0], 2:4].tolist() == [True, False]


def test_rare_patterns_take_the_type_of_their_largest_frequent_part() -> None:
    m = model(least=3)
    present = torch.tensor(
        [[1, 1, 0]] * 4 + [[1, 0, 0]] * 3 + [[0, 1, 0]] * 2 + [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    ).bool()
    m._name_types(present)
    named = [tuple(t) for t in m.types[m.type_used].int().tolist()]
    assert named == [(0, 0, 0), (1, 1, 0), (1, 0, 0)]  # 4 and 3 have it; the others are fewer
    patterns = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 0]]).bool()
    assert m.type_of(patterns).tolist() == [1, 1, 2, 0, 0]


def test_a_modality_less_is_another_type() -> None:
    b = batch(60)
    m = seen(b)
    patterns = torch.tensor([[(i >> k) & 1 for k in range(3)] for i in range(8)], dtype=torch.bool)
    have = patterns[(patterns[:, None] == b.present).all(2).any(1)]
    assert len(m.type_of(have).unique()) == len(have) > 4


@pytest.mark.parametrize("bank", [16, 64])
def test_the_bank_holds_training_patients_by_the_present_weights(bank: int) -> None:
    b = batch(60)
    m = seen(b, bank=bank)
    n = min(bank, len(b))
    assert int(m.bank_size) == n
    assert torch.equal(m.bank_present[:n], b.present[m.bank_place])
    with torch.no_grad():
        m.unimodal += 0.1
        m.after_epoch(b)
        u = m.embed(b.take(m.bank_place))
    assert torch.allclose(m.bank_u[:n], u, atol=1e-6)
    # z¹ of a bank patient is what the first layer gives it in training
    rows = b.take(m.bank_place)
    edges = m._fold_edges(rows.rows, rows.present)
    y = m.first_source(u, rows.present, m.type_of(rows.present))
    z = m.layers[0](y, m.type_of(rows.present), *m._neighbours(edges, 0), edges)
    assert torch.allclose(m.bank_z1[:n], z, atol=1e-5)


def test_gradients_reach_the_interactions_through_neighbours() -> None:
    b = batch(60)
    m = seen(b)
    edges = m._fold_edges(b.rows, b.present)
    y, _ = m._neighbours(edges, 0)
    (gradient,) = torch.autograd.grad(y.square().sum(), m.interactions.v)
    assert gradient.abs().sum() > 0


def test_a_patient_is_trained_with_all_neighbours_or_with_none() -> None:
    b = batch(60)
    m = seen(b, graph_dropout=0.0).train()
    full = m(b).logits
    alone = seen(b, graph_dropout=1.0).train()(b).logits
    edges = m._fold_edges(b.rows, b.present)
    apart = ((full - alone).abs() > 1e-4).any(1)
    assert torch.equal(apart, edges.valid.any(1))
    mixed = seen(b, graph_dropout=0.5).train()(b).logits
    with_them, without = (torch.isclose(mixed, one, atol=1e-6).all(1) for one in (full, alone))
    assert (with_them | without).all()
    assert 10 < int((with_them & apart).sum()) < int(apart.sum()) - 10
    assert torch.equal(seen(b, graph_dropout=1.0)(b).logits, seen(b, graph_dropout=0.0)(b).logits)  # at prediction all


def test_attention_sums_to_one() -> None:
    """With P the identity and every y alike, each weighted sum is y itself."""
    layer, _, p, others, q, edges = setting()
    with torch.no_grad():
        layer.p.copy_(torch.eye(8).view(8, 2, 4).transpose(0, 1).expand(4, 2, 8, 4))
    y = torch.rand(8)
    z = layer(y.expand(len(p), 8), p, y.expand_as(others), q, edges)
    assert torch.allclose(z, (2 * y).expand_as(z), atol=1e-5)


def test_the_graph_of_the_training_fold_does_not_outlive_training() -> None:
    b = batch(60)
    m = model()
    train(m, b, b, TrainConfig(min_steps=0, max_epochs=1, batch_size=32), 0, Silent())
    for name in ("fold_rows", "fold_edges", "fold_near", "fold_valid", "bank_place"):
        assert not len(getattr(m, name))
    assert torch.isfinite(m(b).logits).all()

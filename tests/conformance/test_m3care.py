"""M3Care's own invariants: kernels, graph and completion, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.models.m3care import M3Care, M3CareConfig, convolve, gaussian, kernel_inputs, mean_square_distance
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch
from tests.populations import SCHEMA

M = len(SCHEMA.modalities)


def model(**changes: object) -> M3Care:
    torch.manual_seed(0)
    return M3Care(SCHEMA, M3CareConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def filled(b: PatientBatch, **changes: object) -> M3Care:
    """In eval mode, with ``b`` as its bank."""
    m = model(**changes).eval()
    with torch.no_grad():
        m.after_epoch(b)
    return m


def graph(m: M3Care, b: PatientBatch) -> tuple[Tensor, Tensor]:
    """h (B, M, D), A (B, B) of the batch's patients with each other, themselves included."""
    with torch.no_grad():
        h = torch.stack([e(c) for e, c in zip(m.encoders, b.modalities.values(), strict=True)], dim=1)
        h = h * b.present[..., None]
        x = kernel_inputs(m.project(h, b.present), h)
        return h, m.similarity(x, b.present, x, b.present, mean_square_distance(x, b.present))


def standardised(v: Tensor) -> np.ndarray:
    a = v.double().numpy()
    return (a - a.mean()) / np.sqrt(a.var() + 1e-5)


def test_similarity_against_a_literal_loop_over_pairs_and_modalities() -> None:
    m, b = model().train(), batch(25)
    h, got = graph(m, b)
    n, want = len(b), np.zeros((len(b), len(b)))
    with torch.no_grad():
        views = [
            [[standardised(v) for v in (phi(h[i, k]), h[i, k])] for k, phi in enumerate(m.projections)]
            for i in range(n)
        ]
    share = torch.sigmoid(m.epsilon).tolist()
    bandwidth = np.zeros((M, 2))
    for k in range(M):
        have = [i for i in range(n) if b.present[i, k]]
        for v in range(2):
            pairs = [((views[i][k][v] - views[j][k][v]) ** 2).sum() for i in have for j in have if i != j]
            bandwidth[k, v] = np.mean(pairs)
    for i in range(n):
        for j in range(n):
            both = [k for k in range(M) if b.present[i, k] and b.present[j, k]]
            for k in both:
                for v, weight in enumerate((1 - share[k], share[k])):
                    d = ((views[i][k][v] - views[j][k][v]) ** 2).sum() / bandwidth[k, v]
                    want[i, j] += weight * np.mean(np.exp([-2 * d, -d, -d / 2])) / len(both)
    want[want <= 0.5] = 0  # τ = σ(0)
    assert 0 < (want > 0).mean() < 0.9
    assert np.abs(got.numpy() - want).max() < 1e-4


def test_similarity_is_symmetric_and_one_for_the_same_patient() -> None:
    m, b = model(), batch(40)
    twice = b.take(torch.tensor([*range(len(b)), 3]))  # patient 3 comes a second time
    _, a = graph(m, twice)
    assert torch.allclose(a, a.T, atol=1e-6)
    something = twice.present.any(1)
    assert torch.allclose(a.diagonal(), something.float(), atol=1e-4)
    assert something[3]
    assert torch.allclose(a[3], a[-1], atol=1e-4)
    assert abs(a[3, -1].item() - 1) < 1e-4


def test_who_shares_no_modality_is_no_neighbour() -> None:
    m, b = model(), batch(40)
    patterns = torch.eye(M, dtype=torch.bool)[torch.arange(len(b)) % M]
    part = b.drop(patterns)
    with torch.no_grad():
        m.theta.fill_(-20)  # every other pair is above τ
    _, a = graph(m, part)
    shared = (part.present[:, None] & part.present[None]).any(-1)
    assert torch.equal(a > 0, shared)


def test_threshold_keeps_values_and_has_a_gradient() -> None:
    b = batch(40)
    everybody, some = model(), model()
    with torch.no_grad():
        everybody.theta.fill_(-20.0)
    (_, loose), (_, strict) = graph(everybody, b), graph(some, b)
    assert torch.allclose(strict, torch.where(loose > 0.5, loose, 0.0), atol=1e-6)
    assert (strict != loose).any()
    m = model().train()
    (objective,) = list(m.objectives(b, m))
    objective.total.backward()
    assert m.theta.grad is not None
    assert m.theta.grad.abs() > 0


def identity(layer: nn.ModuleList) -> None:
    with torch.no_grad():
        for linear in layer:
            linear.weight.copy_(torch.eye(16))  # type: ignore[union-attr, operator]
            linear.bias.zero_()  # type: ignore[union-attr, operator]


def test_gathering_against_a_literal_loop_with_identity_weights() -> None:
    """Two convolutions of the whole graph: who lacks m ends as the weighted mean of the neighbours who have it."""
    m, b = model(), batch(30)
    h, a = graph(m, b)
    a.fill_diagonal_(0)
    for layer in (m.gcn1, m.gcn2):
        identity(layer)
    with torch.no_grad():
        states, _ = convolve(m.gcn1, h, b.present, a, h, b.present)
        g, found = convolve(m.gcn2, states, b.present, a, states, b.present)
    weights, lacking = a.double().numpy(), 0
    want_states = _literal(h.double().numpy(), b.present.numpy(), weights)
    want = _literal(want_states, b.present.numpy(), weights)
    for i in range(len(b)):
        for k in range(M):
            mine = [j for j in range(len(b)) if weights[i, j] > 0 and b.present[j, k]]
            assert bool(found[i, k]) == bool(mine)
            assert np.allclose(g[i, k].numpy(), want[i, k], atol=1e-4)
            if mine and not b.present[i, k]:
                lacking += 1
                mean = sum(weights[i, j] * want_states[j, k] for j in mine) / sum(weights[i, j] for j in mine)
                assert np.allclose(g[i, k].numpy(), F.selu(torch.tensor(mean)).numpy(), atol=1e-4)
    assert lacking > 3


def _literal(own: np.ndarray, present: np.ndarray, a: np.ndarray) -> np.ndarray:
    """SELU of the mean of the own vector and the neighbours' weighted mean, of whichever there are."""
    out = np.zeros_like(own)
    for i in range(len(own)):
        for k in range(own.shape[1]):
            parts = [own[i, k]] if present[i, k] else []
            mine = [j for j in range(len(own)) if a[i, j] > 0 and present[j, k]]
            if mine:
                parts.append(np.average([own[j, k] for j in mine], axis=0, weights=[a[i, j] for j in mine]))
            if parts:
                out[i, k] = np.mean(parts, axis=0)
    return F.selu(torch.tensor(out)).numpy()


def test_training_and_prediction_are_the_same_steps_on_two_graphs() -> None:
    """In the batch nobody is their own neighbour; at prediction nobody of the batch is anybody's."""
    b = batch(60)
    some, rest = b.take(torch.arange(30)), b.take(torch.arange(30, len(b)))
    m = filled(some)
    h, a = graph(m, some)
    a.fill_diagonal_(0)
    states, _ = convolve(m.gcn1, h, some.present, a, h, some.present)
    g, found = convolve(m.gcn2, states, some.present, a, states, some.present)
    z = m.trunk(m.fuse(m.complete(h, g, some.present, found)).flatten(1))
    assert torch.allclose(m.train()(some).representation, z, atol=1e-5)
    known, (mine, _) = some.present, graph(m, rest)
    x, y = (kernel_inputs(m.project(v, p), v) for v, p in ((mine, rest.present), (h, known)))
    a = m.similarity(x, rest.present, y, known, m.bandwidth)
    own, _ = convolve(m.gcn1, mine, rest.present, a, h, known)
    g, found = convolve(m.gcn2, own, rest.present, a, states, known)
    z = m.trunk(m.fuse(m.complete(mine, g, rest.present, found)).flatten(1))
    assert torch.allclose(m.eval()(rest).representation, z, atol=1e-5)


def test_a_neighbours_vector_reaches_the_patient_who_lacks_it() -> None:
    """In the graph of the batch; with the released mask on both ends it does not."""
    m, b = model().train(), batch(40)
    h, a = graph(m, b)
    a.fill_diagonal_(0)
    k = 1
    lacking = (~b.present[:, k] & ((a > 0) & b.present[:, k]).any(1)).nonzero().squeeze(1)
    assert len(lacking)
    h.requires_grad_()
    states, _ = convolve(m.gcn1, h, b.present, a, h, b.present)
    g, found = convolve(m.gcn2, states, b.present, a, states, b.present)
    (gradient,) = torch.autograd.grad(m.complete(h, g, b.present, found)[lacking, k].sum(), h)
    assert gradient[:, k][b.present[:, k]].abs().sum() > 0
    assert gradient[:, k][~b.present[:, k]].abs().sum() == 0
    assert gradient[:, [i for i in range(M) if i != k]].abs().sum() == 0  # given A, modalities are apart


def test_two_patients_without_m_get_different_vectors() -> None:
    m, b = filled(batch(40)), batch(40)
    tokens: list[Tensor] = []
    m.fusion[0].register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    m(b)
    assert len(tokens[0][~b.present[:, 1], 1].unique(dim=0)) > 3


def test_above_every_similarity_a_missing_modality_is_the_learned_vector() -> None:
    b = batch(40)
    m = filled(b)
    with torch.no_grad():
        m.theta.fill_(50.0)  # τ = 1
        m.after_epoch(b)
        h, a = graph(m, b)
        assert not a.any()
        g, found = convolve(m.gcn2, h, b.present, a, h, b.present)
        tokens = m.complete(h, g, b.present, found)
    assert torch.equal(tokens[~b.present], m.lonely.expand(len(b), -1, -1)[~b.present])
    assert torch.isfinite(m(b).logits).all()


def test_observed_vectors_are_blended_by_trust() -> None:
    m = model()
    h, g = torch.randn(5, M, 16), torch.randn(5, M, 16)
    everything = torch.ones(5, M, dtype=torch.bool)
    with torch.no_grad():
        got = m.complete(h, g, everything, everything)
        for i in range(5):
            for k in range(M):
                w1, w2 = (torch.sigmoid(f(v[i, k])) for f, v in ((m.trust_neighbours, g), (m.trust_own, h)))
                assert torch.allclose(got[i, k], (w1 * g[i, k] + w2 * h[i, k]) / (w1 + w2), atol=1e-6)


def test_stability_term_against_its_definition() -> None:
    m, b = model(weight_stable=0.1).train(), batch(40)
    h, _ = graph(m, b)
    want = 0.0
    for k, phi in enumerate(m.projections):
        mine = h[b.present[:, k], k]
        want += abs((torch.linalg.norm(phi(mine)) - torch.linalg.norm(mine)).item())
    assert abs(m(b).losses["stable"].item() - want) < 1e-4


def test_bandwidth_at_prediction_is_the_banks() -> None:
    b = batch(60)
    m = filled(b, bank=20)
    some = b.take(torch.tensor([int(i * len(b) / 20) for i in range(20)]))
    h, _ = graph(m, some)
    x = kernel_inputs(m.project(h, some.present), h)
    for k in range(M):
        mine = x[1, k, some.present[:, k]]
        d = torch.cdist(mine, mine).square()
        assert abs(m.bandwidth[1, k].item() - d.sum().item() / (len(mine) * (len(mine) - 1))) < 1e-2
    assert torch.equal(m.bank_present, some.present)
    assert torch.allclose(gaussian(x[1, 0], x[1, 0], m.bandwidth[1, 0]).diagonal(), torch.ones(20), atol=1e-4)


def test_the_bank_and_nothing_else_tells_a_patient_what_is_missing() -> None:
    """Another bank, another risk of the same patient; another patient beside them, the same."""
    b = batch(60)
    first, second = b.take(torch.arange(20)), b.take(torch.arange(20, 40))
    alone = b.take(torch.tensor([45])).drop(torch.tensor([[True, False, False]]))
    assert alone.present.any()
    m = filled(first)
    risk = m(alone).logits
    beside = b.take(torch.tensor([45, 46])).drop(torch.tensor([[True, False, False], [True] * 3]))
    assert torch.allclose(m(beside).logits[:1], risk, atol=1e-6)
    with torch.no_grad():
        m.after_epoch(second)
    assert not torch.allclose(m(alone).logits, risk, atol=1e-5)


def test_a_bank_patients_hidden_content_moves_nobody() -> None:
    b = batch(60)
    poisoned = {
        name: Static(torch.where(b.present[:, k, None], c.values, 2.0), c.observed | ~b.present[:, k, None])
        for k, (name, c) in enumerate(b.modalities.items())
        if isinstance(c, Static)
    }
    assert torch.equal(filled(b)(b).logits, filled(replace(b, modalities=poisoned, checked=True))(b).logits)

"""DrFuse's own invariants, each against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from mmnar.models.drfuse import DrFuse, DrFuseConfig, ranking_loss
from mmnar.ops.bernoulli import bernoulli_entropy, jensen_shannon, pooled_logit
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> DrFuse:
    torch.manual_seed(0)
    return DrFuse(SCHEMA, DrFuseConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def test_pooling_is_the_papers_sum_of_exponentials_for_two() -> None:
    s1, s2 = torch.randn(2, 50, 8, dtype=torch.float64) * 3
    zero = torch.zeros_like(s1)
    papers = torch.stack([s1 + s2, s1 + s2, s1, s2]).logsumexp(0) - torch.stack([zero, zero, s1, s2]).logsumexp(0)
    got = pooled_logit(torch.stack([s1, s2], 1), torch.ones(50, 2, dtype=torch.bool))
    assert torch.allclose(got, papers.float(), atol=1e-5)


def test_pooling_is_the_logit_of_the_mean_probability_of_what_is_there() -> None:
    s, there = 2 * torch.randn(60, 5, 4), torch.rand(60, 5) < 0.5
    got = pooled_logit(s, there)
    for i in range(60):
        members = [s[i, m].double() for m in range(5) if there[i, m]]
        want = torch.zeros(4).double()
        if members:
            p = sum(torch.sigmoid(x) for x in members) / len(members)
            want = torch.log(p / (1 - p))
        assert torch.allclose(got[i].double(), want, atol=1e-5)
    order = torch.randperm(5)
    assert torch.allclose(pooled_logit(s[:, order], there[:, order]), got, atol=1e-5)


def test_one_member_is_pooled_to_itself_however_sure_it_is() -> None:
    s = torch.tensor([[[80.0, -80.0, 0.3]], [[1.0, 0.0, -25.0]]])
    s = torch.cat([s, torch.full_like(s, math.nan)], 1)
    there = torch.tensor([[True, False], [True, False]])
    pooled = pooled_logit(s, there)
    assert torch.allclose(pooled, s[:, 0], atol=1e-6)


def test_pooling_nothing_is_an_even_chance_with_a_gradient_of_zero() -> None:
    s = torch.randn(2, 3, 4, requires_grad=True)
    pooled = pooled_logit(s, torch.zeros(2, 3, dtype=torch.bool))
    pooled.sum().backward()
    assert torch.equal(pooled, torch.zeros(2, 4))
    assert torch.equal(s.grad, torch.zeros_like(s))


def test_divergence_against_the_kullback_leibler_sum() -> None:
    s, there = 2 * torch.randn(40, 3, 6), torch.rand(40, 3) < 0.7
    got = jensen_shannon(s, there)
    for i in range(40):
        p = torch.sigmoid(s[i][there[i]].double())
        want = torch.zeros(6).double()
        if len(p) >= 2:
            q = p.mean(0)
            want = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(0)
        assert torch.allclose(got[i].double(), want, atol=1e-5)


def test_divergence_is_zero_where_all_agree_and_at_most_log_two() -> None:
    everyone = torch.ones(1, 2, dtype=torch.bool)
    same = torch.randn(1, 1, 100).expand(1, 2, 100)
    assert jensen_shannon(same, everyone).abs().max() < 1e-6
    apart = jensen_shannon(torch.tensor([[[60.0, 5.0, 0.1], [-60.0, -5.0, -0.1]]]), everyone)
    assert (apart > 1e-4).all()
    assert (apart <= math.log(2) + 1e-6).all()
    assert torch.allclose(bernoulli_entropy(torch.zeros(1)), torch.tensor(math.log(2)))


def test_attention_is_a_distribution_over_the_tokens_that_are_there() -> None:
    m, b = model().eval(), batch(60)
    tokens, there = m.tokens(*m.disentangle(b), b.present)
    w = m.weights(tokens, there)
    assert torch.allclose(w.sum(-1), torch.ones(len(b), 2), atol=1e-6)
    assert (w[~there[:, None].expand_as(w)] == 0).all()
    assert (w[:, 0] - w[:, 1]).abs().max() > 1e-3  # every outcome has its own
    q = [m.query(tokens[i, there[i]]).mean(0) for i in range(len(b))]
    for i, k in ((0, 0), (3, 1)):
        keys = m.keys.weight.view(2, 16, 16)[k] @ tokens[i, there[i]].T  # (D, tokens)
        assert torch.allclose(w[i, k, there[i]], (q[i] @ keys / 4).softmax(0), atol=1e-5)


def test_each_logit_is_read_from_its_own_attention() -> None:
    """The diagonal of one linear layer applied to every f_k."""
    m, b = model(append_pattern=True).eval(), batch(60)
    f = torch.randn(len(b), 2, 16)
    full = m.out(torch.cat([f, b.pattern[:, None].expand(-1, 2, -1)], -1))  # (B, K, K)
    assert torch.allclose(m.classify(f, b.pattern), full.diagonal(dim1=1, dim2=2), atol=1e-6)


def test_losses_against_a_loop_over_patients() -> None:
    m, b = model().train(), batch(60)
    got = m(b).losses
    s, u = m.disentangle(b)
    tokens, there = m.tokens(s, u, b.present)
    cosines, divergences = [], []
    for i in range(len(b)):
        on = [j for j in range(3) if b.present[i, j]]
        cosines += [abs(torch.cosine_similarity(s[i, j], u[i, j], dim=0).item()) for j in on]
        if len(on) >= 2:
            divergences.append(jensen_shannon(s[i : i + 1, on], torch.ones(1, len(on)).bool()).mean().item())
    assert 0 <= got["orth"] <= 1
    assert abs(got["orth"].item() - sum(cosines) / len(cosines)) < 1e-5
    assert abs(got["align"].item() - sum(divergences) / len(divergences)) < 1e-5
    heads = []
    for t in range(4):
        of_task = []
        for k in range(2):
            told = [
                torch.nn.functional.binary_cross_entropy_with_logits(m.token_heads[t](tokens[i, t])[k], b.labels[i, k])
                for i in range(len(b))
                if there[i, t] and b.label_mask[i, k]
            ]
            of_task.append(torch.stack(told).mean().item())
        heads.append(sum(of_task))
    assert abs(got["shared"].item() - heads[3]) < 1e-5
    assert abs(got["distinct"].item() - sum(heads[:3])) < 1e-4


def _drawn(b: PatientBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    there = torch.cat([b.present, torch.ones(len(b), 1).bool()], 1)
    w = torch.randn(len(b), 2, 4).masked_fill(~there[:, None], -math.inf).softmax(-1)
    return w, torch.randn(len(b), 2, 4), there


def test_ranking_against_a_loop_over_pairs() -> None:
    b = batch(40)
    w, told, there = _drawn(b)
    total, pairs = 0.0, 0
    for x in range(4):
        for y in range(x + 1, 4):
            wrong = []
            for i in range(len(b)):
                for k in range(2):
                    if not (there[i, x] and there[i, y] and b.label_mask[i, k] and b.present[i].sum() >= 2):
                        continue
                    sign = 2 * b.labels[i, k] - 1  # the larger signed logit has the smaller loss
                    better, worse = (x, y) if sign * told[i, k, x] > sign * told[i, k, y] else (y, x)
                    wrong.append(max(0.0, float(w[i, k, worse] - w[i, k, better])))
            positive = sum(v > 0 for v in wrong)
            total, pairs = total + sum(wrong) / max(1, positive), pairs + 1
    assert abs(float(ranking_loss(w, told, there, b)) - total / pairs) < 1e-5


def test_ranking_is_zero_in_the_right_order_and_where_nothing_was_asked() -> None:
    b = batch(40)
    w, _, there = _drawn(b)
    right = (2 * b.labels[..., None] - 1) * w  # the heavier the token, the smaller its loss
    assert ranking_loss(w, right, there, b) == 0
    assert ranking_loss(w, -right, there, b) > 0
    asked = b.label_mask[..., None].expand_as(w)
    assert ranking_loss(w, torch.where(asked, right, -right), there, b) == 0


def test_patients_with_one_modality_rank_nothing() -> None:
    """Of a pair both are there, the modality's own token and the pooled one, but they say the same."""
    m, b = model().train(), batch(60)
    lone = b.drop(torch.eye(3, dtype=torch.bool)[torch.arange(len(b)) % 3])
    assert m(lone).losses["rank"] == 0
    assert m(b).losses["rank"] > 0


def test_ranking_moves_the_attention_alone() -> None:
    m, b = model().train(), batch(60)
    m(b).losses["rank"].backward()
    moved = {n for n, p in m.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"query.weight", "query.bias", "keys.weight"}


@pytest.mark.parametrize("name", ["align", "orth", "shared", "distinct", "rank"])
def test_a_loss_of_weight_zero_is_not_there(name: str) -> None:
    m, b = model(**{f"weight_{name}": 0.0}).train(), batch(40)
    wanted = {"align", "orth", "shared", "distinct", "rank"} - {name}
    assert set(m(b).losses) == wanted


def test_nothing_present_is_the_null_vectors_attention() -> None:
    m, b = model().eval(), batch(40)
    f = m(b.drop(torch.zeros_like(b.present))).representation
    assert torch.allclose(f, m.value(m.null).expand_as(f), atol=1e-6)

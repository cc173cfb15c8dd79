"""SimMLM's own invariants, each against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmnar.models.simmlm import SimMLM, SimMLMConfig, fewer_of, mofe_loss
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> SimMLM:
    torch.manual_seed(0)
    return SimMLM(SCHEMA, SimMLMConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def bce(logit: float, y: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def test_logits_against_a_literal_mixture_patient_by_patient() -> None:
    m, b = model().eval(), batch(40)
    nn.init.normal_(m.nothing)
    b = b.drop((torch.arange(len(b)) > 2)[:, None].expand_as(b.present))
    out = m(b)
    for i in range(len(b)):
        have = [k for k in range(3) if b.present[i, k]]
        if not have:
            assert torch.equal(out.logits[i], m.nothing)
            continue
        x = [m.encoders[k](b.modalities[SCHEMA.modality_names[k]].take(torch.tensor([i])))[0] for k in have]
        inputs = torch.zeros(3, 16)
        inputs[have] = torch.stack(x)
        g = m.gate(inputs.flatten()).view(3, 2)
        for t in range(2):
            scores = [math.exp(g[k, t].item()) for k in have]
            o = [m.experts[k].net(e)[t].item() for k, e in zip(have, x, strict=True)]
            want = sum(s * v for s, v in zip(scores, o, strict=True)) / sum(scores)
            assert abs(out.logits[i, t].item() - want) < 1e-5


def test_gates_sum_to_one_over_the_observed() -> None:
    m = model()
    present = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    w = m.gates(torch.randn(3, 3, 16), present)
    assert torch.allclose(w.sum(1), torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 2))
    assert (w[~present] == 0).all()


def test_gates_keep_full_precision() -> None:
    """Rounded to half precision they would not sum to one."""
    m, b = model().eval(), batch(40)
    with torch.autocast("cpu", torch.bfloat16):
        e = torch.randn(len(b), 3, 16).bfloat16()
        w = m.gates(e, b.present)
    assert w.dtype == torch.float32
    assert torch.allclose(w.sum(1), b.present.any(1).float()[:, None].expand(-1, 2), atol=1e-6)


def test_fewer_is_a_strict_part_and_every_part_is_drawn() -> None:
    torch.manual_seed(0)
    patterns = torch.tensor([[(i >> k) & 1 for k in range(3)] for i in range(8)], dtype=torch.bool)
    present = patterns.repeat(400, 1)
    fewer = fewer_of(present)
    n = present.sum(1)
    assert not (fewer & ~present).any()
    assert torch.equal(fewer[n < 2], present[n < 2])
    assert ((fewer.sum(1) >= 1) & (fewer.sum(1) < n))[n >= 2].all()
    drawn = {tuple(row) for row in fewer[n == 3].tolist()}
    assert len(drawn) == 6
    share = (fewer[n == 3].sum(1) == 1).float().mean()
    assert abs(share - 0.5) < 0.1  # sizes 1 and 2 alike


def test_ranking_loss_against_a_loop() -> None:
    torch.manual_seed(0)
    more, fewer = torch.randn(30, 2), torch.randn(30, 2)
    y, asked = (torch.rand(30, 2) < 0.5).float(), torch.rand(30, 2) < 0.7
    want = 0.0
    for t in range(2):
        rows = [i for i in range(30) if asked[i, t]]
        each = [bce(more[i, t].item(), y[i, t].item()) - bce(fewer[i, t].item(), y[i, t].item()) for i in rows]
        want += sum(max(0.0, d) for d in each) / len(rows)
    assert abs(mofe_loss(more, fewer, y, asked).item() - want) < 1e-5


def test_ranking_loss_moves_only_where_more_is_worse() -> None:
    """It lowers the loss of more and raises that of fewer there, and leaves everybody else alone."""
    more = torch.tensor([[-1.0], [2.0]], requires_grad=True)
    fewer = torch.tensor([[1.0], [0.0]], requires_grad=True)
    mofe_loss(more, fewer, torch.ones(2, 1), torch.ones(2, 1, dtype=torch.bool)).backward()
    assert more.grad is not None
    assert fewer.grad is not None
    assert more.grad[0] < 0 < fewer.grad[0]
    assert more.grad[1] == fewer.grad[1] == 0


def test_stage_one_trains_each_expert_by_itself() -> None:
    """No gradient of the gate, and of no expert from patients without its modality."""
    m, b = model().train(), batch(60)
    m.loss_weights = m.phases()[0].weights
    lacking = b.drop(torch.tensor([True, False, True]).expand_as(b.present))
    (objective,) = list(m.objectives(lacking, m))
    objective.total.backward()

    def silent(part: nn.Module) -> bool:
        return all(p.grad is None or not p.grad.any() for p in part.parameters())

    assert silent(m.gate)
    assert silent(m.experts[1])
    assert not silent(m.experts[0])
    assert not silent(m.encoders[2])


def test_expert_loss_is_the_sum_of_separate_ones() -> None:
    m, b = model().train(), batch(60)
    m.loss_weights = m.phases()[0].weights
    want = 0.0
    for k, name in enumerate(SCHEMA.modality_names):
        have = b.present[:, k].nonzero().squeeze(1)
        o = m.experts[k].net(m.encoders[k](b.modalities[name].take(have)))
        for t in range(2):
            rows = [j for j in range(len(have)) if b.label_mask[have[j], t]]
            want += sum(bce(o[j, t].item(), b.labels[have[j], t].item()) for j in rows) / len(rows)
    assert abs(m(b).losses["expert"].item() - want) < 1e-4


@pytest.mark.parametrize("mofe", [0.0, 0.1])
@pytest.mark.parametrize("fewer", [0.0, 1.0])
@pytest.mark.parametrize("epochs", [0, 2])
def test_every_variant_by_configuration_alone(mofe: float, fewer: float, epochs: int) -> None:
    m, b = model(weight_mofe=mofe, weight_fewer=fewer, expert_epochs=epochs).train(), batch(40)
    assert len(m.phases()) == 1 + (epochs > 0)
    m.loss_weights = m.phases()[-1].weights
    (objective,) = list(m.objectives(b, m))
    assert set(objective.terms) == {"task"} | {n for n, w in (("mofe", mofe), ("fewer", fewer)) if w}


def test_nobody_with_two_modalities_leaves_no_ranking() -> None:
    m, b = model().train(), batch(40)
    m.loss_weights = m.phases()[-1].weights
    alone = b.drop(torch.tensor([False, True, False]).expand_as(b.present))
    losses = m(alone).losses
    assert losses["mofe"] == losses["fewer"] == 0

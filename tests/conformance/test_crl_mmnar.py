"""CRL-MMNAR's own invariants, each against its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmnar.models.crl_mmnar import CRLMMNAR, CRLMMNARConfig
from mmnar.ops.losses import info_nce
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> CRLMMNAR:
    torch.manual_seed(0)
    return CRLMMNAR(SCHEMA, CRLMMNARConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def test_losses_against_a_literal_loop_over_patients_and_modalities() -> None:
    """holdout = all: every h without m by its own forward on the batch with m dropped."""
    m, b = model(holdout="all").train(), batch(40)
    got = m(b).losses
    e = m.encode(b)
    square, pairs, cont = 0.0, 0, 0.0
    for k in range(3):
        rows = [i for i in range(len(b)) if b.present[i, k] and b.present[i].sum() >= 2]
        keep = torch.ones_like(b.present)
        keep[:, k] = False
        h_without, _ = m.fuse(m.encode(b.drop(keep)), b.drop(keep).present)
        rebuilt = m.decoders[k](h_without[rows])
        target = F.layer_norm(e[rows, k], (16,))
        square += ((rebuilt - target) ** 2).sum().item()
        pairs += len(rows)
        cont += info_nce(e[rows, k], rebuilt, 0.1).item()
    assert abs(got["rec"].item() - square / pairs / 16) < 1e-5
    assert abs(got["cont"].item() - cont) < 1e-3


def test_holding_out_one_is_unbiased_for_the_patient_average() -> None:
    m, b = model(holdout="one"), batch(40)
    torch.manual_seed(0)
    counts = torch.zeros(len(b), 3)
    for _ in range(3000):
        rows, hidden = m._holdout(b.present)
        counts[rows, hidden] += 1
    eligible = b.present & (b.present.sum(1, keepdim=True) >= 2)
    want = eligible / eligible.sum(1, keepdim=True).clamp(min=1)
    assert (counts / 3000 - want).abs().max() < 0.05
    assert counts[~eligible].sum() == 0


def test_reconstruction_target_gets_no_gradient_from_its_own_error() -> None:
    m, b = model(), batch(40)
    e = m.encode(b).detach().requires_grad_()
    rows, hidden = m._holdout(b.present)
    losses = m._reconstruction_losses(e, rows, hidden, torch.randn(len(rows), 16))
    assert losses["rec"].requires_grad  # the decoders learn
    (gradient,) = torch.autograd.grad(losses["rec"], e, allow_unused=True, retain_graph=True)
    assert gradient is None or gradient.abs().sum() == 0
    (gradient,) = torch.autograd.grad(losses["cont"], e)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("pattern_input", ["gate", "none", "concat"])
@pytest.mark.parametrize("schedule", ["joint", "pretrain"])
def test_every_variant_by_configuration_alone(pattern_input: str, schedule: str) -> None:
    m, b = model(pattern_input=pattern_input, schedule=schedule).train(), batch(40)
    for phase in m.phases():
        m.loss_weights = phase.weights
        (objective,) = list(m.objectives(b, m))
        assert torch.isfinite(objective.total)
        wanted = {n for n, w in phase.weights.items() if w} | {"task"}
        assert set(objective.terms) == wanted
    if pattern_input == "none":
        assert not any("pattern" in n or "gate" in n for n, _ in m.named_parameters())


def test_pretraining_ignores_labels() -> None:
    m, b = model(schedule="pretrain").train(), batch(40)
    m.loss_weights = m.phases()[0].weights
    (objective,) = list(m.objectives(b, m))
    objective.total.backward()
    assert m.head_hidden.weight.grad is None or m.head_hidden.weight.grad.abs().sum() == 0


def test_a_clean_bottleneck_decodes_every_pattern() -> None:
    m = model()
    patterns = torch.tensor([[(i >> k) & 1 for k in range(3)] for i in range(8)], dtype=torch.bool)
    optimizer = torch.optim.Adam([*m.pattern_encoder.parameters(), *m.pattern_decoder.parameters()], lr=1e-2)
    for _ in range(200):
        loss = F.binary_cross_entropy_with_logits(m.pattern_decoder(m.missingness(patterns)), patterns.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(m.pattern_decoder(m.missingness(patterns)) > 0, patterns)


def test_nothing_present_gives_the_null_vector() -> None:
    m, b = model().eval(), batch(40)
    h = m(b.drop(torch.zeros_like(b.present))).representation
    assert torch.equal(h, m.null.expand_as(h))

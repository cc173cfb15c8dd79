"""COM's own invariants: contrasts, completion and the two players, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.models.com import COM, COMConfig, reverse
from mmnar.ops.contrast import supcon
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from tests.conformance.test_models import batch
from tests.populations import SCHEMA

M = len(SCHEMA.modalities)


def model(**changes: object) -> COM:
    torch.manual_seed(0)
    return COM(SCHEMA, COMConfig(width=16, hidden=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def literal_supcon(z: Tensor, group: Tensor, valid: Tensor, temperature: float) -> float:
    """One grouping (n,), by loops, in float64."""
    rows = [i for i in range(len(z)) if valid[i]]
    unit = z.detach().double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    terms = []
    for i in rows:
        positives = [p for p in rows if p != i and group[p] == group[i]]
        if positives:
            total = sum(np.exp(unit[i] @ unit[j] / temperature) for j in rows if j != i)
            terms.append(-np.mean([np.log(np.exp(unit[i] @ unit[p] / temperature) / total) for p in positives]))
    return float(np.mean(terms)) if terms else 0.0


def test_supcon_against_a_literal_loop() -> None:
    torch.manual_seed(0)
    z, group, valid = torch.randn(30, 8), torch.randint(0, 4, (30, 3)), torch.rand(30, 3) < 0.7
    group[:, 2] = 1  # one group for everybody
    for temperature in (0.07, 1.0):
        want = np.mean([literal_supcon(z, group[:, k], valid[:, k], temperature) for k in range(3)])
        assert abs(supcon(z, group, 4, valid, temperature).item() - want) < 1e-4
    singular = torch.arange(30)[:, None]
    assert supcon(z, singular, 30, torch.ones(30, 1, dtype=torch.bool), 0.07).item() == 0
    assert supcon(z, group, 4, torch.zeros_like(valid), 0.07).item() == 0
    assert supcon(z[:0], group[:0], 4, valid[:0], 0.07).item() == 0


def test_supcon_reads_nothing_of_rows_that_are_not_valid_and_stays_finite() -> None:
    torch.manual_seed(0)
    z, group = torch.randn(12, 8, requires_grad=True), torch.randint(0, 2, (12, 1))
    valid = torch.arange(12)[:, None] < 7
    supcon(z, group, 2, valid, 0.07).backward()
    assert z.grad is not None
    assert (z.grad[7:] == 0).all()
    assert (z.grad[:7].abs().sum(1) > 0).all()
    far = torch.cat([torch.ones(2, 8), -torch.ones(2, 8)]).requires_grad_()  # opposite: e^(−2/τ) of another
    loss = supcon(far, torch.tensor([0, 1, 0, 1])[:, None], 2, torch.ones(4, 1, dtype=torch.bool), 0.07)
    loss.backward()
    assert abs(loss.item() - 2 / 0.07) < 1e-3
    assert far.grad is not None
    assert torch.isfinite(far.grad).all()


def test_code_is_the_mean_projection_of_what_is_observed() -> None:
    """One modality: the generators see its projection alone."""
    m, b = model(), batch(40)
    p = torch.randn(len(b), M, 16)
    got = m.generate(p, b.present)
    for i in range(len(b)):
        mine = [k for k in range(M) if b.present[i, k]]
        if mine:
            c = p[i, mine].mean(0)
            want = torch.stack([generator(c) for generator in m.generators])
            assert torch.allclose(got[i], want, atol=1e-5)
    alone = b.present.sum(1) == 1
    assert alone.any()


def test_losses_against_their_definitions_on_completed_views() -> None:
    m, b = model().train(), batch(40)
    got = m(b).losses
    rows = [i for i in range(len(b)) if b.present[i].any()]
    part = b.take(torch.tensor(rows))
    with torch.no_grad():
        e = torch.stack([f(c) for f, c in zip(m.encoders, part.modalities.values(), strict=True)], dim=1)
        p = torch.stack([f(e[:, k]) for k, f in enumerate(m.projections)], dim=1)
        generated = m.generate(p, part.present)
        x = torch.where(part.present[..., None], e, generated)
        q = torch.stack([f(x[:, k]) for k, f in enumerate(m.projections)], dim=1)
        players = [
            (
                F.binary_cross_entropy_with_logits(d(e[part.present[:, k], k]), torch.ones(part.present[:, k].sum(), 1))
                + F.binary_cross_entropy_with_logits(d(generated[:, k]), torch.zeros(len(part), 1))
            )
            / 2
            for k, d in enumerate(m.discriminators)
        ]
    within = [
        literal_supcon(x[:, k], part.labels[:, t], part.label_mask[:, t], 0.07) for k in range(M) for t in range(2)
    ]
    patient = torch.arange(len(part))[:, None].expand(-1, M).flatten()
    across = literal_supcon(q.flatten(0, 1), patient, torch.ones(len(patient)), 0.07)
    assert abs(got["adv"].item() - torch.stack(players).mean().item()) < 1e-5
    assert abs(got["within"].item() - np.mean(within)) < 1e-4
    assert abs(got["across"].item() - across) < 1e-4


def test_both_players_and_their_directions() -> None:
    """What L_adv's gradient improves for the discriminators it worsens for the generators, and the reverse."""
    m, b = model().train(), batch(40)
    e = torch.randn(len(b), M, 16)
    p = torch.randn(len(b), M, 16)

    def loss() -> Tensor:
        return m.adversarial(e, m.generate(p, b.present), b.present)

    players = {"generators": [*m.generators.parameters()], "discriminators": [*m.discriminators.parameters()]}
    before = loss()
    gradients = {who: torch.autograd.grad(before, weights, retain_graph=True) for who, weights in players.items()}
    change = {}
    for who, weights in players.items():
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients[who], strict=True):
                weight -= 0.01 * gradient
        change[who] = (loss() - before).item()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients[who], strict=True):
                weight += 0.01 * gradient
    assert change["discriminators"] < 0
    assert change["generators"] > 0
    straight = torch.autograd.grad(_unreversed(m, e, p, b.present), players["generators"])
    assert all(torch.allclose(g, -s, atol=1e-7) for g, s in zip(gradients["generators"], straight, strict=True))


def _unreversed(m: COM, real: Tensor, p: Tensor, present: Tensor) -> Tensor:
    generated = m.generate(p, present)
    terms = [
        (F.softplus(-d(real[present[:, k], k])).mean() + F.softplus(d(generated[:, k])).mean()) / 2
        for k, d in enumerate(m.discriminators)
    ]
    return torch.stack(terms).mean()


def test_reversal_keeps_every_value() -> None:
    x = torch.randn(1000) * 10.0 ** torch.randint(-30, 30, (1000,))
    assert torch.equal(reverse(x), x)


def test_real_views_get_no_gradient_from_the_discriminators() -> None:
    m, b = model().train(), batch(40)
    e = torch.randn(len(b), M, 16, requires_grad=True)
    m.adversarial(e, torch.randn(len(b), M, 16), b.present).backward()
    assert e.grad is None
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in m.discriminators.parameters())


def test_discriminators_are_trained() -> None:
    """By the loop's own optimizer, and to some effect; in the release they are in none."""
    b, m = batch(60), model(weight_within=0.0, weight_across=0.0, weight_adv=1.0)
    started = {n: w.clone() for n, w in m.state_dict().items()}
    settings = TrainConfig(min_steps=0, max_epochs=1, batch_size=60, weight_decay=0.0, lr=1e-3)
    train(m, b, b, settings, 0, Silent())
    moved = {n for n, w in m.state_dict().items() if not torch.equal(w, started[n])}
    assert {n for n in started if "discriminators" in n or "generators" in n} <= moved
    e, generated = torch.randn(60, M, 16), torch.randn(60, M, 16) + 1
    everybody = torch.ones(60, M, dtype=torch.bool)
    optimizer = torch.optim.Adam(m.discriminators.parameters(), lr=1e-2)
    for _ in range(60):
        loss = m.adversarial(e, generated, everybody)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3  # a coin has log 2


def test_generated_views_never_enter_the_fusion() -> None:
    m, b = model(), batch(40)
    risk = m.eval()(b).logits
    q = torch.randn(len(b), M, 16)
    other = torch.where(b.present[..., None], q, torch.full_like(q, 1e6))
    assert torch.equal(m.fuse(q, b.present), m.fuse(other, b.present))
    q.requires_grad_()
    (m.fuse(q, b.present) * torch.randn(16)).sum().backward()  # the plain sum of a layer norm is constant
    assert q.grad is not None
    assert (q.grad[~b.present] == 0).all()
    assert (q.grad[b.present].abs().sum(-1) > 0).all()
    for generator in m.generators:
        for weight in generator.parameters():
            weight.data.fill_(7.0)
    assert torch.equal(m(b).logits, risk)
    m.train()
    assert torch.allclose(m(b).logits, risk, atol=1e-5)


def test_contrast_trains_generators_and_encoders_without_the_adversary() -> None:
    m, b = model(weight_adv=0.0).train(), batch(40)
    for weights in ({"within": 1.0}, {"across": 1.0}):
        m.zero_grad()
        m.loss_weights = {"task": 0.0, "adv": 0.0, "within": 0.0, "across": 0.0} | weights
        (objective,) = list(m.objectives(b, m))
        objective.total.backward()
        for part in (m.generators, m.encoders):
            assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in part.parameters())
        assert all(w.grad is None or not w.grad.any() for w in m.discriminators.parameters())


def test_unasked_labels_and_patients_with_nothing_are_in_no_auxiliary_loss() -> None:
    m, b = model().train(), batch(60)
    some = b.present.any(1)
    assert not some.all()
    without = m(b.take(some.nonzero().squeeze(1))).losses
    flipped = torch.where(b.label_mask & some[:, None], b.labels, 1 - b.labels)
    with_them = m(replace(b, labels=flipped, checked=True)).losses
    assert set(without) == {"adv", "within", "across"}
    for name, value in without.items():
        assert abs(with_them[name].item() - value.item()) < 1e-5

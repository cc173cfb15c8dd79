"""FLEXGEN-EHR's own invariants: stages, labels, alignment and diffusion, each against a known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmnar.config import TrainConfig
from mmnar.errors import RequirementError
from mmnar.models.flexgen_ehr import FlexGenEHR, FlexGenEHRConfig
from mmnar.ops import alignment
from mmnar.ops.alignment import procrustes, transport_plan, transported
from mmnar.ops.diffusion import BlockDiffusion
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch
from tests.populations import SCHEMA

STEPS = 50


def model(**changes: object) -> FlexGenEHR:
    torch.manual_seed(0)
    settings = {"width": 16, "latent": 4, "vae_epochs": 3, "diffusion_epochs": 3} | changes
    return FlexGenEHR(SCHEMA, FlexGenEHRConfig(**settings))  # type: ignore[arg-type]


def begun(m: FlexGenEHR, b: PatientBatch) -> FlexGenEHR:
    """All that is fitted, nothing that is learned."""
    m.eval().prepare(b)
    with torch.no_grad():
        for phase in m.phases():
            m.loss_weights = phase.weights
            m.begin_phase(phase, b)
    return m


def states(m: FlexGenEHR, b: PatientBatch) -> dict[str, dict[str, torch.Tensor]]:
    """Weights after each phase of a short training."""
    after = {}

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            after[str(record["phase"])] = {n: t.detach().clone() for n, t in m.state_dict().items()}

    settings = TrainConfig(min_steps=0, max_epochs=2, batch_size=32, patience=9)
    train(m, b, b, settings, 0, Watch())
    return after


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], m: FlexGenEHR) -> set[str]:
    """Top-level parts of which a parameter changed."""
    return {n.split(".")[0] for n, _ in m.named_parameters() if not torch.equal(before[n], after[n])}


def test_each_phase_moves_its_own_stage_alone() -> None:
    m, b = model(), batch(80)
    start = {n: t.clone() for n, t in m.state_dict().items()}
    after = states(m, b)
    assert moved(start, after["vae"], m) == {"encoders", "decoders"}
    assert moved(after["vae"], after["diffusion"], m) == {"diffusion"}
    assert moved(after["diffusion"], after["predictor"], m) == {"trunk", "head"}


def test_no_label_reaches_vaes_alignment_or_diffusion() -> None:
    b = batch(80)
    labels = torch.where(b.label_mask, 1 - b.labels, 0.0)
    one, other = states(model(), b), states(model(), replace(b, labels=labels, checked=True))
    stages = ("encoders", "decoders", "diffusion", "centre", "scale", "rotation")
    same = [n for n in one["predictor"] if n.startswith(stages)]
    assert all(torch.equal(one["predictor"][n], other["predictor"][n]) for n in same)
    assert not all(torch.equal(one["predictor"][n], other["predictor"][n]) for n in one["predictor"])


def test_observed_latents_are_returned_unchanged_and_absent_ones_are_drawn() -> None:
    b = batch(80)
    m = begun(model(), b)
    z = m.latents(b)
    completed = m.complete(z, b.present)
    observed = b.present[:, None, :, None].expand_as(completed)
    assert torch.equal(completed[observed], z[:, None].expand_as(completed)[observed])
    assert (completed[~observed] != 0).all()
    assert completed[~b.present.all(1)].std(1).amax((1, 2)).min() > 0  # the J draws differ
    nothing = b.drop(torch.zeros_like(b.present))
    assert torch.equal(m(nothing).logits, m(nothing).logits[:1].expand(len(b), -1))  # given nothing, all alike


def test_training_looks_completions_up_only_for_the_patients_as_they_were() -> None:
    b = batch(80)
    m = begun(model(dropout=0.0), b)
    drawn = m(b).logits
    m.train()
    assert torch.allclose(m(b.take(torch.arange(len(b)).flip(0))).logits.flip(0), drawn, atol=1e-5)
    m.noise.zero_()  # would change whatever is drawn anew
    assert torch.allclose(m(b).logits, drawn, atol=1e-5)
    reduced = b.drop(torch.tensor([True, False, True]).expand_as(b.present))
    assert not torch.allclose(m(reduced).logits, drawn, atol=1e-5)


def test_the_risk_is_the_mean_of_the_risks() -> None:
    b = batch(80)
    m = begun(model(), b)
    h = m.trunk(m.complete(m.latents(b), b.present).flatten(2))  # (B, J, D)
    each = torch.stack([m.head(h[:, j], b.present) for j in range(h.shape[1])])
    assert torch.allclose(torch.sigmoid(m(b).logits), torch.sigmoid(each).mean(0), atol=1e-6)


def test_latents_are_in_full_precision() -> None:
    b = batch(80)
    m = begun(model(), b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = m.latents(b)
    assert torch.equal(under, m.latents(b))


def test_completions_of_the_training_fold_do_not_outlive_training() -> None:
    m, b = model(), batch(80)
    kept = []

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            kept.append(m._completions is not None)

    train(m, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=32), 0, Watch())
    assert kept[-1]  # while the predictor trained
    assert m._completions is None


def test_vae_losses_against_a_literal_loop() -> None:
    b = batch(40)
    m = begun(model(), b).train()
    m.loss_weights = m.phases()[0].weights
    m.warmth.fill_(0.5)
    with torch.no_grad():
        for encoder in m.encoders:
            encoder[2].bias[4:] = -30.0  # σ ≈ 0: the draw is the mean, log σ² at its lower bound
            encoder[2].weight[4:] = 0.0
        for decoder in m.decoders:
            decoder[2].bias.fill_(1.0)  # far from the zeros that stand for unknown entries
    with torch.no_grad():
        got = m(b).losses
    rec, kl = [], []
    for k, (x, known) in enumerate(m.vectors(b)):
        square, divergence, entries = 0.0, 0.0, 0
        for i in range(len(b)):
            if not b.present[i, k]:
                continue
            mu = m.encoders[k](torch.cat([x[i], known[i].float()])).detach()[:4]
            rebuilt = m.decoders[k](mu).detach()
            for f in range(x.shape[1]):
                if known[i, f]:
                    square, entries = square + float(rebuilt[f] - x[i, f]) ** 2, entries + 1
            divergence += 0.5 * sum(float(v) ** 2 + np.exp(-10) - 1 + 10 for v in mu)
        rec.append(square / entries)
        kl.append(divergence / entries)
    assert abs(float(got["rec"]) - np.mean(rec)) < 0.02
    assert abs(float(got["kl"]) - 0.5 * np.mean(kl)) < 1e-3


def test_every_observed_block_is_hidden_at_times_and_never_an_absent_one() -> None:
    b = batch(40)
    m = begun(model(), b)
    seen = []
    m.diffusion.loss = lambda z, given, wanted: seen.append((given, wanted)) or z.sum()  # type: ignore[assignment]
    for _ in range(300):
        m._noise_loss(b)
    for given, wanted in seen:
        assert torch.equal(given | wanted, b.present)
        assert not (given & wanted).any()
        assert torch.equal(wanted.any(1), b.present.any(1))
    full = b.present.all(1)
    hidden = torch.stack([wanted[full].sum(1) for _, wanted in seen]).flatten()
    assert np.allclose(np.bincount(hidden, minlength=4)[1:] / len(hidden), 1 / 3, atol=0.04)


def diffusion() -> BlockDiffusion:
    torch.manual_seed(0)
    return BlockDiffusion(3, 2, 16, STEPS)


def test_the_schedule_goes_from_almost_all_to_almost_nothing() -> None:
    bar = diffusion().alpha_bar
    assert (bar[1:] < bar[:-1]).all()
    assert bar[0] > 0.99
    assert bar[-1] < 1e-4


def test_the_true_velocity_has_no_loss_and_draws_the_truth() -> None:
    d = diffusion()
    z, given = torch.randn(5, 3, 2), torch.tensor([[True, False, False]]).expand(5, 3)

    def truth(noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """v = (√ᾱ z_t − z) / √(1 − ᾱ)."""
        bar = d.alpha_bar[t][..., None, None]
        target = z if noisy.ndim == 3 else z[:, None]
        return (bar.sqrt() * noisy - target) / (1 - bar).sqrt()

    untrained = d.loss(z, given, ~given)
    d.velocity = truth  # type: ignore[method-assign]
    assert untrained > 0.1
    assert d.loss(z, given, ~given) < 1e-6
    drawn = d.draw(z, given, torch.randn(STEPS, 4, 3, 2))
    assert torch.allclose(drawn, z[:, None].expand_as(drawn), atol=1e-4)


def test_draws_of_a_standard_normal_are_standard_normal() -> None:
    d = diffusion()
    d.velocity = lambda noisy, *_: torch.zeros_like(noisy)  # type: ignore[method-assign]
    drawn = d.draw(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool), torch.randn(STEPS, 4000, 3, 2))
    assert abs(float(drawn.mean())) < 0.03
    assert abs(float(drawn.std()) - 1) < 0.03


def test_a_block_neither_given_nor_wanted_moves_nothing() -> None:
    d, z = diffusion(), torch.randn(5, 3, 2)
    other = z.clone()
    other[:, 1] = 1e6
    given, wanted = torch.zeros(5, 3, dtype=torch.bool), torch.zeros(5, 3, dtype=torch.bool)
    given[:, 0], wanted[:, 2] = True, True
    losses = []
    for content in (z, other):
        torch.manual_seed(1)
        losses.append(d.loss(content, given, wanted))
    assert torch.equal(losses[0], losses[1])


def test_a_given_block_tells_of_another() -> None:
    """z² = −z¹: after training, draws of the second follow the first."""
    d = BlockDiffusion(2, 1, 32, STEPS)
    optimizer = torch.optim.Adam(d.parameters(), lr=1e-2)
    for _ in range(300):
        z = torch.randn(128, 1, 1) * torch.tensor([[1.0], [-1.0]])
        wanted = torch.rand(128, 1) < torch.tensor([[0.5, 2.0]])
        optimizer.zero_grad()
        d.loss(z, ~wanted, wanted).backward()
        optimizer.step()
    z = torch.linspace(-1.5, 1.5, 20).view(20, 1, 1).expand(20, 2, 1)
    with torch.no_grad():
        drawn = d.draw(z, torch.tensor([[True, False]]).expand(20, 2), torch.randn(STEPS, 20, 2, 1))
    assert (drawn[:, :, 1].mean(1) + z[:, 1]).abs().max() < 0.3


def test_alignment_recovers_a_rotation_from_pairs() -> None:
    b = batch(120)
    m = model()
    m.prepare(b)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    z = torch.randn(len(b), 4) * torch.tensor([2.0, 1.5, 1.0, 0.5])
    m._means = lambda part: torch.where(part.present[..., None], torch.stack([z, z @ turn, z], 1), 0.0)  # type: ignore[method-assign]
    b = replace(b, present=torch.ones_like(b.present), checked=True)
    m._align(b)
    assert torch.allclose(m.rotation[1], turn.T, atol=1e-4)
    for q in m.rotation:
        assert torch.allclose(q.T @ q, torch.eye(4), atol=1e-5)
    aligned = m._aligned(m._means(b), b.present)
    assert torch.allclose(aligned[:, 0], aligned[:, 1], atol=1e-4)
    assert abs(float((aligned**2).mean()) - 1) < 1e-4


def uneven(n: int) -> torch.Tensor:
    """Three unequal clusters: a shape with no symmetry."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0, 0], [4, 0, 0], [0, 9, 1]])[rng.choice(3, n, p=[0.6, 0.3, 0.1])]
    return torch.from_numpy(centres + rng.normal(size=(n, 3)) * 0.5)


def test_transport_finds_a_rotation_without_pairs() -> None:
    pytest.importorskip("ot")
    z = uneven(60)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    target = (z @ turn)[torch.randperm(60, generator=torch.Generator().manual_seed(2))]
    places, mass = transported(z, target, torch.zeros(60, 60, dtype=torch.bool), mass=1.0)
    q = procrustes(z * mass[:, None], places)
    assert torch.allclose(q.T @ q, torch.eye(3, dtype=torch.float64), atol=1e-8)
    assert (z @ q - z @ turn).norm() / z.norm() < 0.1


def test_the_plan_keeps_its_margins_and_its_pairs() -> None:
    pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    pairs = np.zeros((30, 40), bool)
    pairs[range(6), range(6)] = True
    plan = transport_plan(rng.normal(size=(30, 5)), rng.normal(size=(40, 5)), pairs, mass=0.8)
    assert abs(plan.sum() - 0.8) < 1e-6
    assert (plan >= 0).all()
    assert (plan.sum(1) <= 1 / 30 + 1e-9).all()
    assert (plan.sum(0) <= 1 / 40 + 1e-9).all()
    assert plan[pairs].sum() > 0.9 * 6 / 40


def test_without_the_extra_few_pairs_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "find_spec", lambda name: None)
    b = batch(80)
    model(latent=4).prepare(b)  # pairs enough
    with pytest.raises(RequirementError, match=r"mmnar\[transport\]"):
        model(latent=64).prepare(b)


def test_warm_up_rises_to_one_and_ends() -> None:
    m, b = model(warmup_epochs=4), batch(40)
    m.begin_phase(m.phases()[0], b)
    factors = [float(m.warmth)]
    for _ in range(5):
        m.after_epoch(b)
        factors.append(float(m.warmth))
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_each_phase_has_its_own_terms() -> None:
    b = batch(40)
    m = begun(model(), b).train()
    names = []
    for phase in m.phases():
        m.loss_weights = phase.weights
        (objective,) = list(m.objectives(b, m))
        names.append(set(objective.terms))
    assert names == [{"rec", "kl"}, {"noise"}, {"task"}]

"""SMIL's own invariants, each against its definition."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmnar.config import TrainConfig
from mmnar.errors import SchemaError
from mmnar.models.smil import SMIL, SMILConfig
from mmnar.ops.clusters import kmeans
from mmnar.ops.gaps import simulated_gaps
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch, task_loss
from tests.populations import SCHEMA


def model(b: PatientBatch, **changes: object) -> SMIL:
    """In training mode, at the start of the meta phase."""
    torch.manual_seed(0)
    m = SMIL(SCHEMA, SMILConfig(**{"width": 16, "dropout": 0.0, **changes})).eval()  # type: ignore[arg-type]
    m.task_loss = task_loss
    with torch.no_grad():
        for phase in m.phases():
            m.loss_weights = phase.weights
            m.begin_phase(phase, b)
    return m.train()


def doubled(b: PatientBatch) -> PatientBatch:
    """The batch with float64 contents, for finite differences."""
    contents = {name: Static(m.values.double(), m.observed) for name, m in b.modalities.items()}
    return replace(b, modalities=contents, labels=b.labels.double(), checked=True)


def total(m: SMIL, b: PatientBatch) -> torch.Tensor:
    """The meta loss with the same draws every time."""
    torch.manual_seed(5)
    return sum((m.loss_weights[name] * term for name, term in m.meta_losses(b).items()), torch.zeros(()))


def test_gradients_of_the_meta_loss_against_finite_differences() -> None:
    """θ and ψ; ψ also through θ*, so constant gradients in the inner step must give something else."""
    b = doubled(batch(60))
    gradients = {}
    for first_order in (False, True):
        m = model(batch(60), inner_rate=0.5, first_order=first_order).double()
        total(m, b).backward()
        gradients[first_order] = {n: p.grad.clone() for n, p in m.named_parameters()}
    m = model(batch(60), inner_rate=0.5).double()
    names = ("auxiliary.weight.weight", "auxiliary.first.weight", "auxiliary.second.bias", "main.trunk.0.weight")
    with torch.no_grad():
        for name in names:
            p = dict(m.named_parameters())[name].view(-1)
            i = int(gradients[False][name].abs().argmax())
            value = p[i].clone()
            ends = []
            for step in (1e-5, -1e-5):
                p[i] = value + step
                with torch.enable_grad():  # the inner step needs it
                    ends.append(total(m, b).detach())
            p[i] = value
            slope = (ends[0] - ends[1]) / 2e-5
            assert torch.allclose(slope, gradients[False][name].view(-1)[i], rtol=1e-4), name
            assert not torch.allclose(slope, gradients[True][name].view(-1)[i], rtol=1e-3), name


def test_outer_losses_are_those_of_a_model_with_the_stepped_weights() -> None:
    b = batch(60)
    m = model(b, inner_rate=0.3)
    torch.manual_seed(5)
    got = m.meta_losses(b)
    torch.manual_seed(5)
    incomplete = b.take((~b.present.all(1)).nonzero().squeeze(1))
    draw = m._draw(len(incomplete))
    moved = copy.deepcopy(m)
    loss = task_loss(moved.main(incomplete, incomplete.present[None], moved.auxiliary, draw)[0][0], incomplete)
    assert torch.allclose(loss, got["task"])
    moved.main.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in moved.main.parameters():
            p -= 0.3 * p.grad
    several = b.take((b.present.sum(1) >= 2).nonzero().squeeze(1))
    reduced = several.drop(simulated_gaps(several.present, b.present))  # hidden before encoding, not after
    clean, noised = (moved(part) for part in (several, reduced))
    assert torch.allclose(task_loss(clean.logits, several), got["clean"], atol=1e-5)
    assert torch.allclose(task_loss(noised.logits, several), got["noised"], atol=1e-5)
    assert torch.allclose(F.mse_loss(clean.representation, noised.representation), got["second"], atol=1e-5)
    assert not torch.allclose(task_loss(m(several).logits, several), got["clean"], atol=1e-3)


def test_without_an_inner_rate_the_outer_pass_is_the_models_own() -> None:
    b = batch(60)
    m = model(b, inner_rate=0.0)
    several = b.take((b.present.sum(1) >= 2).nonzero().squeeze(1))
    assert torch.allclose(m.meta_losses(b)["clean"], task_loss(m(several).logits, several), atol=1e-6)


def test_a_missing_modality_is_a_convex_combination_of_itskmeans() -> None:
    b = batch(60)
    m = model(b, clusters=4)
    a = torch.randn(30, 16)
    rebuilt = m.auxiliary.prior(a, torch.randn(30, 3, 4))
    centroids = m.auxiliary.centroids
    assert (centroids.abs().sum((1, 2)) > 0).all()
    for k in range(3):
        assert (rebuilt[:, k] <= centroids[k].amax(0) + 1e-6).all()
        assert (rebuilt[:, k] >= centroids[k].amin(0) - 1e-6).all()
    omega = F.softplus(m.auxiliary.weight(a)).view(30, 3, 4)
    for i, k in ((0, 0), (7, 2)):
        want = sum(omega[i, k, c] * centroids[k, c] for c in range(4)) / omega[i, k].sum()
        assert torch.allclose(m.auxiliary.prior(a, 0.0)[i, k], want, atol=1e-5)


def test_whoever_lacks_nothing_needs_neither_prior_nor_perturbation() -> None:
    b = batch(60)
    m = model(b).eval()
    before = m(b).logits
    with torch.no_grad():
        for p in m.auxiliary.parameters():
            p.normal_()
        m.auxiliary.centroids.normal_()
    whole = b.present.all(1)
    assert torch.equal(m(b).logits[whole], before[whole])
    assert not torch.isclose(m(b).logits[~whole], before[~whole]).any(1).all()


def test_draws_differ_their_mean_settles_and_a_prediction_repeats() -> None:
    b = batch(60)
    part = b.take((~b.present.all(1)).nonzero().squeeze(1))

    def predicted(samples: int, seed: int) -> torch.Tensor:
        m = model(b, samples=samples).eval()
        torch.manual_seed(seed)
        for i in range(3):
            getattr(m, f"noise{i}").normal_()
        assert torch.equal(m(part).logits, m(part).logits)
        return torch.sigmoid(m(part).logits)

    one = (predicted(1, 1) - predicted(1, 2)).abs().mean()
    many = (predicted(400, 1) - predicted(400, 2)).abs().mean()
    assert one > 1e-3
    assert many < one / 8  # 1 / √400 of it on average


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_draw_counts_for_whoever_lacks_something_and_for_nobody_else(part: int) -> None:
    b = batch(60)
    m = model(b)
    whole = b.present.all(1)
    noise = [torch.zeros(len(b), *size) for size in m.sizes]
    plain, _, _ = m.main(b, b.present[None], m.auxiliary, None)
    still, _, _ = m.main(b, b.present[None], m.auxiliary, tuple(noise))
    assert torch.equal(plain, still)
    noise[part] = torch.randn_like(noise[part])
    moved = (m.main(b, b.present[None], m.auxiliary, tuple(noise))[0] - plain)[0].abs().amax(1) > 1e-6
    assert torch.equal(moved, ~whole)


def test_a_prediction_is_the_mean_probability_of_its_draws() -> None:
    b = batch(60)
    m = model(b, samples=5).eval()
    single = model(b, samples=1).eval()
    p = []
    for j in range(5):
        for i in range(3):
            getattr(single, f"noise{i}").copy_(getattr(m, f"noise{i}")[j : j + 1])
        p.append(torch.sigmoid(single(b).logits))
    assert torch.allclose(torch.sigmoid(m(b).logits), torch.stack(p).mean(0), atol=1e-6)


def test_simulated_gaps_are_as_frequent_as_real_ones() -> None:
    on = torch.tensor
    others = on([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    torch.manual_seed(0)
    patients = on([[1, 1, 0]]).bool().expand(4000, -1)
    left = simulated_gaps(patients, others)
    assert abs((left == on([True, False, False])).all(1).float().mean() - 3 / 4) < 0.03
    assert abs((left == on([False, False, False])).all(1).float().mean() - 1 / 4) < 0.03
    patients = on([[0, 1, 1]]).bool().expand(4000, -1)
    left = simulated_gaps(patients, others[:4])  # none of which is a part: one modality less, each as likely
    assert (left.sum(1) == 1).all()
    assert not left[:, 0].any()
    assert abs(left[:, 1].float().mean() - 1 / 2) < 0.03
    b = batch(60)
    several = b.present[b.present.sum(1) >= 2]
    for _ in range(20):
        left = simulated_gaps(several, b.present)
        assert (left <= several).all()
        assert (left.sum(1) < several.sum(1)).all()


def test_centroids_are_means_of_what_is_near_and_keep_their_numbers() -> None:
    torch.manual_seed(0)
    true = torch.eye(4, 6) * 20
    features = (true[:, None] + 0.1 * torch.randn(4, 50, 6)).flatten(0, 1)
    found = kmeans(features, torch.zeros(4, 6))
    nearest = torch.cdist(found, true).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2, 3]
    assert torch.allclose(found, true[nearest], atol=0.2)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert torch.allclose(kmeans(features + 1.0, found[order]), true[nearest[order]] + 1.0, atol=0.2)
    few = torch.cdist(kmeans(features[:2], torch.zeros(4, 6)), features[:2])  # each is one of the two
    assert few.amin(1).max() < 1e-3
    assert few.amin(0).max() < 1e-3
    assert torch.equal(kmeans(features[:0], found), found)


def test_centroids_are_of_those_who_have_the_modality_and_renewed_every_r_epochs() -> None:
    b = batch(60)
    m = model(b, clusters=1, refresh_epochs=2).eval()
    e = torch.stack([m.main.encoders[k](content) for k, content in enumerate(b.modalities.values())], 1)
    for k in range(3):
        want = kmeans(e[b.present[:, k], k].detach(), torch.zeros(1, 16))
        assert torch.allclose(m.auxiliary.centroids[k], want, atol=1e-5)
        assert not torch.allclose(kmeans(e[:, k].detach(), torch.zeros(1, 16)), want, atol=1e-2)
    with torch.no_grad():
        for p in m.main.encoders.parameters():
            p.mul_(1.5)
    changed = []
    for _ in range(4):
        before = m.auxiliary.centroids.clone()
        with torch.no_grad():
            m.after_epoch(b)
            changed.append(not torch.equal(before, m.auxiliary.centroids))
            for p in m.main.encoders.parameters():
                p.mul_(1.5)
    assert changed == [False, True, False, True]


def test_pretraining_learns_from_the_most_complete_alone() -> None:
    b = batch(200)
    m = model(b, pretrain_share=0.5)
    counts = b.present.sum(1)
    enough = max(n for n in range(4) if (counts >= n).float().mean() >= 0.5)
    assert int(m.enough) == enough
    m.loss_weights = m.phases()[0].weights
    few = (counts < enough)[:, None]
    assert few.any()
    flipped = replace(b, labels=torch.where(few & b.label_mask, 1 - b.labels, b.labels), checked=True)
    losses = [next(m.objectives(part, m)).total for part in (b, flipped)]
    assert torch.equal(*losses)
    complete = b.take((counts >= enough).nonzero().squeeze(1))
    assert torch.allclose(losses[0], task_loss(m(complete).logits, complete))


def test_views_that_are_equal_have_equal_representations_whatever_dropout_does() -> None:
    b = batch(60)
    m = model(b, dropout=0.5)
    several = b.take((b.present.sum(1) >= 2).nonzero().squeeze(1))
    views = several.present.expand(2, -1, -1)
    logits, z1, z2 = m.main(several, views, m.auxiliary, None)
    assert torch.allclose(z1[1], z1[0], atol=1e-5)  # where a row stands in a product may move its last bit
    assert F.mse_loss(z2[1], z2[0]) < 1e-10
    assert not torch.allclose(logits[1], logits[0], atol=1e-3)  # dropout is at work, before the head


def test_before_there_are_centroids_an_absent_block_is_zeros_and_nobody_is_perturbed() -> None:
    b = batch(60)
    m = model(b)
    m.auxiliary.centroids.zero_()
    _, z1, z2 = m.main(b, b.present[None], m.auxiliary, m._draw(len(b)))
    blocks = z1[0].view(len(b), 3, -1)
    assert not blocks[~b.present].any()
    assert torch.equal(z2[0], m.main.trunk(z1[0]))


def test_one_modality_is_refused() -> None:
    one = replace(SCHEMA, modalities=SCHEMA.modalities[:1])
    with pytest.raises(SchemaError, match="at least two modalities, got 1"):
        SMIL(one, SMILConfig(width=16))


@pytest.mark.parametrize("pattern", [(True, True, True), (True, False, False), (False, False, False)])
def test_a_batch_without_gaps_or_without_company_still_has_a_loss(pattern: tuple[bool, ...]) -> None:
    b = batch(60)
    m = model(b)
    part = b.take(b.present.all(1).nonzero().squeeze(1)).drop(torch.tensor(pattern))
    losses = m.meta_losses(part)
    assert (losses["task"] > 0) == (not all(pattern))
    assert (losses["clean"] > 0) == (sum(pattern) >= 2)


def test_the_meta_step_is_taken_in_full_precision() -> None:
    b = batch(60)
    kinds = set()

    def watched(logits: torch.Tensor, part: PatientBatch) -> torch.Tensor:
        kinds.add((logits.dtype, torch.is_autocast_enabled("cpu")))
        return task_loss(logits, part)

    m = model(b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m.task_loss = watched
        (objective,) = m.objectives(b, m)
    assert kinds == {(torch.float32, False)}
    assert set(objective.terms) == set(m.loss_weights)
    settings = TrainConfig(min_steps=0, max_epochs=1, batch_size=32, precision="bf16-mixed", accelerator="cpu")
    train(SMIL(SCHEMA, SMILConfig(width=16, pretrain_epochs=1)), b, b, settings, 0, Silent())

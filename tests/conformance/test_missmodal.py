"""MissModal's own invariants, each against its definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from mmnar.models.missmodal import MissModal, MissModalConfig, geometric, moments, paired, semantic
from tests.conformance.test_models import batch, task_loss
from tests.populations import SCHEMA

Distance = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def model(**changes: object) -> MissModal:
    torch.manual_seed(0)
    return MissModal(SCHEMA, MissModalConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def made_up() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two views of six patients, one of whom has neither; the second view is rarer."""
    torch.manual_seed(1)
    valid = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0]], dtype=torch.bool)
    return torch.randn(2, 6, 4), torch.randn(6, 4), valid


def test_geometric_loss_against_a_literal_loop() -> None:
    z_views, z, valid = made_up()

    def e(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(float(torch.dot(a.double(), b.double()) / a.double().norm() / b.double().norm()) / 0.3)

    total, pairs = 0.0, 0
    for view, has in zip(z_views, valid, strict=True):
        rows = has.nonzero().flatten().tolist()
        for i in rows:
            own = e(view[i], z[i])
            rest = sum(e(view[i], z[j]) + e(view[i], view[j]) + e(z[i], z[j]) for j in rows if j != i)
            total, pairs = total - math.log(own / (own + rest)), pairs + 1
    assert abs(geometric(z_views, z, valid, 0.3).item() - total / pairs) < 1e-5


def test_moment_distance_against_numpy_like_moments() -> None:
    z_views, z, valid = made_up()
    want = 0.0
    for view, has in zip(z_views.double(), valid, strict=True):
        a, b = view[has], z.double()[has]
        covariances = [torch.cov(x.T, correction=0) for x in (a, b)]
        want += float(((a.mean(0) - b.mean(0)) ** 2).mean() + ((covariances[0] - covariances[1]) ** 2).mean())
    assert abs(moments(z_views, z, valid).item() - want / 2) < 1e-5


def test_a_view_that_shows_everything_is_at_distance_zero_and_nearest() -> None:
    _, z, valid = made_up()
    same = z.expand(2, -1, -1)
    assert moments(same, z, valid).item() == 0
    assert paired(same, z, valid).item() == 0
    shuffled = same[:, [1, 0, 3, 2, 5, 4]]
    everybody = torch.ones_like(valid)
    assert geometric(same, z, everybody, 0.1) < geometric(shuffled, z, everybody, 0.1)
    m, b = model().eval(), batch(40)
    h = torch.einsum("bmd,mdk->bmk", torch.randn(len(b), 3, 16), m.project)
    assert torch.allclose(m.fuse(h, b.present.expand(2, -1, -1))[1], m.fuse(h, b.present[None])[0], atol=1e-6)


@pytest.mark.parametrize("term", ["geo", "dis", "sem"])
@pytest.mark.parametrize("distance", ["moments", "paired"])
def test_the_whole_is_teacher_and_gets_no_gradient(term: str, distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where views pass none either, a constraint reaches the weights through nothing but the whole."""
    m, b = model(distance=distance).train(), batch(40)
    fuse = m.fuse

    def cut(h: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        return fuse(h, views) if len(views) == 1 else fuse(h, views).detach()

    assert torch.autograd.grad(m(b).losses[term], m.project)[0].abs().sum() > 0
    monkeypatch.setattr(m, "fuse", cut)
    loss = m(b).losses[term]
    touched = torch.autograd.grad(loss, list(m.parameters()), allow_unused=True) if loss.requires_grad else ()
    head = {id(p) for p in m.head.parameters()}
    assert all(g is None or id(p) in head for p, g in zip(m.parameters(), touched, strict=bool(touched)))


def test_views_are_proper_subsets_of_patients_with_two_modalities() -> None:
    m, b = model(views=3), batch(60)
    views, valid = m.views(b.present)
    assert len(views) == 3 + 3
    assert not (views & ~b.present).any()
    assert (views[valid].sum(1) >= 1).all()
    assert (views.sum(2) < b.present.sum(1))[valid].all()
    assert torch.equal(valid[:3], (b.present.sum(1) >= 3).expand(3, -1))
    assert (views[:3][valid[:3]].sum(1) == 2).all()  # a single one would count twice
    views, valid = model(views=3, single_views=2).views(b.present)
    assert len(views) == 3
    assert torch.equal(valid, (b.present.sum(1) >= 2).expand(3, -1))
    assert (views[valid].sum(1) == 1).any()


@pytest.mark.parametrize("distance", [moments, lambda *z: geometric(*z, 0.1)], ids=["moments", "geometric"])
def test_mixed_precision_gives_the_loss_of_full_precision(distance: Distance) -> None:
    torch.manual_seed(0)
    z, valid = torch.randn(64, 32), torch.ones(2, 64, dtype=torch.bool)
    z_views = z + 0.1 * torch.randn(2, 64, 32)
    full = distance(z_views, z, valid)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(z_views, z, valid), full)


def test_patients_with_one_modality_contribute_the_label_loss_alone() -> None:
    m, b = model().train(), batch(40)
    lone = b.drop(torch.eye(3, dtype=torch.bool)[torch.arange(len(b)) % 3])
    losses = m(lone).losses
    assert all(loss.item() == 0 for loss in losses.values())
    (objective,) = m.objectives(lone, m)
    assert torch.equal(objective.total.detach(), objective.terms["task"])


def test_semantic_loss_is_least_where_a_view_says_what_the_whole_says() -> None:
    b = batch(40)
    whole, valid = torch.randn(len(b), 2), torch.ones(1, len(b), dtype=torch.bool)
    entropy = torch.special.entr(torch.stack([whole.sigmoid(), 1 - whole.sigmoid()])).sum(0).sum(1).mean()
    labels = torch.nn.functional.binary_cross_entropy_with_logits(whole, b.labels, reduction="none")
    per_task = (labels * b.label_mask).sum(0) / b.label_mask.sum(0)
    assert abs(semantic(whole[None], whole, valid, b, task_loss).item() - float(entropy + per_task.sum())) < 1e-5

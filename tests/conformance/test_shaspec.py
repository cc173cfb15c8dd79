"""ShaSpec's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.models.shaspec import ShaSpec, ShaSpecConfig, alignment_loss
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA

WIDTH = 16


def model(schema: Schema = SCHEMA, **changes: object) -> ShaSpec:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "dropout": 0.0} | changes
    return ShaSpec(schema, ShaSpecConfig(**settings))  # type: ignore[arg-type]


def losses(m: ShaSpec, b: PatientBatch, *names: str) -> dict[str, Tensor]:
    m.loss_weights = {name: float(name in names) for name in ("task", "align", "domain")}
    return m.train()(b).losses


@torch.no_grad()
def test_an_absent_modality_has_the_shared_features_of_the_others_bit_for_bit() -> None:
    b, m = batch(), model().eval()
    r, s = m.decompose(b)
    f = m.fuse(r, s, b.present)
    alone = (b.present.sum(1) == 1).nonzero().squeeze(1)
    assert len(alone) > 3
    for i in alone.tolist():
        (has,) = b.present[i].nonzero().squeeze(1).tolist()
        for absent in {0, 1, 2} - {has}:
            assert torch.equal(f[i, absent], r[i, has])
        assert not torch.equal(f[i, has], r[i, has])
    for i in (b.present.sum(1) == 2).nonzero().squeeze(1).tolist():
        torch.testing.assert_close(f[i, ~b.present[i]][0], r[i, b.present[i]].mean(0))


@torch.no_grad()
def test_risks_by_hand() -> None:
    b, m = mixed(), model(MIXED, image=ImageConfig("tiny")).eval().double()
    b = replace(b, modalities={n: _double(c) for n, c in b.modalities.items()}, checked=True)  # type: ignore[arg-type]
    got = m(b).logits
    for i in range(10):
        one = b.take(torch.tensor([i]))
        contents = list(one.modalities.values())
        on = [j for j in range(7) if one.present[0, j]]
        h = {j: m.encoders[j](contents[j]) for j in on}
        r = {j: m.shared(h[j]) for j in on}
        s = {j: m.specific[j](h[j]) for j in on}
        general = sum(r.values()) / len(on) if on else m.null[None]
        f = [r[j] + m.compose(torch.cat([r[j], s[j]], 1)) if j in on else general for j in range(7)]
        torch.testing.assert_close(got[i], m.heads(m.trunk(torch.cat(f, 1)))[0], rtol=0, atol=1e-9)


def _double(content: object) -> object:
    values = content.values  # type: ignore[attr-defined]
    changed = {"values": values.double() if values.is_floating_point() else values}
    if hasattr(content, "hours"):
        changed["hours"] = content.hours.double()
    return replace(content, **changed)  # type: ignore[type-var]


@torch.no_grad()
def test_the_shared_encoder_is_one_and_runs_once_on_what_there_is() -> None:
    b, m, rows = batch(), model().eval(), []
    m.shared.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    m(b)
    assert rows == [int(b.present.sum())]
    assert len({id(layers) for layers in (m.shared, *m.specific)}) == 4


@torch.no_grad()
def test_nothing_present_has_a_learned_constant() -> None:
    b, m = batch(), model().eval()
    risks = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(risks, risks[:1].expand_as(risks))
    m.null.add_(1.0)
    assert not torch.equal(m(b.drop(torch.zeros_like(b.present))).logits, risks)
    some = b.take(b.present.any(1).nonzero().squeeze(1))
    before = m(some).logits
    m.null.add_(1.0)
    assert torch.equal(m(some).logits, before)


def test_alignment_against_a_loop_over_patients_and_pairs() -> None:
    torch.manual_seed(0)
    r, present = torch.randn(50, 4, 6), torch.rand(50, 4) < 0.6
    apart = [
        (r[i, a].double() - r[i, c].double()).abs().mean()
        for i in range(50)
        for a, c in combinations(range(4), 2)
        if present[i, a] and present[i, c]
    ]
    torch.testing.assert_close(alignment_loss(r, present).double(), torch.stack(apart).mean(), rtol=0, atol=1e-6)
    elsewhere = torch.where(present[..., None], r, 1e6)
    assert torch.equal(alignment_loss(elsewhere, present), alignment_loss(r, present))
    assert alignment_loss(r[:, :1].expand(-1, 4, -1), present) == 0
    alone = torch.eye(4, dtype=torch.bool)[torch.arange(50) % 4]
    assert alignment_loss(r, alone) == 0  # nobody has a pair


def test_the_domain_loss_is_the_cross_entropy_of_which_modality_it_is() -> None:
    b, m = batch(), model()
    got = losses(m, b, "domain")["domain"]
    _, s = m.decompose(b)
    told = [m.domain(s[i, j]).log_softmax(0)[j] for i in range(len(b)) for j in range(3) if b.present[i, j]]
    torch.testing.assert_close(got, -torch.stack(told).mean())
    nobody = losses(m, b.drop(torch.zeros_like(b.present)), "align", "domain")
    assert nobody["domain"] == 0
    assert nobody["align"] == 0


def test_the_domain_loss_trains_nothing_of_the_shared_encoder_and_alignment_nothing_of_the_specific() -> None:
    b, m = batch(), model()
    losses(m, b, "domain")["domain"].backward()
    assert not any(_trained(module) for module in (m.shared, m.compose, m.trunk, m.heads))
    assert all(_trained(module) for module in (*m.specific, m.domain, *m.encoders))
    m.zero_grad()
    losses(m, b, "align")["align"].backward()
    assert not any(_trained(module) for module in (*m.specific, m.domain, m.compose, m.trunk))
    assert _trained(m.shared)


def _trained(module: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def test_a_single_patient_can_be_trained_on() -> None:
    b, m = mixed(), model(MIXED, image=ImageConfig("tiny")).train()
    for i in range(4):
        (objective,) = m.objectives(b.take(torch.tensor([i])), m)
        assert torch.isfinite(objective.total)


SIGHTS = Schema(
    (ModalitySpec("one", tuple(map(Feature, "abc"))), ModalitySpec("two", tuple(map(Feature, "defg")))),
    (Task("both", "now", ""), Task("first", "now", ""), Task("second", "now", "")),
)


def sights(patients: int, seed: int) -> tuple[PatientBatch, Tensor]:
    """Two modalities that each show a common factor and one of their own, and the common one."""
    draw = torch.Generator().manual_seed(seed)
    z, own = torch.randn(patients, 1, generator=draw), torch.randn(patients, 2, generator=draw)
    noise = 0.3 * torch.randn(patients, 7, generator=draw)
    one = torch.cat([z, own[:, :1], z + own[:, :1]], 1) + noise[:, :3]
    two = torch.cat([z, z, own[:, 1:], own[:, 1:]], 1) + noise[:, 3:]
    labels = (torch.cat([z, own], 1) * 3 + torch.randn(patients, 3, generator=draw) > 0).float()
    present = torch.rand(patients, 2, generator=draw) < 0.8
    contents = {
        name: Static(torch.where(on[:, None], x, 0.0), on[:, None].expand_as(x))
        for name, x, on in (("one", one, present[:, 0]), ("two", two, present[:, 1]))
    }
    mask = torch.ones_like(labels, dtype=torch.bool)
    return PatientBatch(SIGHTS, contents, present, labels, mask, torch.arange(patients)), z.squeeze(1)  # type: ignore[arg-type]


@cache
@torch.enable_grad()
def fitted(align: float, domain: float) -> ShaSpec:
    m = model(SIGHTS, weight_align=align, weight_domain=domain).train()
    b, _ = sights(1024, 1)
    optimizer = torch.optim.AdamW(m.parameters(), 3e-3)
    for step in range(120):
        part = b.take(torch.arange(128) + 128 * (step % 8))
        (objective,) = m.objectives(part, m)
        optimizer.zero_grad()
        objective.total.backward()
        optimizer.step()
    return m.eval()


@torch.no_grad()
def test_the_shared_factor_is_read_from_either_shared_vector() -> None:
    m, (b, z) = fitted(1.0, 0.1), sights(1000, 2)
    b, z = b.take(b.present.all(1).nonzero().squeeze(1)), z[b.present.all(1)]
    r, _ = m.decompose(b)
    told = [_explained(r[:, j], z) for j in range(2)]
    assert min(told) > 0.7
    assert abs(told[0] - told[1]) < 0.1
    assert apart(m, b) < apart(fitted(0.0, 0.1), b) - 0.15


def apart(m: ShaSpec, b: PatientBatch) -> float:
    """Distance of a patient's two shared vectors as a share of that of two patients'."""
    r, _ = m.decompose(b)
    others = torch.stack([r[:, 0], r[:, 1].roll(1, 0)], 1)
    return float(alignment_loss(r, b.present) / alignment_loss(others, b.present))


@torch.no_grad()
def test_specific_features_tell_their_modality() -> None:
    m, (b, _) = fitted(1.0, 0.1), sights(1000, 2)
    _, s = m.decompose(b)
    told = m.domain(s).argmax(-1) == torch.arange(2)
    assert told[b.present].float().mean() > 0.95


def _explained(x: Tensor, z: Tensor) -> float:
    """R² of z by least squares on x, fitted on one half of the rows, of the other."""
    half, x = len(z) // 2, F.pad(x, (0, 1), value=1.0).double()
    fit = torch.linalg.lstsq(x[:half], z[:half, None].double()).solution.squeeze(1)
    left = z[half:].double() - x[half:] @ fit
    return float(1 - left.var() / z[half:].double().var())


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"weight_align": 0.5},
        {"weight_domain": 0.5},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
)
def test_every_setting_changes_the_loss(change: dict[str, object]) -> None:
    b, totals = mixed(), []
    for settings in ({}, change):
        m = model(MIXED, **{"image": ImageConfig("tiny"), "dropout": 0.2} | settings).train()
        torch.manual_seed(1)
        (objective,) = m.objectives(b, m)
        totals.append(objective.total)
    assert abs(totals[0] - totals[1]) > 1e-5

"""LateFusion is a sum over modalities, and an absent one adds nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.models.base import Model
from mmnar.models.late_fusion import LateFusion, LateFusionConfig
from mmnar.models.zero_fill import ZeroFill, ZeroFillConfig
from mmnar.types import PatientBatch
from tests.conformance.test_models import mixed
from tests.populations import MIXED

TINY = ImageConfig("tiny")
WIDTH = 16
FILM = MIXED.modality_names.index("film")


def model(**changes: object) -> LateFusion:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "image": TINY} | changes
    return LateFusion(MIXED, LateFusionConfig(**settings)).eval()  # type: ignore[arg-type]


def with_films_of(b: PatientBatch, other: PatientBatch) -> PatientBatch:
    """The patients of ``b`` with the films of others."""
    present = b.present.clone()
    present[:, FILM] = other.present[:, FILM]
    return replace(b, modalities={**b.modalities, "film": other.modalities["film"]}, present=present, checked=False)


def second_difference(m: Model, b: PatientBatch) -> tuple[Tensor, Tensor]:
    """Logits of (own, own) − (own, other's film) − (other, own film) + (other, other), and one first difference."""
    other = b.take(torch.arange(len(b)).roll(1))
    own, film, rest, both = (m(x).logits.double() for x in (b, with_films_of(b, other), with_films_of(other, b), other))
    return own - film - rest + both, own - film


@torch.no_grad()
@pytest.mark.parametrize("append", [False, True])
def test_logits_are_sums_over_modalities(append: bool) -> None:
    b = mixed()
    b = b.take(b.present[:, FILM].nonzero().squeeze(1))
    interaction, effect = second_difference(model(append_pattern=append), b)
    assert effect.abs().max() > 0.05
    assert interaction.abs().max() < 1e-5
    torch.manual_seed(0)
    other_net = ZeroFill(MIXED, ZeroFillConfig(width=WIDTH, image=TINY)).eval()  # the same with two layers more
    assert second_difference(other_net, b)[0].abs().max() > 1e-4


@torch.no_grad()
def test_the_logit_by_hand() -> None:
    b, m = mixed(), model()
    weight, bias = m.head.net.weight.double(), m.head.net.bias.double()  # type: ignore[union-attr,operator]
    for i in range(12):
        one = b.take(torch.tensor([i]))
        want = bias.clone()
        for j, (encoder, content) in enumerate(zip(m.encoders, one.modalities.values(), strict=True)):
            if one.present[0, j]:
                want += weight[:, j * WIDTH : (j + 1) * WIDTH] @ encoder(content)[0].double()
        torch.testing.assert_close(m(one).logits[0].double(), want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_absent_modality_is_a_zero_vector_and_nothing_at_all_the_offset() -> None:
    b, m = mixed(), model()
    z = m(b).representation.view(len(b), -1, WIDTH)
    assert not z[~b.present].any()
    assert bool((z[b.present].abs().sum(1) > 0).all())
    nothing = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(nothing, m.head.net.bias.expand_as(nothing))  # type: ignore[operator]


@pytest.mark.parametrize("some", [True, False])
def test_absent_films_train_nothing_of_their_encoder(some: bool) -> None:
    b, m = mixed(), model().train()
    keep = torch.ones_like(b.present)
    keep[:, FILM] = some
    m.task_loss(m(b.drop(keep)).logits, b).backward()
    trained = [p.grad is not None and bool(p.grad.any()) for p in m.encoders[FILM].parameters()]
    assert trained == [some] * len(trained)
    of_film = m.head.net.weight.grad[:, FILM * WIDTH : (FILM + 1) * WIDTH]  # type: ignore[union-attr,index]
    assert bool(of_film.any()) == some


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
)
def test_every_setting_changes_the_logits(change: dict[str, object]) -> None:
    b, logits = mixed(), []
    for settings in ({}, change):
        m = model(**settings).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-4)

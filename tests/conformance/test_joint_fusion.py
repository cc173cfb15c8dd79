"""Joint fusion: a sum over modalities, and a learned vector for each absence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.models.joint_fusion import JointFusion, JointFusionConfig
from tests.conformance.test_models import mixed
from tests.populations import MIXED

TINY = ImageConfig("tiny")
WIDTH = 8
FILM = MIXED.modality_names.index("film")


def model(**changes: Any) -> JointFusion:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "dropout": 0.0, "image": TINY} | changes
    return JointFusion(MIXED, JointFusionConfig(**settings)).eval()


@torch.no_grad()
@pytest.mark.parametrize("absent", ["learned", "zeros"])
@pytest.mark.parametrize("append", [False, True])
def test_the_logit_by_hand(absent: str, append: bool) -> None:
    b, m = mixed(), model(absent=absent, append_pattern=append)
    weight, bias = m.head.net.weight.double(), m.head.net.bias.double()
    for i in range(12):
        one = b.take(torch.tensor([i]))
        want = bias + (weight[:, 7 * WIDTH :] @ one.pattern[0].double() if append else 0.0)
        for j, (encoder, spec) in enumerate(zip(m.encoders, MIXED.modalities, strict=True)):
            x = torch.zeros(WIDTH) if absent == "zeros" else m.beside.absent[j]
            if one.present[0, j]:
                x = encoder(one.modalities[spec.name])[0]
                if spec.kind != "series":
                    x = m.beside.project[j].weight @ x + m.beside.project[j].bias
            want = want + weight[:, j * WIDTH : (j + 1) * WIDTH] @ x.double()
        torch.testing.assert_close(m(one).logits[0].double(), want, rtol=0, atol=1e-5)


def test_everything_learns_at_once_and_an_absence_from_those_who_lack_the_modality_alone() -> None:
    b, m = mixed(), model().train()
    for lacking in (False, True):
        m.zero_grad(set_to_none=True)
        part = b.take((b.present[:, FILM] != lacking).nonzero().squeeze(1))
        (objective,) = m.objectives(part, m)
        objective.total.backward()
        assert m.beside.absent is not None
        assert m.beside.absent.grad is not None
        assert bool(m.beside.absent.grad[FILM].any()) == lacking
        of_film = [*m.encoders[FILM].parameters(), *m.beside.project[FILM].parameters()]
        learned = [p.grad is not None and bool(p.grad.any()) for p in of_film]
        assert learned == [not lacking] * len(learned)
    assert model(absent="zeros").beside.absent is None


@pytest.mark.parametrize(
    "change",
    [
        {"width": 12},
        {"dropout": 0.5},
        {"append_pattern": True},
        {"absent": "zeros"},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
)
def test_every_setting_changes_the_logits(change: dict[str, Any]) -> None:
    b, logits = mixed(), []
    for settings in ({}, change):
        m = model(**settings).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-5)

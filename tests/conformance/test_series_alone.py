"""What LSTM and Transformer have in common: they read the steps of all series, in order, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Model
from mmnar.models.lstm import LSTM
from mmnar.models.transformer import Transformer
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch, Static
from tests.conformance.courses import COURSES, HOURS, episodes, patients

KINDS: tuple[type[LSTM | Transformer], ...] = (LSTM, Transformer)
BOTH = pytest.mark.parametrize("kind", KINDS)
COURSE = [(-5.5, 0, 1.0), (-4.0, 1, -1.0), (-2.5, 2, 0.5), (-0.5, 0, -2.0)]


def model(kind: type[LSTM | Transformer], **changes: Any) -> LSTM | Transformer:
    torch.manual_seed(0)
    return kind(COURSES, kind.Config(**{"width": 16, "hours": float(HOURS), "dropout": 0.0} | changes)).eval()


@torch.no_grad()
def risks(m: Model, *courses: list[tuple[float, int, float]]) -> Tensor:
    return m(patients(*courses)).logits


@BOTH
def test_the_last_value_of_a_step_wins(kind: type[LSTM]) -> None:
    m = model(kind)
    once, twice, other, two = risks(
        m,
        [(-2.25, 0, 1.0)],
        [(-2.75, 0, 7.0), (-2.25, 0, 1.0)],
        [(-2.75, 0, 1.0), (-2.25, 0, 7.0)],
        [(-3.25, 0, 7.0), (-2.25, 0, 1.0)],
    )
    assert torch.equal(once, twice)
    assert not torch.allclose(once, other, atol=1e-3)
    assert not torch.allclose(once, two, atol=1e-3)  # in a step of its own it counts


@BOTH
def test_steps_in_another_order_are_another_risk(kind: type[LSTM]) -> None:
    values = [1.0, -2.0, 4.0, -1.0]
    order = {"as is": (0, 1, 2, 3), "reversed": (3, 2, 1, 0), "two swapped": (1, 0, 2, 3)}
    course, back, swapped = risks(
        model(kind), *([(t - 3.0, 0, values[i]) for t, i in enumerate(places)] for places in order.values())
    )
    assert not torch.allclose(course, back, atol=1e-4)
    assert not torch.allclose(course, swapped, atol=1e-4)


@BOTH
def test_every_series_tells_and_nothing_else_does(kind: type[LSTM]) -> None:
    b, m = patients(COURSE, COURSE, COURSE[:2] + COURSE[3:]), model(kind)
    own, beside, without = m(b).logits.detach()
    assert torch.equal(own, beside)  # their labs differ
    assert not torch.allclose(own, without, atol=1e-4)  # nothing of the pump
    labs = Static(torch.full((3, 1), 9.0), torch.ones(3, 1, dtype=torch.bool))
    assert torch.equal(m(replace(b, modalities={**b.modalities, "labs": labs}, checked=True)).logits, m(b).logits)


@BOTH
def test_who_has_no_series_has_one_risk_which_is_learnt(kind: type[LSTM]) -> None:
    m = model(kind)
    nothing, known, also = risks(m, [], COURSE, [])
    assert torch.equal(nothing, also)
    assert torch.equal(nothing, m.head(m.null[None], torch.zeros(1, 3) > 0)[0])
    assert not torch.equal(nothing, known)
    b = replace(patients(*[[]] * 8), labels=torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 0.0]] * 2), checked=True)
    settings = TrainConfig(min_steps=0, max_epochs=40, patience=40, batch_size=8, lr=0.1, weight_decay=0.0)
    train(m, b, b, settings, 0, Silent())
    with torch.no_grad():
        assert (torch.sigmoid(m(b).logits) - torch.tensor([0.75, 0.0])).abs().max() < 0.1


@BOTH
@torch.no_grad()
def test_a_longer_look_at_what_is_not_there_and_companions_change_nothing(kind: type[LSTM]) -> None:
    short, long = model(kind), model(kind, hours=2.0 * HOURS)
    state = short.state_dict()
    if kind is Transformer:
        state["encoder.position"] = torch.cat([state["encoder.position"], torch.full((HOURS, 16), 7.0)])
    long.load_state_dict(state)
    far = [(-9.5, 0, 1.0), *COURSE]
    assert torch.equal(risks(short, COURSE, far), risks(long, COURSE, far))
    together = risks(short, COURSE, far)
    torch.testing.assert_close(together[:1], risks(short, COURSE), rtol=0, atol=1e-5)

    def poisoned(_: Any, __: Any, out: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, lengths = out
        behind = torch.arange(tokens.shape[1]) >= lengths[:, None]
        assert behind.any()
        return torch.where(behind[..., None], 1e3, tokens), lengths

    short.encoder.steps.register_forward_hook(poisoned)  # what pads the shorter course
    assert torch.equal(risks(short, COURSE, far), together)


def told(m: Model) -> tuple[Tensor, Tensor]:
    """Logits of other patients after training, and what came first."""
    settings = TrainConfig(min_steps=0, max_epochs=20, patience=20, batch_size=64, lr=1e-2, weight_decay=0.0)
    train(m, episodes(512, 0), episodes(128, 2), settings, 0, Silent())
    others = episodes(400, 1)
    with torch.no_grad():
        return m(others).logits[:, 0], others.labels[:, 0]


@BOTH
def test_the_order_of_two_episodes_is_learnt(kind: type[LSTM]) -> None:
    logits, first = told(model(kind))
    assert roc_auc_score(first.numpy(), logits.numpy()) > 0.9


def test_without_positions_the_transformer_cannot() -> None:
    m = model(Transformer)
    position = m.encoder.position
    assert isinstance(position, torch.nn.Parameter)
    position.requires_grad_(False).zero_()
    logits, _ = told(m)
    assert logits.max() - logits.min() < 1e-3  # to it all of them are the same patient


SETTINGS: dict[str, Any] = {"width": 24, "dropout": 0.5, "hours": 4.0, "step": 2.0, "layers": 2, "append_pattern": True}
CASES = [
    *((kind, key, value) for kind in KINDS for key, value in SETTINGS.items()),
    (LSTM, "both_ways", False),
    (Transformer, "heads", 2),
]


@pytest.mark.parametrize(("kind", "key", "value"), CASES)
def test_every_setting_changes_the_logits(kind: type[LSTM], key: str, value: Any) -> None:
    b: PatientBatch = patients(*[COURSE, COURSE[1:], []] * 3)
    logits = []
    for changes in ({}, {key: value}):
        m = model(kind, **changes).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (LSTM, {"layers": 0}, r"model\.layers: expected 1 or more, got 0"),
        (LSTM, {"hours": 5.0, "step": 2.0}, r"model\.hours: expected a whole number of steps, got 5.0 in steps of 2.0"),
        (Transformer, {"step": -1.0}, r"model\.hours: expected a whole number of steps"),
        (Transformer, {"heads": 0}, r"model\.heads: expected 1 or more, got 0"),
        (Transformer, {"heads": 3}, r"model\.heads: expected a divisor of model\.width \(16\), got 3"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: type[LSTM], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(kind, **changes)

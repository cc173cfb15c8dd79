"""InfoReg's own invariants: who is held back, when, by how much, and that nothing else changes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Model
from mmnar.models.inforeg import InfoReg, InfoRegConfig
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.redundant import REDUNDANT, by_the_hard_one_alone, fit
from tests.conformance.test_late_fusion import FILM, second_difference
from tests.conformance.test_models import batch, mixed, task_loss
from tests.populations import MIXED, SCHEMA

SHORT = TrainConfig(min_steps=0, max_epochs=3, batch_size=16, patience=9, lr=1e-3, accelerator="cpu")


def model(kind: type[InfoReg] = InfoReg, **changes: object) -> InfoReg:
    torch.manual_seed(0)
    return kind(SCHEMA, InfoRegConfig(**{"width": 16, **changes}))  # type: ignore[arg-type]


def trained(m: InfoReg, b: PatientBatch, config: TrainConfig = SHORT) -> dict[str, Tensor]:
    """The weights."""
    train(m, b, b, config, 0, Silent())
    return {n: p.detach() for n, p in m.named_parameters()}


class Plain(InfoReg):
    """The same net and losses with the hooks of any other method."""

    objectives = Model.objectives
    after_backward = Model.after_backward
    after_step = Model.after_step
    after_epoch = Model.after_epoch


class Held(InfoReg):
    """Always the second one."""

    def held_back(self, told: Tensor, k: Tensor) -> tuple[int, float] | None:
        return 1, self.c.beta


@pytest.mark.parametrize("changes", [{"beta": 0.0}, {"window": 2.0}], ids=str)
def test_without_a_pull_or_outside_the_window_it_is_plain_training_to_the_bit(changes: dict[str, object]) -> None:
    b = batch(120)
    plain, weights = trained(model(Plain), b), trained(model(**changes), b)
    assert all(torch.equal(weights[n], w) for n, w in plain.items())
    assert not all(torch.equal(weights[n], w) for n, w in trained(model(), b).items())


class Scaled(Plain):
    """The other form: a tenth of the gradient for the second encoder."""

    def after_backward(self) -> None:
        for p in self.encoders[1].parameters():
            assert p.grad is not None
            p.grad *= 0.1


def test_the_pull_changes_where_training_ends_and_a_scaled_gradient_does_not() -> None:
    b = batch(120)
    config = replace(SHORT, clip_norm=0.0)
    free, scaled, held = (trained(m, b, config) for m in (model(Plain), model(Scaled), model(Held, beta=400.0)))
    start = {n: p.detach() for n, p in model().named_parameters()}
    moved = _distance(free, start)
    assert _distance(scaled, free) < 0.05 * moved
    assert _distance(held, free) > 0.2 * moved
    assert _distance(held, start) < 0.9 * moved


def _distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Of the second encoder's weights."""
    return math.sqrt(sum(float((a[n] - b[n]).square().sum()) for n in a if n.startswith("encoders.1.")))


def test_an_overwhelming_pull_keeps_the_encoder_and_none_of_the_rest() -> None:
    b, start = batch(120), {n: p.detach().clone() for n, p in model().named_parameters()}
    end = trained(model(Held, beta=1e9), b)
    assert all(torch.equal(end[n], start[n]) == n.startswith("encoders.1.") for n in end)


def test_one_step_by_hand() -> None:
    """θ − min(1, η β)(θ − θ_0) for the one held back; the others' step is that without a pull."""
    b, ends = batch(), []
    for pull in (None, (1, 70.0)):
        m = model()
        start = [p.detach().clone() for p in m.parameters()]
        optimizer = torch.optim.AdamW(m.parameters(), lr=1e-2)
        torch.manual_seed(1)
        for objective in m.objectives(b, m):
            objective.total.backward()
            optimizer.step()
            with torch.no_grad():
                m.pull = pull
                m.after_step(1e-2)
        ends.append({n: p.detach() for n, p in m.named_parameters()})
        assert m.pull is None
    for (n, free), p_0 in zip(ends[0].items(), start, strict=True):
        want = free - 0.7 * (free - p_0) if n.startswith("encoders.1.") else free
        assert (
            torch.allclose(ends[1][n], want, atol=1e-7)
            if n.startswith("encoders.1.")
            else torch.equal(ends[1][n], want)
        )


def test_the_relative_change_of_traces_by_hand() -> None:
    m, said = model(history=3), []
    for trace in ([4.0, 0.0, 1.0], [2.0, 0.0, 3.0], [6.0, 0.0, 0.0], [1.0, 0.0, 8.0], [3.0, 0.0, 1.0]):
        said.append(m.relative_change().tolist())
        m.trace.copy_(torch.tensor(trace))
        m.after_epoch(batch(20))
        assert not m.trace.any()
    said.append(m.relative_change().tolist())
    # (sum of the last three − sum of the three before) / sum of the last three; 1 where there is none
    first = [1, 4 / 4, 2 / 6, 6 / 12, (9 - 12) / 9, (10 - 9) / 10]
    third = [1, 1 / 1, 3 / 4, 0 / 4, (11 - 4) / 11, (9 - 11) / 9]
    want = torch.tensor([first, [1.0] * 6, third]).T
    assert torch.allclose(torch.tensor(said), want, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "k", "held"),
    [
        ([[9.0, 5.3], [5.0, 9.0]], [1.0, 1.0], (0, 0.3)),
        ([[9.0, 5.0], [5.3, 9.0]], [0.0, 0.06], (1, 0.3)),
        ([[9.0, 5.0], [5.3, 9.0]], [1.0, 0.05], None),  # outside its window, whatever the other's
        ([[9.0, 5.0], [5.0, 9.0]], [1.0, 1.0], None),  # nobody leads
        ([[9.0, 4.0, 3.0], [3.0, 9.0, 4.0], [4.0, 2.0, 9.0]], [1.0, 1.0, 1.0], (1, 0.5)),  # leads 0, +½ and −½
    ],
)
def test_who_is_held_back(told: list[list[float]], k: list[float], held: tuple[int, float] | None) -> None:
    got = model(beta=2.0).held_back(torch.tensor(told), torch.tensor(k))
    if held is None:
        assert got is None
    else:
        assert got is not None
        assert got[0] == held[0]
        assert math.isclose(got[1], 2.0 * math.exp(math.tanh(held[1])), rel_tol=1e-5)


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_traces_are_sums_of_squared_gradients_before_they_are_clipped(clip: float) -> None:
    b, traces, m = batch(), [], model(dropout=0.0)
    torch.manual_seed(0)
    m.task_loss = task_loss
    for objective in m.train().objectives(b, m):
        objective.total.backward()
    want = [sum(float(p.grad.double().square().sum()) for p in e.parameters()) for e in m.encoders]  # type: ignore[union-attr]
    m = model(dropout=0.0)

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            traces.append(m.traces[-1].clone())

    config = TrainConfig(
        min_steps=0,
        max_epochs=1,
        batch_size=len(b),
        clip_norm=clip,
        task_weights={"mortality": 1.0, "readmission": 1.0},
    )
    train(m, b, b, config, 0, Watch())
    assert torch.allclose(traces[0].double(), torch.tensor(want).double(), rtol=1e-3)


def test_a_fit_that_broke_off_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    """The epoch's start need not be kept: at a checkpoint it is the weights themselves."""
    b, file = batch(120), tmp_path / "checkpoint.safetensors"
    config = TrainConfig(min_steps=0, max_epochs=4, batch_size=16, patience=9, lr=1e-3, checkpoint_seconds=0)

    class Breaks(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            if record["epoch"] == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model(), b, b, config, 0, Breaks(), file)
    histories = [train(model(), b, b, config, 0, Silent(), checkpoint) for checkpoint in (file, None)]
    losses = [[record["tune"] for record in history] for history in histories]
    assert losses[0] == losses[1]


@torch.no_grad()
def test_logits_are_sums_over_modalities_and_nothing_is_the_offset() -> None:
    b = mixed()
    torch.manual_seed(0)
    m = InfoReg(MIXED, InfoRegConfig(width=16, image=ImageConfig("tiny"))).eval()
    interaction, effect = second_difference(m, b.take(b.present[:, FILM].nonzero().squeeze(1)))
    assert effect.abs().max() > 0.05
    assert interaction.abs().max() < 1e-5
    nothing = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(nothing, m.head.net.bias.expand_as(nothing))  # type: ignore[operator]


def test_own_losses_are_of_who_has_the_modality() -> None:
    b, m = batch(), model(dropout=0.0)
    h, want = m(b).representation.view(len(b), 3, -1), torch.zeros(())
    for j in range(3):
        rows = b.present[:, j].nonzero().squeeze(1)
        want = want + task_loss(m.own[j](h[rows, j]), b.take(rows))
    assert torch.allclose(m(b).losses["own"], want)


def test_holding_back_what_is_learnt_at_once_leaves_more_to_the_other() -> None:
    """AUROC by the slow modality alone: over 26 seeds the pull adds .002 to .14, .04 on average."""
    gains = []
    for seed in (2, 3, 7):
        found = []
        for beta in (0.0, 40.0):
            torch.manual_seed(seed)
            m = InfoReg(REDUNDANT, InfoRegConfig(width=32, dropout=0.0, beta=beta))
            found.append(by_the_hard_one_alone(fit(m, 12, seed), seed))
        gains.append(found[1] - found[0])
    assert sum(gains) / 3 > 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"weight_own": 0.5},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
    ids=str,
)
def test_every_setting_of_the_net_changes_the_loss(change: dict[str, object]) -> None:
    b, losses = mixed(), []
    for settings in ({}, change):
        torch.manual_seed(0)
        m = InfoReg(MIXED, InfoRegConfig(**{"width": 16, "image": ImageConfig("tiny")} | settings))  # type: ignore[arg-type]
        torch.manual_seed(1)
        (objective,) = m.objectives(b, m)
        losses.append(objective.total)
    assert not torch.allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("change", [{"beta": 80.0}, {"window": 0.9}, {"history": 1}], ids=str)
def test_every_setting_of_the_pull_changes_the_weights(change: dict[str, object]) -> None:
    b = batch(120)
    ends = [trained(model(**changes), b) for changes in ({}, change)]
    assert not all(torch.equal(a, c) for a, c in zip(ends[0].values(), ends[1].values(), strict=True))


@pytest.mark.parametrize(("key", "value"), [("weight_own", 0.0), ("beta", -1.0), ("history", 0)])
def test_wrong_numbers_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"model.{key}"):
        InfoRegConfig(**{key: value})  # type: ignore[arg-type]

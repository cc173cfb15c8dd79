"""Series in equal steps: the grid against a loop; LSTM and Transformer over it against the equations and on order."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mmnar.encoders import series as module
from mmnar.encoders.modality import encoder_of
from mmnar.encoders.settings import SeriesConfig
from mmnar.errors import ConfigError
from mmnar.ops.grid import hourly
from mmnar.schema import Feature, ModalitySpec
from mmnar.types import Series

Kind = Literal["lstm", "transformer"]
KINDS: tuple[Kind, ...] = ("lstm", "transformer")
SPEC = ModalitySpec("course", (Feature("a"), Feature("b"), Feature("c")), "series")
Measurement = tuple[float, int, float]  # hours, feature, value


def series(*patients: list[Measurement]) -> Series:
    items = [item for patient in patients for item in patient]
    hours, feature, values = zip(*items, strict=True) if items else ((), (), ())
    counts = torch.tensor([0, *map(len, patients)])
    return Series(counts.cumsum(0), torch.tensor(hours), torch.tensor(values), torch.tensor(feature, dtype=torch.long))


def invented(seed: int, patients: int = 9, hours: float = 30.0) -> Series:
    """In time order; times often coincide with each other and with the ends of steps; the second patient has none."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=g))

    drawn = [
        [(-min(draw(int(4 * hours)) / 4, hours), draw(3), float(torch.randn((), generator=g))) for _ in range(draw(25))]
        for _ in range(patients)
    ]
    return series(*([] if i == 1 else sorted(items, key=lambda item: item[0]) for i, items in enumerate(drawn)))


@pytest.mark.parametrize(("steps", "step"), [(48, 1.0), (24, 1.0), (10, 0.5), (7, 2.0), (1, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_grid_against_a_loop_over_measurements(seed: int, steps: int, step: float) -> None:
    content = invented(seed)
    values, seen = hourly(content, 3, steps, step)
    assert values.shape == seen.shape == (9, steps, 3)
    for p in range(9):
        for f in range(3):
            known = 0.0
            for t in range(steps):
                after, until = -(steps - t) * step, -(steps - t - 1) * step
                own = [
                    float(content.values[e])
                    for e in range(int(content.offsets[p]), int(content.offsets[p + 1]))
                    if int(content.feature[e]) == f and after < float(content.hours[e]) <= until
                ]
                known = own[-1] if own else known
                assert float(values[p, t, f]) == known
                assert bool(seen[p, t, f]) == bool(own)


def test_the_last_of_a_step_wins_and_the_first_of_another_time_does_not() -> None:
    content = series(
        [(-1.5, 0, 1.0), (-0.75, 0, 2.0), (-0.25, 0, 3.0), (-0.25, 0, 4.0)], [(-3.0, 0, 9.0), (-1.0, 0, 5.0)]
    )
    values, seen = hourly(content, 3, 3)
    assert values[..., 0].tolist() == [[0, 1, 4], [0, 5, 5]]  # −3 lies at the end of a step that is not looked at
    assert seen[..., 0].tolist() == [[False, True, True], [False, True, False]]


def made(kind: Kind, width: int = 8, seed: int = 0, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    return encoder_of(SPEC, width, 0.0, series=SeriesConfig(kind, **settings)).eval()


def test_one_step_of_the_lstm_is_its_cell() -> None:
    encoder = made("lstm", hours=1.0).double()
    content = series([(-0.75, 0, 0.5), (-0.5, 2, -1.0)])
    content = replace(content, values=content.values.double())
    x = encoder.steps.token.weight @ torch.tensor([0.5, 0.0, -1.0, 1.0, 0.0, 1.0]).double() + encoder.steps.token.bias
    lstm = encoder.lstm
    i, _, g, o = (lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4)
    h = torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))
    torch.testing.assert_close(encoder(content)[0], encoder.out.weight @ h + encoder.out.bias)


def test_one_step_of_the_transformer_is_its_layer() -> None:
    encoder = made("transformer", hours=1.0, heads=2)
    content = series([(-0.75, 0, 0.5), (-0.5, 2, -1.0)])
    x = encoder.steps.token(torch.tensor([0.5, 0.0, -1.0, 1.0, 0.0, 1.0])) + encoder.position[0]
    (layer,) = encoder.layers
    value = layer.self_attn.in_proj_weight[16:] @ x + layer.self_attn.in_proj_bias[16:]  # the only one to attend to
    x = layer.norm1(x + layer.self_attn.out_proj(value))
    x = layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))
    torch.testing.assert_close(encoder(content)[0], x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"layers": 2, "both_ways": True}])
def test_steps_in_which_nobody_has_anything_change_nothing(kind: Kind, settings: dict[str, Any]) -> None:
    content = invented(0, hours=23.5)
    short, long = made(kind, hours=24.0, **settings), made(kind, hours=48.0, **settings)
    state = short.state_dict()
    if kind == "transformer":
        assert long.position.shape == (48, 8)
        state["position"] = torch.cat([state["position"], torch.full((24, 8), 7.0)])  # positions count from the end
    long.load_state_dict(state)
    assert torch.equal(short(content), long(content))


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_a_patients_last_step_changes_nothing(kind: Kind) -> None:
    content = invented(1)
    encoder = made(kind, layers=2, both_ways=True)
    want = encoder(content)
    alone = torch.cat([encoder(content.take(torch.tensor([i]))) for i in range(len(content))])
    torch.testing.assert_close(alone, want, rtol=1e-5, atol=1e-6)
    encoder.steps.register_forward_hook(lambda *call: _poisoned(*call[2]))
    assert torch.equal(encoder(content), want)


def _poisoned(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    behind = torch.arange(tokens.shape[1]) >= lengths[:, None]
    assert behind.any()
    return torch.where(behind[..., None], 1e3, tokens), lengths


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_without_a_measurement_in_sight_has_a_vector(kind: Kind) -> None:
    encoder = made(kind, hours=6.0)
    nothing, before = encoder(series([], [(-7.0, 0, 2.0)]))
    assert torch.isfinite(nothing).all()
    assert torch.equal(nothing, before)
    assert not torch.allclose(encoder(series([(-5.0, 0, 0.0)]))[0], nothing)  # measured and median is not unmeasured


def _episodes(n: int, seed: int) -> tuple[Series, Tensor]:
    """Hourly zeros of one feature, and two episodes, of +2 and of −2; which of them came first?"""
    g = torch.Generator().manual_seed(seed)
    values = torch.zeros(n, 24)
    places = torch.stack([torch.randperm(24, generator=g)[:2] for _ in range(n)])
    values.scatter_(1, places, torch.tensor([2.0, -2.0]).expand(n, 2))
    hours = -torch.arange(23.0, -1.0, -1.0).repeat(n)
    feature = torch.zeros(24 * n, dtype=torch.long)
    return Series(torch.arange(n + 1) * 24, hours, values.flatten(), feature), (places[:, 0] < places[:, 1]).float()


def _told(encoder: nn.Module) -> float:
    """AUROC on other patients after training."""
    head = nn.Linear(16, 1)
    content, label = _episodes(512, 0)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    encoder.train()
    for i in range(120):
        rows = torch.arange(64) + 64 * (i % 8)
        loss = nn.functional.binary_cross_entropy_with_logits(head(encoder(content.take(rows)))[:, 0], label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    others, truth = _episodes(300, 1)
    with torch.no_grad():
        return float(roc_auc_score(truth.numpy(), head(encoder(others))[:, 0].numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_two_episodes_is_told(kind: Kind) -> None:
    assert _told(made(kind, 16, hours=24.0)) > 0.9


def test_without_positions_the_transformer_cannot_tell_it() -> None:
    course = [(float(-h), 0, 0.0) for h in range(23, -1, -1)]
    there, back = list(course), list(course)
    there[5], there[12], back[5], back[12] = (-18.0, 0, 2.0), (-11.0, 0, -2.0), (-18.0, 0, -2.0), (-11.0, 0, 2.0)
    encoder = made("transformer", hours=24.0)
    told, other = encoder(series(there, back))
    assert not torch.allclose(told, other, atol=1e-3)
    encoder.position.data.zero_()
    told, other = encoder(series(there, back))
    torch.testing.assert_close(told, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_tells_and_every_parameter_is_trained(kind: Kind) -> None:
    content = invented(2)
    base = made(kind)(content)
    others: dict[str, Any] = {"hours": 12.0, "step": 2.0, "layers": 2}
    others |= {"both_ways": True} if kind == "lstm" else {"heads": 2}
    for key, value in others.items():
        assert not torch.allclose(made(kind, **{key: value})(content), base), key
    encoder = made(kind, layers=2, both_ways=True).train()
    encoder(content).square().sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_differentiated_twice(kind: Kind) -> None:
    # against differences of the first derivative; SMIL takes a step within its loss
    encoder, content = made(kind, hours=12.0).double().train(), invented(3, hours=11.5)
    content = replace(content, values=content.values.double())
    weights = list(encoder.parameters())
    torch.manual_seed(1)
    along = [torch.randn_like(w) for w in weights]

    def gradient(graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(encoder(content)[:, :3].sum(1).square().sum(), weights, create_graph=graph)

    slope = torch.stack([(g * v).sum() for g, v in zip(gradient(True), along, strict=True)]).sum()
    second = torch.autograd.grad(slope, weights, allow_unused=True)
    ends = []
    for by in (1e-6, -2e-6):
        with torch.no_grad():
            for w, v in zip(weights, along, strict=True):
                w.add_(by * v)
        ends.append(gradient())
    for got, up, down in zip(second, *ends, strict=True):
        want = (up - down) / 2e-6
        torch.testing.assert_close(torch.zeros_like(want) if got is None else got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_without_gradients_patients_are_encoded_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, content = made(kind, hours=12.0).eval(), invented(7, 7, hours=11.5)
    whole, seen = encoder(content), []
    monkeypatch.setattr(module, "PART", 3)
    encoder.steps.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    assert torch.equal(encoder(content), whole)
    with torch.no_grad():
        torch.testing.assert_close(encoder(content), whole)
    assert seen == [7, 3, 3, 1]


def test_what_is_no_grid_is_refused() -> None:
    for settings in ({"hours": 47.5}, {"hours": 0.0}, {"step": 0.0}, {"step": math.nan}, {"layers": 0}, {"heads": 0}):
        with pytest.raises(ConfigError, match=r"model\.series"):
            SeriesConfig("lstm", **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="divisor"):
        made("transformer", heads=3)
    assert SeriesConfig(hours=1.2, step=0.1).steps == 12

"""HEALNet's own invariants, each against its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmnar.models.healnet as healnet
from mmnar.errors import ConfigError
from mmnar.models.healnet import HEALNet, HEALNetConfig, Source, Update
from mmnar.schema import Schema
from tests.conformance.test_models import batch, mixed, only
from tests.populations import MIXED, SCHEMA

SMALL = {"width": 8, "latents": 3, "latent_width": 12, "heads": 2, "depth": 2, "step": 8.0, "dropout": 0.0, "patch": 8}
WITHOUT_FILM = tuple(name for name in MIXED.modality_names if name != "film")


def model(schema: Schema = MIXED, **changes: object) -> HEALNet:
    torch.manual_seed(0)
    return HEALNet(schema, HEALNetConfig(**SMALL | changes)).eval()  # type: ignore[arg-type]


def attention_by_hand(u: Update, s: Tensor, x: Tensor, temperature: float) -> tuple[Tensor, list[Tensor]]:
    """Att of one patient, s (L, E) and x (N, C) normalised, and the weights of each head."""
    d = u.query.out_features // u.heads
    k, v = u.known.weight.chunk(2)
    mixed_values, weights = [], []
    for head in range(u.heads):
        part = slice(head * d, (head + 1) * d)
        scores = (s @ u.query.weight[part].T) @ (x @ k[part].T).T / (temperature * d**0.5)
        weights.append(scores.softmax(1))
        mixed_values.append(weights[-1] @ (x @ v[part].T))
    return F.leaky_relu(u.out(torch.cat(mixed_values, 1)), 0.01), weights


def update_by_hand(u: Update, s: Tensor, x: Tensor) -> Tensor:
    s = s + attention_by_hand(u, u.norm_asking(s), u.norm_asked(x), 0.5)[0]
    inner, gate = u.first(u.norm_feed(s)).chunk(2, 1)
    return s + u.second(inner * torch.where(gate > 0, 1.0507009873554805, 1.7580993408473766) * _elu(gate))


def _elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x.exp() - 1)


@torch.no_grad()
def test_risks_by_hand_of_patients_with_whatever_they_have() -> None:
    m, b = model().double(), mixed()
    together = model()(b).logits  # in single precision
    for i in range(20):
        one = b.take(torch.tensor([i]))
        s = m.latents
        for _ in range(2):
            for j, content in enumerate(one.modalities.values()):
                if one.present[0, j]:
                    x, there = m.tokens[j](content)
                    x = x[0] if there is None else x[0, there[0]]
                    s = update_by_hand(m.ask[j], s, x.double())  # type: ignore[arg-type]
                    s = update_by_hand(m.think, s, s)
        want = m.head.net(m.norm(s.mean(0)))
        torch.testing.assert_close(together[i].double(), want, rtol=0, atol=1e-4)


@torch.no_grad()
def test_attention_weighs_the_tokens_there_are_and_its_rows_sum_to_one() -> None:
    for temperature in (0.5, 2.0):
        u = model(temperature=temperature).ask[4].double()
        assert isinstance(u, Update)
        x, there = torch.randn(5, 6, u.norm_asked.normalized_shape[0]).double(), torch.rand(5, 6) < 0.5
        there[:, 2] = True
        s = torch.randn(5, 3, 12).double()
        source = u.source(x, there)
        got = u.attention(s, source)
        for i in range(5):
            want, weights = attention_by_hand(u, u.norm_asking(s[i]), u.norm_asked(x[i, there[i]]), temperature)
            torch.testing.assert_close(got[i], want)
            assert all(torch.allclose(w.sum(1), torch.ones(3).double()) for w in weights)
        ones = Source(source.keys, torch.ones_like(source.values), there)
        torch.testing.assert_close(u.attention(s, ones), F.leaky_relu(u.out(torch.ones(5, 3, 8).double()), 0.01))


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 3])
def test_an_absent_modality_is_the_loop_without_it_alone_and_in_company(depth: int) -> None:
    b, whole = mixed(), model(depth=depth)
    without = model(only(b, WITHOUT_FILM).schema, depth=depth)
    weights = {k: v for k, v in whole.state_dict().items() if not k.startswith("ask.6")}
    without.load_state_dict(weights)
    filmless = (~b.present[:, -1]).nonzero().squeeze(1)
    assert 10 < len(filmless) < len(b)
    want = without(only(b, WITHOUT_FILM)).logits[filmless]
    torch.testing.assert_close(whole(b).logits[filmless], want, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole(b.take(filmless)).logits, want, rtol=0, atol=1e-5)
    for i in range(4):
        torch.testing.assert_close(whole(b.take(filmless[i : i + 1])).logits[0], want[i], rtol=0, atol=1e-5)
    filmed = b.present[:, -1]
    gap = (whole(b).logits - without(only(b, WITHOUT_FILM)).logits).abs()
    assert gap[filmed].max() > 1e-2


@torch.no_grad()
def test_nothing_at_all_is_the_learned_array() -> None:
    b, m = mixed(), model()
    nothing = b.drop(torch.zeros_like(b.present))
    assert torch.equal(m.read(nothing), m.latents.expand(len(b), -1, -1))
    torch.testing.assert_close(m(nothing).logits[0], m.head.net(m.norm(m.latents.mean(0))))


@torch.no_grad()
def test_only_films_that_there_are_are_looked_at() -> None:
    b, m, seen = mixed(), model(), []
    m.tokens[-1].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0].values)))
    m(b)
    assert seen == [int(b.present[:, -1].sum())]  # once, whatever the number of rounds
    seen.clear()
    keep = torch.ones_like(b.present)
    keep[:, -1] = False
    m(b.drop(keep))
    assert seen == []


@torch.no_grad()
def test_the_array_thinks_after_each_modality_in_each_round() -> None:
    b, m, calls = mixed(), model(depth=3), []
    m.think.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    m(b)
    assert calls == b.present.sum(0).tolist() * 3


@torch.no_grad()
def test_rounds_share_their_weights() -> None:
    b = batch()
    one, three = (model(SCHEMA, depth=depth) for depth in (1, 3))
    assert [p.shape for p in one.parameters()] == [p.shape for p in three.parameters()]
    three.load_state_dict(one.state_dict())
    assert (three(b).logits - one(b).logits).abs().max() > 1e-2


def test_an_error_in_the_attention_is_raised() -> None:
    b, m = batch(), model(SCHEMA)
    m.ask[1].known = nn.Linear(5, 16)
    with pytest.raises(RuntimeError, match="shapes"):
        m(b)


@torch.no_grad()
def test_prediction_goes_by_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    b, m = mixed(), model()
    want, rows = m(b), []
    assert m.rows(b) > len(b)
    monkeypatch.setattr(healnet, "NUMBERS", 20_000)
    m.norm.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    got = m(b)
    assert sum(rows) == len(b)
    assert max(rows) == m.rows(b) < 10
    torch.testing.assert_close(got.logits, want.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.representation, want.representation, rtol=0, atol=1e-5)
    monkeypatch.setattr(healnet, "NUMBERS", 1)
    assert m.rows(b) == 1
    assert model(patch=1).rows(b) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"width": 16},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"latents": 4},
        {"latent_width": 16},
        {"depth": 3},
        {"heads": 4},
        {"temperature": 1.0},
        {"bands": 2},
        {"max_freq": 5.0},
        {"hours": 24.0},
        {"step": 4.0},
        {"patch": 4},
        {"augment": "none"},
    ],
)
def test_every_setting_changes_the_loss(change: dict[str, object]) -> None:
    b, totals = mixed(), []
    for settings in ({}, change):
        m = model(**{"dropout": 0.2} | settings).train()
        torch.manual_seed(1)
        (objective,) = m.objectives(b, m)
        totals.append(objective.total)
    assert abs(totals[0] - totals[1]) > 1e-6


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"latents": 0}, "model.latents"),
        ({"depth": 0}, "model.depth"),
        ({"bands": 0}, "model.bands"),
        ({"temperature": 0.0}, "model.temperature"),
        ({"max_freq": 1.0}, "model.max_freq"),
        ({"heads": 3}, "model.heads"),
        ({"heads": 0}, "model.heads"),
        ({"hours": 10.0}, "model.hours"),
        ({"patch": 0}, "model.patch"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], subject: str) -> None:
    with pytest.raises(ConfigError, match=subject):
        model(**change)

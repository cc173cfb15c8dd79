"""Early fusion: encoders learn alone and stay to the bit; a linear layer reads them, and a vector for each absence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmnar.config import TrainConfig
from mmnar.encoders.modality import encode
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Objective, summed_label_loss
from mmnar.models.early_fusion import EarlyFusion, EarlyFusionConfig
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA

TINY = ImageConfig("tiny")
WIDTH = 8
FILM = MIXED.modality_names.index("film")


def model(schema: Schema = MIXED, **changes: Any) -> EarlyFusion:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "dropout": 0.0, "image": TINY} | changes
    return EarlyFusion(schema, EarlyFusionConfig(**settings)).eval()


def step(m: EarlyFusion, number: int, b: PatientBatch) -> Objective:
    """The objective of a batch in stage 1 or 2, differentiated."""
    m.zero_grad(set_to_none=True)
    m.loss_weights = m.phases()[number - 1].weights
    (objective,) = m.train().objectives(b, m)
    objective.total.backward()
    return objective


def moved(m: EarlyFusion) -> set[str]:
    return {name for name, p in m.named_parameters() if p.grad is not None and bool(p.grad.any())}


@torch.no_grad()
@pytest.mark.parametrize("absent", ["learned", "zeros"])
def test_the_logit_by_hand(absent: str) -> None:
    b, m = mixed(), model(absent=absent)
    weight, bias = m.head.net.weight.double(), m.head.net.bias.double()
    for i in range(12):
        one = b.take(torch.tensor([i]))
        want = bias.clone()
        for j, (encoder, spec) in enumerate(zip(m.encoders, MIXED.modalities, strict=True)):
            x = torch.zeros(WIDTH) if absent == "zeros" else m.beside.absent[j]
            if one.present[0, j]:
                x = encoder(one.modalities[spec.name])[0]
                if spec.kind != "series":
                    x = m.beside.project[j].weight @ x + m.beside.project[j].bias
            want += weight[:, j * WIDTH : (j + 1) * WIDTH] @ x.double()
        torch.testing.assert_close(m(one).logits[0].double(), want, rtol=0, atol=1e-5)


def test_stage_one_is_each_modality_by_itself_and_stage_two_what_reads_it() -> None:
    b, m = mixed(), model()
    got = step(m, 1, b)
    assert {name.split(".")[0] for name in moved(m)} == {"encoders", "own"}
    total = torch.zeros(())
    torch.manual_seed(0)
    m.eval()
    for i, name in enumerate(MIXED.modality_names):
        have = b.take(b.present[:, i].nonzero().squeeze(1))
        if name != "film":  # whose pixels training changes
            total = total + summed_label_loss(m.own.heads[i](m.encoders[i](have.modalities[name])), have)
    filmless = b.drop((torch.arange(7) != FILM).expand_as(b.present))
    torch.testing.assert_close(step(m, 1, filmless).total, total, rtol=0, atol=1e-5)
    assert not any(name.startswith((f"encoders.{FILM}.", f"own.heads.{FILM}.")) for name in moved(m))
    assert set(got.terms) == {"task", "alone"}
    assert set(step(m, 2, b).terms) == {"task"}
    assert {name.split(".")[0] for name in moved(m)} == {"beside", "head"}


class Kept(Silent):
    """The state of the encoders after each epoch."""

    def __init__(self, m: EarlyFusion) -> None:
        self.m, self.states = m, {"alone": [], "fusion": []}  # type: dict[str, list[dict[str, Tensor]]]
        self.tune: list[float] = []

    def epoch(self, record: dict[str, Any]) -> None:
        state = self.m.encoders.state_dict()
        self.states[record["phase"]].append({name: t.detach().clone() for name, t in state.items()})
        if record["phase"] == "alone":
            self.tune.append(record["tune"]["task"])


def test_encoders_and_their_statistics_stay_to_the_bit_in_stage_two() -> None:
    b = mixed(40)
    m = model(dropout=0.5)
    m.encoders[0].register_module("statistics", torch.nn.BatchNorm1d(WIDTH))  # of an encoder that would have some
    m.encoders[0].register_forward_hook(lambda encoder, _, out: encoder.statistics(out))
    kept = Kept(m)
    settings = TrainConfig(min_steps=0, max_epochs=3, batch_size=16, weight_decay=0.1, lr=1e-3, patience=9)
    train(m, b, b, settings, 0, kept)
    best = kept.states["alone"][min(range(3), key=lambda i: kept.tune[i])]
    assert any(not torch.equal(kept.states["alone"][0][name], kept.states["alone"][2][name]) for name in best)
    for state in (*kept.states["fusion"], m.encoders.state_dict()):
        assert all(torch.equal(state[name], best[name]) for name in best)


@torch.no_grad()
def test_frozen_encoders_drop_nothing_and_change_no_film() -> None:
    b, m = mixed(), model(dropout=0.5)
    m.train()
    assert torch.equal(m(b).logits, m(b).logits)
    assert torch.equal(m(b).logits, m.eval()(b).logits)
    m.loss_weights = m.phases()[0].weights
    m.train()
    assert not torch.equal(m(b).logits, m(b).logits)


def test_the_vector_of_an_absence_learns_from_those_who_lack_the_modality_alone() -> None:
    b, m = mixed(), model()
    step(m, 2, b.take(b.present[:, FILM].nonzero().squeeze(1)))
    assert m.beside.absent is not None
    gradient = m.beside.absent.grad
    assert gradient is not None
    assert not gradient[FILM].any()
    filmless = b.take((~b.present[:, FILM]).nonzero().squeeze(1))
    step(m, 2, filmless)
    assert bool(m.beside.absent.grad[FILM].any())  # type: ignore[index]
    projection = m.beside.project[FILM].weight.grad
    assert projection is None or not projection.any()  # nor does a film's projection from whom has none
    assert model(absent="zeros").beside.absent is None


@torch.no_grad()
def test_the_mean_of_the_heads_stops_stage_one_and_a_loaded_model_is_past_it() -> None:
    b, m = mixed(), model()
    at_rest = m(b).logits
    m.loss_weights = m.phases()[0].weights
    v, got = encode(m.encoders, b, WIDTH), m(b).logits
    for i in range(20):
        said = [m.own.heads[k](v[i, k]) for k in range(7) if b.present[i, k]]
        torch.testing.assert_close(got[i], sum(said, torch.zeros(2)) / max(1, len(said)), rtol=0, atol=1e-5)
    assert torch.equal(model()(b).logits, at_rest)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 12},
        {"append_pattern": True},
        {"absent": "zeros"},
        {"image": ImageConfig("tiny", augment="strong")},
        {"series": SeriesConfig("lstm")},
        {"dropout": 0.5},
    ],
)
def test_every_setting_changes_loss_or_logits(change: dict[str, Any]) -> None:
    b, found = mixed(), []
    for settings in ({}, change):
        m = model(**settings)
        torch.manual_seed(1)
        found.append(torch.cat([m(b).logits.detach().flatten(), step(m, 1, b).total.detach()[None]]))
    assert not torch.allclose(*found, atol=1e-5)


def test_stage_one_has_a_rate_of_its_own() -> None:
    b = batch(60)
    config = TrainConfig(min_steps=0, max_epochs=1, batch_size=60, lr=1e-3, schedule="constant", warmup=0.0)
    history = train(model(SCHEMA, pretrain_rate=5.0), b, b, config, 0, Silent())
    assert [(h["phase"], h["lr"]) for h in history] == [("alone", 5e-3), ("fusion", 1e-3)]
    with pytest.raises(ConfigError, match=r"model\.pretrain_rate: expected a number above 0, got -1"):
        model(pretrain_rate=-1)

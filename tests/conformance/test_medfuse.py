"""MedFuse against its equations: one cell after the other, over what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.encoders.modality import encode
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError, TrainingError
from mmnar.models.base import Phase, summed_label_loss
from mmnar.models.medfuse import MedFuse, MedFuseConfig
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch, mixed, only
from tests.populations import MIXED, SCHEMA

TINY = ImageConfig("tiny")
WIDTH, HIDDEN = 8, 5
READ = ("course", "vitals", "labs", "unit", "note", "report", "film")
"""MIXED's modalities in the order in which they are to be read."""
PLACES = {name: i for i, name in enumerate(MIXED.modality_names)}


def model(schema: Schema = MIXED, **changes: Any) -> MedFuse:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "hidden": HIDDEN, "dropout": 0.0, "image": TINY} | changes
    return MedFuse(schema, MedFuseConfig(**settings)).eval()


def step(m: MedFuse, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One cell, unit by unit: torch has its gates in the order i, f, g, o."""
    net, new_h, new_c = m.fusion, torch.zeros_like(h), torch.zeros_like(c)
    for unit in range(HIDDEN):
        rows = [gate * HIDDEN + unit for gate in range(4)]
        i, f, g, o = (
            net.weight_ih_l0[r] @ x + net.weight_hh_l0[r] @ h + net.bias_ih_l0[r] + net.bias_hh_l0[r] for r in rows
        )
        new_c[unit] = torch.sigmoid(f) * c[unit] + torch.sigmoid(i) * torch.tanh(g)
        new_h[unit] = torch.sigmoid(o) * torch.tanh(new_c[unit])
    return new_h, new_c


def by_hand(m: MedFuse, v: Tensor, present: Tensor) -> Tensor:
    """h_T of one patient: v (M, D), present (M,)."""
    phi = {
        i: v[i] if name == "course" else m.project[i].weight @ v[i] + m.project[i].bias for name, i in PLACES.items()
    }
    s = [phi[PLACES[name]] for name in READ if present[PLACES[name]]] or [m.null]
    h, c = torch.zeros(2, HIDDEN, dtype=v.dtype)
    for x in s:
        h, c = step(m, x, h, c)
    return h


@torch.no_grad()
def test_the_state_by_hand_in_every_pattern_of_seven() -> None:
    m = model().double()
    v = torch.randn(128, 7, WIDTH, dtype=torch.float64)
    present = ((torch.arange(128)[:, None] >> torch.arange(7)) & 1).bool()
    got = m.fuse(*m.sequence(v, present))
    want = torch.stack([by_hand(m, *one) for one in zip(v, present, strict=True)])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@torch.no_grad()
def test_packed_is_unpacked_and_one_patient_is_a_batch() -> None:
    b, m = mixed(), model(append_pattern=True)
    got = m(b)
    for i in range(0, len(b), 4):
        one = b.take(torch.tensor([i]))
        s = [
            m.project[j](m.encoders[j](one.modalities[name])) for name in READ if one.present[0, j := PLACES[name]]
        ] or [m.null[None]]
        h = m.fusion(torch.stack(s, 1))[0][:, -1]  # a plain sequence of its own length
        alone = m(one)
        assert alone.representation.shape == (1, HIDDEN)
        assert alone.logits.shape == (1, 2)
        for h_t in (alone.representation, got.representation[i : i + 1]):
            torch.testing.assert_close(h_t, h, rtol=0, atol=1e-6)
        want = m.head.net(torch.cat([h, one.pattern], 1))
        torch.testing.assert_close(alone.logits, want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_an_absent_film_is_a_net_that_never_had_films() -> None:
    b, m = mixed(), model()
    names = MIXED.modality_names[:-1]
    part = only(b, names)
    without = model(part.schema)
    state = m.state_dict()
    without.load_state_dict({name: state[name] for name in without.state_dict()})
    keep = torch.ones_like(b.present)
    keep[:, PLACES["film"]] = False
    assert torch.allclose(m(b.drop(keep)).logits, without(part).logits, atol=1e-6)
    filmed = b.present[:, PLACES["film"]]
    differs = (m(b).logits - without(part).logits).abs().amax(1) > 1e-5
    assert torch.equal(differs, filmed)


@torch.no_grad()
def test_one_modality_is_one_step_and_nothing_at_all_a_learned_vector() -> None:
    b, m = mixed(), model()
    course = torch.zeros_like(b.present)
    course[:, PLACES["course"]] = True
    b = b.take(b.present[:, PLACES["course"]].nonzero().squeeze(1))
    v = m.project[PLACES["course"]](m.encoders[PLACES["course"]](b.modalities["course"]))
    zero = torch.zeros(HIDDEN)
    want = torch.stack([step(m, x, zero, zero)[0] for x in v])
    torch.testing.assert_close(m(b.drop(course[: len(b)])).representation, want, rtol=0, atol=1e-6)
    nothing = m(b.drop(torch.zeros_like(b.present))).representation
    torch.testing.assert_close(nothing, step(m, m.null, zero, zero)[0].expand_as(nothing), rtol=0, atol=1e-6)


@torch.no_grad()
def test_series_come_first_wherever_the_schema_has_them() -> None:
    b = mixed()
    there, back = only(b, ("labs", "course", "film")), only(b, ("course", "labs", "film"))
    m, other = model(there.schema), model(back.schema)
    for part in ("encoders", "project"):  # the same net, its modalities numbered otherwise
        for i, j in enumerate((1, 0, 2)):
            getattr(other, part)[i].load_state_dict(getattr(m, part)[j].state_dict())
    for part in ("fusion", "head"):
        getattr(other, part).load_state_dict(getattr(m, part).state_dict())
    other.null.copy_(m.null)
    assert torch.allclose(m(there).logits, other(back).logits, atol=1e-6)


@torch.no_grad()
def test_the_order_in_which_two_are_read_matters() -> None:
    m = model().double()
    v = torch.randn(9, 7, WIDTH, dtype=torch.float64)
    two = torch.zeros(9, 7, dtype=torch.bool)
    two[:, [PLACES["course"], PLACES["film"]]] = True
    s, lengths = m.sequence(v, two)
    assert lengths.tolist() == [2] * 9
    assert torch.equal(s[:, 0], m.project[PLACES["course"]](v[:, PLACES["course"]]))
    assert (m.fuse(s, lengths) - m.fuse(s[:, [1, 0]], lengths)).abs().max() > 1e-2
    torch.testing.assert_close(m.fuse(torch.cat([s[:, :2], 9 + s[:, 2:]], 1), lengths), m.fuse(s, lengths))


def grads(m: MedFuse, weights: dict[str, float], b: PatientBatch) -> set[str]:
    """Parameters that a step in the phase of these weights moves."""
    m.zero_grad(set_to_none=True)
    m.loss_weights = weights
    (objective,) = m.train().objectives(b, m)
    objective.total.backward()
    return {name for name, p in m.named_parameters() if p.grad is not None and bool(p.grad.any())}


def test_first_each_encoder_learns_by_its_own_head_from_those_who_have_the_modality() -> None:
    b, m = batch(), model(SCHEMA, pretrain=True)
    alone, fusion = m.phases()
    first, then = grads(m, alone.weights, b), grads(m, fusion.weights, b)
    assert {name.split(".")[0] for name in first} == {"encoders", "own"}
    assert {name.split(".")[0] for name in then} >= {"encoders", "project", "fusion", "head"}
    assert not any(name.startswith("own") for name in then)  # the heads are dropped
    lacking = b.drop(torch.tensor([True, False, True]).expand_as(b.present))
    assert not any(name.startswith(("encoders.1.", "own.heads.1.")) for name in grads(m, alone.weights, lacking))
    m.loss_weights = alone.weights
    torch.manual_seed(1)
    got, want = m(b).losses["alone"], torch.zeros(())
    for i, name in enumerate(SCHEMA.modality_names):
        have = b.take(b.present[:, i].nonzero().squeeze(1))
        o = m.own.heads[i](m.encoders[i](have.modalities[name]))
        want = want + summed_label_loss(o, have)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_that_stage_is_stopped_by_the_mean_of_what_the_heads_say_and_is_over_in_a_loaded_model() -> None:
    b, m = batch(), model(SCHEMA, pretrain=True)
    at_rest = m(b).logits
    m.loss_weights = m.phases()[0].weights
    v = encode(m.encoders, b, WIDTH)
    for i, got in enumerate(m(b).logits):
        said = [m.own.heads[k](v[i, k]) for k in range(3) if b.present[i, k]]
        torch.testing.assert_close(got, sum(said, torch.zeros(2)) / max(1, len(said)), rtol=0, atol=1e-5)
    m.loss_weights = m.phases()[1].weights
    assert torch.equal(m(b).logits, at_rest)
    assert torch.equal(model(SCHEMA)(b).logits, at_rest)  # the heads take nobody's first weights


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_two_stages_in_training_each_at_its_rate(rate: float) -> None:
    b = batch(120)
    config = TrainConfig(min_steps=0, max_epochs=2, batch_size=60, lr=1e-3, schedule="constant", warmup=0.0)
    history = train(model(SCHEMA, pretrain=True, pretrain_rate=rate), b, b, config, 0, Silent())
    assert [(h["phase"], h["lr"]) for h in history] == [("alone", rate * 1e-3)] * 2 + [("fusion", 1e-3)] * 2
    assert [set(h["train"]) for h in history] == [{"task", "alone"}] * 2 + [{"task"}] * 2


def test_a_fit_of_both_stages_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    b = batch(120)
    config = TrainConfig(min_steps=0, max_epochs=3, batch_size=32, patience=9, checkpoint_seconds=0)

    class Killed(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            if record["phase"] == "fusion" and record["epoch"] == 2:
                raise KeyboardInterrupt

    ends = [model(SCHEMA, pretrain=True, share=0.5) for _ in range(3)]
    train(ends[0], b, b, config, 3, Silent())
    with pytest.raises(KeyboardInterrupt):
        train(ends[1], b, b, config, 3, Killed(), tmp_path / "checkpoint")
    train(ends[2], b, b, config, 3, Silent(), tmp_path / "checkpoint")
    assert all(torch.equal(a, c) for a, c in zip(ends[0].parameters(), ends[2].parameters(), strict=True))


def test_fusion_learns_from_all_who_lack_nothing_and_a_share_of_the_others() -> None:
    b = batch(300)
    b = b.drop(torch.tensor([True, True, False]).expand_as(b.present))  # nobody has it: nobody lacks it
    complete = b.present[:, :2].all(1)
    others, chosen = int((~complete).sum()), []
    for share in (0.0, 0.2, 0.7):
        m = model(SCHEMA, share=share)
        torch.manual_seed(7)
        rows = m.learners(m.phases()[-1], b)
        assert rows is not None
        kept = torch.zeros(len(b), dtype=torch.bool).index_fill(0, rows, True)
        assert len(rows) == kept.sum() == complete.sum() + round(share * others)
        assert (kept | ~complete).all()
        chosen.append(kept)
    assert not (chosen[0] & ~chosen[1]).any()
    assert not (chosen[1] & ~chosen[2]).any()
    assert torch.equal(chosen[0], complete)
    m = model(SCHEMA, pretrain=True, share=0.2)
    assert m.learners(m.phases()[0], b) is None  # encoders alone learn from everybody
    assert model(SCHEMA).learners(Phase("joint", {"task": 1.0}), b) is None


def test_a_share_of_nobody_is_refused() -> None:
    b = batch().drop(torch.eye(3, dtype=torch.bool)[torch.arange(len(batch())) % 3])
    m = model(SCHEMA, share=0.0)
    with pytest.raises(TrainingError, match=r"model\.share: expected patients who have all modalities, got none"):
        m.learners(m.phases()[0], b)


@pytest.mark.parametrize("change", [{"share": 0.2}, {"pretrain": True}, {"pretrain": True, "pretrain_rate": 0.1}])
def test_stages_and_shares_change_the_weights(change: dict[str, Any]) -> None:
    b, config = batch(120), TrainConfig(min_steps=0, max_epochs=2, batch_size=60)
    before = {"pretrain": True} if "pretrain_rate" in change else {}
    ends = []
    for settings in (before, change):
        m = model(SCHEMA, **settings)
        train(m, b, b, config, 0, Silent())
        ends.append(m.head.net.weight)
    assert not torch.equal(*ends)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 12},
        {"hidden": 9},
        {"dropout": 0.5},
        {"append_pattern": True},
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden": 0}, r"model\.hidden: expected 1 or more, got 0"),
        ({"share": 1.5}, r"model\.share: expected a share, 0 … 1, got 1\.5"),
        ({"pretrain_rate": 0.0}, r"model\.pretrain_rate: expected a number above 0, got 0\.0"),
    ],
)
def test_what_is_no_setting_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        model(**change)

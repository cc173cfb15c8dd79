"""MedFuse against its equations: one cell after the other, over what there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.medfuse import MedFuse, MedFuseConfig
from mmnar.schema import Schema
from tests.conformance.test_models import mixed, only
from tests.populations import MIXED

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


def test_a_state_of_no_units_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden: expected 1 or more, got 0"):
        model(hidden=0)

"""MMTM's own invariants, each against its definition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmnar.config import override
from mmnar.encoders.image import PART
from mmnar.encoders.passage import passages
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError, SchemaError
from mmnar.models.mmtm import MMTM, MMTMConfig, Transfer
from mmnar.types import PatientBatch
from tests.conformance.test_models import mixed, only
from tests.populations import MIXED

WIDTH = 16
COURSE, FILM = (MIXED.modality_names.index(name) for name in ("course", "film"))
CHANNELS = {1: 8, 2: 16, 3: 32, 4: 64}
SHORT = SeriesConfig("lstm", hours=12.0)


def model(**settings: Any) -> MMTM:
    torch.manual_seed(0)
    known: dict[str, Any] = {"width": WIDTH, "dropout": 0.0, "image": ImageConfig("tiny"), "series": SHORT}
    return MMTM(MIXED, MMTMConfig(**known | settings)).eval()


def with_both(n: int = 60) -> PatientBatch:
    """Patients who have a film and a course."""
    b = mixed(n)
    return b.take((b.present[:, FILM] & b.present[:, COURSE]).nonzero().squeeze(1))


def exchanged(b: PatientBatch, which: int) -> PatientBatch:
    """Each patient with one modality of the patient before."""
    name, before = b.schema.modality_names[which], torch.arange(len(b)).roll(1)
    present = b.present.clone()
    present[:, which] = present[before, which]
    modalities = {**b.modalities, name: b.modalities[name].take(before)}
    return replace(b, modalities=modalities, present=present, checked=False)


def walked(m: MMTM, b: PatientBatch) -> list[dict[str, Tensor]]:
    """At each of the model's stages: squeezes, factors, and maps and states before and behind the excitation."""
    ways, h = passages(m.encoders, b, WIDTH, m.config.stages)
    places = []
    for place, transfer in enumerate(m.transfers):
        for way in ways.values():
            way.go(place)
        s = torch.cat([ways[i].squeezed() if i in ways else h[i] for i in range(len(MIXED.modalities))], 1)
        before = (ways[FILM].values, ways[COURSE].values)
        factors = dict(zip(m.excited, transfer(s), strict=True))
        for i, way in ways.items():
            way.scale(factors[i])
        at = {"s": s, "map": before[0], "states": before[1], "of_film": factors[FILM], "of_course": factors[COURSE]}
        places.append(at | {"map'": ways[FILM].values, "states'": ways[COURSE].values})
    for i, way in ways.items():  # so the model itself goes
        torch.testing.assert_close(way.vector(), part_of(m, b, i), rtol=0, atol=1e-6)
    return places


def part_of(m: MMTM, b: PatientBatch, which: int) -> Tensor:
    """(B, D): the vector of one stream."""
    return m(b).representation.view(len(b), -1, WIDTH)[:, which]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


@torch.no_grad()
def test_the_transfer_by_hand() -> None:
    torch.manual_seed(0)
    transfer = Transfer([3, 5, 2], [3, 5], 4).double()
    assert transfer.squeeze.weight.shape == (5, 10)  # 2 · 10 / 4
    s = 3 * torch.randn(7, 10).double()
    got = transfer(s)
    assert [tuple(factor.shape) for factor in got] == [(7, 3), (7, 5)]
    w, bias = transfer.squeeze.weight.tolist(), transfer.squeeze.bias.tolist()
    for n in range(7):
        z = [
            max(0.0, b + sum(x * y for x, y in zip(r, s[n].tolist(), strict=True)))
            for r, b in zip(w, bias, strict=True)
        ]
        for factor, layer in zip(got, transfer.excite, strict=True):
            for c, (row, b) in enumerate(zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)):  # type: ignore[operator,union-attr]
                assert float(factor[n, c]) == pytest.approx(2 / (1 + math.exp(-b - dot(row, z))))


@torch.no_grad()
def test_factors_lie_between_zero_and_two_and_without_excitation_all_is_as_it_was() -> None:
    b, m = mixed(), model(stages=(1, 2, 3, 4))
    for at in walked(m, b):
        for factor in (at["of_film"], at["of_course"]):
            assert factor.min() > 0
            assert factor.max() < 2
            assert factor.std() > 0.01
    before = m(b).logits
    for transfer in m.transfers:
        for layer in transfer.excite:  # type: ignore[union-attr]
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    assert all(torch.equal(at["map'"], at["map"]) and torch.equal(at["states'"], at["states"]) for at in walked(m, b))
    torch.testing.assert_close(part_of(m, b, FILM), m.encoders[FILM](b.modalities["film"]), rtol=0, atol=1e-5)
    assert not torch.allclose(m(b).logits, before, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("stages", [(1, 2, 3, 4), (2, 4)])
def test_excitation_is_the_same_everywhere_and_at_all_times(
    stages: tuple[int, ...],
) -> None:
    b, m = with_both(), model(stages=stages)
    for stage, at in zip(stages, walked(m, b), strict=True):
        assert at["map"].shape[1] == CHANNELS[stage]
        torch.testing.assert_close(at["map'"], at["map"] * at["of_film"][..., None, None])
        torch.testing.assert_close(at["states'"], at["states"] * at["of_course"][..., None])
        torch.testing.assert_close(at["s"][:, -CHANNELS[stage] :], at["map"].mean((2, 3)), rtol=0, atol=1e-6)
        assert at["s"].shape[1] == WIDTH * (len(MIXED.modalities) - 1) + CHANNELS[stage]


@torch.no_grad()
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_another_course_changes_the_films_map_by_a_constant_of_each_channel(stage: int) -> None:
    b, m = with_both(), model(stages=(stage,))
    ((own,), (others)) = walked(m, b), walked(m, exchanged(b, COURSE))
    assert torch.equal(others[0]["map"], own["map"])
    ratio = torch.where(own["map"] > 1e-3, others[0]["map'"] / own["map'"], torch.nan).flatten(2)
    spread = ratio.nan_to_num(-torch.inf).amax(2) - ratio.nan_to_num(torch.inf).amin(2)
    assert spread[spread.isfinite()].max() < 1e-4
    assert (ratio.nanmean(2) - 1).nan_to_num(0).abs().max() > 1e-3
    assert (part_of(m, b, FILM) - part_of(m, exchanged(b, COURSE), FILM)).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("which", "seen"), [(COURSE, "map'"), (FILM, "states'")])
def test_each_stream_changes_the_other_at_every_stage(which: int, seen: str) -> None:
    b, m = with_both(), model(stages=(1, 2, 3, 4))
    places = zip(walked(m, b), walked(m, exchanged(b, which)), strict=True)
    changes = [float((own[seen] - others[seen]).abs().mean() / own[seen].abs().mean()) for own, others in places]
    assert len(changes) == 4
    assert min(changes) > 1e-3
    # what is without stages is read at each and stays what it was
    assert torch.equal(part_of(m, b, 0), m.encoders[0](b.modalities["vitals"]) * b.present[:, :1])


def test_the_films_logit_has_a_gradient_in_the_course_through_each_stage() -> None:
    b = with_both()
    content = b.modalities["course"]
    for stages in ((1,), (2,), (3,), (4,), (1, 2, 3, 4)):
        m, factors = model(stages=stages), []
        for transfer in m.transfers:
            transfer.register_forward_hook(lambda _, __, out, factors=factors: factors.append(out[-1]))
        values = content.values.clone().requires_grad_()
        part = replace(b, modalities={**b.modalities, "course": replace(content, values=values)}, checked=True)
        weight = m.head.net.weight[:, FILM * WIDTH : (FILM + 1) * WIDTH]  # type: ignore[index]
        logit = (part_of(m, part, FILM) @ weight.T).sum()  # type: ignore[operator]
        for of_film, inward in zip(factors, torch.autograd.grad(logit, factors, retain_graph=True), strict=True):
            assert inward.abs().max() > 1e-6
            assert torch.autograd.grad(of_film, values, inward, retain_graph=True)[0].abs().max() > 1e-8


@torch.no_grad()
def test_what_is_absent_is_not_run_and_squeezes_to_zero() -> None:
    b, m = mixed(), model(stages=(2, 3))
    run = [0] * 5
    for i, part in enumerate(("conv1", "layer1", "layer2", "layer3", "layer4")):
        layer = getattr(m.encoders[FILM].resnet, part)  # type: ignore[union-attr]
        layer.register_forward_hook(lambda _, x, __, i=i: run.__setitem__(i, run[i] + len(x[0])))
    steps: list[int] = []
    m.encoders[COURSE].steps.register_forward_hook(lambda _, x, __: steps.append(len(x[0])))  # type: ignore[union-attr]
    m(b)
    assert run == [int(b.present[:, FILM].sum())] * 5
    assert sum(steps) == int(b.present[:, COURSE].sum())
    for at, film in zip(walked(m, b), (16, 32), strict=True):
        assert not at["s"][~b.present[:, FILM], -film:].any()
        start = COURSE * WIDTH
        assert not at["s"][~b.present[:, COURSE], start : start + WIDTH].any()
    run[:] = [0] * 5
    for absent, other in ((FILM, COURSE), (COURSE, FILM)):
        keep = torch.ones_like(b.present)
        keep[:, absent] = False
        without = b.drop(keep)
        vectors = m(without).representation.view(len(b), -1, WIDTH)
        assert not vectors[:, absent].any()
        assert vectors[b.present[:, other], other].std(0).min() > 1e-3
        if absent == FILM:
            assert run == [0] * 5
    nothing = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(nothing, m.head.net.bias.expand_as(nothing))  # type: ignore[operator]


@torch.no_grad()
def test_without_a_film_the_course_is_excited_by_what_there_is() -> None:
    b, m = mixed(), model()
    keep = torch.ones_like(b.present)
    keep[:, FILM] = False
    without = b.drop(keep)
    with_vitals, keep[:, 0] = part_of(m, without, COURSE), False
    change = (with_vitals - part_of(m, b.drop(keep), COURSE)).abs().sum(1)
    both = b.present[:, COURSE] & b.present[:, 0]
    assert change[both].min() > 1e-5
    assert not change[~both].any()


@torch.no_grad()
def test_film_and_course_are_no_sum() -> None:
    b, m = with_both(), model()
    own, film, course = m(b).logits, m(exchanged(b, FILM)).logits, m(exchanged(b, COURSE)).logits
    interaction = own - film - course + m(exchanged(exchanged(b, FILM), COURSE)).logits
    assert interaction.abs().max() > 1e-4


@torch.no_grad()
def test_prediction_goes_by_parts() -> None:
    b = mixed()
    b = b.take(torch.arange(3 * PART + 5) % len(b))
    m, most = model(), []
    m.encoders[FILM].resnet.conv1.register_forward_hook(lambda _, x, __: most.append(len(x[0])))  # type: ignore[union-attr]
    m(b)
    assert 0 < max(most) <= PART


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"stages": "4"},
        {"stages": "1,2,3"},
        {"ratio": 8},
        {"image.augment": "none"},
        {"series.encoder": "transformer"},
        {"series.hours": 24},
        {"series.layers": 2},
        {"series.both_ways": "true"},
    ],
    ids=str,
)
def test_every_setting_changes_the_logits(change: dict[str, object]) -> None:
    b, logits = mixed(), []
    for words in ({}, change):
        config = override(MMTMConfig(width=WIDTH, image=ImageConfig("tiny"), series=SHORT), words)
        torch.manual_seed(0)
        m = MMTM(MIXED, config).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-4)


def test_the_series_has_a_stretch_before_each_stage_and_one_behind() -> None:
    for stages in ((4,), (1, 2, 3, 4)):
        assert len(model(stages=stages).encoders[COURSE].stretches) == len(stages) + 1  # type: ignore[arg-type]


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="stages"):
        MMTMConfig(stages=())
    with pytest.raises(ConfigError, match="ratio"):
        MMTMConfig(ratio=0)
    with pytest.raises(ConfigError, match="lstm or transformer"):
        model(series=SeriesConfig())
    b = mixed()
    for names in (("film",), ("course", "vitals")):
        with pytest.raises(SchemaError, match="a film and another"):
            MMTM(only(b, names).schema, MMTMConfig())
    assert "image" in str(MMTM.card.refuses(only(b, ("vitals", "course")).schema))


def test_as_published_it_is_built_and_learns_from_labels_alone() -> None:
    words = {key.removeprefix("model."): value for key, value in MMTM.card.original.items() if key.startswith("model.")}
    m = MMTM(MIXED, override(MMTMConfig(), words | {"image.backbone": "tiny", "width": WIDTH})).train()
    assert len(m.transfers) == 4
    assert m(mixed()).losses == {}

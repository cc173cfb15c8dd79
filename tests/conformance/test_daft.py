"""DAFT's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmnar.config import override
from mmnar.encoders.image import PART
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError, SchemaError
from mmnar.models.daft import DAFT, DAFTConfig, Transform
from mmnar.types import PatientBatch
from tests.conformance.test_models import mixed, only
from tests.populations import MIXED

WIDTH = 16
COURSE, FILM = (MIXED.modality_names.index(name) for name in ("course", "film"))
IMAGE: dict[str, Any] = {"image": ImageConfig("tiny")}
SERIES: dict[str, Any] = {**IMAGE, "direction": "series", "series": SeriesConfig("lstm", hours=12.0)}
DIRECTIONS = pytest.mark.parametrize("settings", [IMAGE, SERIES], ids=["image", "series"])


def model(**settings: Any) -> DAFT:
    torch.manual_seed(0)
    return DAFT(MIXED, DAFTConfig(width=WIDTH, dropout=0.0, **settings)).eval()


def with_both(n: int = 60) -> PatientBatch:
    """Patients who have a film and a course."""
    b = mixed(n)
    return b.take((b.present[:, FILM] & b.present[:, COURSE]).nonzero().squeeze(1))


def exchanged(b: PatientBatch, other: PatientBatch, *which: int) -> PatientBatch:
    """The patients of ``b`` with some modalities of others."""
    names = [b.schema.modality_names[i] for i in which]
    present = b.present.clone()
    present[:, which] = other.present[:, which]
    modalities = {**b.modalities, **{name: other.modalities[name] for name in names}}
    return replace(b, modalities=modalities, present=present, checked=False)


def watched(m: DAFT) -> list[tuple[Transform, Tensor, Tensor, Tensor, Tensor]]:
    """What each transform is given and gives, as they are called: itself, F, mean, a, F'."""
    seen: list[tuple[Transform, Tensor, Tensor, Tensor, Tensor]] = []
    for transform in m.transforms:
        transform.register_forward_hook(lambda t, given, out: seen.append((t, *given, out)))
    return seen


@torch.no_grad()
def test_the_transform_by_hand() -> None:
    torch.manual_seed(0)
    transform = Transform(9, 5).double()
    assert transform.w1.weight.shape == (2, 14)  # ⌊14 / 7⌋
    assert transform.w1.bias is None
    assert transform.w2.bias is None
    maps, a = torch.randn(4, 9, 3, 2).double(), torch.randn(4, 5).double()
    got = transform(maps, maps.mean((2, 3)), a)
    for n in range(4):
        s = [sum(maps[n, c].flatten().tolist()) / 6 for c in range(9)] + a[n].tolist()
        hidden = [max(0.0, sum(w * x for w, x in zip(row, s, strict=True))) for row in transform.w1.weight.tolist()]
        out = [sum(w * x for w, x in zip(row, hidden, strict=True)) for row in transform.w2.weight.tolist()]
        for c in range(9):
            torch.testing.assert_close(got[n, c], (1 + out[c]) * maps[n, c] + out[9 + c])
    states = maps.flatten(2)
    assert torch.equal(transform(states, states.mean(2), a), got.flatten(2))


@torch.no_grad()
@DIRECTIONS
def test_transforms_that_say_nothing_leave_all_as_it_was(settings: dict[str, Any]) -> None:
    b, m, logits = mixed(), model(**settings), []
    for factor in (1.0, 0.0):
        for transform in m.transforms:
            transform.w2.weight *= factor  # type: ignore[union-attr]
        logits.append(m(b).logits)
    plain = m.encoders[FILM](b.modalities["film"])
    films = m(b).representation.view(len(b), -1, WIDTH)[:, FILM]
    torch.testing.assert_close(films, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(*logits, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("stages", [(1,), (2,), (3,), (4,), (1, 2, 3, 4)])
def test_films_are_scaled_and_shifted_alike_everywhere_at_the_stages_asked_for(stages: tuple[int, ...]) -> None:
    b, m = with_both(), model(**IMAGE, stages=stages)
    for transform in m.transforms:
        transform.w2.weight[transform.w2.weight.shape[0] // 2 :] = 0  # β = 0
    seen = watched(m)
    m(b)
    channels = {1: 8, 2: 16, 3: 32, 4: 64}
    assert [f.shape[1] for _, f, *_ in seen] == [channels[stage] for stage in stages]
    for _, f, mean, a, changed in seen:
        assert changed.shape == f.shape
        torch.testing.assert_close(mean, f.mean((2, 3)))
        assert a.shape == (len(b), WIDTH * (len(MIXED.modalities) - 1))
        ratio = torch.where(f > 1e-3, changed / f, torch.nan).flatten(2)  # 1 + γ wherever there is something
        spread = ratio.nan_to_num(-torch.inf).amax(2) - ratio.nan_to_num(torch.inf).amin(2)
        assert spread[spread.isfinite()].max() < 1e-3
        several = ratio.nanmean(2)
        assert (several.nan_to_num(1.0).std(0) > 1e-3).any()  # and another for each patient


@torch.no_grad()
def test_a_film_is_told_what_is_known_of_its_patient() -> None:
    b, m = mixed(), model(**IMAGE)
    b = b.take(torch.arange(PART) % len(b))
    seen = watched(m)
    told = m(b).representation[:, : FILM * WIDTH]  # the film comes last in the schema
    assert torch.equal(seen[0][3], told[b.present[:, FILM]])
    assert not told.view(len(b), -1, WIDTH)[~b.present[:, :FILM]].any()


@torch.no_grad()
def test_states_are_scaled_and_shifted_alike_at_all_steps() -> None:
    b, m = with_both(), model(**SERIES, stages=(2, 4))
    seen = watched(m)
    m(b)
    maps = m.encoders[FILM].stages(b.modalities["film"].values)  # type: ignore[operator]
    others = len(MIXED.modalities) - 2
    for (transform, f, mean, a, changed), stage in zip(seen, (2, 4), strict=True):
        assert f.shape[:2] == (len(b), WIDTH)
        # what the film tells is the mean of the stage's map, and comes last, as in the schema
        torch.testing.assert_close(a[:, others * WIDTH :], maps[stage - 1].mean((2, 3)), rtol=0, atol=1e-5)
        gamma, beta = transform.w2(torch.relu(transform.w1(torch.cat([mean, a], 1)))).chunk(2, 1)
        for step in range(f.shape[2]):
            torch.testing.assert_close(changed[..., step], (1 + gamma) * f[..., step] + beta)


@torch.no_grad()
def test_with_nothing_else_only_the_film_speaks() -> None:
    b, m = with_both(), model(**IMAGE)
    nothing_else = torch.zeros_like(b.present)
    nothing_else[:, FILM] = True
    alone = b.drop(nothing_else)
    seen = watched(m)
    films = m(alone).representation.view(len(b), -1, WIDTH)
    assert not seen[0][3].any()  # a = 0
    assert not films[:, :FILM].any()
    swapped = exchanged(alone, alone.take(torch.arange(len(b)).roll(1)), COURSE)
    assert torch.equal(m(swapped).logits, m(alone).logits)
    assert not torch.allclose(films[:, FILM], m(b).representation.view(len(b), -1, WIDTH)[:, FILM], atol=1e-3)


@torch.no_grad()
@DIRECTIONS
def test_without_a_film_no_stage_runs_and_the_others_speak(settings: dict[str, Any]) -> None:
    b, m = mixed(), model(**settings, stages=(2, 3))
    run = [0] * 5
    for i, part in enumerate(("conv1", "layer1", "layer2", "layer3", "layer4")):
        layer = getattr(m.encoders[FILM].resnet, part)  # type: ignore[union-attr]
        layer.register_forward_hook(lambda _, x, __, i=i: run.__setitem__(i, run[i] + len(x[0])))
    m(b)
    assert run == [int(b.present[:, FILM].sum())] * 5
    without = torch.ones_like(b.present)
    without[:, FILM] = False
    seen, filmless = watched(m), b.drop(without)
    told = m(filmless).logits
    assert run == [int(b.present[:, FILM].sum())] * 5
    assert told[b.present[:, COURSE]].std(0).min() > 0.02
    if settings is SERIES:
        assert all(not a[:, -c:].any() for (_, _, _, a, _), c in zip(seen, (16, 32), strict=True))
    nothing = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(nothing, m.head.net.bias.expand_as(nothing))  # type: ignore[operator]


def second_difference(m: DAFT, b: PatientBatch) -> Tensor:
    """Logits of (own, own) − (own, other's film) − (other's rest, own film) + (other, other): 0 of a sum."""
    other = b.take(torch.arange(len(b)).roll(1))
    own, film, rest, both = (m(x).logits for x in (b, exchanged(b, other, FILM), exchanged(other, b, FILM), other))
    return own - film - rest + both


@torch.no_grad()
@DIRECTIONS
def test_film_and_rest_are_no_sum(settings: dict[str, Any]) -> None:
    assert second_difference(model(**settings), with_both()).abs().max() > 1e-3


@torch.no_grad()
def test_a_shift_behind_the_last_stage_by_the_others_alone_is_a_sum() -> None:
    # before a later layer a shift is none: what is rectified behind it multiplies
    b, m = with_both(), model(**IMAGE, stages=(4,))
    (transform,) = m.transforms
    transform.w2.weight[:64] = 0  # type: ignore[index,operator]
    transform.w1.weight[:, :64] = 0  # type: ignore[index,operator]
    assert second_difference(m, b).abs().max() < 1e-5
    earlier = model(**IMAGE, stages=(3,))
    (transform,) = earlier.transforms
    transform.w2.weight[:32] = 0  # type: ignore[index,operator]
    transform.w1.weight[:, :32] = 0  # type: ignore[index,operator]
    assert second_difference(earlier, b).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_five_new_transforms_in_a_row_keep_the_size_of_a_signal(seed: int) -> None:
    torch.manual_seed(seed)
    f, a, plain = torch.randn(400, 256, 1), torch.randn(400, 256), torch.randn(400, 256, 1)
    for _ in range(5):
        transform = Transform(256, 256)
        f, plain = transform(f, f.mean(2), a), transform(plain, plain.mean(2), a) - plain
    assert 0.5 < f.std() < 2
    assert plain.std() < 0.35  # γ F + β, as published


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [WIDTH, 128])
@pytest.mark.parametrize(
    "settings", [IMAGE, SERIES | {"series": SeriesConfig("transformer", hours=12.0)}], ids=["image", "series"]
)
def test_a_new_model_lets_the_signal_through(settings: dict[str, Any], width: int, seed: int) -> None:
    torch.manual_seed(seed)
    m = DAFT(MIXED, DAFTConfig(width=width, stages=(1, 2, 3, 4), **settings)).eval()
    seen = watched(m)
    m(with_both())
    ratios = [float(changed.std() / f.std()) for _, f, _, _, changed in seen]
    assert len(ratios) == 4
    assert min(ratios) > 0.5
    assert max(ratios) < 2


@DIRECTIONS
def test_each_stage_passes_a_gradient_from_the_one_to_the_other(settings: dict[str, Any]) -> None:
    b = with_both()
    for stage in (1, 2, 3, 4):
        m = model(**settings | {"series": SERIES["series"]}, stages=(stage,))
        acted, name = (FILM, "course") if settings is IMAGE else (COURSE, "film")
        content = b.modalities[name]
        values = content.values.float() / (255 if name == "film" else 1)
        values.requires_grad_()
        part = replace(b, modalities={**b.modalities, name: replace(content, values=values)}, checked=True)
        of_acted = m(part).representation.view(len(b), -1, WIDTH)[:, acted]
        weight = m.head.net.weight[:, acted * WIDTH : (acted + 1) * WIDTH]  # type: ignore[index]
        (of_acted @ weight.T).sum().backward()  # type: ignore[operator]
        assert values.grad is not None
        assert values.grad.abs().max() > 1e-7


@torch.no_grad()
def test_prediction_goes_by_parts() -> None:
    b = mixed()
    b = b.take(torch.arange(3 * PART + 5) % len(b))
    m, most = model(**IMAGE), []
    m.encoders[FILM].resnet.conv1.register_forward_hook(lambda _, x, __: most.append(len(x[0])))  # type: ignore[union-attr]
    m(b)
    assert 0 < max(most) <= PART


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"direction": "series", "series.encoder": "lstm"},
        {"stages": "2,3"},
        {"stages": "4"},
        {"image.augment": "none"},
        {"series.encoder": "lstm"},
    ],
    ids=str,
)
def test_every_setting_changes_the_logits(change: dict[str, object]) -> None:
    b, logits = mixed(), []
    for words in ({}, change):
        config = override(DAFTConfig(width=WIDTH, **IMAGE), words)
        torch.manual_seed(0)
        m = DAFT(MIXED, config).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-4)


def test_series_settings_reach_the_stretches() -> None:
    config = SeriesConfig("lstm", hours=12.0, layers=2, both_ways=True)
    m = model(**SERIES | {"series": config}, stages=(1, 4))
    assert [s.net.num_layers for s in m.encoders[COURSE].stretches] == [2, 2, 2]  # type: ignore[union-attr]
    assert m(mixed()).logits.isfinite().all()


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="stages"):
        DAFTConfig(stages=(3, 2))
    with pytest.raises(ConfigError, match="lstm or transformer"):
        model(direction="series")
    b = mixed()
    for names, direction in ((("vitals", "film"), "series"), (("film",), "image"), (("course", "labs"), "image")):
        with pytest.raises(SchemaError, match="another kind"):
            DAFT(only(b, names).schema, DAFTConfig(direction=direction))  # type: ignore[arg-type]
    assert "image" in str(DAFT.card.refuses(only(b, ("vitals", "course")).schema))


def test_as_published_it_is_what_medfuse_has() -> None:
    words = {key.removeprefix("model."): value for key, value in DAFT.card.original.items() if key.startswith("model.")}
    config = override(DAFTConfig(), words | {"image.backbone": "tiny", "width": WIDTH})
    m = DAFT(MIXED, config)
    assert config.direction == "series"
    assert len(m.transforms) == 1
    assert len(m.encoders[COURSE].stretches) == 2  # type: ignore[arg-type]

"""Stretches of a series' layers, one after the other, are the encoder of as many layers; what passes can be changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.passage import FilmPassage, Passage, SeriesPassage, channels_at, passages, squeezed
from mmnar.encoders.series import LSTMEncoder, TransformerEncoder
from mmnar.encoders.settings import ImageConfig, SeriesConfig, check_stages
from mmnar.encoders.stream import SeriesStream, mean_over_steps
from mmnar.errors import ConfigError
from mmnar.types import Series
from tests.conformance.test_models import mixed
from tests.populations import MIXED

COURSE, FILM = (MIXED.modality_names.index(name) for name in ("course", "film"))
SPEC, WIDTH = MIXED.modalities[COURSE], 8


def stream(stretches: int, **config: object) -> SeriesStream:
    torch.manual_seed(0)
    return SeriesStream(SPEC, WIDTH, 0.0, SeriesConfig(hours=12.0, **config), stretches).eval()  # type: ignore[arg-type]


def film() -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(32, WIDTH, config=ImageConfig("tiny")).eval()


def course() -> tuple[Series, torch.Tensor]:
    b = mixed()
    content = b.modalities["course"]
    assert isinstance(content, Series)
    return content, b.present[:, COURSE]


@torch.no_grad()
@pytest.mark.parametrize("both_ways", [False, True])
def test_one_stretch_of_lstm_is_the_encoder(both_ways: bool) -> None:
    part = stream(1, encoder="lstm", layers=2, both_ways=both_ways)
    whole = LSTMEncoder(SPEC, WIDTH, 0.0, SeriesConfig("lstm", hours=12.0, layers=2, both_ways=both_ways)).eval()
    whole.steps.load_state_dict(part.steps.state_dict())
    whole.lstm.load_state_dict(part.stretches[0].net.state_dict())  # type: ignore[union-attr]
    whole.out.load_state_dict(part.out.state_dict())
    content, present = course()
    found = SeriesPassage(part, content, present).vector()
    torch.testing.assert_close(found[present], whole(content)[present], rtol=0, atol=1e-6)
    assert not found[~present].any()
    assert part.channels == WIDTH * (1 + both_ways)


@torch.no_grad()
@pytest.mark.parametrize("both_ways", [False, True])
def test_later_stretches_of_lstm_add_to_what_they_are_given(both_ways: bool) -> None:
    parts = stream(3, encoder="lstm", both_ways=both_ways)
    content, present = course()
    way = SeriesPassage(parts, content, present)
    for place in range(2):
        way.go(place)
    got = way.vector()
    for i in present.nonzero().squeeze(1).tolist():
        x, _ = parts.steps(content.take(torch.tensor([i])))
        for number, stretch in enumerate(parts.stretches):
            x = stretch.net(x)[0] + (x if number else 0)  # type: ignore[union-attr,operator]
        last = torch.cat([x[0, -1, :WIDTH], x[0, 0, WIDTH:]])
        torch.testing.assert_close(got[i], parts.out(last), rtol=0, atol=1e-6)


@torch.no_grad()
def test_stretches_of_a_transformer_are_one_of_as_many_layers() -> None:
    parts = stream(2, encoder="transformer", layers=2)
    whole = TransformerEncoder(SPEC, WIDTH, 0.0, SeriesConfig("transformer", hours=12.0, layers=4)).eval()
    whole.steps.load_state_dict(parts.steps.state_dict())
    whole.position.copy_(parts.position)
    layers = [layer for stretch in parts.stretches for layer in stretch.layers]  # type: ignore[union-attr]
    for mine, theirs in zip(layers, whole.layers, strict=True):
        theirs.load_state_dict(mine.state_dict())
    content, present = course()
    way = SeriesPassage(parts, content, present)
    way.go(0)
    torch.testing.assert_close(way.vector()[present], whole(content)[present], rtol=0, atol=1e-5)


def test_means_are_over_the_steps_that_a_patient_has() -> None:
    states, lengths = torch.randn(3, 4, 5), torch.tensor([1, 3, 5])
    got = mean_over_steps(states, lengths)
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(got[i], states[i, :, :n].mean(1))
    noise = torch.where(torch.arange(5) < lengths[:, None, None], states, 1e6)
    assert torch.equal(mean_over_steps(noise, lengths), got)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["lstm", "transformer"])
def test_what_is_changed_behind_a_patients_last_step_moves_nothing(encoder: str) -> None:
    content, present = course()
    vectors = []
    for noise in (0.0, 1e3):
        way = SeriesPassage(stream(2, encoder=encoder), content, present)
        way.go(0)
        behind = torch.arange(way.values.shape[2]) >= way.lengths[:, None, None]
        assert behind.any()
        way.values = torch.where(behind, noise, way.values)
        vectors.append(way.vector())
    torch.testing.assert_close(*vectors, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_film_that_nothing_changes_is_encoded_as_always() -> None:
    b, encoder = mixed(), film()
    content, present = b.modalities["film"], b.present[:, FILM]
    way = FilmPassage(encoder, content, present, (2, 4))  # type: ignore[arg-type]
    maps = encoder.stages(content.values)
    for place, stage in enumerate((2, 4)):
        way.go(place)
        assert torch.equal(way.values, maps[stage - 1])
        torch.testing.assert_close(way.squeezed()[present], maps[stage - 1].mean((2, 3)))
        assert not way.squeezed()[~present].any()
    assert torch.equal(way.vector(), encoder(content))
    halved = FilmPassage(encoder, content, present, (2,))  # type: ignore[arg-type]
    halved.go(0)
    halved.values = halved.values / 2
    assert torch.equal(halved.vector(), encoder.placed(encoder.from_stage(2, maps[1] / 2), content))  # type: ignore[arg-type]


def test_nobody_is_under_way() -> None:
    b = mixed()
    nobody = torch.zeros(len(b), dtype=torch.bool)
    parts, encoder = stream(3, encoder="lstm", both_ways=True), film()
    encoder.resnet.conv1.register_forward_hook(lambda *_: pytest.fail("a film was encoded"))
    ways: tuple[Passage, ...] = (
        SeriesPassage(parts, b.modalities["course"], nobody),  # type: ignore[arg-type]
        FilmPassage(encoder, b.modalities["film"], nobody, (1, 3)),  # type: ignore[arg-type]
    )
    for way, channels in zip(ways, ((16, 16), (8, 32)), strict=True):
        for place in range(2):
            way.go(place)
            assert torch.equal(way.squeezed(), torch.zeros(len(b), channels[place]))
        assert torch.equal(way.vector(), torch.zeros(len(b), WIDTH))


def test_side_by_side_in_the_order_asked_for() -> None:
    b, plain = mixed(), nn.Linear(1, WIDTH)
    part = b.drop(torch.tensor([m in (COURSE, FILM) for m in range(b.present.shape[1])]).expand_as(b.present))
    encoders = nn.ModuleList([plain] * len(MIXED.modalities))
    encoders[COURSE], encoders[FILM] = stream(2, encoder="lstm"), film()
    ways, vectors = passages(encoders, part, WIDTH, (2,))
    assert set(ways) == {COURSE, FILM}
    assert set(vectors) == set(range(len(MIXED.modalities))) - {COURSE, FILM}
    for way in ways.values():
        way.go(0)
    got = squeezed(ways, vectors, (FILM, 0, COURSE))
    widths = [channels_at(encoders[i], 2, WIDTH) for i in (FILM, 0, COURSE)]
    assert widths == [16, WIDTH, WIDTH]
    told = got.split(widths, dim=1)
    assert torch.equal(told[0], ways[FILM].squeezed())
    assert not told[1].any()
    assert torch.equal(told[2], ways[COURSE].squeezed())


def test_what_has_no_steps_or_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="lstm or transformer"):
        stream(2, encoder="set")
    with pytest.raises(ConfigError, match="divisor"):
        stream(2, encoder="transformer", heads=3)
    for wrong in ((), (0,), (5,), (3, 2), (2, 2)):
        with pytest.raises(ConfigError, match="stages"):
            check_stages(wrong)
    check_stages((1, 2, 3, 4))

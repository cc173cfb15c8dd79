"""The image encoder: independence of images, trained in every parameter, augmentation against scipy."""

from __future__ import annotations

import math
from typing import Literal, get_args

import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from mmnar.config import override
from mmnar.encoders import image
from mmnar.encoders.image import PART, ImageEncoder, slightly_changed, strongly_changed
from mmnar.encoders.settings import Backbone, ImageConfig
from mmnar.errors import ConfigError, SchemaError
from mmnar.types import Items

pytest.importorskip("monai")

BACKBONES = get_args(Backbone)

SIDE = 48


def _images(n: int, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _content(counts: list[int], hours: float = -3.0, side: int = SIDE) -> Items:
    """Items of patients with and without an image."""
    offsets = torch.tensor([0, *counts]).cumsum(0)
    return Items(offsets, torch.full((sum(counts),), hours), _images(sum(counts), side))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_image_trains_every_parameter(backbone: Backbone) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(32, 6, config=ImageConfig(backbone)).train()
    vectors = encoder(_content([1], -30.0, 32))
    assert vectors.shape == (1, 6)
    (vectors * torch.randn(1, 6)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
    assert not list(encoder.buffers())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_image_alone_in_company_or_shuffled(backbone: Backbone, training: bool) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(SIDE, 6, config=ImageConfig(backbone, augment="none")).train(training)
    images = _images(5)
    with torch.no_grad():
        together = encoder.vectors(images)
        alone = torch.cat([encoder.vectors(images[i : i + 1]) for i in range(5)])
        shuffled = encoder.vectors(images[[3, 0, 4, 2, 1]])
    assert together.std(0).min() > 1e-4  # images differ, and so do their vectors
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled, together[[3, 0, 4, 2, 1]], rtol=1e-4, atol=1e-5)


def test_whole_numbers_and_shares_mean_the_same() -> None:
    encoder = ImageEncoder(SIDE, 4).eval()
    images = _images(2)
    torch.testing.assert_close(encoder.vectors(images), encoder.vectors(images.float() / 255))
    torch.testing.assert_close(encoder.vectors(images), encoder.vectors(images.double() / 255))


def test_no_images_no_vectors() -> None:
    encoder = ImageEncoder(SIDE, 4).train()
    assert encoder.vectors(_images(0)).shape == (0, 4)


def test_each_patient_gets_the_vector_of_the_own_image() -> None:
    encoder = ImageEncoder(SIDE, 4).eval()
    content = _content([1, 0, 1, 1, 0])
    got = encoder(content)
    age = encoder(_content([1])) - encoder.vectors(_images(3))[:1]
    torch.testing.assert_close(got[[0, 2, 3]], encoder.vectors(content.values) + age, rtol=1e-4, atol=1e-5)
    assert not got[[1, 4]].any()
    assert not torch.equal(encoder(_content([1], -3.0)), encoder(_content([1], -30.0)))
    assert not encoder(_content([0, 0])).any()


def test_what_is_no_image_is_refused() -> None:
    encoder = ImageEncoder(SIDE, 4)
    for wrong in (_images(2, SIDE + 1), _images(2)[:, None], _images(1)[0], _images(2).long()):
        with pytest.raises(SchemaError):
            encoder.vectors(wrong)
    with pytest.raises(SchemaError):
        ImageEncoder(16, 4)
    with pytest.raises(ConfigError, match="resnet18"):
        override(ImageConfig(), {"backbone": "resnet19"})
    with pytest.raises(ConfigError, match="1 or 3"):
        ImageConfig(channels=2)


def test_it_learns_what_it_is_shown() -> None:
    # a bright blot on the left or on the right; an encoder that mirrors or only averages cannot tell
    torch.manual_seed(0)
    images = _images(24) // 8
    side = torch.arange(24) % 2
    for i, right in enumerate(side.tolist()):
        images[i, 18:30, (30 if right else 8) : (40 if right else 18)] = 200
    encoder = ImageEncoder(SIDE, 1).train()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    for _ in range(12):
        loss = nn.functional.binary_cross_entropy_with_logits(encoder.vectors(images)[:, 0], side.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    encoder.eval()
    with torch.no_grad():
        assert ((encoder.vectors(images)[:, 0] > 0) == side.bool()).float().mean() > 0.95


def _fixed(monkeypatch: pytest.MonkeyPatch, *draw: float) -> None:
    """Every draw is this one; -1 and 1 are the extremes."""
    draws = (torch.tensor(draw) + 1) / 2
    monkeypatch.setattr(image.torch, "rand", lambda many, n, device: draws[:, None].expand(many, n))


@pytest.mark.parametrize(("turn", "right", "down"), [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, -1), (0.5, -0.3, 0.8)])
def test_augmentation_moves_as_scipy_does(
    monkeypatch: pytest.MonkeyPatch, turn: float, right: float, down: float
) -> None:
    _fixed(monkeypatch, turn, right, down, 0, 0)
    before = _images(1).double() / 255
    expected = _moved_by_scipy(before[0], 7 * turn, 0.05 * right, 0.05 * down)
    torch.testing.assert_close(slightly_changed(before[:, None])[0, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("draw", [(1, 0, 0, 0), (0, 1, -1, 0), (0, 0, 0, 1), (0, 0, 0, -1), (-0.4, 0.3, 0.7, 0.5)])
def test_strong_augmentation_moves_as_scipy_does(monkeypatch: pytest.MonkeyPatch, draw: tuple[float, ...]) -> None:
    _fixed(monkeypatch, *draw)
    turn, right, down, size = draw
    before = _images(1).double() / 255
    expected = _moved_by_scipy(before[0], 45 * turn, 0.15 * right, 0.15 * down, 1 + 0.15 * size)
    torch.testing.assert_close(strongly_changed(before[:, None])[0, 0], expected, rtol=0, atol=1e-5)


def _moved_by_scipy(image: Tensor, degrees: float, right: float, down: float, size: float = 1.0) -> Tensor:
    angle = math.radians(degrees)
    # from the place in the result to the place in the image, rows and columns
    rows = ((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle)))
    matrix = [[value / size for value in row] for row in rows]
    centre = (SIDE - 1) / 2
    offset = [
        centre - row[0] * centre - row[1] * centre + shift * SIDE
        for row, shift in zip(matrix, (down, right), strict=True)
    ]
    return torch.from_numpy(ndimage.affine_transform(image.numpy(), matrix, offset, order=1, mode="grid-constant"))


def test_augmentation_of_grey_values(monkeypatch: pytest.MonkeyPatch) -> None:
    _fixed(monkeypatch, 0, 0, 0, 1, -1)
    before = _images(2).double()[:, None] / 255
    torch.testing.assert_close(
        slightly_changed(before), (0.5 + (before - 0.5) * 1.15 - 0.05).clamp(0, 1), rtol=0, atol=1e-6
    )


def test_each_image_has_its_own_draw_and_seeds_repeat_it() -> None:
    before = _images(1).float()[:, None].expand(4, 1, SIDE, SIDE) / 255
    torch.manual_seed(3)
    first = slightly_changed(before)
    assert first.min() >= 0
    assert first.max() <= 1
    assert len({tuple(one.flatten().tolist()) for one in first}) == 4
    torch.manual_seed(3)
    assert torch.equal(slightly_changed(before), first)


@pytest.mark.parametrize("augment", ["slight", "strong", "none"])
def test_only_training_augments(augment: Literal["slight", "strong", "none"]) -> None:
    encoder = ImageEncoder(SIDE, 4, config=ImageConfig("tiny", augment=augment))
    images = _images(2)
    encoder.eval()
    assert torch.equal(encoder.vectors(images), encoder.vectors(images))
    encoder.train()
    assert torch.equal(encoder.vectors(images), encoder.vectors(images)) == (augment == "none")


def test_strong_and_slight_are_two() -> None:
    # the name must reach the function
    images = _images(1)
    results = []
    for augment in ("slight", "strong"):
        torch.manual_seed(0)
        encoder = ImageEncoder(SIDE, 4, config=ImageConfig("tiny", augment=augment)).train()  # type: ignore[arg-type]
        torch.manual_seed(0)
        results.append(encoder.inputs(images))
    changed = [slightly_changed, strongly_changed]
    for result, change in zip(results, changed, strict=True):
        torch.manual_seed(0)
        assert torch.equal(result, 4 * change(images[:, None].float() / 255) - 2)


def test_without_gradients_no_more_than_a_part_is_encoded_at_once() -> None:
    encoder = ImageEncoder(32, 4, config=ImageConfig("tiny")).eval()
    images = _images(2 * PART + 3, 32)
    seen: list[int] = []
    encoder.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    whole = encoder.vectors(images)
    with torch.no_grad():
        parts = encoder.vectors(images)
    with torch.inference_mode():
        encoder.vectors(images[:PART])
    assert seen == [2 * PART + 3, PART, PART, 3, PART]
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_stages_can_be_entered_and_left() -> None:
    encoder = ImageEncoder(64, 4, config=ImageConfig("tiny")).eval()
    images = _images(2, 64)
    maps = encoder.stages(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    for number, x in enumerate(maps, start=1):
        assert torch.equal(encoder.from_stage(number, x), encoder.vectors(images))
    assert torch.equal(encoder.resnet.stage(3, maps[1]), maps[2])
    assert torch.equal(encoder.resnet.stage(1, encoder.stem(images)), maps[0])
    half = encoder.from_stage(2, maps[1] / 2)
    assert not torch.allclose(half, encoder.vectors(images))
    for wrong in (encoder.stages, encoder.stem, encoder.vectors):
        with pytest.raises(SchemaError):
            wrong(_images(2, 32))
    dense = ImageEncoder(32, 4, config=ImageConfig("densenet121"))
    with pytest.raises(ConfigError, match="densenet121"):
        dense.stages(_images(2, 32))
    with pytest.raises(ConfigError, match="densenet121"):
        dense.from_stage(3, maps[2])


def test_three_channels_are_centred_and_scaled_as_photographs() -> None:
    encoder = ImageEncoder(SIDE, 4, config=ImageConfig("tiny", channels=3)).eval()
    images = _images(2)
    red, green, blue = encoder.inputs(images).unbind(1)
    grey = images.double() / 255
    for got, mean, spread in ((red, 0.485, 0.229), (green, 0.456, 0.224), (blue, 0.406, 0.225)):
        torch.testing.assert_close(got.double(), (grey - mean) / spread, rtol=1e-5, atol=1e-5)
    assert encoder.vectors(images).shape == (2, 4)

"""The image encoder: independence of images, trained in every parameter, augmentation against scipy."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from mmnar.encoders import image
from mmnar.encoders.image import BACKBONES, ImageEncoder, augmented
from mmnar.errors import ConfigError, SchemaError
from mmnar.types import Items

pytest.importorskip("monai")

SIDE = 48


def _images(n: int, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _content(counts: list[int], hours: float = -3.0, side: int = SIDE) -> Items:
    """Items of patients with and without an image."""
    offsets = torch.tensor([0, *counts]).cumsum(0)
    return Items(offsets, torch.full((sum(counts),), hours), _images(sum(counts), side))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_image_trains_every_parameter(backbone: str) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(32, 6, backbone=backbone).train()
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
def test_an_image_alone_in_company_or_shuffled(backbone: str, training: bool) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(SIDE, 6, backbone=backbone, augment=False).train(training)
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
        ImageEncoder(SIDE, 4, backbone="resnet19")


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


def _fixed(monkeypatch: pytest.MonkeyPatch, turn: float, right: float, down: float, gain: float, more: float) -> None:
    """Every draw is this one; -1 and 1 are the extremes."""
    draws = (torch.tensor([turn, right, down, gain, more]) + 1) / 2
    monkeypatch.setattr(image.torch, "rand", lambda five, n, device: draws[:, None].expand(five, n))


@pytest.mark.parametrize(("turn", "right", "down"), [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, -1), (0.5, -0.3, 0.8)])
def test_augmentation_moves_as_scipy_does(
    monkeypatch: pytest.MonkeyPatch, turn: float, right: float, down: float
) -> None:
    _fixed(monkeypatch, turn, right, down, 0, 0)
    before = _images(1).double() / 255
    angle = math.radians(7 * turn)
    # from the place in the result to the place in the image, rows and columns
    matrix = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    centre = (SIDE - 1) / 2
    offset = [
        centre - row[0] * centre - row[1] * centre + shift * 0.05 * SIDE
        for row, shift in zip(matrix, (down, right), strict=True)
    ]
    expected = ndimage.affine_transform(before[0].numpy(), matrix, offset, order=1, mode="grid-constant")
    torch.testing.assert_close(augmented(before[:, None])[0, 0], torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_augmentation_of_grey_values(monkeypatch: pytest.MonkeyPatch) -> None:
    _fixed(monkeypatch, 0, 0, 0, 1, -1)
    before = _images(2).double()[:, None] / 255
    torch.testing.assert_close(augmented(before), (0.5 + (before - 0.5) * 1.15 - 0.05).clamp(0, 1), rtol=0, atol=1e-6)


def test_each_image_has_its_own_draw_and_seeds_repeat_it() -> None:
    before = _images(1).float()[:, None].expand(4, 1, SIDE, SIDE) / 255
    torch.manual_seed(3)
    first = augmented(before)
    assert first.min() >= 0
    assert first.max() <= 1
    assert len({tuple(one.flatten().tolist()) for one in first}) == 4
    torch.manual_seed(3)
    assert torch.equal(augmented(before), first)


def test_only_training_augments() -> None:
    encoder = ImageEncoder(SIDE, 4)
    images = _images(2)
    encoder.eval()
    assert torch.equal(encoder.vectors(images), encoder.vectors(images))
    encoder.train()
    assert not torch.equal(encoder.vectors(images), encoder.vectors(images))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_from_a_local_file(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    trained = ImageEncoder(SIDE, 9)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(trained.backbone.state_dict(), file)
    else:
        save_file(trained.backbone.state_dict(), file)
    torch.manual_seed(1)
    fresh = ImageEncoder(SIDE, 4, weights=file)
    for name, value in fresh.backbone.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, trained.backbone.state_dict()[name]), name
    assert fresh.backbone.state_dict()["fc.weight"].shape == (4, 512)


class _Run:
    """Unpickling it makes a folder: code in a file of weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from monai.networks.nets.resnet import ResNet

    with pytest.raises(ConfigError, match="a file"):
        ImageEncoder(SIDE, 4, weights=tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ConfigError, match="state dict"):
        ImageEncoder(SIDE, 4, weights=tmp_path / "text.pt")
    torch.save({"conv1.weight": _Run(tmp_path / "trace")}, tmp_path / "pickle.pt")
    with pytest.raises(ConfigError, match="state dict"):
        ImageEncoder(SIDE, 4, weights=tmp_path / "pickle.pt")
    assert not (tmp_path / "trace").exists()
    layers = ([1, 1, 1, 1], [64, 128, 256, 512])
    batch = ResNet("basic", *layers, spatial_dims=2, n_input_channels=1, conv1_t_stride=2, bias_downsample=False)
    torch.save(batch.state_dict(), tmp_path / "batch.pt")
    with pytest.raises(ConfigError, match="group normalisation"):
        ImageEncoder(SIDE, 4, weights=tmp_path / "batch.pt")
    torch.save(ImageEncoder(SIDE, 4, backbone="resnet18").backbone.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="backbone"):
        ImageEncoder(SIDE, 4, weights=tmp_path / "other.pt")

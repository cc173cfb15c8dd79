"""Image modality: at most one grey image per patient → (B, D), by a convolutional network on every image by itself.

Backbones are MONAI's in two dimensions with one input channel: ResNet (He et al. 2016, doi:10.1109/CVPR.2016.90) and
DenseNet (Huang et al. 2017, doi:10.1109/CVPR.2017.243). Two deviations. Group normalisation (Wu and He 2018,
doi:10.1007/978-3-030-01261-8_1) stands in place of batch normalisation: an image's vector never depends on its
neighbours, in training or prediction, and a batch of one can be trained on. And their last layer, meant for classes,
gives the D numbers of the vector.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.errors import ConfigError, SchemaError, nearest
from mmnar.extras import lacking
from mmnar.ops.packed import TIME_WIDTH, segment_sum, time_features
from mmnar.types import Items

BACKBONES: Final = ("resnet10", "resnet18", "densenet121")
MIN_SIDE: Final = 32
"""Every backbone halves the image five times."""

_GROUPS: Final = 8
_HEADS: Final = {"resnet10": "fc.", "resnet18": "fc.", "densenet121": "class_layers.out."}

_TURN: Final = 7.0
_SHIFT: Final = 0.05
_CONTRAST: Final = 0.15
_BRIGHTNESS: Final = 0.05


class ImageEncoder(nn.Module):
    """A convolutional network with group normalisation, trained from scratch or from a local file.

    In training mode each image is turned by up to 7°, shifted by up to 5 % of its side, its contrast changed by up to
    15 % and its brightness by up to 0.05, all uniformly and drawn from torch's global generator. It is never mirrored:
    the heart is on the left.

    Args:
        side: Pixels of the square.
        width: D.
        dropout: On the vector.
        backbone: One of ``BACKBONES``.
        weights: File of a backbone's parameters by name (``.safetensors``, or what ``torch.save`` made of a state dict;
            read without unpickling objects), e.g. ``ImageEncoder(...).backbone.state_dict()`` after another training.
            The last layer's are not taken. Weights of networks with batch normalisation do not fit.
        augment: Whether training mode changes images as above.

    Raises:
        ConfigError: An unknown backbone, or a file of weights that is absent or does not fit.
        SchemaError: ``side`` is below ``MIN_SIDE``.
        RequirementError: The extra ``images`` is not installed.
    """

    def __init__(
        self,
        side: int,
        width: int,
        dropout: float = 0.0,
        backbone: str = "resnet10",
        weights: Path | None = None,
        augment: bool = True,
    ) -> None:
        super().__init__()
        if side < MIN_SIDE:
            raise SchemaError("side of images", f"at least {MIN_SIDE}", str(side), "prepare larger images")
        self.side, self.width, self.augment = side, width, augment
        self.backbone = _network(backbone, width)
        if weights is not None:
            _load(self.backbone, weights, _HEADS[backbone])
        self.time = nn.Linear(TIME_WIDTH, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, content: Items) -> Tensor:
        """(B, D); the image's vector plus that of its age, zeros for a patient without one."""
        items = self.vectors(content.values) + self.time(time_features(content.hours))  # (E, D)
        return segment_sum(self.dropout(items), content.patient, len(content))

    def vectors(self, images: Tensor) -> Tensor:
        """(E, side, side) → (E, D).

        Args:
            images: uint8, or floating point in [0, 1].

        Raises:
            SchemaError: Another shape or another type of numbers.
        """
        if images.ndim != 3 or images.shape[1:] != (self.side, self.side):
            raise SchemaError("images", f"(E, {self.side}, {self.side})", str(tuple(images.shape)), "re-run prepare")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise SchemaError("images", "uint8, or floating point in [0, 1]", str(images.dtype), "convert them")
        weight = next(self.backbone.parameters())
        x = images.to(weight.dtype) / 255 if images.dtype == torch.uint8 else images.to(weight.dtype)
        if not len(x):
            return x.new_zeros(0, self.width)
        x = x[:, None]  # (E, 1, side, side)
        if self.training and self.augment:
            x = augmented(x)
        return self.backbone(4 * x - 2)  # type: ignore[no-any-return]


def augmented(images: Tensor) -> Tensor:
    """Turned, shifted, brightened or darkened copies, each by its own draw; (n, 1, side, side) in [0, 1].

    What comes in from outside is black, as are the margins.
    """
    turn, right, down, contrast, brightness = (2 * torch.rand(5, len(images), device=images.device) - 1).unbind()
    angle = turn * math.radians(_TURN)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # affine_grid's coordinates run from -1 to 1: a share of the side is twice that
    rows = [torch.stack([cosine, -sine, 2 * _SHIFT * right], 1), torch.stack([sine, cosine, 2 * _SHIFT * down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    gain, offset = 1 + _CONTRAST * contrast, _BRIGHTNESS * brightness
    return (0.5 + (moved - 0.5) * gain[:, None, None, None] + offset[:, None, None, None]).clamp(0, 1)


def _network(backbone: str, width: int) -> nn.Module:
    """MONAI's network with D outputs."""
    if backbone not in BACKBONES:
        raise ConfigError("backbone", " or ".join(BACKBONES), f"'{backbone}'", nearest(backbone, BACKBONES))
    try:
        from monai.networks.nets.densenet import DenseNet
        from monai.networks.nets.resnet import ResNet
    except ImportError:
        raise lacking("the image encoder", "monai", "images") from None
    if backbone == "densenet121":
        return _with_group_norm(DenseNet(2, 1, width, block_config=(6, 12, 24, 16)))
    blocks = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2]}[backbone]
    return _with_group_norm(
        ResNet(
            *("basic", blocks, [64, 128, 256, 512]),
            spatial_dims=2,
            n_input_channels=1,
            conv1_t_stride=2,
            num_classes=width,
            bias_downsample=False,
        )
    )


def _with_group_norm(network: nn.Module) -> nn.Module:
    """The network with every batch normalisation replaced.

    MONAI's own argument ``norm`` reaches only the stem of its ResNet (1.6; its pull request 9028 is open).
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(_GROUPS, child.num_features))
    return network


def _load(network: nn.Module, file: Path, head: str) -> None:
    """Put the file's parameters into the network, the last layer's excepted."""
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith(head)}
    found = {name: value for name, value in _read(file).items() if not name.startswith(head)}
    wrong = wanted.keys() ^ found.keys()
    wrong |= {name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape}
    if wrong:
        raise ConfigError(
            f"weights '{file.name}'",
            f"the {len(wanted)} arrays of this backbone",
            f"{len(wrong)} that lack, are too many or have another shape, e.g. '{min(wrong)}'",
            "use weights of this very backbone, with one input channel and group normalisation",
        )
    network.load_state_dict(found, strict=False)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"weights '{file.name}'", "a file", "none", "check the path")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        # both libraries raise many kinds on a file that is something else
        raise ConfigError(
            f"weights '{file.name}'", "safetensors or a state dict", type(error).__name__, "export the weights again"
        ) from None

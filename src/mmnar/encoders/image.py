"""Image modality: at most one grey image per patient → (B, D), by a convolutional network on every image by itself.

Backbones are ResNets (``encoders/resnet.py``) and MONAI's DenseNet (Huang et al. 2017, doi:10.1109/CVPR.2017.243). Two
deviations. In place of batch normalisation stands group normalisation (Wu and He 2018,
doi:10.1007/978-3-030-01261-8_1), or that of the stored statistics of a file of weights: an image's vector never depends
on its neighbours, in training or prediction, and a batch of one can be trained on. And their last layer, meant for
classes, gives the D numbers of the vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.resnet import DESIGNS, FrozenNorm, NormOf, ResNet
from mmnar.encoders.settings import IMAGE, ImageConfig
from mmnar.errors import ConfigError, SchemaError
from mmnar.extras import lacking
from mmnar.ops.packed import TIME_WIDTH, segment_sum, time_features
from mmnar.types import Items

MIN_SIDE: Final = 32
"""Every backbone halves the image five times."""

PART: Final = 64
"""Images that are encoded at once where no gradient is wanted: memory does not grow with their number."""

_GROUPS: Final = 8
_HEADS: Final = ("fc.", "class_layers.out.")

_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and spread of red, green and blue of the photographs that published weights were trained on."""


class ImageEncoder(nn.Module):
    """A convolutional network without batch statistics, trained from scratch or from a local file.

    In training mode each image is changed (``ImageConfig.augment``) by draws of its own from torch's global generator,
    which follows from seed and epoch. It is never mirrored: the heart is on the left.

    Args:
        side: Pixels of the square.
        width: D.
        dropout: On the vector.
        config: Backbone, normalisation, augmentation. A file of weights is read by ``weights.load_weights``, not here:
            a fitted model needs it no more.

    Raises:
        SchemaError: ``side`` is below ``MIN_SIDE``.
        RequirementError: DenseNet without the extra ``images``.
    """

    def __init__(self, side: int, width: int, dropout: float = 0.0, config: ImageConfig = IMAGE) -> None:
        super().__init__()
        if side < MIN_SIDE:
            raise SchemaError("side of images", f"at least {MIN_SIDE}", str(side), "prepare larger images")
        self.side, self.width, self.config = side, width, config
        self.backbone = network_of(config, width)
        if config.frozen:
            for name, parameter in self.backbone.named_parameters():
                parameter.requires_grad_(is_head(name))
        self.time = nn.Linear(TIME_WIDTH, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, content: Items) -> Tensor:
        """(B, D); the image's vector plus that of its age, zeros for a patient without one."""
        return self.placed(self.vectors(content.values), content)

    def placed(self, vectors: Tensor, content: Items) -> Tensor:
        """(B, D) of the images' vectors (E, D), each with its age."""
        items = vectors + self.time(time_features(content.hours))  # (E, D)
        return segment_sum(self.dropout(items), content.patient, len(content))

    def vectors(self, images: Tensor) -> Tensor:
        """(E, side, side) → (E, D).

        Args:
            images: uint8, or floating point in [0, 1].

        Raises:
            SchemaError: Another shape or another type of numbers.
        """
        self._check(images)
        if not len(images):
            return next(self.backbone.parameters()).new_zeros(0, self.width)
        if torch.is_grad_enabled() and not self.config.frozen:
            return self.backbone(self.inputs(images))  # type: ignore[no-any-return]
        return torch.cat([self.backbone(self.inputs(part)) for part in torch.split(images, PART)])

    def stages(self, images: Tensor) -> list[Tensor]:
        """(E, side, side) → the maps (E, C, h, w) that the four stages of a ResNet give.

        Raises:
            ConfigError: The backbone is no ResNet.
            SchemaError: See ``vectors``.
        """
        self._check(images)
        return self.resnet.stages(self.inputs(images))

    def stem(self, images: Tensor) -> Tensor:
        """(E, side, side) → the maps that stage 1 is given: from here on ``resnet.stage`` walks, map by map.

        Raises:
            ConfigError, SchemaError: See ``stages``.
        """
        self._check(images)
        return self.resnet.stem(self.inputs(images))

    def from_stage(self, number: int, x: Tensor) -> Tensor:
        """(E, D): the images' vectors if stage ``number`` (1 to 4) had given the maps ``x``."""
        return self.resnet.from_stage(number, x)

    @property
    def resnet(self) -> ResNet:
        """
        Raises:
            ConfigError: The backbone is another network, whose stages cannot be entered.
        """
        if isinstance(self.backbone, ResNet):
            return self.backbone
        expected = "a ResNet, whose stages can be entered"
        raise ConfigError("model.image.backbone", expected, self.config.backbone, "choose " + " or ".join(DESIGNS))

    def inputs(self, images: Tensor) -> Tensor:
        """(n, channels, side, side), centred and scaled; in training mode changed before."""
        kind = next(self.backbone.parameters()).dtype
        x = (images.to(kind) / 255 if images.dtype == torch.uint8 else images.to(kind))[:, None]
        if self.training and self.config.augment != "none":
            x = AUGMENT[self.config.augment](x)
        if self.config.channels == 1:
            return 4 * x - 2
        mean, spread = x.new_tensor(_IMAGENET)[:, None, :, None, None].unbind()
        return (x - mean) / spread

    def _check(self, images: Tensor) -> None:
        if images.ndim != 3 or images.shape[1:] != (self.side, self.side):
            raise SchemaError("images", f"(E, {self.side}, {self.side})", str(tuple(images.shape)), "re-run prepare")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise SchemaError("images", "uint8, or floating point in [0, 1]", str(images.dtype), "convert them")


def slightly_changed(images: Tensor) -> Tensor:
    """Turned by up to 7°, shifted by up to 5 % of the side, contrast changed by up to 15 %, brightness by up to 0.05.

    Each image by its own draws, all uniform; (n, 1, side, side) in [0, 1]. What comes in from outside is black, as are
    the margins.
    """
    turn, right, down, contrast, brightness = (2 * torch.rand(5, len(images), device=images.device) - 1).unbind()
    moved = _moved(images, math.radians(7) * turn, 0.05 * right, 0.05 * down)
    gain, offset = 1 + 0.15 * contrast, 0.05 * brightness
    return (0.5 + (moved - 0.5) * gain[:, None, None, None] + offset[:, None, None, None]).clamp(0, 1)


def strongly_changed(images: Tensor) -> Tensor:
    """Turned by up to 45°, shifted by up to 15 % of the side, 15 % smaller to 15 % larger; otherwise as above."""
    turn, right, down, size = (2 * torch.rand(4, len(images), device=images.device) - 1).unbind()
    return _moved(images, math.radians(45) * turn, 0.15 * right, 0.15 * down, 1 + 0.15 * size)


def _moved(images: Tensor, angle: Tensor, right: Tensor, down: Tensor, size: Tensor | float = 1.0) -> Tensor:
    """Images turned about their centre and shifted by shares of the side, ``size`` times as large."""
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    # affine_grid's coordinates run from -1 to 1: a share of the side is twice that
    rows = [torch.stack([cosine, -sine, 2 * right], 1), torch.stack([sine, cosine, 2 * down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


AUGMENT: Final[dict[str, Callable[[Tensor], Tensor]]] = {"slight": slightly_changed, "strong": strongly_changed}


def is_head(name: str) -> bool:
    """Whether a backbone's parameter is its last layer's."""
    return name.startswith(_HEADS)


def network_of(config: ImageConfig, width: int) -> nn.Module:
    """The backbone with D outputs."""
    norm: NormOf = FrozenNorm if config.norm == "frozen" else partial(nn.GroupNorm, _GROUPS)
    if config.backbone in DESIGNS:
        return ResNet(DESIGNS[config.backbone], config.channels, width, norm)
    try:
        from monai.networks.nets.densenet import DenseNet
    except ImportError:
        raise lacking("the image encoder 'densenet121'", "monai", "images") from None
    network: nn.Module = DenseNet(2, config.channels, width, block_config=(6, 12, 24, 16))
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, norm(child.num_features))
    return network

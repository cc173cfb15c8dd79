"""ResNet in two dimensions (He et al. 2016, doi:10.1109/CVPR.2016.90), with torchvision's names of parameters.

The stride of a bottleneck is that of its 3 × 3 convolution ("version 1.5"). Its four stages can be entered and left,
for methods that let another modality act on the maps between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

NormOf = Callable[[int], nn.Module]
"""Channels → normalisation."""


@dataclass(frozen=True)
class Design:
    """Blocks of each stage, channels of each stage before expansion, and whether blocks are bottlenecks."""

    blocks: tuple[int, int, int, int]
    planes: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the map that each stage gives."""
        return tuple(planes * (4 if self.bottleneck else 1) for planes in self.planes)


DESIGNS: Final = {
    "resnet10": Design((1, 1, 1, 1)),
    "tiny": Design((1, 1, 1, 1), (8, 16, 32, 64)),
    "resnet18": Design((2, 2, 2, 2)),
    "resnet34": Design((3, 4, 6, 3)),
    "resnet50": Design((3, 4, 6, 3), bottleneck=True),
}


class ResNet(nn.Module):
    """(n, inputs, side, side) → (n, width).

    Args:
        design: Its blocks.
        inputs: Channels of an image.
        width: Of the result.
        norm: Makes the normalisation that follows each convolution.

    Attributes:
        channels: Of the maps of the four stages.
    """

    def __init__(self, design: Design, inputs: int, width: int, norm: NormOf) -> None:
        super().__init__()
        self.channels = design.channels
        self.conv1 = nn.Conv2d(inputs, design.planes[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(design.planes[0])
        before = (design.planes[0], *design.channels[:3])
        for i, (planes, blocks) in enumerate(zip(design.planes, design.blocks, strict=True)):
            first = _Block(before[i], planes, 1 if i == 0 else 2, design.bottleneck, norm)
            others = (_Block(design.channels[i], planes, 1, design.bottleneck, norm) for _ in range(1, blocks))
            setattr(self, f"layer{i + 1}", nn.Sequential(first, *others))
        self.fc = nn.Linear(design.channels[3], width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pooled(self.stages(images)[-1]))  # type: ignore[no-any-return]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps that the four stages give: sides of a quarter, an eighth, a sixteenth and a thirty-second."""
        maps = [self.stage(1, self.stem(images))]
        for number in (2, 3, 4):
            maps.append(self.stage(number, maps[-1]))
        return maps

    def stem(self, images: Tensor) -> Tensor:
        """The map that stage 1 is given, its side a quarter of the images'."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)

    def stage(self, number: int, x: Tensor) -> Tensor:
        """What stage 1, 2, 3 or 4 makes of the map of the one before."""
        return getattr(self, f"layer{number}")(x)  # type: ignore[no-any-return]

    def from_stage(self, number: int, x: Tensor) -> Tensor:
        """(n, width): the result if stage ``number`` had given the map ``x``."""
        for later in range(number + 1, 5):
            x = self.stage(later, x)
        return self.fc(self.pooled(x))  # type: ignore[no-any-return]

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of the last map over space."""
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class _Block(nn.Module):
    """x + f(x), rectified; f of two 3 × 3 convolutions, or of 1 × 1, 3 × 3 and 1 × 1 in a bottleneck."""

    def __init__(self, before: int, planes: int, stride: int, bottleneck: bool, norm: NormOf) -> None:
        super().__init__()
        after = planes * 4 if bottleneck else planes
        # made first: so the random numbers of a seed go to the same weights as in MONAI
        downsample = None
        if stride != 1 or before != after:
            downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), norm(after))
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        widths = (before, *(planes for _ in sizes[1:]), after)
        for i, (size, by) in enumerate(zip(sizes, strides, strict=True)):
            convolution = nn.Conv2d(widths[i], widths[i + 1], size, stride=by, padding=size // 2, bias=False)
            setattr(self, f"conv{i + 1}", convolution)
            setattr(self, f"bn{i + 1}", norm(widths[i + 1]))
        self.convolutions = len(sizes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.convolutions + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.convolutions:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class FrozenNorm(nn.Module):
    """Batch normalisation by stored statistics, in training as in prediction: an affine map of each channel.

    Statistics are buffers and stay as they are; scale and offset are trained. An image's result never depends on its
    neighbours.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        like = nn.BatchNorm2d(channels)
        self.weight, self.bias, self.eps = like.weight, like.bias, like.eps
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, getattr(like, name))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

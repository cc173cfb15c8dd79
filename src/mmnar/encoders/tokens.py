"""Raw tokens: what a modality holds, cell by cell, and where it stands. Nothing is learned and nothing summarised."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.image import AUGMENT
from mmnar.encoders.settings import Augment
from mmnar.errors import ConfigError
from mmnar.ops.grid import hourly
from mmnar.ops.packed import held, padded
from mmnar.schema import ModalitySpec
from mmnar.types import Content, Items, Series, Static

AXES: Final = {"static": 1, "series": 1, "embedding": 1, "hashed": 1, "image": 2}


class RawTokens(nn.Module):
    """N tokens of C channels for each patient: their content, then the ``fourier`` positions of their axes.

    =========  =====================================================  ===================  ====================
    kind       a token                                                axes                 N
    =========  =====================================================  ===================  ====================
    static     a feature: its number or indicators, its flag          order of features    F
    series     a step: values carried to it, flags of measured ones   time                 T
    embedding  a vector (of hashed notes likewise)                    time                 as many as there are
    image      a square of ``patch`` × ``patch`` pixels               down, right          (side / patch)²
    =========  =====================================================  ===================  ====================

    Places run from −1 to 1; on the axis of time 1 is the prediction and −1 the start of the window (``time_place``).
    In training mode images are changed as ``ImageEncoder`` does.

    Args:
        spec: The modality.
        bands, max_freq: Of the positions.
        hours, step: The window of a series and its T steps.
        patch: Pixels of a token's side.
        augment: What training does to images (``ImageConfig``).

    Attributes:
        channels: C.

    Raises:
        ConfigError: ``patch`` does not divide the side of the images.
    """

    def __init__(
        self, spec: ModalitySpec, bands: int, max_freq: float, hours: float, step: float, patch: int, augment: Augment
    ) -> None:
        super().__init__()
        if spec.kind == "image" and spec.shape[0] % patch:
            expected = f"a divisor of the side of the images ({spec.shape[0]})"
            raise ConfigError("model.patch", expected, str(patch), "change it, or prepare images of another side")
        self.spec, self.bands, self.max_freq = spec, bands, max_freq
        self.hours, self.step, self.patch, self.augment = hours, step, patch, augment
        self.steps = round(hours / step)
        self.channels = _contents(spec, patch) + AXES[spec.kind] * (2 * bands + 1)

    def forward(self, content: Content) -> tuple[Tensor, Tensor | None]:
        """(B, N, C), and which tokens there are (B, N) bool, at least one for everybody who has an item; None = all."""
        if isinstance(content, Static):
            return self._record(content), None
        if isinstance(content, Series):
            return self._series(content), None
        if self.spec.kind == "image":
            return self._image(content), None
        place = time_place(content.hours, self.hours)[:, None]
        return padded(self._with(content.values, place), content), held(content)

    def count(self, content: Content) -> int:
        """N."""
        if isinstance(content, Static):
            return len(self.spec.features)
        if isinstance(content, Series):
            return self.steps
        if self.spec.kind == "image":
            return (self.spec.shape[0] // self.patch) ** 2
        return max(1, int(content.counts.max())) if len(content) else 1

    def _with(self, x: Tensor, places: Tensor) -> Tensor:
        """Content (…, F) and places (…, axes) → (…, C)."""
        positions = fourier(places, self.bands, self.max_freq)
        return torch.cat([x, positions.to(x.dtype).expand(*x.shape[:-1], -1)], dim=-1)

    def _record(self, content: Static) -> Tensor:
        """Channels are the number, the indicators of the longest list of categories, the flag."""
        values, seen = content.values, content.observed.to(content.values.dtype)
        categorical = values.new_tensor([f.kind == "categorical" for f in self.spec.features])  # (F,)
        most = max(len(f.categories) for f in self.spec.features)
        indicators = F.one_hot((values * categorical).long(), max(1, most))[..., :most]  # (B, F, most)
        columns = [
            (values * (1 - categorical))[..., None],
            indicators * (seen * categorical)[..., None],
            seen[..., None],
        ]
        return self._with(torch.cat(columns, dim=2), self._line(len(categorical), values)[:, None])

    def _series(self, content: Series) -> Tensor:
        values, seen = hourly(content, len(self.spec.features), self.steps, self.step)
        ago = torch.arange(self.steps - 1, -1, -1, device=values.device, dtype=values.dtype) * self.step
        return self._with(torch.cat([values, seen.to(values.dtype)], dim=2), time_place(-ago, self.hours)[:, None])

    def _image(self, content: Items) -> Tensor:
        """Each patient's only image; (B, N, C), N in rows from the upper left corner."""
        pixels = content.values.float() / 255 if content.values.dtype == torch.uint8 else content.values
        x = pixels[:, None]
        if self.training and self.augment != "none":
            x = AUGMENT[self.augment](x)
        squares = F.unfold(4 * x - 2, self.patch, stride=self.patch).transpose(1, 2)  # (B, N, patch²)
        side = self.spec.shape[0] // self.patch
        place = self._line(side, x)
        return self._with(squares, torch.cartesian_prod(place, place))

    @staticmethod
    def _line(places: int, like: Tensor) -> Tensor:
        """So many places from −1 to 1."""
        return torch.linspace(-1, 1, places, device=like.device, dtype=like.dtype)


def _contents(spec: ModalitySpec, patch: int) -> int:
    """Channels of a token's content."""
    if spec.kind == "static":
        return 2 + max(len(f.categories) for f in spec.features)
    if spec.kind == "series":
        return 2 * len(spec.features)
    return patch**2 if spec.kind == "image" else spec.shape[-1]


def time_place(hours: Tensor, window: float) -> Tensor:
    """Hours before the prediction, ≤ 0 → place on the axis of time: 1 at the prediction, −1 at the start of the window.

    Before the window it falls with the logarithm, so that what is years old has a place of the same size.

    >>> time_place(torch.tensor([0.0, -24.0, -48.0]), 48.0)
    tensor([ 1.,  0., -1.])
    """
    share = -hours / window
    return torch.where(share <= 1, 1 - 2 * share, -1 - torch.log(share.clamp(min=1)))


def fourier(places: Tensor, bands: int, max_freq: float) -> Tensor:
    """sin(π f_k p), cos(π f_k p) and p of each axis; the f_k are spread evenly from 1 to ``max_freq`` / 2.

    Jaegle et al. 2021 (Perceiver), as HEALNet has it.

    Args:
        places: (…, axes).
        bands: Frequencies of each axis.

    Returns:
        (…, axes · (2 bands + 1)).

    >>> fourier(torch.tensor([[0.0]]), 2, 8.0)
    tensor([[0., 0., 1., 1., 0.]])
    """
    frequencies = torch.linspace(1, max_freq / 2, bands, device=places.device, dtype=places.dtype)
    angles = math.pi * places[..., None] * frequencies  # (…, axes, bands)
    return torch.cat([angles.sin(), angles.cos(), places[..., None]], dim=-1).flatten(-2)

"""An untrained vector x^m of every modality: for methods that rebuild, compare or cluster the given data itself."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.ops.packed import SUMMARIES, segment_sum, summaries
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Content, PatientBatch, Series, Static

TILES: Final = 8
"""An image becomes the mean grey of 8 × 8 tiles."""

FIT_ROWS: Final = 2048
"""Patients looked at at a time."""


class PlainVectors(nn.Module):
    """x^m (B, F_m) of each modality and which of its entries are known, centred and scaled on the training fold.

    ===========  ==============================================================================
    kind         x^m
    ===========  ==============================================================================
    static       the numbers, then one indicator per category of each categorical feature
    series       first, last, min, max, mean, spread and count of each feature
    embedding    the mean of the patient's vectors (hashed notes likewise)
    image        mean grey of 8 × 8 tiles
    ===========  ==============================================================================

    An entry is known where the modality is present and the cell observed; a count is known wherever the modality is.
    Numbers have variance 1. Indicators are centred alone: a category of every thousandth patient would otherwise be an
    input of 32, and a feature of thirty categories would weigh as thirty numbers in every distance and squared error.

    Args:
        schema: Modalities in order.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.specs = schema.modalities
        self.widths = tuple(_width(spec) for spec in self.specs)
        for m, width in enumerate(self.widths):
            self.register_buffer(f"mean{m}", torch.zeros(width))
            self.register_buffer(f"scale{m}", torch.ones(width))

    def fit(self, train: PatientBatch) -> None:
        """Take mean and scale of the known entries of the training fold."""
        for m, spec in enumerate(self.specs):
            content = train.modalities[spec.name]
            n, mean, square = torch.zeros(3, self.widths[m], dtype=torch.float64, device=train.rows.device)
            for rows in torch.split(torch.arange(len(train), device=train.rows.device), FIT_ROWS):
                x, known = _vector(spec, content.take(rows), train.present[rows, m])
                more = known.sum(0)
                of_more = torch.where(known, x, 0.0).double().sum(0) / more.clamp(min=1)
                # Chan, Golub, LeVeque (1979): sums of squares about means of their own are merged without cancellation
                apart, both = of_more - mean, (n + more).clamp(min=1)
                square += torch.where(known, (x.double() - of_more) ** 2, 0.0).sum(0) + apart**2 * n * more / both
                mean += apart * more / both
                n += more
            scale = (square / n.clamp(min=1)).sqrt()
            self._set(f"mean{m}", mean)
            scale[_numbers(spec) :] = 1.0  # indicators come last
            self._set(f"scale{m}", torch.where(scale > 1e-6, scale, torch.ones_like(scale)))

    def _set(self, name: str, value: Tensor) -> None:
        buffer: Tensor = getattr(self, name)
        buffer.copy_(value)

    def forward(self, batch: PatientBatch) -> list[tuple[Tensor, Tensor]]:
        """Per modality x (B, F_m), zero where unknown, and known (B, F_m) bool."""
        out = []
        for m, spec in enumerate(self.specs):
            x, known = _vector(spec, batch.modalities[spec.name], batch.present[:, m])
            z = (x - getattr(self, f"mean{m}")) / getattr(self, f"scale{m}")
            out.append((torch.where(known, z, 0.0), known))
        return out


def _width(spec: ModalitySpec) -> int:
    if spec.kind == "static":
        return sum(max(1, len(f.categories)) for f in spec.features)
    if spec.kind == "series":
        return len(spec.features) * len(SUMMARIES)
    return TILES**2 if spec.kind == "image" else spec.shape[-1]


def _numbers(spec: ModalitySpec) -> int:
    """How many entries are numbers; the indicators of a static modality come after them."""
    if spec.kind == "static":
        return sum(f.kind == "continuous" for f in spec.features)
    return _width(spec)


def _vector(spec: ModalitySpec, content: Content, present: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, F_m), known (B, F_m); nothing of a patient without the modality is used."""
    if isinstance(content, Static):
        x, known = _static(spec, content)
    elif isinstance(content, Series):
        x, known = _series(len(spec.features), content)
    else:
        images = spec.kind == "image"
        items = _tiles(content.values) if images else content.values
        x = segment_sum(items, content.patient, len(content)) / content.counts.clamp(min=1)[:, None]
        known = (content.counts > 0)[:, None].expand_as(x)
    return x, known & present[:, None]


def _static(spec: ModalitySpec, content: Static) -> tuple[Tensor, Tensor]:
    """Numbers first, then the indicators; both in schema order."""
    kinds = [f.kind for f in spec.features]
    numbers = [i for i, kind in enumerate(kinds) if kind == "continuous"]
    x, known = [content.values[:, numbers]], [content.observed[:, numbers]]
    for i, kind in enumerate(kinds):
        if kind == "categorical":
            indicators = F.one_hot(content.values[:, i].long(), len(spec.features[i].categories))
            x.append(indicators.to(content.values.dtype))
            known.append(content.observed[:, i : i + 1].expand_as(indicators))
    return torch.cat(x, dim=1), torch.cat(known, dim=1)


def _series(features: int, content: Series) -> tuple[Tensor, Tensor]:
    b = len(content)
    windows = summaries(content.values, content.patient * features + content.feature, b * features)  # (B F, 7)
    seen = windows[:, -1:] > 0
    known = torch.cat([seen.expand(-1, len(SUMMARIES) - 1), torch.ones_like(seen)], dim=1)
    return windows.view(b, -1), known.view(b, -1)


def _tiles(images: Tensor) -> Tensor:
    """(E, side, side) grey → (E, 64) in [0, 1]."""
    grey = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return F.adaptive_avg_pool2d(grey[:, None], TILES).flatten(1)

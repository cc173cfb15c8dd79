"""Operations on items packed patient by patient: B patients, E items, ``patient`` (E,) says whose each item is."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from mmnar.types import Packed, Series

PERIODS_HOURS: Final = (1.0, 4.0, 12.0, 24.0, 72.0, 240.0)
TIME_WIDTH: Final = 2 + 2 * len(PERIODS_HOURS)
SUMMARIES: Final = ("first", "last", "min", "max", "mean", "spread", "count")


def segment_sum(items: Tensor, patient: Tensor, patients: int) -> Tensor:
    """(E, …) → (B, …) sums; zeros for a patient without items."""
    return items.new_zeros(patients, *items.shape[1:]).index_add(0, patient, items)


def segment_softmax(scores: Tensor, patient: Tensor, patients: int) -> Tensor:
    """(E, H) scores → weights that sum to 1 over the items of each patient.

    >>> segment_softmax(torch.zeros(3, 1), torch.tensor([0, 0, 1]), 2).squeeze(1)
    tensor([0.5000, 0.5000, 1.0000])
    """
    index = patient[:, None].expand_as(scores)
    highest = scores.new_full((patients, scores.shape[1]), -math.inf).scatter_reduce(0, index, scores, "amax")
    weights = torch.exp(scores - highest.detach()[patient])
    return weights / segment_sum(weights, patient, patients)[patient]


def latest(content: Series, most: int) -> Series:
    """Of each patient's measurements the last ``most``."""
    counts = content.counts
    place = torch.arange(len(content.hours), device=counts.device) - content.offsets[:-1][content.patient]
    kept = place >= (counts - most)[content.patient]
    fewer = counts.clamp(max=most)
    offsets = torch.cat([fewer.new_zeros(1), fewer.cumsum(0)])
    return Series(offsets, content.hours[kept], content.values[kept], content.feature[kept])


def padded(items: Tensor, content: Packed) -> Tensor:
    """(E, …) items of ``content`` → (B, L, …), each patient's first, zeros behind; L is the most that one has, or 1."""
    counts = content.counts
    place = torch.arange(len(items), device=items.device) - content.offsets[:-1][content.patient]
    out = items.new_zeros(len(content), _longest(counts), *items.shape[1:])
    return out.index_put((content.patient, place), items)


def held(content: Packed) -> Tensor:
    """(B, L) bool: which places of ``padded`` hold an item; told by the counts, whatever the items are."""
    counts = content.counts
    return torch.arange(_longest(counts), device=counts.device) < counts[:, None]


def _longest(counts: Tensor) -> int:
    return max(1, int(counts.max())) if len(counts) else 1


class AttentionPool(nn.Module):
    """Σ_e softmax_e(q_h · u_e) u_e^h over the items e of each patient; head h has the h-th slice of an item.

    Pooling by learned queries (Lee et al. 2019, PMA). Keys and values are the items themselves: queries that do not
    depend on the data would absorb a projection of the keys, and the layer that follows one of the values.

    Args:
        width: D of items and result.
        heads: H learned queries.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(width, heads)

    def forward(self, items: Tensor, patient: Tensor, patients: int) -> Tensor:
        """(E, D) → (B, D)."""
        weights = segment_softmax(self.score(items).float(), patient, patients).to(items.dtype)  # (E, H)
        weighted = weights[..., None] * items.view(len(items), self.heads, -1)  # (E, H, D/H)
        return segment_sum(weighted, patient, patients).flatten(1)


def time_features(hours: Tensor) -> Tensor:
    """(E,) hours before the prediction → (E, TIME_WIDTH): two scales and a few periods."""
    ago = -hours[:, None]
    angles = ago * (2 * math.pi / hours.new_tensor(PERIODS_HOURS))
    return torch.cat([torch.log1p(ago) / 4, (ago / 48).clamp(max=5), angles.sin(), angles.cos()], dim=1)


def summaries(values: Tensor, cell: Tensor, cells: int) -> Tensor:
    """Per cell the statistics named in ``SUMMARIES``; a cell is one feature of one patient.

    Args:
        values: (E,) in time order within each cell.
        cell: (E,) which cell each belongs to.
        cells: C.

    Returns:
        (C, 7): ``spread`` is the standard deviation (÷ n), ``count`` is log(1 + n); zeros in an empty cell.
    """
    n = torch.bincount(cell, minlength=cells)
    safe = n.clamp(min=1)
    place = torch.arange(len(values), device=values.device)
    first = torch.full((cells,), len(values), device=values.device).scatter_reduce(0, cell, place, "amin")
    last = torch.full((cells,), -1, device=values.device).scatter_reduce(0, cell, place, "amax")
    low = values.new_full((cells,), math.inf).scatter_reduce(0, cell, values, "amin")
    high = values.new_full((cells,), -math.inf).scatter_reduce(0, cell, values, "amax")
    mean = values.new_zeros(cells).index_add(0, cell, values) / safe
    squares = values.new_zeros(cells).index_add(0, cell, (values - mean[cell]) ** 2)
    padded = torch.cat([values, values.new_zeros(1)])
    columns = [padded[first], padded[last], low, high, mean, (squares / safe).sqrt(), torch.log1p(n.to(values.dtype))]
    return torch.where(n[:, None] > 0, torch.stack(columns, dim=1), values.new_zeros(()))

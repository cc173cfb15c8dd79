"""Random views of a patient: subsets of the modalities that are present. δ (B, M) bool → (B, M) bool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def one_of(present: Tensor) -> Tensor:
    """One present modality of each patient, all with the same probability; none where nothing is present.

    >>> one_of(torch.tensor([[False, True], [False, False]]))
    tensor([[False,  True],
            [False, False]])
    """
    scores = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    return F.one_hot(scores.argmax(1), present.shape[1]).bool() & present


def some_of(present: Tensor) -> Tensor:
    """Each present modality with probability 1/2, and a random one always; none where nothing is present."""
    coins = torch.rand(present.shape, device=present.device) < 0.5
    return one_of(present) | (coins & present)


def part_of(present: Tensor, least: int = 1) -> Tensor:
    """A proper subset of ``least`` or more: ``some_of`` what a random one leaves, filled up; none where that is fewer.

    >>> part_of(torch.tensor([[True, True, True], [False, True, True]]), least=2).sum(1)
    tensor([2, 0])
    """
    left = present & ~one_of(present)
    part = some_of(left)
    for _ in range(least - 1):
        part = part | (one_of(left & ~part) & (part.sum(1, keepdim=True) < least))
    return part & (part.sum(1, keepdim=True) >= least)

"""Rows of one tensor, each with the matrix of its group."""

from __future__ import annotations

import torch
from torch import Tensor


def grouped_matmul(x: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """Row i times the matrix of its group: (N, …, D), (G, D, E), (N,) → (N, …, E).

    >>> grouped_matmul(torch.ones(3, 1), torch.tensor([[[2.0]], [[5.0]]]), torch.tensor([1, 0, 1])).flatten()
    tensor([5., 2., 5.])
    """
    order = group.argsort(stable=True)
    parts = torch.split(x[order], group.bincount(minlength=len(weight)).tolist())
    done = torch.cat([part @ matrix for part, matrix in zip(parts, weight.unbind(), strict=True) if len(part)])
    return done[order.argsort()]

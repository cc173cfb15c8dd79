"""Gaps for patients who have more, drawn like those of patients who have less."""

from __future__ import annotations

import torch
from torch import Tensor


def simulated_gaps(present: Tensor, others: Tensor) -> Tensor:
    """What to leave each patient: another's pattern that is a strict part of theirs, else all but one modality.

    Draws from the global generator.

    Args:
        present: (B, M) bool, at least one true in each row.
        others: (N, M) bool; the patterns to draw from, each as likely as it is frequent.

    Returns:
        (B, M) bool, fewer than ``present`` in each row.

    >>> full, one = torch.tensor([[True, True]]), torch.tensor([[False, True], [True, True]])
    >>> simulated_gaps(full, one)
    tensor([[False,  True]])
    """
    beyond = others.float() @ (~present).float().T  # (N, B) how many modalities only the other has
    fewer = others.sum(1)[:, None] < present.sum(1)
    parts = ((beyond == 0) & fewer).T.float()  # (B, N)
    any_part = parts.any(1)
    drawn = torch.multinomial(torch.where(any_part[:, None], parts, 1.0), 1).squeeze(1)
    dropped = torch.multinomial(present.float(), 1)
    return torch.where(any_part[:, None], others[drawn], present.scatter(1, dropped, False))

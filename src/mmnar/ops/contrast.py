"""Supervised contrast: rows of one group are drawn together, all others pushed apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def supcon(z: Tensor, group: Tensor, groups: int, valid: Tensor, temperature: float) -> Tensor:
    """SupCon (Khosla et al. 2020, L_out), averaged over K groupings of the same rows.

    For a grouping, the mean over anchors i of ``−1/|P_i| Σ_{p ∈ P_i} log softmax_{j ≠ i}(cos(z_i, z_j)/τ)_p``, with P_i
    the other rows of i's group. Rows that are not valid are neither anchors nor compared with; a row without a positive
    is no anchor; a grouping without anchors adds exactly 0.

    Args:
        z: (n, D).
        group: (n, K) int64 in [0, groups).
        groups: Number of groups of a grouping.
        valid: (n, K) bool.
        temperature: τ.

    >>> supcon(torch.eye(3), torch.arange(3)[:, None], 3, torch.ones(3, 1, dtype=torch.bool), 0.1)
    tensor(0.)
    """
    with torch.autocast(z.device.type, enabled=False):  # e^{−2/τ} has to stay above zero
        z = F.normalize(z.float(), dim=-1) / temperature**0.5  # z_i·z_j is cos/τ
        asked = valid.to(z.dtype)
        not_self = 1 - torch.eye(len(z), device=z.device)
        # cos/τ is at most 1/τ: no other maximum need be found
        everything = (torch.exp(z @ z.T - 1 / temperature) * not_self) @ asked  # (n, K): Σ_{j ≠ i}
        total = everything.clamp(min=torch.finfo(z.dtype).tiny).log() + 1 / temperature
        # Σ_p z_i·z_p without an (n, n) mask: the sum of the group's vectors, less one's own
        cell = group + groups * torch.arange(group.shape[1], device=z.device)  # (n, K)
        members = (z[:, None] * asked[..., None]).flatten(0, 1)
        sums = z.new_zeros(groups * group.shape[1], z.shape[1]).index_add(0, cell.flatten(), members)
        n = z.new_zeros(len(sums)).index_add(0, cell.flatten(), asked.flatten())[cell] - 1  # (n, K): |P_i|
        attraction = ((sums[cell] - z[:, None]) * z[:, None]).sum(-1) / n.clamp(min=1)
        anchor = valid & (n > 0)
        loss = torch.where(anchor, total - attraction, 0.0)
        return (loss.sum(0) / anchor.sum(0).clamp(min=1)).mean()

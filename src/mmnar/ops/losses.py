"""Label losses and contrast. Every function defines its empty case."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmnar.types import PatientBatch


def masked_label_loss(
    logits: Tensor, labels: Tensor, label_mask: Tensor, weights: Tensor, gamma: float = 0.0, alpha: float = -1.0
) -> Tensor:
    """Σ_t λ_t L_t with L_t the mean over rows of which task t was asked; a task nobody was asked adds 0.

    Args:
        logits: (B, K).
        labels: (B, K) float 0/1.
        label_mask: (B, K) bool.
        weights: (K,) λ_t.
        gamma: Focal exponent: each term is multiplied by (1 − p_y)^γ (Lin et al. 2017). 0 = cross-entropy, exactly.
        alpha: Focal class weight for positives (1 − alpha for negatives); negative = none.
    """
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # (B, K)
    if gamma > 0:
        p_wrong = torch.sigmoid(torch.where(labels > 0.5, -logits, logits))  # 1 − p_y
        loss = loss * p_wrong**gamma
    if alpha >= 0:
        loss = loss * (alpha * labels + (1 - alpha) * (1 - labels))
    asked = label_mask.to(loss.dtype)
    per_task = (loss * asked).sum(0) / asked.sum(0).clamp(min=1)  # (K,)
    return (per_task * weights).sum()


def mean_label_loss(logits: Tensor, batch: PatientBatch) -> Tensor:
    """Cross-entropy, averaged over tasks: what the tune fold is judged by."""
    k = logits.shape[1]
    weights = torch.full((k,), 1 / k, device=logits.device)
    return masked_label_loss(logits.float(), batch.labels, batch.label_mask, weights)


def info_nce(anchor: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Mean over i of −log softmax_j cos(anchor_i, other_j)/τ at j = i. Exactly 0 with fewer than two rows.

    Args:
        anchor, other: (n, D); row i of both belongs to the same patient.

    >>> info_nce(torch.eye(1), torch.eye(1), 0.1)
    tensor(0.)
    """
    if len(anchor) < 2:
        return anchor.new_zeros(())
    dtype = torch.promote_types(anchor.dtype, torch.float32)
    a, b = (F.normalize(view.to(dtype), dim=-1) for view in (anchor, other))
    with torch.autocast(anchor.device.type, enabled=False):  # half precision is too coarse for 1/τ times a cosine
        similarity = a @ b.T / temperature  # (n, n)
    return F.cross_entropy(similarity, torch.arange(len(anchor), device=anchor.device))

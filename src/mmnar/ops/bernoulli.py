"""Sets of Bernoulli distributions given by their logits. B rows, M members of which some are there, D dimensions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pooled_logit(logits: Tensor, there: Tensor) -> Tensor:
    """logit of the mean probability over members that are there; 0 where none is. (B, M, D), (B, M) → (B, D).

    As log Σ σ(s_m) − log Σ σ(−s_m), so that no probability is rounded to 0 or 1.

    >>> pooled_logit(torch.tensor([[[3.0], [-3.0]], [[30.0], [9.0]]]), torch.tensor([[True, True], [True, False]]))
    tensor([[ 0.],
            [30.]])
    """
    s = logits.float()
    absent = ~there[..., None]
    yes = F.logsigmoid(s).masked_fill(absent, -math.inf).logsumexp(1)
    no = F.logsigmoid(-s).masked_fill(absent, -math.inf).logsumexp(1)
    return torch.where(there.any(1, keepdim=True), yes - no, 0.0)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """H(σ(s)) in nats, of each element.

    >>> bernoulli_entropy(torch.tensor([0.0, 40.0]))
    tensor([0.6931, 0.0000])
    """
    s = logits.float()
    return F.softplus(s) - s * torch.sigmoid(s)


def jensen_shannon(logits: Tensor, there: Tensor) -> Tensor:
    """H(mean) − mean H over the members that are there, of each dimension. (B, M, D), (B, M) → (B, D).

    In [0, log 2] for two members; 0 where they are equal, and where fewer than two are there.

    >>> jensen_shannon(torch.tensor([[[40.0], [-40.0]]]), torch.tensor([[True, True]]))
    tensor([[0.6931]])
    """
    weight = there.float()[..., None]
    mean_entropy = (bernoulli_entropy(logits) * weight).sum(1) / weight.sum(1).clamp(min=1)
    several = there.sum(1, keepdim=True) >= 2
    return torch.where(several, bernoulli_entropy(pooled_logit(logits, there)) - mean_entropy, 0.0)

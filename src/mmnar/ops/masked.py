"""Masked reductions and attention over modality tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def masked_mean(tokens: Tensor, present: Tensor) -> Tensor:
    """(B, M, D), (B, M) bool → (B, D) mean over present tokens; zeros where nothing is present.

    >>> import torch
    >>> masked_mean(torch.tensor([[[1.0], [9.0]]]), torch.tensor([[True, False]]))
    tensor([[1.]])
    """
    weight = present.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


class FusionLayer(nn.Module):
    """Pre-norm self-attention block over modality tokens; absent ones are neither attended to nor computed.

    Everything but the attention itself runs on the present tokens alone, packed one after another: its cost follows
    what the patients have.

    Args:
        width: D.
        heads: Attention heads.
        dropout: After attention and after the feed-forward part (inner width 2D).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, keys: Tensor) -> Tensor:
        """(B, M, D), keys (B, M) bool with at least one true per row → (B, M, D), zeros where there is no key."""
        b, m, d = tokens.shape
        where = keys.flatten().nonzero().squeeze(1)  # (R,)
        packed = tokens.flatten(0, 1)[where]  # (R, D)
        qkv = _unpacked(self.qkv(self.norm_attention(packed)), where, b * m).view(b, m, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, M, d/heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None, :])
        packed = packed + self.dropout(self.out(mixed.transpose(1, 2).reshape(b * m, d)[where]))
        packed = packed + self.dropout(self.feed(self.norm_feed(packed)))
        return _unpacked(packed, where, b * m).view(b, m, d)


def _unpacked(packed: Tensor, where: Tensor, rows: int) -> Tensor:
    """(R, D) back to their places among ``rows``, zeros elsewhere."""
    return packed.new_zeros(rows, packed.shape[1]).index_copy(0, where, packed)

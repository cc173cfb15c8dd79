"""Masked reductions and attention over modality tokens."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVERY: Final = slice(None)


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

    def forward(self, tokens: Tensor, keys: Tensor, read: slice = EVERY) -> Tensor:
        """One block.

        Args:
            tokens: (B, M, D).
            keys: (B, M) bool with at least one true per row.
            read: The M' tokens that are wanted. Where only some of a last layer's are read on, the others cost their
                keys and values alone.

        Returns:
            (B, M', D), zeros where there is no key.
        """
        d = tokens.shape[-1]
        (of_query, of_both), (query_bias, both_bias) = (
            torch.split(p, [d, 2 * d]) for p in (self.qkv.weight, self.qkv.bias)
        )
        where, to = _places(keys), _places(keys[:, read])
        known, asked = tokens.flatten(0, 1)[where], tokens[:, read].flatten(0, 1)[to]  # (R, D), (R', D)
        q = F.linear(self.norm_attention(asked), of_query, query_bias)  # (R', D)
        kv = F.linear(self.norm_attention(known), of_both, both_bias)  # (R, 2D)
        k, v = (self._by_head(x, where, keys) for x in kv.chunk(2, dim=1))
        mixed = F.scaled_dot_product_attention(
            self._by_head(q, to, keys[:, read]), k, v, attn_mask=keys[:, None, None, :]
        )  # (B, heads, M', D/heads)
        asked = asked + self.dropout(self.out(mixed.transpose(1, 2).flatten(2).flatten(0, 1)[to]))
        asked = asked + self.dropout(self.feed(self.norm_feed(asked)))
        return _unpacked(asked, to, keys[:, read])

    def _by_head(self, packed: Tensor, where: Tensor, keys: Tensor) -> Tensor:
        """(R, D) → (B, heads, M, D/heads)."""
        rows = _unpacked(packed, where, keys)
        return rows.view(*keys.shape, self.heads, rows.shape[-1] // self.heads).transpose(1, 2)


def _places(keys: Tensor) -> Tensor:
    """(B, M) bool → (R,) where it is true, row by row."""
    return keys.flatten().nonzero().squeeze(1)


def _unpacked(packed: Tensor, where: Tensor, keys: Tensor) -> Tensor:
    """(R, D) back to their places among the (B, M) of ``keys``, zeros elsewhere: (B, M, D)."""
    rows = packed.new_zeros(keys.numel(), packed.shape[1]).index_copy(0, where, packed)
    return rows.view(*keys.shape, packed.shape[1])

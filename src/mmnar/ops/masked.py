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

    def forward(self, tokens: Tensor, keys: Tensor | None = None, read: slice = EVERY) -> Tensor:
        """One block.

        Args:
            tokens: (B, M, D).
            keys: (B, M) bool with at least one true per row; None = all.
            read: The M' tokens that are wanted. Where only some of a last layer's are read on, the others cost their
                keys and values alone.

        Returns:
            (B, M', D), zeros where there is no key.
        """
        d = tokens.shape[-1]
        every = _Places(tokens, keys)
        known = every.packed(tokens)  # (R, D)
        if read == EVERY:
            wanted, asked = every, known
            q, kv = torch.split(self.qkv(self.norm_attention(known)), [d, 2 * d], dim=1)
        else:
            wanted = _Places(tokens[:, read], None if keys is None else keys[:, read])
            asked = wanted.packed(tokens[:, read])  # (R', D)
            w, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(self.norm_attention(asked), w[:d], bias[:d])  # (R', D)
            kv = F.linear(self.norm_attention(known), w[d:], bias[d:])  # (R, 2D)
        k, v = (self._by_head(every.unpacked(x)) for x in kv.chunk(2, dim=1))  # (B, heads, M, D/heads)
        mask = None if keys is None else keys[:, None, None, :]
        mixed = F.scaled_dot_product_attention(self._by_head(wanted.unpacked(q)), k, v, attn_mask=mask)
        asked = asked + self.dropout(self.out(wanted.packed(mixed.transpose(1, 2).flatten(2))))
        asked = asked + self.dropout(self.feed(self.norm_feed(asked)))
        return wanted.unpacked(asked)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, M, D) → (B, heads, M, D/heads)."""
        b, m, d = x.shape
        return x.view(b, m, self.heads, d // self.heads).transpose(1, 2)


class _Places:
    """Where the R tokens with a key stand among (B, M); without ``keys`` all of them, and nothing is moved."""

    def __init__(self, tokens: Tensor, keys: Tensor | None) -> None:
        self.shape = tokens.shape[:2]
        self.rows = None if keys is None else keys.flatten().nonzero().squeeze(1)

    def packed(self, x: Tensor) -> Tensor:
        """(B, M, D) → (R, D)."""
        flat = x.flatten(0, 1)
        return flat if self.rows is None else flat[self.rows]

    def unpacked(self, rows: Tensor) -> Tensor:
        """(R, D) → (B, M, D), zeros elsewhere."""
        d = rows.shape[1]
        if self.rows is not None:
            rows = rows.new_zeros(self.shape.numel(), d).index_copy(0, self.rows, rows)
        return rows.view(*self.shape, d)

"""From what there is of a patient to a representation, and from that to K logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmnar.schema import Schema


def trunk(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """Two layers, (B, inputs) → (B, D): those of the zero-fill net."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.GELU(),
        nn.LayerNorm(width),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.GELU(),
    )


class TaskHead(nn.Module):
    """logits = W [h; δ] + b, or a small MLP in place of W.

    Args:
        schema: Gives K, and M for the pattern.
        width: D of the representation.
        append_pattern: Whether δ is concatenated to it.
        hidden: Width of a hidden layer; 0 = none.
        dropout: After the hidden layer.
    """

    def __init__(
        self, schema: Schema, width: int, append_pattern: bool = False, hidden: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.append_pattern = append_pattern
        inputs, k = width + len(schema.modalities) * append_pattern, len(schema.tasks)
        self.net: nn.Module = nn.Linear(inputs, k)
        if hidden:
            self.net = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, k))

    def forward(self, h: Tensor, present: Tensor) -> Tensor:
        """(B, D), present (B, M) bool → (B, K)."""
        return self.net(torch.cat([h, present.to(h.dtype)], dim=1) if self.append_pattern else h)  # type: ignore[no-any-return]

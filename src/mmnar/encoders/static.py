"""Static modality: (B, F) values and observed-flags → (B, D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmnar.schema import ModalitySpec
from mmnar.types import Static


class StaticEncoder(nn.Module):
    """Standardised numbers, embedded categories, one observed-flag per feature, then an MLP (paper 3.1).

    Args:
        spec: The modality's F features.
        width: D.
        dropout: Between the two layers.
        category_width: Width of each categorical embedding.
    """

    def __init__(self, spec: ModalitySpec, width: int, dropout: float = 0.0, category_width: int = 8) -> None:
        super().__init__()
        kinds = [f.kind for f in spec.features]
        self.continuous = [i for i, kind in enumerate(kinds) if kind == "continuous"]
        self.categorical = [i for i, kind in enumerate(kinds) if kind == "categorical"]
        self.embeddings = nn.ModuleList(
            nn.Embedding(len(spec.features[i].categories), category_width) for i in self.categorical
        )
        inputs = len(self.continuous) + category_width * len(self.categorical) + len(kinds)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, content: Static) -> Tensor:
        """(B, D)."""
        flags = content.observed.to(content.values.dtype)  # (B, F)
        parts = [content.values[:, self.continuous], flags] if self.categorical else [content.values, flags]
        for i, embedding in zip(self.categorical, self.embeddings, strict=True):
            # an unobserved category has index 0; its flag erases the vector
            parts.append(embedding(content.values[:, i].long()) * flags[:, i : i + 1])
        return self.mlp(torch.cat(parts, dim=1))  # type: ignore[no-any-return]

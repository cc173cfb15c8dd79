"""Embedding modality: any number of vectors per patient → (B, D)."""

from __future__ import annotations

from torch import Tensor, nn

from mmnar.ops.packed import TIME_WIDTH, AttentionPool, time_features
from mmnar.types import Items


class VectorsEncoder(nn.Module):
    """LayerNorm and an MLP per vector (never cut, whatever its length), its time added, then attention pooling.

    Args:
        inputs: Length of each vector.
        width: D.
        dropout: Before the last layer.
        heads: Of the pooling.
        of: Name of the modality: which encoder a file of weights is for.
    """

    def __init__(self, inputs: int, width: int, dropout: float = 0.0, heads: int = 4, of: str = "") -> None:
        super().__init__()
        self.of = of
        self.norm = nn.LayerNorm(inputs)
        self.vector = nn.Linear(inputs, width)
        self.time = nn.Linear(TIME_WIDTH, width, bias=False)
        self.pool = AttentionPool(width, heads)
        self.mlp = nn.Sequential(nn.GELU(), nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, content: Items) -> Tensor:
        """(B, D)."""
        items = nn.functional.gelu(self.vector(self.norm(content.values)) + self.time(time_features(content.hours)))
        return self.mlp(self.pool(items, content.patient, len(content)))  # type: ignore[no-any-return]

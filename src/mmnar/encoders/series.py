"""Series modality: packed measurements at their own times → (B, D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmnar.ops.packed import SUMMARIES, TIME_WIDTH, AttentionPool, summaries, time_features
from mmnar.schema import ModalitySpec
from mmnar.types import Series


class SeriesEncoder(nn.Module):
    """Attention over the set of measurements (as in SeFT, Horn et al. 2020) beside their window summaries.

    Every measurement is a token of its value, its feature and its time; nothing is put on a grid or imputed. The
    summaries (first, last, min, max, mean, spread, count of each feature) give the net for nothing what it would
    otherwise have to learn.

    Args:
        spec: The modality's F features.
        width: D.
        dropout: Before the last layer.
        token_width: Width of the tokens.
        heads: Of the pooling.
    """

    def __init__(
        self, spec: ModalitySpec, width: int, dropout: float = 0.0, token_width: int = 32, heads: int = 4
    ) -> None:
        super().__init__()
        self.features = len(spec.features)
        self.feature = nn.Embedding(self.features, token_width)
        self.token = nn.Linear(1 + TIME_WIDTH, token_width)
        self.feed = nn.Sequential(nn.GELU(), nn.Linear(token_width, token_width), nn.GELU())
        self.pool = AttentionPool(token_width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(token_width + self.features * (len(SUMMARIES) + 1), width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )

    def forward(self, content: Series) -> Tensor:
        """(B, D)."""
        b, patient = len(content), content.patient
        inputs = torch.cat([content.values[:, None], time_features(content.hours)], dim=1)
        tokens = self.feed(self.token(inputs) + self.feature(content.feature))  # (E, token_width)
        pooled = self.pool(tokens, patient, b)
        cells = b * self.features
        windows = summaries(content.values, patient * self.features + content.feature, cells)  # (B F, 7)
        seen = (windows[:, -1:] > 0).to(windows.dtype)
        flat = torch.cat([windows, seen], dim=1).view(b, -1)
        return self.mlp(torch.cat([pooled.to(flat.dtype), flat], dim=1))  # type: ignore[no-any-return]

"""Series modality: packed measurements → (B, D), at their own times (``SeriesEncoder``) or in equal steps with the last
value carried forward (``LSTMEncoder``, ``TransformerEncoder``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence

from mmnar.encoders.settings import SeriesConfig
from mmnar.errors import ConfigError
from mmnar.ops.grid import hourly
from mmnar.ops.packed import SUMMARIES, TIME_WIDTH, AttentionPool, summaries, time_features
from mmnar.schema import ModalitySpec
from mmnar.types import Series

PART: Final = 512
"""Patients whose steps are encoded at once where no gradient is wanted: memory does not grow with their number."""


def in_parts(encode: Callable[[Series], Tensor], content: Series) -> Tensor:
    """``encode`` of a series, at most ``PART`` patients at a time where no gradient is wanted."""
    if torch.is_grad_enabled() or len(content) <= PART:
        return encode(content)
    rows = torch.arange(len(content), device=content.offsets.device)
    return torch.cat([encode(content.take(part)) for part in torch.split(rows, PART)])


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


class Steps(nn.Module):
    """The steps of a series that tell something: tokens W [x_t, m_t] of carried values and flags (``ops.grid.hourly``).

    Steps before a patient's first measurement are left out, for they tell nothing: the others come first, and the
    number of steps looked at (T) does not matter where there is nothing to see.

    Args:
        spec: The modality's F features.
        width: D.
        config: T and the hours of a step.
    """

    def __init__(self, spec: ModalitySpec, width: int, config: SeriesConfig) -> None:
        super().__init__()
        self.features, self.config = len(spec.features), config
        self.token = nn.Linear(2 * self.features, width)

    def forward(self, content: Series) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, D), arbitrary behind each patient's last, and how many each has (B,), at least 1 and at most L.

        A patient without a measurement in sight has one step, the last, in which nothing is known.
        """
        values, seen = hourly(content, self.features, self.config.steps, self.config.step)
        t = torch.arange(self.config.steps, device=values.device)
        lengths = torch.where(seen.any(2), self.config.steps - t, 1).amax(1)  # (B,)
        # the steps from a patient's first one on, moved to the front; behind the last one stands it again
        taken = (t[: int(lengths.max())] + self.config.steps - lengths[:, None]).clamp(max=self.config.steps - 1)
        grid = torch.cat([values, seen.to(values.dtype)], dim=2)  # (B, T, 2F)
        grid = grid.gather(1, taken[..., None].expand(-1, -1, grid.shape[2]))
        return self.token(grid), lengths


class LSTMEncoder(nn.Module):
    """LSTM over the steps; its last states, through a linear layer.

    Args:
        spec: The modality's F features.
        width: D.
        dropout: Of the last states, and between layers.
        config: Steps, layers, whether it also reads backwards.
    """

    def __init__(self, spec: ModalitySpec, width: int, dropout: float, config: SeriesConfig) -> None:
        super().__init__()
        self.steps = Steps(spec, width, config)
        self.lstm = nn.LSTM(
            width,
            width,
            config.layers,
            batch_first=True,
            dropout=dropout if config.layers > 1 else 0.0,
            bidirectional=config.both_ways,
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width * (1 + config.both_ways), width)

    def forward(self, content: Series) -> Tensor:
        """(B, D)."""
        return in_parts(self._encode, content)

    def _encode(self, content: Series) -> Tensor:
        tokens, lengths = self.steps(content)
        packed = pack_padded_sequence(tokens, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (states, _) = self.lstm(packed)  # (layers · directions, B, D)
        last = states[-1 - self.lstm.bidirectional :].transpose(0, 1).flatten(1)
        return self.out(self.dropout(last))  # type: ignore[no-any-return]


class TransformerEncoder(nn.Module):
    """Transformer layers over the steps (post-norm, Vaswani et al. 2017), and the mean over a patient's steps.

    A step's position is learned and counts back from the prediction.

    Args:
        spec: The modality's F features.
        width: D.
        dropout: In the layers and of the mean.
        config: Steps, layers, heads.

    Raises:
        ConfigError: The number of heads does not divide the width.
    """

    def __init__(self, spec: ModalitySpec, width: int, dropout: float, config: SeriesConfig) -> None:
        super().__init__()
        if width % config.heads:
            expected = f"a divisor of model.width ({width})"
            raise ConfigError("model.series.heads", expected, str(config.heads), "change one of them")
        self.steps = Steps(spec, width, config)
        self.position = nn.Parameter(torch.empty(config.steps, width).uniform_(-0.1, 0.1))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, 4 * width, dropout, batch_first=True)
            for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, content: Series) -> Tensor:
        """(B, D)."""
        return in_parts(self._encode, content)

    def _encode(self, content: Series) -> Tensor:
        tokens, lengths = self.steps(content)
        # how many steps before the last one, below 0 behind it
        ago = lengths[:, None] - 1 - torch.arange(tokens.shape[1], device=tokens.device)  # (B, L)
        real = ago >= 0
        out = tokens + self.position[ago.clamp(min=0)]
        with sdpa_kernel(SDPBackend.MATH):  # the others cannot be differentiated twice, as SMIL does
            for layer in self.layers:
                out = layer(out, src_key_padding_mask=~real)
        mean = torch.where(real[..., None], out, 0.0).sum(1) / lengths[:, None]
        return self.dropout(mean)  # type: ignore[no-any-return]

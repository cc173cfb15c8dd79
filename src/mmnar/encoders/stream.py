"""A series as a stream of states between layers, for methods that let another modality act on them there.

States are (R, C, L), C numbers of each of R patients at each of L steps, arbitrary behind a patient's last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmnar.encoders.series import Steps
from mmnar.encoders.settings import SeriesConfig
from mmnar.errors import ConfigError
from mmnar.schema import ModalitySpec
from mmnar.types import Series


class SeriesStream(nn.Module):
    """The steps of a series (``encoders.series.Steps``) through stretches of LSTM or transformer layers.

    Each stretch has ``config.layers`` layers. What a stretch gives can be changed before the next one reads it; after
    the last, an LSTM's last states or the mean over a transformer's steps become the vector, as in the encoders of one
    stretch. LSTM layers add to what the stretch before gave, as a transformer's do by themselves: states of a new LSTM
    are small, and a pile of four without it has not learnt the order of events when this one long has.

    Args:
        spec: The modality's F features.
        width: D.
        dropout: In transformer layers, between LSTM layers of a stretch, and before the last layer.
        config: Steps, kind of layers.
        stretches: How many.

    Attributes:
        channels: C of the states that a stretch gives.

    Raises:
        ConfigError: The encoder asked for has no steps; the number of heads does not divide the width.
    """

    def __init__(self, spec: ModalitySpec, width: int, dropout: float, config: SeriesConfig, stretches: int) -> None:
        super().__init__()
        if config.encoder == "set":
            remedy = "choose model.series.encoder=lstm or transformer"
            raise ConfigError("model.series.encoder", "one whose layers go from step to step", "set", remedy)
        self.steps, self.lstm, self.width = Steps(spec, width, config), config.encoder == "lstm", width
        self.channels = width * (1 + (self.lstm and config.both_ways))
        self.stretches: nn.ModuleList
        if self.lstm:
            inputs = (width, *(self.channels for _ in range(stretches - 1)))
            self.stretches = nn.ModuleList(_LSTM(n, width, dropout, config) for n in inputs)
            self.out = nn.Linear(self.channels, width)
        else:
            self.stretches = nn.ModuleList(_Transformer(width, dropout, config) for _ in range(stretches))
            self.position = nn.Parameter(torch.empty(config.steps, width).uniform_(-0.1, 0.1))
        self.dropout = nn.Dropout(dropout)

    def start(self, content: Series) -> tuple[Tensor, Tensor]:
        """What the first stretch is given, (R, D, L), and each patient's number of steps, (R,); all have the series."""
        tokens, lengths = self.steps(content)  # (R, L, D)
        if not self.lstm:
            ago = lengths[:, None] - 1 - torch.arange(tokens.shape[1], device=tokens.device)  # before the last step
            tokens = tokens + self.position[ago.clamp(min=0)]
        return tokens.transpose(1, 2), lengths

    def stretch(self, number: int, states: Tensor, lengths: Tensor) -> Tensor:
        """(R, C, L): what stretch 0, 1, … makes of the states of the one before."""
        made: Tensor = self.stretches[number](states, lengths)
        return states + made if number and self.lstm else made

    def vector(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(R, D) of the last stretch's states."""
        if not self.lstm:
            return self.dropout(mean_over_steps(states, lengths))  # type: ignore[no-any-return]
        d = self.width  # what reads backwards has read all at the first step, the other at the last
        at = (lengths - 1)[:, None, None].expand(-1, d, 1)
        last = torch.cat([states[:, :d].gather(2, at).squeeze(2), states[:, d:, 0]], dim=1)
        return self.out(self.dropout(last))  # type: ignore[no-any-return]


def real_steps(states: Tensor, lengths: Tensor) -> Tensor:
    """(R, L) bool: the patient has this step."""
    return torch.arange(states.shape[2], device=lengths.device) < lengths[:, None]


def mean_over_steps(states: Tensor, lengths: Tensor) -> Tensor:
    """(R, C) over each patient's steps."""
    return torch.where(real_steps(states, lengths)[:, None], states, 0.0).sum(2) / lengths[:, None]


class _LSTM(nn.Module):
    """States (R, C, L) → (R, D or 2D, L), zeros behind each patient's last."""

    def __init__(self, inputs: int, width: int, dropout: float, config: SeriesConfig) -> None:
        super().__init__()
        between = dropout if config.layers > 1 else 0.0
        self.net = nn.LSTM(
            inputs, width, config.layers, batch_first=True, dropout=between, bidirectional=config.both_ways
        )

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        x = states.transpose(1, 2)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.net(packed)[0], batch_first=True, total_length=x.shape[1])
        return out.transpose(1, 2)


class _Transformer(nn.Module):
    """States (R, D, L) → (R, D, L); post-norm layers, as in ``encoders.series.TransformerEncoder``."""

    def __init__(self, width: int, dropout: float, config: SeriesConfig) -> None:
        super().__init__()
        if width % config.heads:
            expected = f"a divisor of model.width ({width})"
            raise ConfigError("model.series.heads", expected, str(config.heads), "change one of them")
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, 4 * width, dropout, batch_first=True)
            for _ in range(config.layers)
        )

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        x, padding = states.transpose(1, 2), ~real_steps(states, lengths)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return x.transpose(1, 2)

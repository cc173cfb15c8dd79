"""From measurements at any times to equal steps, by attention over time (Shukla and Marlin 2021, mTAND)."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

FLOOR: Final = 40.0
"""A key whose score lies further below the highest counts as this far below it: no weight underflows to 0."""


class TimeEmbedding(nn.Module):
    """φ(t) = [w₀ t + b₀ ; sin(w t + b)], all learned; t is 1 at the prediction and 0 at the start of the window.

    Before the window t falls with the logarithm: −ln(hours before the prediction / hours of the window), so that what
    is years old has a time of the same size. Frequencies start from half a period in the window to a period of two
    steps.

    Args:
        width: 1 + how many periodic components.
        steps: T.
        step: Hours of each.
    """

    def __init__(self, width: int, steps: int, step: float) -> None:
        super().__init__()
        self.steps, self.window = steps, steps * step
        self.linear, self.periodic = nn.Linear(1, 1), nn.Linear(1, width - 1)
        with torch.no_grad():
            self.periodic.weight.copy_(math.pi * torch.logspace(0, math.log10(max(2, steps)), width - 1)[:, None])

    def forward(self, hours: Tensor) -> Tensor:
        """(…) hours before the prediction, ≤ 0 → (…, width)."""
        share = -hours / self.window
        t = torch.where(share <= 1, 1 - share, -torch.log(share.clamp(min=1)))[..., None]
        return torch.cat([self.linear(t), torch.sin(self.periodic(t))], dim=-1)

    def references(self) -> Tensor:
        """φ(r) (T, width) of the ends of the T steps; the last is the prediction."""
        ago = torch.arange(self.steps - 1, -1, -1, device=self.linear.weight.device)
        return self(-ago.to(self.linear.weight.dtype) * (self.window / self.steps))  # type: ignore[no-any-return]


class TimeAttention(nn.Module):
    """x̂_h(r, v) = Σ_i α_h(r, i, v) x_iv with α_h(r, i, v) ∝ m_iv exp(q_h(r) · k_h(t_i) / √d), i.e. a softmax over the
    times at which v itself was observed; 0 where there is none.

    Args:
        time: Width of φ.
        values: V.
        width: Of the result.
        heads: H; a divisor of ``time``.
    """

    def __init__(self, time: int, values: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(time, time), nn.Linear(time, time, bias=False)
        self.out = nn.Linear((heads + 1) * values, width, bias=False)  # so that nothing observed gives exactly 0

    def forward(self, references: Tensor, times: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """W [x̂_1 ; … ; x̂_H ; m̂], m̂ = whether v was observed at all.

        Args:
            references: φ(r) (T, P).
            times: φ(t) (B, S, P).
            x: (B, S, V).
            observed: m (B, S, V) bool; false throughout where S is padding.

        Returns:
            (B, T, width).
        """
        (b, _, v), t = x.shape, len(references)
        weights = self.weights(references, times, observed.any(2))  # (B, H T, S)
        with torch.autocast(x.device.type, enabled=False):  # sums over many times: half precision is too coarse
            m = observed.to(weights.dtype)
            total = weights @ m  # (B, H T, V)
            there = total > 0
            mean = torch.where(there, weights @ (x.to(m.dtype) * m) / torch.where(there, total, 1.0), 0.0)
        seen = m.amax(1)[:, None].expand(-1, t, -1)  # (B, T, V)
        of_heads = mean.view(b, self.heads, t, v).transpose(1, 2).flatten(2)  # (B, T, H V)
        return self.out(torch.cat([of_heads, seen], dim=2))  # type: ignore[no-any-return]

    def weights(self, references: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """exp(q · k / √d), up to a factor per head and reference: (B, H T, S), anything finite where ``real`` is false.

        All features of a patient share them; each divides by the sum over the times it was observed itself.
        """
        q = self.query(references).view(len(references), self.heads, -1).transpose(0, 1)  # (H, T, d)
        k = self.key(times).view(*times.shape[:2], self.heads, q.shape[2])  # (B, S, H, d)
        scores = torch.einsum("htd,bshd->bhts", q, k).flatten(1, 2) / q.shape[-1] ** 0.5
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        highest = scores.detach().masked_fill(~real[:, None], -torch.inf).amax(2, keepdim=True)
        highest = highest.clamp(min=torch.finfo(scores.dtype).min)  # nobody's: finite
        return torch.exp((scores - highest).clamp(-FLOOR, 0.0))

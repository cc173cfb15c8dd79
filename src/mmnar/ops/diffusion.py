"""Denoising diffusion of a vector of blocks, some of which are given (Ho et al. 2020).

    ᾱ_t = Π_{s ≤ t} (1 − β_s)
    z_t = √ᾱ_t z + √(1 − ᾱ_t) ε                                     forward
    v_t = √ᾱ_t ε − √(1 − ᾱ_t) z                                     velocity, so that ε = √ᾱ_t v_t + √(1 − ᾱ_t) z_t
    L = E ‖v_t − v̂(z_t, t, given blocks)‖²                          on the wanted blocks
    z_{t−1} = (z_t − β_t ε̂ / √(1 − ᾱ_t)) / √(1 − β_t) + √β_t ε'     backward

The velocity in place of the noise: Salimans, Ho 2022.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETA: Final = (1e-4, 0.02)
"""First and last β of a thousand steps (Ho et al. 2020, section 4)."""


class BlockDiffusion(nn.Module):
    """Draws the blocks of a vector that are not given.

    Args:
        blocks: n.
        size: d of each.
        width: Hidden width of the network.
        steps: T; β_t rises linearly, and is scaled so that T steps destroy as much as a thousand.
    """

    beta: Tensor
    alpha_bar: Tensor

    def __init__(self, blocks: int, size: int, width: int, steps: int) -> None:
        super().__init__()
        self.noisy = nn.Linear(blocks * size, width)
        self.given = nn.Linear(blocks * size + 2 * blocks, width)
        self.time = nn.Embedding(steps, width)
        self.norm, self.middle = nn.LayerNorm(width), nn.Linear(width, width)
        self.out = nn.Linear(width, blocks * size)
        beta = (torch.linspace(*BETA, steps) * 1000 / steps).clamp(max=0.999)
        self.register_buffer("beta", beta)
        self.register_buffer("alpha_bar", (1 - beta).cumprod(0))

    def loss(self, z: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
        """Mean of (v − v̂)² over the entries of the wanted blocks, at one random step for each row.

        Args:
            z: (B, n, d).
            given, wanted: (B, n) bool; a block that is neither is not looked at.
        """
        t = torch.randint(len(self.beta), (len(z),), device=z.device)
        noise = torch.randn_like(z)
        noisy, velocity = self.noised(z, t, noise), self.noised(noise, t, -z)
        error = (velocity - self.velocity(noisy, t, self.context(z, given, wanted), wanted)) ** 2
        return torch.where(wanted[..., None], error, 0.0).sum() / (wanted.sum() * z.shape[-1]).clamp(min=1)

    def draw(self, z: Tensor, given: Tensor, noise: Tensor) -> Tensor:
        """J completions of each row; the same noise for all rows, so that no draw depends on the company.

        Args:
            z: (B, n, d).
            given: (B, n) bool; these blocks are returned as they are.
            noise: (T, J, n, d) standard normal.

        Returns:
            (B, J, n, d).
        """
        context, wanted = self.context(z, given, ~given)[:, None], ~given[:, None]  # (B, 1, W), (B, 1, n)
        drawn = noise[0].expand(len(z), *noise.shape[1:])
        for t in range(len(self.beta) - 1, -1, -1):
            step = torch.tensor(t, device=z.device)
            drawn = self.denoised(drawn, t, self.velocity(drawn, step, context, wanted))
            if t:
                drawn = drawn + self.beta[t].sqrt() * noise[-t]
        return torch.where(wanted[..., None], drawn, z[:, None])

    def noised(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """z_t of z (B, n, d) at steps t (B,)."""
        bar = self.alpha_bar[t][..., None, None]
        return bar.sqrt() * z + (1 - bar).sqrt() * noise

    def denoised(self, noisy: Tensor, t: int, velocity: Tensor) -> Tensor:
        """The mean of z_{t−1} given z_t and v_t."""
        beta, bar = self.beta[t], self.alpha_bar[t]
        noise = bar.sqrt() * velocity + (1 - bar).sqrt() * noisy  # ε̂
        return (noisy - beta / (1 - bar).sqrt() * noise) / (1 - beta).sqrt()

    def context(self, z: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
        """What does not change from step to step: the given blocks, which they are, which are wanted; (B, W)."""
        clean = torch.where(given[..., None], z, 0.0).flatten(1)
        context: Tensor = self.given(torch.cat([clean, given.to(z.dtype), wanted.to(z.dtype)], dim=1))
        return context

    def velocity(self, noisy: Tensor, t: Tensor, context: Tensor, wanted: Tensor) -> Tensor:
        """v̂ (…, n, d); zero would be right for a standard normal z.

        Args:
            noisy: (…, n, d).
            t: (…) step.
            context: (…, W).
            wanted: (…, n) bool; the other blocks are not looked at.
        """
        seen = torch.where(wanted[..., None], noisy, 0.0)
        h = F.gelu(self.noisy(seen.flatten(-2)) + context + self.time(t))
        h = h + F.gelu(self.middle(self.norm(h)))
        velocity: Tensor = self.out(h).float().view_as(noisy)
        return velocity

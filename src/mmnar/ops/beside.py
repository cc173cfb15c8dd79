"""Vectors of modalities side by side, each projected, and what stands for an absent one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmnar.schema import Schema

Absent = Literal["learned", "zeros"]


def projections(schema: Schema, width: int) -> nn.ModuleList:
    """φ_m of every modality: series as they are, all others W_m v^m + b_m."""
    return nn.ModuleList(nn.Identity() if m.kind == "series" else nn.Linear(width, width) for m in schema.modalities)


class SideBySide(nn.Module):
    """z = [v*¹, …, v*ᴹ] with v*^m = φ_m(v^m) where m is present, else a^m, a learned vector or zeros.

    Args:
        schema: Gives M.
        width: D.
        absent: What a^m is.
    """

    def __init__(self, schema: Schema, width: int, absent: Absent) -> None:
        super().__init__()
        self.project = projections(schema, width)
        learned = absent == "learned"
        self.absent = nn.Parameter(torch.randn(len(schema.modalities), width) * 0.02) if learned else None

    def forward(self, v: Tensor, present: Tensor) -> Tensor:
        """(B, M, D), present (B, M) bool → (B, M D)."""
        known = torch.stack([phi(x) for phi, x in zip(self.project, v.unbind(1), strict=True)], 1)
        a = known.new_zeros(()) if self.absent is None else self.absent.to(known.dtype)
        return torch.where(present[..., None], known, a).flatten(1)

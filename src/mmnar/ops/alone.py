"""Modalities by themselves: a linear head for each, and the stage in which encoders learn by these heads alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


def own_label_loss(o: Tensor, batch: PatientBatch, task_loss: Callable[[Tensor, PatientBatch], Tensor]) -> Tensor:
    """Σ_m ℓ(o^m, y), each over the patients who have m; 0 for a modality that nobody has.

    Args:
        o: (B, M, K) logits of every modality, arbitrary where absent.
        task_loss: ``Model.task_loss``.
    """
    losses = [
        task_loss(o[:, m], replace(batch, label_mask=batch.label_mask & batch.present[:, [m]]))
        for m in range(o.shape[1])
    ]
    return torch.stack(losses).sum()


class OwnHeads(nn.Module):
    """o^m = U_m v^m + u_m of every modality.

    Args:
        schema: Gives M and K.
        width: D.
    """

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(schema.tasks)) for _ in schema.modalities)

    def forward(self, v: Tensor) -> Tensor:
        """(B, M, D) → (B, M, K)."""
        return torch.stack([head(x) for head, x in zip(self.heads, v.unbind(1), strict=True)], 1)

    def stage(
        self, v: Tensor, batch: PatientBatch, task_loss: Callable[[Tensor, PatientBatch], Tensor] | None
    ) -> Output:
        """What a model returns while its encoders learn alone: the loss ``alone`` and, for the tune fold to stop that
        stage, the mean of what the present modalities say; 0 with nothing present.

        Args:
            v: (B, M, D) vectors of the modalities.
            task_loss: None = no loss is wanted.
        """
        o = self(v)
        losses = {} if task_loss is None else {"alone": own_label_loss(o, batch, task_loss)}
        return Output(masked_mean(o, batch.present), masked_mean(v, batch.present), losses)

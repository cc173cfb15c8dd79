"""A large batch in parts, for methods whose memory grows faster than their inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmnar.types import Output, PatientBatch


def by_parts(forward: Callable[[PatientBatch], Output], batch: PatientBatch, rows: int) -> Output:
    """``forward`` of ``rows`` patients at a time, put together; for prediction, so there are no losses."""
    parts = torch.split(torch.arange(len(batch), device=batch.rows.device), rows)
    outputs = [forward(batch.take(part)) for part in parts]
    return Output(torch.cat([o.logits for o in outputs]), torch.cat([o.representation for o in outputs]))

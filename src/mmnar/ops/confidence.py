"""How sure each modality is of what was true, and how sure two of them are of the same patients."""

from __future__ import annotations

import torch
from torch import Tensor

from mmnar.ops.losses import probabilities
from mmnar.types import PatientBatch


def truth(logits: Tensor, batch: PatientBatch) -> Tensor:
    """(B, K): the risk given to what was true; in every column of an exclusive panel that of its true task.

    Meaningless where a task was not asked.
    """
    exclusive = batch.schema.exclusive
    p = probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32)), exclusive)
    y = batch.labels.to(p.dtype)
    told = torch.where(y > 0.5, p, 1 - p)
    for columns in exclusive:
        at = torch.tensor(columns, device=logits.device)
        of_panel = (p[:, at] * y[:, at]).sum(1, keepdim=True)
        told = told.index_copy(1, at, of_panel.expand(-1, len(columns)))
    return told


def confidence(logits: Tensor, batch: PatientBatch) -> Tensor:
    """(B,): ``truth``, averaged over the questions a patient was asked, a panel being one; 0 where none was."""
    sizes = {task: len(panel.tasks) for panel in batch.schema.panels for task in panel.tasks}
    weights = logits.new_tensor([1 / sizes.get(task, 1) for task in batch.schema.task_names]).float()
    asked = batch.label_mask * weights
    return (truth(logits, batch) * asked).sum(1) / asked.sum(1).clamp(min=weights.min())


def confidence_in_company(told: Tensor, present: Tensor) -> Tensor:
    """(M, M): how sure m is in sum, of the patients who also have n.

    Two modalities are compared by the patients who have both: who has one alone may be easier to tell.

    Args:
        told: (B, M) confidence of each modality.
        present: (B, M) bool.

    >>> confidence_in_company(torch.tensor([[0.5, 0.25], [0.75, 0.0]]), torch.tensor([[True, True], [True, False]]))
    tensor([[1.2500, 0.5000],
            [0.2500, 0.2500]])
    """
    there = present.to(told.dtype)
    return (told * there).T @ there

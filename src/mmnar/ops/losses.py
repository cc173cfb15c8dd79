"""Label losses and contrast. Every function defines its empty case.

``exclusive`` is ``Schema.exclusive``: the columns of each panel of which exactly one task is true. Their logits are
those of a softmax, all other logits those of a sigmoid.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmnar.ops.bernoulli import pooled_logit
from mmnar.schema import Columns, Schema
from mmnar.types import PatientBatch


def probabilities(logits: Tensor, exclusive: Columns) -> Tensor:
    """(…, K) risks of logits (…, K).

    >>> probabilities(torch.zeros(3), ((1, 2),)).tolist()
    [0.5, 0.5, 0.5]
    """
    risks = torch.sigmoid(logits)
    for columns in exclusive:
        at = torch.tensor(columns, device=logits.device)
        risks = risks.index_copy(-1, at, torch.softmax(logits[..., at], -1))
    return risks


def mean_risk_logits(logits: Tensor, exclusive: Columns) -> Tensor:
    """Logits whose risks are the mean of those of S logits: (B, S, K) → (B, K), in logarithms throughout."""
    everyone = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
    mean = pooled_logit(logits, everyone)
    for columns in exclusive:
        at = torch.tensor(columns, device=logits.device)
        log_risks = torch.log_softmax(logits[..., at].float(), -1).logsumexp(1) - math.log(logits.shape[1])
        mean = mean.index_copy(-1, at, log_risks)
    return mean


def cross_entropy(logits: Tensor, labels: Tensor, exclusive: Columns) -> Tensor:
    """(…, K) cross-entropy of each task; labels may be probabilities.

    Of an exclusive panel each column has its own term −y_k log softmax_k, so that the sum over its columns is the
    panel's cross-entropy.
    """
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    for columns in exclusive:
        at = torch.tensor(columns, device=logits.device)
        loss = loss.index_copy(-1, at, -labels[..., at] * torch.log_softmax(logits[..., at], -1))
    return loss


def masked_label_loss(
    logits: Tensor,
    labels: Tensor,
    label_mask: Tensor,
    weights: Tensor,
    exclusive: Columns = (),
    gamma: float = 0.0,
    alpha: float = -1.0,
) -> Tensor:
    """Σ_t λ_t L_t with L_t the mean over rows of which task t was asked; a task nobody was asked adds 0.

    Args:
        logits: (B, K).
        labels: (B, K) float 0/1.
        label_mask: (B, K) bool.
        weights: (K,) λ_t.
        gamma: Focal exponent: each term is multiplied by (1 − p_y)^γ (Lin et al. 2017). 0 = cross-entropy, exactly.
            Exclusive panels have none: no line per task could calibrate them again.
        alpha: Focal class weight for positives (1 − alpha for negatives); negative = none.
    """
    plain = loss = cross_entropy(logits, labels, exclusive)  # (B, K)
    if gamma > 0:
        p_wrong = torch.sigmoid(torch.where(labels > 0.5, -logits, logits))  # 1 − p_y
        loss = loss * p_wrong**gamma
    if alpha >= 0:
        loss = loss * (alpha * labels + (1 - alpha) * (1 - labels))
    for columns in exclusive:
        at = torch.tensor(columns, device=logits.device)
        loss = loss.index_copy(-1, at, plain[..., at])
    asked = label_mask.to(loss.dtype)
    per_task = (loss * asked).sum(0) / asked.sum(0).clamp(min=1)  # (K,)
    return (per_task * weights).sum()


def mean_label_loss(logits: Tensor, batch: PatientBatch) -> Tensor:
    """Cross-entropy, averaged over questions: what the tune fold is judged by."""
    weights = torch.tensor(question_weights(batch.schema), device=logits.device)
    return masked_label_loss(logits.float(), batch.labels, batch.label_mask, weights, batch.schema.exclusive)


def question_weights(schema: Schema) -> list[float]:
    """K weights of the tasks' losses, so that each panel, and each task outside panels, counts as one question.

    A panel counts by the mean over its tasks, an exclusive one by its cross-entropy, which is their sum.

    >>> from mmnar.schema import Feature, ModalitySpec, Panel, Task
    >>> tasks, panels = [Task(name, "", "") for name in "abcde"], (Panel("x", ("b", "c")), Panel("y", ("d", "e"), True))
    >>> question_weights(Schema((ModalitySpec("m", (Feature("f"),)),), tuple(tasks), (), panels))
    [0.3333333333333333, 0.16666666666666666, 0.16666666666666666, 0.3333333333333333, 0.3333333333333333]
    """
    sizes = {task: 1 if panel.exclusive else len(panel.tasks) for panel in schema.panels for task in panel.tasks}
    questions = len(schema.panels) + len(schema.tasks) - len(sizes)
    return [1 / (questions * sizes.get(task, 1)) for task in schema.task_names]


def info_nce(anchor: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Mean over i of −log softmax_j cos(anchor_i, other_j)/τ at j = i. Exactly 0 with fewer than two rows.

    Args:
        anchor, other: (n, D); row i of both belongs to the same patient.

    >>> info_nce(torch.eye(1), torch.eye(1), 0.1)
    tensor(0.)
    """
    if len(anchor) < 2:
        return anchor.new_zeros(())
    dtype = torch.promote_types(anchor.dtype, torch.float32)
    a, b = (F.normalize(view.to(dtype), dim=-1) for view in (anchor, other))
    with torch.autocast(anchor.device.type, enabled=False):  # half precision is too coarse for 1/τ times a cosine
        similarity = a @ b.T / temperature  # (n, n)
    return F.cross_entropy(similarity, torch.arange(len(anchor), device=anchor.device))

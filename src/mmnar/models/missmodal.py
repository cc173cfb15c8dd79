"""MissModal: what a patient looks like with less is pulled towards what the same patient looks like with everything.

Lin, Hu: "MissModal: Increasing Robustness to Missing Modality in Multimodal Sentiment Analysis", TACL 11, 2023.
O are a patient's observed modalities, A ⊂ O a proper subset (a view), sg stops the gradient.

    z^A = Fuse(Σ_{m ∈ A} W_m h^m + u(A)),  z = z^O
    L_geo = −mean log e(z^A_i, z_i) / [e(z^A_i, z_i) + Σ_{j ≠ i} (e(z^A_i, z_j) + e(z^A_i, z^A_j) + e(z_i, z_j))]
            with e(a, b) = exp(cos(a, b) / τ)                                    geometric
    L_dis = ‖mean z^A − mean z‖² / D + ‖cov z^A − cov z‖²_F / D²                      distribution
    L_sem = BCE(g(z^A), σ(g(z))) + L_task(g(z^A))                                semantic
    L = L_task(g(z)) + a L_geo + b L_dis + c L_sem                               sg(z) in all three
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase, TaskLoss
from mmnar.ops.heads import TaskHead
from mmnar.ops.losses import cross_entropy, probabilities
from mmnar.ops.views import part_of
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class MissModalConfig:
    """Settings of MissModal; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in encoders and fusion.
        views: Random proper subsets per patient and step.
        single_views: With at most so many modalities, every single one is a view as well, and the random ones have two
            modalities or more; a patient with two modalities has no such view.
        temperature: τ, the temperature of the contrast.
        distance: ``moments`` (the equation above) or ``paired`` (mean squared difference of z^A and z of one patient).
        weight_geo, weight_dis, weight_sem: Weights a, b, c of the three constraints.
        append_pattern: Concatenate δ to what the head sees; a view's own subset for a view.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    views: int = 1
    single_views: int = 4
    temperature: float = 0.1
    distance: Literal["moments", "paired"] = "moments"
    weight_geo: float = 0.05
    weight_dis: float = 0.1
    weight_sem: float = 0.5
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class MissModal(Model):
    """One fusion network for every subset; three constraints that align the subsets with the whole."""

    card = ModelCard(
        title="MissModal",
        paper="Lin, Hu (2023), TACL 11:1686-1702",
        missing="an absent modality adds nothing to the fusion; training aligns views with less with the fullest view",
        deviations=(
            "Few patients are complete, so the complete view is all that a patient has; patients with one modality "
            "or none contribute the label loss alone.",
            "One fusion network that is told the subset (an embedding of A) in place of one network per missing case.",
            "We hold the abstract only: the exact form of the three losses, τ and the weights are ours, and there is "
            "no preset=original.",
            "Views: one random proper subset per patient and step; where there are at most four modalities, every "
            "single one, and a random subset of at least two for the patients with three or more.",
            "All views of a patient share the encoders' dropout.",
            "Negatives of L_geo are the patients of the batch who have that same view.",
            "L_geo and L_sem are means over all pairs of a view and a patient who has it (the label part: the label "
            "loss of each view, weighted by how many have it), L_dis is the mean over views; covariances are divided "
            "by n.",
            "BCE(g(z^A), σ(g(z))) is the sum over tasks.",
        ),
    )
    Config = MissModalConfig

    def __init__(self, schema: Schema, config: MissModalConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d = len(schema.modalities), config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.project = nn.Parameter(torch.randn(m, d, d) / (m * d) ** 0.5)  # W_m
        self.subset = nn.Sequential(nn.Linear(m, d), nn.GELU(), nn.Linear(d, d))  # u
        self.fusion = nn.Sequential(
            nn.GELU(), nn.LayerNorm(d), nn.Dropout(config.dropout), nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d)
        )
        self.head = TaskHead(schema, d, config.append_pattern)

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once."""
        c: MissModalConfig = self.config
        return (Phase("joint", {"task": 1.0, "geo": c.weight_geo, "dis": c.weight_dis, "sem": c.weight_sem}),)

    def forward(self, batch: PatientBatch) -> Output:
        e = encode(self.encoders, batch, self.c.width)
        h = torch.einsum("bmd,mdk->bmk", e, self.project)  # W_m h^m (B, M, D), zeros where absent
        z = self.fuse(h, batch.present[None])[0]  # (B, D)
        logits = self.head(z, batch.present)
        if not self.training:
            return Output(logits, z)
        views, valid = self.views(batch.present)  # (V, B, M), (V, B)
        z_views, whole = self.fuse(h, views), z.detach()
        losses = {}
        if self.loss_weights["geo"]:
            losses["geo"] = geometric(z_views, whole, valid, self.c.temperature)
        if self.loss_weights["dis"]:
            losses["dis"] = (moments if self.c.distance == "moments" else paired)(z_views, whole, valid)
        if self.loss_weights["sem"]:
            told = self.head(z_views.flatten(0, 1), views.flatten(0, 1)).view(*valid.shape, -1)  # (V, B, K)
            losses["sem"] = semantic(told, logits.detach(), valid, batch, self.task_loss)
        return Output(logits, z, losses)

    def fuse(self, h: Tensor, views: Tensor) -> Tensor:
        """z^A of every view: W_m h^m (B, M, D), A (V, B, M) bool → (V, B, D)."""
        shown = views.to(h.dtype)
        return self.fusion(torch.einsum("vbm,bmd->vbd", shown, h) + self.subset(shown))  # type: ignore[no-any-return]

    def views(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """A (V, B, M) and whether the patient has it, as a proper subset and not empty, (V, B)."""
        m = present.shape[1]
        singles = m <= self.c.single_views
        views = [part_of(present, least=2 if singles else 1) for _ in range(self.c.views)]
        if singles:
            views += [present & one for one in torch.eye(m, dtype=torch.bool, device=present.device)]
        stacked = torch.stack(views)
        return stacked, stacked.any(2) & (present.sum(1) >= 2)


def geometric(z_views: Tensor, z: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """L_geo; 0 where nobody has a view.

    Args:
        z_views: (V, B, D) z^A.
        z: (B, D), without gradient.
        valid: (V, B) who has the view; only they are anchors and negatives.
        temperature: τ.
    """
    a, whole = F.normalize(z_views.float(), dim=-1), F.normalize(z.float(), dim=-1)
    with torch.autocast(z.device.type, enabled=False):  # half precision would be off by τ⁻¹ of its last digit
        crossed = a @ whole.T / temperature  # (V, B, B) cos(z^A_i, z_j) / τ
        within, fixed = a @ a.transpose(1, 2) / temperature, (whole @ whole.T / temperature).expand_as(crossed)
    same = torch.eye(len(z), dtype=torch.bool, device=z.device)
    others = valid[:, None, :] & ~same  # (V, B, B) who is a negative of whom
    terms = torch.cat([crossed, within, fixed], dim=2)
    kept = torch.cat([others | same, others, others], dim=2)
    per_pair = terms.masked_fill(~kept, -torch.inf).logsumexp(2) - crossed.diagonal(dim1=1, dim2=2)
    return _mean(per_pair, valid)


def moments(z_views: Tensor, z: Tensor, valid: Tensor) -> Tensor:
    """L_dis between the patients who have a view, seen with it alone and in full. Arguments as in ``geometric``."""
    rows = valid.float()
    share = (rows / rows.sum(1, keepdim=True).clamp(min=1))[..., None]  # (V, B, 1)

    def mean_and_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (share * x).sum(1, keepdim=True)  # (V, 1, D)
        return mean, (share * (x - mean)).transpose(1, 2) @ (x - mean)

    with torch.autocast(z.device.type, enabled=False):
        mean_view, cov_view = mean_and_covariance(z_views.float())
        mean, cov = mean_and_covariance(z.float().expand_as(z_views))
    distance = (mean_view - mean).square().mean((1, 2)) + (cov_view - cov).square().mean((1, 2))  # (V,)
    return distance.sum() / valid.any(1).sum().clamp(min=1)


def paired(z_views: Tensor, z: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of z^A and z of the same patient. Arguments as in ``geometric``."""
    return _mean((z_views.float() - z.float()).square().mean(2), valid)


def semantic(told: Tensor, whole: Tensor, valid: Tensor, batch: PatientBatch, task_loss: TaskLoss) -> Tensor:
    """L_sem: a view should say what the whole says, and what happened.

    Args:
        told: (V, B, K) logits of the views.
        whole: (B, K) logits of z, without gradient.
        valid: (V, B) who has the view.
        batch: Its labels.
        task_loss: Of the training.
    """
    told = told.float()
    exclusive = batch.schema.exclusive
    teacher = probabilities(whole.float(), exclusive).expand_as(told)
    agreement = _mean(cross_entropy(told, teacher, exclusive).sum(2), valid)
    of_each = [
        task_loss(logits, replace(batch, label_mask=batch.label_mask & has[:, None]))
        for logits, has in zip(told, valid, strict=True)
    ]
    who = valid.sum(1)  # (V,)
    return agreement + (torch.stack(of_each) * who).sum() / who.sum().clamp(min=1)


def _mean(per_pair: Tensor, valid: Tensor) -> Tensor:
    """(V, B) → scalar over valid pairs; 0 without any."""
    return torch.where(valid, per_pair, 0.0).sum() / valid.sum().clamp(min=1)

"""SimMLM: one expert per modality, a gate over the observed ones, and more must not be worse than fewer.

Li, Chen, Han: "SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality", ICCV 2025
(arXiv 2507.19264).

    o^m = E^m(x^m)                                             expert of modality m, its own logits
    w = softmax_m(g^m),  g = G(x), g^m = −∞ where absent       gate
    o = Σ_m w^m o^m
    ℓ_MoFe(o⁺, o⁻, y) = max(0, ℓ(o⁺, y) − ℓ(o⁻, y))            x⁺ ⊃ x⁻: more versus fewer modalities
    stage 1: Σ_m ℓ(o^m, y)                                     every expert by itself
    stage 2: ℓ(o⁺, y) + ℓ(o⁻, y) + λ ℓ_MoFe                    experts and gate together
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.alone import own_label_loss
from mmnar.ops.heads import TaskHead
from mmnar.ops.losses import cross_entropy
from mmnar.schema import Columns, Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class SimMLMConfig:
    """Settings of SimMLM; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in encoders, experts and gate.
        expert_epochs: Length of stage 1; 0 goes straight to stage 2.
        weight_fewer: Weight of ℓ(o⁻, y), the loss with fewer modalities (paper: 1).
        weight_mofe: λ, the weight of the ranking loss (paper: 0.1); 0 = without it: its premise fails where absence
            itself informs.
        append_pattern: Concatenate δ to what each expert's head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    expert_epochs: int = 20
    weight_fewer: float = 1.0
    weight_mofe: float = 0.1
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class SimMLM(Model):
    """Dynamic mixture of modality experts with the More-vs-Fewer ranking loss."""

    card = ModelCard(
        title="SimMLM",
        paper="Li, Chen, Han (2025), ICCV, arXiv 2507.19264",
        missing="the gate gives an absent modality's expert no weight",
        deviations=(
            "Checked against the abstract, a reader's notes of the equations and a copy of the released segmentation "
            "code; the paper's own text was not at hand.",
            "An expert is the shared encoder of its modality and a head with one hidden layer; the gate is an MLP on "
            "the embeddings, where the paper's reads the inputs by a small network of its own.",
            "One gate per modality and task, as in the release.",
            "x⁺ is the record as it is, which already lacks modalities; the paper also draws x⁺ from complete records. "
            "x⁻ keeps a uniform number between 1 and n − 1 of its n modalities; a patient with one has no x⁻.",
            "Both views share the encoders' pass, so they share its dropout.",
            "ℓ_MoFe is taken per patient and task from the plain cross-entropy and summed over tasks.",
            "The experts of stage 1 are trained in one pass: they share no weights, only the gradient's norm bound.",
            "Stage 1 has a fixed length; its last epoch is kept, not its best on the tune fold.",
            "A patient with nothing present gets learned logits.",
            "preset=original is the joint stage of the segmentation release; its experts were trained with a learning "
            "rate of 0.01, where the loop has one rate for both stages.",
        ),
        original={
            **PLAIN_TRAINING,
            "train.lr": 1e-3,
            "model.expert_epochs": 500,
            "train.max_epochs": 300,
            "train.patience": 300,
        },
    )
    Config = SimMLMConfig

    def __init__(self, schema: Schema, config: SimMLMConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.experts = nn.ModuleList(
            TaskHead(schema, d, config.append_pattern, hidden=d, dropout=config.dropout) for _ in range(m)
        )
        self.gate = nn.Sequential(nn.Linear(m * d, d), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(d, m * k))
        self.nothing = nn.Parameter(torch.zeros(k))

    def phases(self) -> tuple[Phase, ...]:
        """Experts alone, then together."""
        c: SimMLMConfig = self.config
        alone = Phase("experts", {"task": 0.0, "expert": 1.0}, c.expert_epochs)
        together = Phase("together", {"task": 1.0, "fewer": c.weight_fewer, "mofe": c.weight_mofe})
        return (alone, together) if c.expert_epochs else (together,)

    def forward(self, batch: PatientBatch) -> Output:
        e = encode(self.encoders, batch, self.c.width)  # (B, M, D)
        o, w = self.expert_logits(e, batch.present), self.gates(e, batch.present)  # (B, M, K) each
        logits = self.mix(o, w, batch.present)
        h = (w.mean(2, keepdim=True) * e).sum(1)  # (B, D)
        if not self.training:
            return Output(logits, h)
        wanted = {name for name, weight in self.loss_weights.items() if weight}
        losses = {"expert": own_label_loss(o, batch, self.task_loss)} if "expert" in wanted else {}
        if wanted & {"fewer", "mofe"}:
            losses |= self._view_losses(e, logits, batch)
        return Output(logits, h, {name: loss for name, loss in losses.items() if name in wanted})

    def expert_logits(self, e: Tensor, present: Tensor) -> Tensor:
        """o^m of every modality: (B, M, D) → (B, M, K); meaningless where absent."""
        return torch.stack([expert(e[:, m], present) for m, expert in enumerate(self.experts)], dim=1)

    def gates(self, e: Tensor, present: Tensor) -> Tensor:
        """w (B, M, K) float32: 1 in sum over the observed modalities, 0 where absent; all 0 with nothing present."""
        g = self.gate(torch.where(present[..., None], e, 0.0).flatten(1)).view(*present.shape, -1)
        keys = present | ~present.any(1, keepdim=True)  # softmax over no key is NaN
        w = g.float().masked_fill(~keys[..., None], -torch.inf).softmax(1)
        return torch.where(present[..., None], w, 0.0)

    def mix(self, o: Tensor, w: Tensor, present: Tensor) -> Tensor:
        """o = Σ_m w^m o^m: (B, K)."""
        return torch.where(present.any(1, keepdim=True), (w * o).sum(1), self.nothing)

    def _view_losses(self, e: Tensor, more: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        """ℓ(o⁻, y) and ℓ_MoFe, over the patients who have something to lose."""
        fewer_present = fewer_of(batch.present)
        o = self.expert_logits(e, fewer_present)
        fewer = self.mix(o, self.gates(e, fewer_present), fewer_present)
        asked = batch.label_mask & (batch.present.sum(1, keepdim=True) >= 2)
        fewer_loss = self.task_loss(fewer, replace(batch, label_mask=asked))
        return {"fewer": fewer_loss, "mofe": mofe_loss(more, fewer, batch.labels, asked, self.schema.exclusive)}


def fewer_of(present: Tensor) -> Tensor:
    """A random strict, non-empty part of every pattern of at least two modalities; (B, M) bool, others unchanged."""
    n = present.sum(1)
    keep = 1 + (torch.rand(len(present), device=present.device) * (n - 1)).long()  # 1 … n − 1
    order = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
    rank = order.argsort(1).argsort(1)
    return present & (rank < torch.where(n >= 2, keep, n)[:, None])


def mofe_loss(more: Tensor, fewer: Tensor, labels: Tensor, asked: Tensor, exclusive: Columns = ()) -> Tensor:
    """ℓ_MoFe, averaged over the patients asked of each task, summed over tasks.

    Args:
        more, fewer: (B, K) logits of x⁺ and x⁻.
        labels: (B, K).
        asked: (B, K) bool.
        exclusive: ``Schema.exclusive``.

    >>> y, asked = torch.ones(2, 1), torch.ones(2, 1, dtype=torch.bool)
    >>> mofe_loss(torch.tensor([[0.0], [5.0]]), torch.tensor([[5.0], [0.0]]), y, asked)
    tensor(0.3432)
    """
    worse = cross_entropy(more.float(), labels, exclusive) - cross_entropy(fewer.float(), labels, exclusive)
    per_task = (worse.clamp(min=0) * asked).sum(0) / asked.sum(0).clamp(min=1)  # (K,)
    return per_task.sum()

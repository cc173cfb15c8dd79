"""COM: contrastive masked attention; generated views augment the contrast and never enter the fusion.

Qian, Wang: "COM: Contrastive Masked-attention model for incomplete multimodal learning", Neural Networks 2023.

    p^m = Proj_m(e^m);  c = mean of p^m over the observed m                     code of the patient
    x̃^m = Gen_m(c);  x^m = e^m where observed, else x̃^m;  q^m = Proj_m(x^m)    completed views
    h = cls of Transformer([cls, q¹ + t¹, …, qᴹ + tᴹ]), generated views masked;  ŷ = head(h)
    L_adv = mean over m of ½ BCE(D_m(e^m), 1) + ½ BCE(D_m(reverse(x̃^m)), 0)
    L_within = mean over m and tasks of SupCon(x^m), positives: same label
    L_across = SupCon(q¹, …, qᴹ), positives: same patient
    L = L_task + λ₁ L_adv + λ₂ L_within + λ₃ L_across
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.contrast import supcon
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import EVERY, FusionLayer, masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

CLS: Final = slice(0, 1)
"""All that is read of the last layer."""


@dataclass(frozen=True)
class COMConfig:
    """Settings of COM; letters are those of the equations above.

    Args:
        width: D, the width of views, codes and tokens.
        hidden, hidden_layers: Width and number of the hidden layers of projections, generators and discriminators.
        layers, heads: Layers and attention heads of the fusion.
        dropout: Dropout in encoders and fusion.
        temperature: τ, the temperature of both contrasts.
        weight_adv, weight_within, weight_across: λ₁, λ₂, λ₃. What only they train (generators, discriminators) learns
            at the optimizer's pace whatever they are; they weigh in what the label loss trains too.
        append_pattern: Concatenate δ to what the head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    hidden: int = 128
    hidden_layers: int = 1
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2
    temperature: float = 0.07
    weight_adv: float = 0.001
    weight_within: float = 0.001
    weight_across: float = 0.001
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class COM(Model):
    """Projections, adversarial completion of views, two contrasts, masked attention."""

    card = ModelCard(
        title="COM",
        paper="Qian, Wang (Neural Networks 2023)",
        missing="absent tokens are masked in the attention; generated ones serve the contrast alone",
        deviations=(
            "The view e^m is what the encoder of all methods makes of modality m, not the raw vector: projection, "
            "generation, discrimination and both contrasts happen there, so that L_within trains observed views too.",
            "Discriminators are trained: with gradient reversal one joint step updates both players. In the released "
            "code they are in no optimizer.",
            "Real views are those observed in the batch, without gradient: encoders are not trained to be told apart.",
            "Layer norm in place of batch norm: nothing depends on the batch, or on fill values.",
            "Labels contrast by task, averaged over tasks, among patients who were asked; anchors without a positive "
            "are left out.",
            "Patients with nothing present have no code and take part in no auxiliary loss.",
            "One hidden layer of D in place of three of 1024, two fusion layers in place of three, of inner width 2D, "
            "normalising first; preset=original restores the numbers of layers and their width.",
            "All three λ are 0.001. The release sets them by data set: 1e-4 each in three of six, 0.01 in one, 0.1 in "
            "one, mixed in one; preset=original takes 1e-4. So small they hardly act: without them KL to the exact "
            "risks is lower by 0.8 ± 1.2 of 76.6 (1e-4 nats; 4,000 simulated patients, M = 4, three seeds ± standard "
            "error), and with 0.01 higher by 3.7 ± 7.5. Where modalities share nothing (planted product) 0.01 keeps "
            "one seed of three from learning anything: tune log loss higher by 0.12 ± 0.12 of 0.38, without the three "
            "losses by 0.006 ± 0.004. benchmarks/choices.py.",
            "L_adv, reversed, trains through c the projections and encoders too, not the generators alone.",
            "Negatives are the patients of a batch in one process, also where several devices train.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.hidden": 1024,
            "model.hidden_layers": 3,
            "model.layers": 3,
            "model.dropout": 0.1,
            "model.weight_adv": 1e-4,
            "model.weight_within": 1e-4,
            "model.weight_across": 1e-4,
            "train.lr": 1e-4,
            "train.max_epochs": 300,
            "train.patience": 300,
        },
    )
    Config = COMConfig

    def __init__(self, schema: Schema, config: COMConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.c = config
        hidden = [config.hidden] * config.hidden_layers
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.projections = nn.ModuleList(_mlp(d, *hidden, d) for _ in range(m))
        self.generators = nn.ModuleList(_mlp(d, *hidden, d) for _ in range(m))
        self.discriminators = nn.ModuleList(_mlp(d, *hidden, 1) for _ in range(m))
        self.cls = nn.Parameter(torch.randn(d) * 0.02)
        self.modality = nn.Parameter(torch.randn(m, d) * 0.02)
        self.fusion = nn.ModuleList(FusionLayer(d, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.head = TaskHead(schema, d, config.append_pattern)

    def phases(self) -> tuple[Phase, ...]:
        c: COMConfig = self.config
        weights = {"task": 1.0, "adv": c.weight_adv, "within": c.weight_within, "across": c.weight_across}
        return (Phase("joint", weights),)

    def forward(self, batch: PatientBatch) -> Output:
        e = encode(self.encoders, batch, self.c.width)  # (B, M, D)
        p = torch.stack([project(e[:, m]) for m, project in enumerate(self.projections)], dim=1)
        h = self.fuse(p, batch.present)
        return Output(self.head(h, batch.present), h, self._losses(e, p, batch) if self.training else {})

    def fuse(self, q: Tensor, present: Tensor) -> Tensor:
        """(B, M, D), (B, M) bool → (B, D); nothing of q behind an absent modality is read."""
        tokens = torch.cat([self.cls.to(q.dtype).expand(len(q), 1, -1), q + self.modality], dim=1)
        keys = F.pad(present, (1, 0), value=True)  # cls sees itself even where nothing is present
        for layer in self.fusion:
            tokens = layer(tokens, keys, CLS if layer is self.fusion[-1] else EVERY)
        return self.norm(tokens[:, 0])  # type: ignore[no-any-return]

    def generate(self, p: Tensor, present: Tensor) -> Tensor:
        """x̃^m of every modality from the observed ones' code c: (B, M, D)."""
        c = masked_mean(p, present)  # (B, D)
        return torch.stack([generator(c) for generator in self.generators], dim=1)

    def _losses(self, e: Tensor, p: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        """Of the patients with anything present."""
        rows = batch.present.any(1).nonzero().squeeze(1)
        e, p, present = e[rows], p[rows], batch.present[rows]
        generated = self.generate(p, present)
        x = torch.where(present[..., None], e, generated)
        wanted = {name for name, weight in self.loss_weights.items() if weight}
        losses = {}
        if "adv" in wanted:
            losses["adv"] = self.adversarial(e, generated, present)
        if "within" in wanted:
            labels, asked = batch.labels[rows].long(), batch.label_mask[rows]
            losses["within"] = torch.stack(
                [supcon(v, labels, 2, asked, self.c.temperature) for v in x.unbind(1)]
            ).mean()
        if "across" in wanted:
            q = torch.stack([self._reproject(m, p[:, m], x[:, m], present[:, m]) for m in range(p.shape[1])])
            patient = torch.arange(len(rows), device=rows.device).repeat(len(q))[:, None]
            everybody = torch.ones_like(patient, dtype=torch.bool)
            losses["across"] = supcon(q.flatten(0, 1), patient, len(rows), everybody, self.c.temperature)
        return losses

    def _reproject(self, m: int, p: Tensor, x: Tensor, present: Tensor) -> Tensor:
        """q^m = Proj_m(x^m), (B, D): that of an observed view is known already."""
        missing = (~present).nonzero().squeeze(1)
        return p.index_copy(0, missing, self.projections[m](x[missing]).to(p.dtype))

    def adversarial(self, real: Tensor, generated: Tensor, present: Tensor) -> Tensor:
        """L_adv over modalities that somebody has; its gradient trains D_m, reversed Gen_m.

        Args:
            real, generated: (B, M, D).
            present: (B, M) bool.
        """
        total = real.new_zeros(())
        for m, discriminator in enumerate(self.discriminators):
            mine = real[present[:, m], m].detach()
            if not len(mine):
                continue
            on_real, on_generated = discriminator(mine), discriminator(reverse(generated[:, m]))
            total = total + (F.softplus(-on_real).mean() + F.softplus(on_generated).mean()) / 2
        return total / present.any(0).sum().clamp(min=1)


def reverse(x: Tensor) -> Tensor:
    """x, with the gradient's sign reversed (Ganin, Lempitsky 2015).

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = reverse(x)
    >>> y.backward()
    >>> y.item(), x.grad.item()
    (3.0, -1.0)
    """
    return 2 * x.detach() - x


def _mlp(*widths: int) -> nn.Module:
    """Linear layers; layer norm and leaky rectifier between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

"""ShaSpec: what modalities share stands in for the absent ones, what each alone knows is added to it.

Wang, Chen, Ma, Avery, Hull, Carneiro: "Multi-Modal Learning with Missing Modality via Shared-Specific Feature
Modelling", CVPR 2023. O is the set of present modalities; h^m is the vector of modality m.

    r^m = Sh(h^m),  s^m = Sp_m(h^m)                       one shared encoder for all, a specific one for each
    f^m = r^m + W[r^m, s^m] + a    for m ∈ O              residual fusion, W for all modalities
    f^m = (1/|O|) Σ_{n∈O} r^n      for m ∉ O              the absent have what the others share, nothing specific
    g = MLP([f¹, …, fᴹ]),  ŷ_k = w_k'g + b_k
    L = L_task + α L_align + β L_domain
    L_align = mean of |r^m − r^n| over the pairs m, n ∈ O,  L_domain = −mean_{m∈O} log softmax_m(V s^m + c)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.heads import trunk
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class ShaSpecConfig:
    """Settings of ShaSpec; letters are those of the equations above.

    Args:
        width: D, the width of encoders, features and trunk.
        dropout: Dropout in encoders and trunk.
        append_pattern: Concatenate δ to the f^m.
        weight_align: α, weight of the distance of shared features.
        weight_domain: β, weight of the loss of telling the modality by its specific features.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    weight_align: float = 0.1
    weight_domain: float = 0.02
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class ShaSpec(Model):
    """Shared and specific features of M modalities; an absent one has the shared features of the others."""

    card = ModelCard(
        title="ShaSpec",
        paper="Wang, Chen, Ma, Avery, Hull, Carneiro (CVPR 2023)",
        missing="the fused feature of an absent modality is the mean shared feature of the present ones",
        deviations=(
            "Any M modalities of any kind; the shared encoder therefore reads the vectors h^m that the encoders of all "
            "methods here give. The paper's scans have one shape, and its shared encoder reads them raw.",
            "The specific encoders are layers of their own upon the same h^m, so that everything is encoded once. "
            "L_domain trains them, and through them the encoders below, and nothing of the shared encoder.",
            "The mean of the shared features stands for an absent modality; the paper's release takes the first "
            "present one's, which depends on the order of modalities. With two modalities both are the same.",
            "A patient with nothing present has a learned null vector in place of every f^m.",
            "The distance is averaged over all pairs of present modalities; the paper's release sums it over "
            "neighbours in a ring, absent ones included.",
            "CareBench's release gives the domain classifier the shared features, which L_align pulls the other way, "
            "and black films too; here, as in the paper, it has the specific features, of what is present.",
            "CareBench's release reads out the mean of the f^m, and weighs this method's classes alone; here they "
            "stand side by side, as in the paper, and the label loss is that of all methods.",
            "preset=original are CareBench's settings, α and β those it found for phenotypes in its base cohort; the "
            "paper has α = 0.1, β = 0.02. ImageNet's weights are a file of the user's: model.image.weights=FILE "
            "model.image.norm=frozen.",
        ),
        original={
            **CAREBENCH,
            **CAREBENCH_ENCODERS,
            "model.weight_align": 0.01,
            "model.weight_domain": 0.1608,
        },
    )
    Config = ShaSpecConfig

    def __init__(self, schema: Schema, config: ShaSpecConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.width, self.append_pattern = d, config.append_pattern
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.shared = _layers(d, config.dropout)
        self.specific = nn.ModuleList(_layers(d, config.dropout) for _ in range(m))
        self.compose = nn.Linear(2 * d, d)
        self.null = nn.Parameter(torch.randn(d) * 0.02)
        self.domain = nn.Linear(d, m)
        self.trunk = trunk(m * d + m * config.append_pattern, d, config.dropout)
        self.heads = nn.Linear(d, len(schema.tasks))

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once."""
        c: ShaSpecConfig = self.config
        return (Phase("joint", {"task": 1.0, "align": c.weight_align, "domain": c.weight_domain}),)

    def forward(self, batch: PatientBatch) -> Output:
        r, s = self.decompose(batch)  # (B, M, D) each
        f = self.fuse(r, s, batch.present).flatten(1)  # (B, M D)
        if self.append_pattern:
            f = torch.cat([f, batch.pattern], dim=1)
        g = self.trunk(f)  # (B, D)
        return Output(self.heads(g), g, self._losses(r, s, batch.present) if self.training else {})

    def decompose(self, batch: PatientBatch) -> tuple[Tensor, Tensor]:
        """r^m and s^m, (B, M, D) each, zeros where m is absent."""
        h = encode(self.encoders, batch, self.width)
        rows = batch.present.flatten().nonzero().squeeze(1)  # of what there is, all modalities beside each other
        known = self.shared(h.flatten(0, 1)[rows])
        r = known.new_zeros(batch.present.numel(), self.width).index_copy(0, rows, known)
        s = torch.stack([layers(x) for layers, x in zip(self.specific, h.unbind(1), strict=True)], 1)
        return r.view_as(h), torch.where(batch.present[..., None], s, 0.0)

    def fuse(self, r: Tensor, s: Tensor, present: Tensor) -> Tensor:
        """f^m (B, M, D)."""
        general = torch.where(present.any(1, keepdim=True), masked_mean(r, present), self.null)  # (B, D)
        own = r + self.compose(torch.cat([r, s], -1))
        return torch.where(present[..., None], own, general[:, None])

    def _losses(self, r: Tensor, s: Tensor, present: Tensor) -> dict[str, Tensor]:
        losses = {}
        if self.loss_weights["align"]:
            losses["align"] = alignment_loss(r, present)
        if self.loss_weights["domain"]:
            modality = torch.arange(present.shape[1], device=s.device).expand_as(present)
            told = F.cross_entropy(self.domain(s[present]).float(), modality[present], reduction="sum")
            losses["domain"] = told / present.sum().clamp(min=1)
        return losses


def alignment_loss(r: Tensor, present: Tensor) -> Tensor:
    """Mean of |r^m − r^n| over dimensions, pairs of present modalities and patients; 0 where there is no pair.

    Args:
        r: (B, M, D).
        present: (B, M) bool.

    >>> alignment_loss(torch.tensor([[[1.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor(3.)
    """
    m, n = torch.triu_indices(r.shape[1], r.shape[1], 1, device=r.device)  # the P pairs
    both = present[:, m] & present[:, n]  # (B, P)
    apart = (r[:, m] - r[:, n]).float().abs().mean(-1)
    return apart[both].sum() / both.sum().clamp(min=1)


def _layers(width: int, dropout: float) -> nn.Sequential:
    """A shared or specific encoder of vectors (…, D)."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
    )

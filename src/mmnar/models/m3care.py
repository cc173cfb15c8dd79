"""M3Care: the latent vector of a missing modality, from patients who are similar in the modalities both have.

Zhang, Chu, Ma, Zhu, Wang, Wang, Zhao: "M3Care: Learning with Missing Modalities in Multimodal Healthcare Data",
KDD 2022.

    K(x, y) = ⅓ Σ_s exp(−‖x − y‖² / s bw), s ∈ {½, 1, 2}                      bw: mean squared distance of two patients
    A_m = (1 − σ(ε_m)) K(φ_m(h_i^m), φ_m(h_j^m)) + σ(ε_m) K(h_i^m, h_j^m)     modality-adaptive similarity
    A = mean of A_m over the modalities that i and j both have;  A ← A 1[A > τ], τ = σ(θ)
    g^m = SELU(GCN_m(A δ_j^m, SELU(GCN_m(A δ_j^m, h^m))))                     neighbours who have m
    ĥ^m = g^m where m is missing, else w g^m + (1 − w) h^m;  w = w₁ / (w₁ + w₂), w₁ = σ(u₁'g^m), w₂ = σ(u₂'h^m)
    ŷ = head(Transformer(ĥ¹ + t¹, …, ĥᴹ + tᴹ));  L = L_task + λ Σ_m |‖φ_m(h^m)‖ − ‖h^m‖|
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS, PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import FusionLayer
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class M3CareConfig:
    """Settings of M3Care; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        heads: Attention heads of the first transformer layer; the second has one.
        dropout: Dropout in encoders, fusion and head.
        bank: R, how many training patients stand in for the batch as neighbours at prediction.
        weight_stable: λ, keeps φ_m from inflating or deflating what it projects.
        append_pattern: Concatenate δ to what the head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    heads: int = 4
    dropout: float = 0.2
    bank: int = 2048
    weight_stable: float = 1e-8
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class M3Care(Model):
    """Similarity by kernels per modality, two graph convolutions over patients, a transformer over modalities."""

    card = ModelCard(
        title="M3Care",
        paper="Zhang, Chu, Ma, Zhu, Wang, Wang, Zhao (KDD 2022)",
        missing="the latent vector of an absent modality is gathered from similar patients who have it",
        deviations=(
            "Who lacks m gathers from neighbours who have m. The released notebooks also require that the receiver has "
            "m, so that nobody who lacks it receives anything.",
            "A row's neighbours are averaged (the release sums, so that scale grows with the batch), and the patient's "
            "own vector counts as much as all neighbours together: its share does not depend on how many there are.",
            "The similarity is a mean over the modalities two patients share; who shares none is no neighbour.",
            "Where nobody is similar enough, an absent modality is a learned vector.",
            "At prediction the neighbours are at most config.bank patients of the training fold, by default 2,048, "
            "evenly spaced and renewed after every epoch, and bw is theirs: nobody's risk depends on who is scored "
            "beside them.",
            "Vectors are layer-normalised before the kernels (released: batch-normalised).",
            "Encoders are those of all methods; every modality is a token, none is concatenated after the fusion.",
            "Transformer blocks normalise first.",
            "λ and the number of heads are those of the released code.",
        ),
        keeps_patients=True,
        original={
            **PLAIN_TRAINING,
            "model.width": 256,
            "model.dropout": 0.5,
            "train.batch_size": 32,
            "train.lr": 1e-4,
            "train.weight_decay": 1e-5,
            "train.max_epochs": 100,
            "train.patience": 100,
            "train.clip_norm": 20.0,
        },
        carebench={**CAREBENCH, **CAREBENCH_ENCODERS, "model.weight_stable": 1e-3},
    )
    Config = M3CareConfig
    bank_h: Tensor
    bank_x: Tensor
    bank_states: Tensor
    bank_present: Tensor
    bandwidth: Tensor

    def __init__(self, schema: Schema, config: M3CareConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.width = d
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.projections = nn.ModuleList(_projection(d) for _ in schema.modalities)  # φ_m
        self.epsilon = nn.Parameter(torch.full((m,), -0.3))
        self.theta = nn.Parameter(torch.zeros(()))
        self.gcn1 = nn.ModuleList(nn.Linear(d, d) for _ in schema.modalities)
        self.gcn2 = nn.ModuleList(nn.Linear(d, d) for _ in schema.modalities)
        self.trust_neighbours, self.trust_own = nn.Linear(d, 1), nn.Linear(d, 1)  # u₁, u₂
        self.lonely = nn.Parameter(torch.randn(m, d) * 0.02)
        self.modality = nn.Parameter(torch.randn(m, d) * 0.02)
        self.fusion = nn.ModuleList(FusionLayer(d, heads, config.dropout) for heads in (config.heads, 1))
        self.trunk = nn.Sequential(nn.Linear(m * d, 2 * d), nn.SELU(), nn.Dropout(config.dropout))
        self.head = TaskHead(schema, 2 * d, config.append_pattern)
        # the bank's h, kernel inputs, states after the first convolution and δ (nothing in rows not filled), and bw of
        # both kernels: to score a patient nothing of the bank is computed anew
        self.register_buffer("bank_h", torch.zeros(config.bank, m, d))
        self.register_buffer("bank_x", torch.zeros(2, m, config.bank, d))
        self.register_buffer("bank_states", torch.zeros(config.bank, m, d))
        self.register_buffer("bank_present", torch.zeros(config.bank, m, dtype=torch.bool))
        self.register_buffer("bandwidth", torch.ones(2, m))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("joint", {"task": 1.0, "stable": self.config.weight_stable}),)

    def forward(self, batch: PatientBatch) -> Output:
        present = batch.present
        h = encode(self.encoders, batch, self.width)  # (B, M, D)
        projected = self.project(h, present)
        x = kernel_inputs(projected, h)
        if self.training:  # the batch is the graph
            a = self._among(x, present, mean_square_distance(x, present))
            states, _ = convolve(self.gcn1, h, present, a, h, present)
            g, found = convolve(self.gcn2, states, present, a, states, present)
        else:
            known = self.bank_present
            a = self.similarity(x, present, self.bank_x, known, self.bandwidth)
            states, _ = convolve(self.gcn1, h, present, a, self.bank_h, known)
            g, found = convolve(self.gcn2, states, present, a, self.bank_states, known)
        z = self.trunk(self.fuse(self.complete(h, g, present, found)).flatten(1))  # (B, 2D)
        stable = self.training and self.loss_weights["stable"]
        return Output(self.head(z, present), z, {"stable": _norm_change(projected, h)} if stable else {})

    def after_epoch(self, train: PatientBatch) -> None:
        """Fill the bank with evenly spaced patients of the training fold, each other's neighbours."""
        n = min(len(train), self.config.bank)
        some = train.take(torch.arange(n, device=train.rows.device) * len(train) // n)
        h = encode(self.encoders, some, self.width)
        x = kernel_inputs(self.project(h, some.present), h)
        self.bandwidth.copy_(mean_square_distance(x, some.present))
        a = self._among(x, some.present, self.bandwidth)
        states, _ = convolve(self.gcn1, h, some.present, a, h, some.present)
        for bank, value in ((self.bank_h, h), (self.bank_states, states), (self.bank_present, some.present)):
            bank[:n] = value
        self.bank_x[:, :, :n] = x

    def project(self, h: Tensor, present: Tensor) -> Tensor:
        """φ_m(h^m): (B, M, D) → (B, M, D), zeros where absent."""
        projected = torch.stack([phi(h[:, m]) for m, phi in enumerate(self.projections)], dim=1)
        return torch.where(present[..., None], projected, projected.new_zeros(()))

    def similarity(self, x: Tensor, present: Tensor, y: Tensor, known: Tensor, bandwidth: Tensor) -> Tensor:
        """A of B patients and R others: (B, R), 0 where not above τ.

        Args:
            x, y: (2, M, B, D) and (2, M, R, D) kernel inputs.
            present, known: (B, M) and (R, M) bool.
            bandwidth: (2, M) bw of both kernels.
        """
        shared = present.float() @ known.float().T
        total = torch.zeros_like(shared)
        share = torch.sigmoid(self.epsilon)
        for m in range(present.shape[1]):
            projected, own = (gaussian(x[i, m], y[i, m], bandwidth[i, m]) for i in range(2))
            both = present[:, m, None] & known[None, :, m]
            total = total + torch.where(both, (1 - share[m]) * projected + share[m] * own, 0.0)
        a, tau = total / shared.clamp(min=1), torch.sigmoid(self.theta)
        return F.relu(a - tau) + (a > tau) * tau.detach()  # A 1[A > τ], with a gradient for τ

    def _among(self, x: Tensor, present: Tensor, bandwidth: Tensor) -> Tensor:
        """A of the same B patients with each other, nobody beside themselves: (B, B)."""
        a = self.similarity(x, present, x, present, bandwidth)
        return a.masked_fill(torch.eye(len(a), dtype=torch.bool, device=a.device), 0.0)

    def complete(self, h: Tensor, g: Tensor, present: Tensor, found: Tensor) -> Tensor:
        """ĥ (B, M, D): what is missing from the neighbours, what is observed blended with them."""
        w1, w2 = torch.sigmoid(self.trust_neighbours(g)), torch.sigmoid(self.trust_own(h))  # (B, M, 1)
        w = w1 / (w1 + w2)
        imputed = torch.where(found[..., None], g, self.lonely.to(g.dtype))
        return torch.where(present[..., None], w * g + (1 - w) * h, imputed)

    def fuse(self, tokens: Tensor) -> Tensor:
        """Attention among all M tokens, observed and imputed: (B, M, D) → (B, M, D)."""
        tokens = tokens + self.modality
        for layer in self.fusion:
            tokens = layer(tokens)
        return tokens


def _projection(d: int) -> nn.Module:
    """φ_m."""
    return nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))


def convolve(
    layer: nn.ModuleList, own: Tensor, present: Tensor, a: Tensor, states: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """One graph convolution: SELU(W_m · mean(own vector, neighbours' average) + b_m), of what there is of the two.

    Args:
        layer: W_m and b_m of every modality.
        own, present: (B, M, D), (B, M) of the patients.
        a: (B, R).
        states, known: (R, M, D), (R, M) of their neighbours.

    Returns:
        (B, M, D) and (B, M) bool, whether there was a neighbour with m.
    """
    weight = a @ known.to(a.dtype)  # (B, M): only neighbours who have m count
    gathered = (a @ (states * known[..., None]).flatten(1)).view_as(own)
    found = weight > 0
    average: Tensor = gathered / torch.where(found, weight, 1.0)[..., None]
    sources = (present.to(a.dtype) + found).clamp(min=1)[..., None]
    mixed = (own * present[..., None] + average) / sources
    mapped = torch.stack([w(mixed[:, m]) for m, w in enumerate(layer)], dim=1)
    return F.selu(mapped), found


def kernel_inputs(projected: Tensor, h: Tensor) -> Tensor:
    """Layer-normalised φ_m(h^m) and h^m, (B, M, D) each, one above the other: (2, M, B, D)."""
    both = torch.stack([projected, h]).transpose(1, 2).float()
    return F.layer_norm(both, both.shape[-1:])


def mean_square_distance(x: Tensor, present: Tensor) -> Tensor:
    """bw of both kernels: mean ‖x_i − x_j‖² over pairs of distinct patients who have m; 1 without such a pair.

    Args:
        x: (2, M, B, D).
        present: (B, M) bool.

    Returns:
        (2, M), no gradient.

    >>> x = torch.tensor([[0.0], [1.0], [5.0]]).expand(2, 1, 3, 1)
    >>> mean_square_distance(x, torch.tensor([[True], [True], [False]]))
    tensor([[1.],
            [1.]])
    """
    x, has = x.detach(), present.T[None, :, :, None].to(x.dtype)  # (1, M, B, 1)
    n = has.sum((2, 3))  # (1, M)
    mean = (x * has).sum(2, keepdim=True) / n.clamp(min=1)[..., None, None]
    scatter = ((x - mean) * has).square().sum((2, 3))
    return torch.where(n > 1, 2 * scatter / (n - 1).clamp(min=1), 1.0)


def gaussian(x: Tensor, y: Tensor, bandwidth: Tensor) -> Tensor:
    """K of (B, D) and (R, D): the mean of three Gaussian kernels, (B, R).

    >>> gaussian(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(1.0))
    tensor([[1.]])
    """
    widest: Tensor = torch.exp(torch.cdist(x, y).square() / (-2 * bandwidth).clamp(max=-1e-6))
    middle = widest.square()
    return (widest + middle + middle.square()) / 3  # s = 2, 1, ½


def _norm_change(projected: Tensor, h: Tensor) -> Tensor:
    """Σ_m |‖φ_m(h^m)‖ − ‖h^m‖|, Frobenius norms over the patients who have m."""
    after, before = (torch.linalg.vector_norm(x.float(), dim=(0, 2)) for x in (projected, h))  # (M,) each
    change: Tensor = (after - before).abs().sum()
    return change

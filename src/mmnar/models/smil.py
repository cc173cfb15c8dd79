"""SMIL: what is missing is rebuilt from cluster means, and learning to do so is itself learnt.

Ma, Ren, Zhao, Tulyakov, Wu, Peng: "SMIL: Multimodal Learning with Severely Missing Modality", AAAI 2021. θ are the
encoders, the fusion and the head; ψ the anchor net f_a, f_c (weights of the clusters) and f_1, f_2 (perturbation).

    C^m = k-means centroids of Enc^m over patients who have m                       prior, from the training fold
    a = f_a( mean_{m∈O} h^m ),  h^m = Enc^m(x^m)                                    anchor: what is present
    ω^m = softplus( f_c^m(a) + ε ),  h̃^m = Σ_k ω_k^m C_k^m / Σ_k ω_k^m              a missing modality
    z_1 = [h^m or h̃^m]_m + softplus( f_1(a) + ε )                                   perturbation of a patient who
    z_2 = g(z_1) + softplus( f_2(z_1) + ε ),  ŷ = head(z_2)                         lacks something
    θ* = θ − η ∇_θ L_tr(θ, ψ)                                                       inner step, ε ~ N(0, 1)
    L = L_tr(θ, ψ) + L_noised(θ*, ψ) + L_clean(θ*, ψ) + α MSE(z_1, z'_1) + β MSE(z_2, z'_2)

L_tr is over patients who lack something. z' and L_noised are of patients with several modalities from whom some are
hidden, z and L_clean of the same patients as they are, both with ε = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS, PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import SchemaError
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.clusters import kmeans
from mmnar.ops.gaps import simulated_gaps
from mmnar.ops.heads import TaskHead
from mmnar.ops.losses import mean_risk_logits
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

Noise = tuple[Tensor, Tensor, Tensor]
"""ε of ω (…, M, C), of z_1 (…, M D) and of z_2 (…, D)."""


@dataclass(frozen=True)
class SMILConfig:
    """Settings of SMIL; defaults are the release's where it has one.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in encoders and before the head.
        append_pattern: Concatenate δ to what the head sees.
        clusters: C, centroids of each modality.
        cluster_rows: At most so many patients of the training fold are clustered, evenly spaced.
        refresh_epochs: R; so often, in epochs, the centroids are renewed while the encoders drift.
        inner_rate: η, the step of the inner update.
        first_order: Take ∇_θ L_tr in θ* as a constant: cheaper, and ψ learns nothing through θ*.
        weight_first, weight_second: α and β.
        samples: J, draws of ε that a prediction is averaged over.
        pretrain_epochs: Length of the first phase.
        pretrain_share: It learns from the patients with the most modalities: as many of these as at least this share of
            the training fold has.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    clusters: int = 10
    cluster_rows: int = 16_384
    refresh_epochs: int = 5
    inner_rate: float = 1e-3
    first_order: bool = False
    weight_first: float = 0.01
    weight_second: float = 0.01
    samples: int = 10
    pretrain_epochs: int = 4
    pretrain_share: float = 0.25
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class SMIL(Model):
    """Cluster prior, perturbation, and a second-order step from incomplete to simulated incomplete patients."""

    card = ModelCard(
        title="SMIL",
        paper="Ma, Ren, Zhao, Tulyakov, Wu, Peng (AAAI 2021)",
        missing="the representation of an absent modality is a mixture of training centroids, its weights inferred",
        deviations=(
            "Any M modalities and any pattern; the paper has two, of which the first is always present. The anchor is "
            "the mean of what is present, through one layer; with nothing present it is a constant.",
            "Patients with at least two modalities stand in for complete ones. What is hidden from them follows the "
            "batch: the pattern of a random other patient, if it is a part of theirs, else one modality at random.",
            "The label loss of the unhidden patients, L_clean, is part of the meta loss: here they are scored too. The "
            "release computes it, but trains and evaluates without.",
            "Whoever lacks nothing is not perturbed; whoever lacks something is, with ε = 0 outside the inner step.",
            "ε has unit variance, also in ω. Release: ω is deterministic, and the variance that it learns for the "
            "perturbation is not used. Perturbations are added, as in the release.",
            "A prediction is the mean probability over J fixed draws of ε that all patients share. The release "
            "averages passes that are all alike.",
            "Centroids are renewed every R epochs, starting from the old ones so that each keeps its weight.",
            "All of θ takes the inner step, at a constant η; the release lets η decay and leaves out the encoder of "
            "the modality that is missing.",
            "Pretraining uses the patients with the most modalities. While there are no centroids, what they lack is "
            "zeros, and nobody is perturbed.",
            "k-means is by mini-batches, on at most 16,384 patients by default.",
            "preset=original keeps the rate constant; the release divides it by ten after 5,000 of 8,000 steps.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.dropout": 0.5,
            "train.lr": 1e-3,
            "train.weight_decay": 1e-4,
            "train.batch_size": 128,
            "train.min_steps": 8000,  # and no more
            "train.max_epochs": 1,
            "train.patience": 1,
        },
        carebench={**CAREBENCH, **CAREBENCH_ENCODERS},
    )
    Config = SMILConfig
    config: SMILConfig
    enough: Tensor
    age: Tensor

    def __init__(self, schema: Schema, config: SMILConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        if m < 2:
            raise SchemaError("SMIL", "at least two modalities", f"{m}", "choose another model")
        self.main, self.auxiliary = _Main(schema, config), _Auxiliary(m, d, config.clusters)
        self.register_buffer("enough", torch.tensor(m))  # modalities a patient needs for pretraining
        self.register_buffer("age", torch.tensor(0))  # epochs since the centroids were renewed
        generator = torch.Generator().manual_seed(0)
        self.sizes = ((m, config.clusters), (m * d,), (d,))
        for i, size in enumerate(self.sizes):
            self.register_buffer(f"noise{i}", torch.randn(config.samples, 1, *size, generator=generator))

    def phases(self) -> tuple[Phase, ...]:
        """Pretraining, then the meta step."""
        c = self.config
        meta = {"task": 1.0, "noised": 1.0, "clean": 1.0, "first": c.weight_first, "second": c.weight_second}
        return (Phase("pretrain", {"task": 1.0}, c.pretrain_epochs), Phase("meta", meta))

    def forward(self, batch: PatientBatch) -> Output:
        """In eval mode the mean over J draws; in training mode ε = 0."""
        h = encode(self.main.encoders, batch, self.config.width)  # (B, M, D)
        if self.training:
            logits, _, z2 = self.main.fuse(h, batch.present, self.auxiliary, None)
            return Output(logits, z2)
        draws = zip(*(getattr(self, f"noise{i}") for i in range(3)), strict=True)
        passes = [self.main.fuse(h, batch.present, self.auxiliary, noise) for noise in draws]
        logits = torch.stack([logits for logits, _, _ in passes], 1)  # (B, J, K)
        mean = mean_risk_logits(logits, self.schema.exclusive)
        return Output(mean, torch.stack([z2 for _, _, z2 in passes]).mean(0))

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        """Before pretraining: who is complete enough. Before the meta phase: the centroids."""
        if phase.name == "meta":
            self._cluster(train)
            return
        counts = train.present.sum(1)
        at_least = torch.stack([(counts >= n).float().mean() for n in range(train.present.shape[1] + 1)])
        self.enough.copy_((at_least >= self.config.pretrain_share).sum() - 1)

    def after_epoch(self, train: PatientBatch) -> None:
        """Renew the centroids every R epochs of the meta phase."""
        if "noised" in self.loss_weights:
            self.age.add_(1)
            if self.age >= self.config.refresh_epochs:
                self._cluster(train)

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """One label loss on nearly complete patients, or the whole meta step as one scalar."""
        if "noised" not in self.loss_weights:
            complete = batch.present.sum(1, keepdim=True) >= self.enough
            chosen = replace(batch, label_mask=batch.label_mask & complete)
            loss = self.task_loss(forward(batch).logits, chosen)
            yield Objective(loss, {"task": loss.detach()})
            return
        # half precision does not survive two derivatives, and cuDNN's recurrent networks have only one
        once = torch.backends.cudnn.enabled and self.config.series.encoder != "lstm"
        with torch.autocast(batch.rows.device.type, enabled=False), torch.backends.cudnn.flags(enabled=once):
            terms = self.meta_losses(batch)
        total = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        yield Objective(total, {name: term.detach() for name, term in terms.items()})

    def after_backward(self) -> None:
        """Average the gradients over processes: the meta step goes past the wrapper that would."""
        if "noised" in self.loss_weights and distributed.is_available() and distributed.is_initialized():
            for p in (p for p in self.parameters() if p.requires_grad):
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                distributed.all_reduce(p.grad)
                p.grad /= distributed.get_world_size()

    def meta_losses(self, batch: PatientBatch) -> dict[str, Tensor]:
        """Unweighted terms of L; ``task`` is L_tr."""
        losses = {name: batch.pattern.new_zeros(()) for name in self.loss_weights}
        theta: dict[str, Tensor] = {name: p for name, p in self.main.named_parameters() if p.requires_grad}
        incomplete = _taken(batch, ~batch.present.all(1))
        if len(incomplete):
            logits, _, _ = self.main(incomplete, incomplete.present[None], self.auxiliary, self._draw(len(incomplete)))
            losses["task"] = self.task_loss(logits[0], incomplete)
            theta = self.stepped(theta, losses["task"])
        several = _taken(batch, batch.present.sum(1) >= 2)
        if len(several):
            views = torch.stack([several.present, simulated_gaps(several.present, batch.present)])
            arguments = (several, views, self.auxiliary, None)
            logits, z1, z2 = torch.func.functional_call(self.main, theta, arguments)  # under θ*, (2, B, …) each
            losses["clean"], losses["noised"] = self.task_loss(logits[0], several), self.task_loss(logits[1], several)
            losses["first"], losses["second"] = F.mse_loss(z1[1], z1[0]), F.mse_loss(z2[1], z2[0])
        return losses

    def stepped(self, theta: dict[str, Tensor], loss: Tensor) -> dict[str, Tensor]:
        """θ* = θ − η ∇_θ loss, differentiable twice unless ``first_order``."""
        second = not self.config.first_order
        gradients = torch.autograd.grad(
            loss, list(theta.values()), create_graph=second, retain_graph=True, allow_unused=True
        )
        return {
            name: value if gradient is None else value - self.config.inner_rate * gradient
            for (name, value), gradient in zip(theta.items(), gradients, strict=True)
        }

    def _draw(self, patients: int) -> Noise:
        """ε of every patient's own."""
        like = self.auxiliary.centroids
        omega, first, second = (torch.randn(patients, *size, device=like.device) for size in self.sizes)
        return omega, first, second

    def _cluster(self, train: PatientBatch) -> None:
        """C^m by k-means of h^m over training patients who have m, from the present centroids where there are some."""
        rows = torch.arange(len(train), device=train.rows.device)[:: -(-len(train) // self.config.cluster_rows)]
        parts = [train.take(part) for part in torch.split(rows, 2048)]
        encoded = [encode(self.main.encoders, part, self.config.width) for part in parts]
        h = torch.cat(encoded).float().cpu()  # (N, M, D)
        present = train.present[rows].cpu()
        for m in range(h.shape[1]):
            centroids = self.auxiliary.centroids[m]
            centroids.copy_(kmeans(h[present[:, m], m], centroids.cpu()))
        self.age.zero_()


class _Main(nn.Module):
    """θ: encoders, fusion, head."""

    def __init__(self, schema: Schema, c: SMILConfig) -> None:
        super().__init__()
        m, d = len(schema.modalities), c.width
        self.width = d
        self.encoders = encoders_of(schema, d, c.dropout, c.image, c.series)
        self.trunk = nn.Sequential(nn.Linear(m * d, d), nn.GELU(), nn.LayerNorm(d))  # g
        self.dropout = nn.Dropout(c.dropout)  # after z_2: masks of their own would set equal views apart
        self.head = TaskHead(schema, d, c.append_pattern)

    def forward(
        self, batch: PatientBatch, views: Tensor, auxiliary: _Auxiliary, noise: Noise | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The patients as each of V views (V, B, M) of what they have: logits, z_1 and z_2, (V, B, …) each."""
        v, b, _ = views.shape
        h = encode(self.encoders, batch, self.width).repeat(v, 1, 1)
        logits, z1, z2 = self.fuse(h, views.flatten(0, 1), auxiliary, noise)
        return logits.view(v, b, -1), z1.view(v, b, -1), z2.view(v, b, -1)

    def fuse(
        self, h: Tensor, present: Tensor, auxiliary: _Auxiliary, noise: Noise | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h (B, M, D), δ (B, M) → logits (B, K), z_1 (B, M D), z_2 (B, D). Nothing of h behind δ = 0 is read."""
        e_omega, e_first, e_second = noise or (0.0, 0.0, 0.0)
        perturbed = auxiliary.centroids.any() & ~present.all(1, keepdim=True)  # nobody before there are centroids
        a = auxiliary.anchor(masked_mean(h, present))  # (B, D)
        x = torch.where(present[..., None], h, auxiliary.prior(a, e_omega)).flatten(1)
        z1 = x + perturbed * F.softplus(auxiliary.first(a) + e_first)
        z2 = self.trunk(z1) + perturbed * F.softplus(auxiliary.second(z1) + e_second)
        return self.head(self.dropout(z2), present), z1, z2


class _Auxiliary(nn.Module):
    """ψ: anchor, weights of the centroids, perturbations."""

    centroids: Tensor

    def __init__(self, m: int, d: int, clusters: int) -> None:
        super().__init__()
        self.anchor = nn.Sequential(nn.Linear(d, d), nn.GELU())  # f_a
        self.weight = nn.Linear(d, m * clusters)  # f_c of all m at once
        self.first, self.second = nn.Linear(d, m * d), nn.Linear(m * d, d)  # f_1, f_2
        self.register_buffer("centroids", torch.zeros(m, clusters, d))

    def prior(self, a: Tensor, noise: Tensor | float) -> Tensor:
        """h̃^m of all m: (B, D) → (B, M, D), within the hull of the centroids."""
        m, clusters, _ = self.centroids.shape
        omega = F.softplus(self.weight(a).view(-1, m, clusters) + noise)
        share = omega / omega.sum(-1, keepdim=True)
        return torch.einsum("bmc,mcd->bmd", share, self.centroids.to(share.dtype))


def _taken(batch: PatientBatch, chosen: Tensor) -> PatientBatch:
    return batch.take(chosen.nonzero().squeeze(1))

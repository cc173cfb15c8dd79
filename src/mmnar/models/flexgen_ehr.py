"""FLEXGEN-EHR: latents of each modality, aligned by optimal transport, the missing ones drawn by diffusion.

He et al.: "A flexible generative model for heterogeneous tabular EHR with missing modality", ICLR 2024.
Here without its labels, as an imputer before a predictor.

    L_m = ‖x^m − x̂^m‖² + λ KL(q(z^m | x^m) ‖ N(0, I))                    a VAE of each modality
    Q_m = argmin over QᵀQ = I of ‖Z^m Q − T_m Z^a‖_F                     alignment with the anchor a
    L = E ‖v_t − v̂(z_t, t, δ, observed blocks)‖²                         diffusion of z = [z¹Q_1 … zᴹQ_M]
    p = 1/J Σ_j σ(f(z^(j)))                                              prediction from J completions

T_m are the pairs of patients who have both, or where these are few a partial fused Gromov-Wasserstein plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.plain import PlainVectors
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.alignment import procrustes, require_transport, transported
from mmnar.ops.diffusion import BlockDiffusion
from mmnar.ops.heads import TaskHead, trunk
from mmnar.ops.losses import mean_risk_logits
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

CHUNK = 2048
"""Rows of the training fold that are looked at together."""


@dataclass(frozen=True)
class FlexGenEHRConfig:
    """Settings of FLEXGEN-EHR; letters are those of the equations above.

    Args:
        width: Hidden width of the VAEs and of the predictor; half that of the diffusion's network.
        latent: d_z, the latent width of each modality.
        steps: T, the steps of the diffusion.
        draws: J, completions of each patient.
        vae_epochs, diffusion_epochs: Length of the first and second phase; the third is the shared training budget.
        weight_kl: λ; twice the variance that the decoder leaves unexplained.
        warmup_epochs: Epochs over which λ rises to its value.
        transport_rows: Patients of each modality between whom a plan is sought.
        dropout: Dropout in the predictor.
        append_pattern: Concatenate δ to what the heads see.
    """

    width: int = 128
    latent: int = 64
    steps: int = 50
    draws: int = 5
    vae_epochs: int = 60
    diffusion_epochs: int = 60
    weight_kl: float = 0.1
    warmup_epochs: int = 10
    transport_rows: int = 500
    dropout: float = 0.2
    append_pattern: bool = False


class FlexGenEHR(Model):
    """VAEs, alignment, diffusion, predictor: four stages, each on the frozen result of the one before."""

    card = ModelCard(
        title="FLEXGEN-EHR",
        paper="He et al. (2024), ICLR",
        missing="the latents of absent modalities are drawn from a diffusion model given the present ones",
        deviations=(
            "The paper generates synthetic records; here its imputation precedes a predictor. Its augmentation by "
            "synthetic patients is left out.",
            "No stage before the predictor sees a label: the release feeds it to both ends of the VAEs, to the "
            "transport cost and to the diffusion, where it is unknown at prediction.",
            "The VAEs see vectors, not the encoders that all methods share: 8 × 8 tiles of an image, the mean of "
            "embeddings, summaries of a series.",
            "The predictor is trained on the label loss of the mean probability over completions, and by default does "
            "not see δ.",
            "Any number of modalities, each aligned with the one that most patients have (release: a static "
            "and a temporal one).",
            "Where at least d_z patients have both modalities, they are the pairs of the alignment; only otherwise "
            "transport is used, without entropy, on a sample, with the known pairs at no cost (release: entropic "
            "partial Gromov-Wasserstein with half the cost between patients of the same label).",
            "The diffusion is conditional on the observed blocks and on which they are; it learns from observed blocks "
            "hidden at random, all of them in some rows, and not on guidance by the label.",
            "β are scaled by 1000/T: the release's main script takes T = 50 steps with the β of its other script's "
            "1000, which leaves 60 % of the variance of the latents at the step where sampling starts from noise.",
            "The network predicts the velocity, not the noise (Salimans, Ho 2022): the loss on the noise all but "
            "vanishes at the steps where the observed blocks tell most.",
            "Latents are the posterior means, centred and divided by one scale per modality.",
            "The noise of the draws is the same for all patients, so a risk does not depend on who is scored beside.",
            "VAEs without batch normalisation, squared error of known entries alone, λ KL with warm-up.",
            "One learning rate in all phases.",
        ),
        original={
            **PLAIN_TRAINING,
            "train.batch_size": 512,
            "train.lr": 1e-3,
            "model.width": 256,
            "model.latent": 128,
        },
    )
    Config = FlexGenEHRConfig
    config: FlexGenEHRConfig
    centre: Tensor
    scale: Tensor
    rotation: Tensor
    noise: Tensor
    warmth: Tensor
    sampling: Tensor

    def __init__(self, schema: Schema, config: FlexGenEHRConfig) -> None:
        super().__init__(schema, config)
        m, d_z = len(schema.modalities), config.latent
        self.vectors = PlainVectors(schema)
        self.encoders = nn.ModuleList(_mlp(2 * f, config.width, 2 * d_z) for f in self.vectors.widths)
        self.decoders = nn.ModuleList(_mlp(d_z, config.width, f) for f in self.vectors.widths)
        self.diffusion = BlockDiffusion(m, d_z, 2 * config.width, config.steps)
        self.trunk = trunk(m * d_z, config.width, config.dropout)
        self.head = TaskHead(schema, config.width, config.append_pattern)
        self.register_buffer("centre", torch.zeros(m, d_z))
        self.register_buffer("scale", torch.ones(m))
        self.register_buffer("rotation", torch.eye(d_z).repeat(m, 1, 1))  # Q_m
        self.register_buffer("noise", torch.randn(config.steps, config.draws, m, d_z))
        self.register_buffer("warmth", torch.ones(()))
        self.register_buffer("sampling", torch.tensor(False))
        self._completions: _Completions | None = None

    def phases(self) -> tuple[Phase, ...]:
        """The alignment stands between the first two."""
        return (
            Phase("vae", {"task": 0.0, "rec": 1.0, "kl": self.config.weight_kl}, self.config.vae_epochs),
            Phase("diffusion", {"task": 0.0, "noise": 1.0}, self.config.diffusion_epochs),
            Phase("predictor", {"task": 1.0}),
        )

    def prepare(self, train: PatientBatch) -> None:
        self.vectors.fit(train)
        if bool(((_pairs(train.present) < self.config.latent) & train.present.any(0)).any()):
            require_transport()  # now, not after the VAEs have been trained

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        if phase.name == "vae":
            self.warmth.fill_(1 / max(1, self.config.warmup_epochs))
        elif phase.name == "diffusion":
            self._align(train)
        else:
            self.sampling.fill_(True)
            drawn = [self.complete(self.latents(train.take(rows)), train.present[rows]) for rows in _chunks(train)]
            order = train.rows.argsort()
            self._completions = _Completions(train.rows[order], train.present[order], torch.cat(drawn)[order])

    def after_epoch(self, train: PatientBatch) -> None:
        self.warmth.add_(1 / max(1, self.config.warmup_epochs)).clamp_(max=1.0)

    def finish(self) -> None:
        self._completions = None

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """The predictor's from the labels; before it, of the present stage alone, and no label is read."""
        if self.loss_weights["task"]:
            yield from super().objectives(batch, forward)
            return
        losses = forward(batch).losses
        total = torch.stack([self.loss_weights[name] * loss for name, loss in losses.items()]).sum()
        yield Objective(total, {name: loss.detach() for name, loss in losses.items()})

    def forward(self, batch: PatientBatch) -> Output:
        if self.training and not self.loss_weights["task"]:
            losses = self._vae_losses(batch) if "rec" in self.loss_weights else self._noise_loss(batch)
            nothing = batch.pattern.new_zeros(len(batch), len(self.schema.tasks))
            return Output(nothing, nothing, {name: loss for name, loss in losses.items() if self.loss_weights[name]})
        z = self._completed(batch)  # (B, J, M, d_z)
        h = self.trunk(z.flatten(2))  # (B, J, D)
        logits = self.head(h.flatten(0, 1), batch.present.repeat_interleave(h.shape[1], 0))
        logits = logits.view(*h.shape[:2], -1)  # (B, J, K)
        return Output(mean_risk_logits(logits, self.schema.exclusive), h.mean(1))

    @torch.no_grad()
    def latents(self, batch: PatientBatch) -> Tensor:
        """z^m Q_m, centred and scaled: (B, M, d_z), zeros where absent; in full precision, as they were aligned."""
        with torch.autocast(batch.rows.device.type, enabled=False):
            return self._aligned(self._means(batch), batch.present)

    @torch.no_grad()
    def complete(self, z: Tensor, present: Tensor) -> Tensor:
        """J completions (B, J, M, d_z) of z (B, M, d_z); before there is a diffusion, with the mean, zero."""
        completed = z[:, None].repeat(1, self.config.draws, 1, 1)
        rows = (~present.all(1)).nonzero().squeeze(1)
        if not bool(self.sampling) or not len(rows):
            return completed
        return completed.index_copy(0, rows, self.diffusion.draw(z[rows], present[rows], self.noise))

    def _completed(self, batch: PatientBatch) -> Tensor:
        """``complete``, or what was drawn of the training fold: the stages before the predictor change no more."""
        stored = self._completions.of(batch) if self.training and self._completions else None
        return self.complete(self.latents(batch), batch.present) if stored is None else stored

    def _vae_losses(self, batch: PatientBatch) -> dict[str, Tensor]:
        """Squared error and KL per known entry; mean over modalities."""
        rec, kl = [], []
        for m, (x, known) in enumerate(self.vectors(batch)):
            rows = batch.present[:, m].nonzero().squeeze(1)
            x, known = x[rows], known[rows]
            mu, log_var = _posterior(self.encoders[m], x, known)
            error = (self.decoders[m](mu + torch.randn_like(mu) * (0.5 * log_var).exp()) - x) ** 2
            entries = known.sum().clamp(min=1)
            rec.append(torch.where(known, error, 0.0).sum() / entries)
            kl.append(0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum() / entries)
        return {"rec": torch.stack(rec).mean(), "kl": self.warmth * torch.stack(kl).mean()}

    def _noise_loss(self, batch: PatientBatch) -> dict[str, Tensor]:
        """Of 1 … |O_i| observed blocks of each patient, chosen at random, given the others."""
        present = batch.present
        lot = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0).argsort(1).argsort(1)
        share = torch.rand(len(present), 1, device=present.device)
        hidden = present & (lot <= (share * present.sum(1, keepdim=True)).floor())
        return {"noise": self.diffusion.loss(self.latents(batch), present & ~hidden, hidden)}

    def _means(self, batch: PatientBatch) -> Tensor:
        """μ of q(z^m | x^m): (B, M, d_z), zeros where absent."""
        out = []
        for m, (x, known) in enumerate(self.vectors(batch)):
            rows = batch.present[:, m].nonzero().squeeze(1)
            mu, _ = _posterior(self.encoders[m], x[rows], known[rows])
            out.append(mu.new_zeros(len(x), self.config.latent).index_copy(0, rows, mu))
        return torch.stack(out, dim=1)

    def _aligned(self, means: Tensor, present: Tensor) -> Tensor:
        z = torch.einsum("bmd,mde->bme", (means - self.centre) / self.scale[:, None], self.rotation)
        return torch.where(present[..., None], z.float(), 0.0)

    def _align(self, train: PatientBatch) -> None:
        """Centre, scale and Q_m of the training fold; the anchor is the modality that most patients have."""
        z, present = torch.cat([self._means(train.take(rows)) for rows in _chunks(train)]), train.present
        n = present.sum(0).clamp(min=1)  # (M,)
        self.centre.copy_(z.sum(0) / n[:, None])
        z = torch.where(present[..., None], z - self.centre, 0.0)
        self.scale.copy_((z**2).mean(2).sum(0).div(n).sqrt().clamp(min=1e-6))
        z = z / self.scale[:, None]
        anchor = int(present.sum(0).argmax())
        for m, pairs in enumerate(_pairs(present).tolist()):
            if m == anchor or not bool(present[:, m].any()):
                self.rotation[m] = torch.eye(self.config.latent)
            elif pairs >= self.config.latent:
                both = present[:, m] & present[:, anchor]
                self.rotation[m] = procrustes(z[both, m], z[both, anchor])
            else:
                own, others = self._sample(present, m, anchor), self._sample(present, anchor, m)
                same = own[:, None] == others
                targets, mass = transported(z[own, m], z[others, anchor], same)
                self.rotation[m] = procrustes(z[own, m] * mass[:, None], targets)

    def _sample(self, present: Tensor, m: int, other: int) -> Tensor:
        """At most ``transport_rows`` patients who have m; those who have the other too come first."""
        rows = present[:, m].nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows)).to(rows.device)]
        return rows[(~present[rows, other]).int().argsort(stable=True)][: self.config.transport_rows]


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))


def _posterior(encoder: nn.Module, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """μ and log σ² (n, d_z) of q(z | x), from the known entries (n, F) and which they are."""
    mu, log_var = encoder(torch.cat([x, known.to(x.dtype)], dim=1)).float().chunk(2, dim=1)
    return mu, log_var.clamp(-10, 10)


class _Completions(NamedTuple):
    """Drawn latents of the training fold.

    Args:
        rows: (N,) ascending row numbers.
        present: (N, M) the patterns that they were drawn for.
        latents: (N, J, M, d_z).
    """

    rows: Tensor
    present: Tensor
    latents: Tensor

    def of(self, batch: PatientBatch) -> Tensor | None:
        """(B, J, M, d_z), or None if somebody in the batch is not among them as they are."""
        place = torch.searchsorted(self.rows, batch.rows).clamp(max=len(self.rows) - 1)
        same = torch.equal(self.rows[place], batch.rows) and torch.equal(self.present[place], batch.present)
        return self.latents[place] if same else None


def _pairs(present: Tensor) -> Tensor:
    """(M,) patients who have both the modality and the most frequent one."""
    return present[present[:, present.sum(0).argmax()]].sum(0)


def _chunks(train: PatientBatch) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(train), device=train.rows.device), CHUNK)

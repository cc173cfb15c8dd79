"""CM-AE: a cross-modal autoencoder that rebuilds what it was not shown.

Ngiam, Khosla, Kim, Nam, Lee, Ng: "Multimodal Deep Learning", ICML 2011 (the bimodal deep autoencoder), here for M
modalities of which O are observed.

    V = O without a random A, |V| ≥ 1                    what the encoder is shown
    z = g(Σ_{m ∈ V} W_m Enc_m(e^m) + b)                  shared code; a hidden input is a zero
    x̂^m = Dec_m(z)                                       all modalities from the code
    L_rec = Σ_i Σ_{m ∈ O_i} ‖x̂^m − x^m‖² / F_m / Σ_i |O_i|     targets: all observed, A included
    phase 1: L_rec;  phase 2: L_task(Head(z with V = O)) + λ_rec L_rec
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.plain import PlainVectors
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.heads import TaskHead
from mmnar.ops.views import one_of, some_of
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class CMAEConfig:
    """Settings of CM-AE; letters are those of the equations above.

    Args:
        width: D, the width of embeddings and of the code.
        dropout: Dropout in the encoders and behind the code's nonlinearity.
        head_input: ``code`` (a linear head on z), or ``completed`` (a small MLP on the plain vectors of all modalities,
            every unknown entry replaced by the decoders' value; the label loss then reaches the head alone, since the
            decoders' values stand in for data).
        pretrain_epochs: Length of phase 1, which uses no labels.
        weight_rec: λ_rec of phase 2.
        finetune: Whether phase 2 trains the encoders and the code too; if not, it fits the head alone on fixed
            features, made without dropout.
        append_pattern: Concatenate δ to what the head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    head_input: Literal["code", "completed"] = "code"
    pretrain_epochs: int = 20
    weight_rec: float = 1.0
    finetune: bool = True
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class CMAE(Model):
    """Shared code of whatever is shown, decoders of everything, task heads."""

    card = ModelCard(
        title="CM-AE",
        paper="Ngiam et al. (2011), Multimodal Deep Learning, ICML",
        missing="an absent modality adds nothing to the shared code; training hides present ones and asks for them",
        deviations=(
            "M modalities with missing ones in place of complete audio-video pairs: targets are the observed ones.",
            "Per patient and step, with one third each: nothing hidden, all but one hidden, a random subset hidden.",
            "No layer-wise pretraining with restricted Boltzmann machines; g is GELU, layer norm and dropout; AdamW.",
            "Inputs go through the encoders that all methods share; targets are untrained vectors of the content, "
            "standardised: summaries of a series, means of vectors, tiles of an image, indicators of a category.",
            "Unknown cells of a present modality are no targets; its error is the mean over its known entries.",
            "Phase 2 fine-tunes everything and keeps rebuilding; preset=original fits the head on fixed features, "
            "as we understand the paper's protocol.",
            "λ_rec = 1 was chosen on the tune loss of planted data.",
            "With head_input=completed the label loss reaches the head alone, in either case: decoders that it could "
            "shape would pass it a second code in place of data.",
        ),
        original={"model.finetune": False},
    )
    Config = CMAEConfig

    def __init__(self, schema: Schema, config: CMAEConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d = len(schema.modalities), config.width
        self.plain = PlainVectors(schema)
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.shared = nn.Linear(m * d, d)  # all W_m, and b
        self.nonlinearity = nn.Sequential(nn.GELU(), nn.LayerNorm(d), nn.Dropout(config.dropout))  # g
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, width)) for width in self.plain.widths
        )
        seen, hidden = (d, 0) if config.head_input == "code" else (sum(self.plain.widths), d)
        self.head = TaskHead(schema, seen, config.append_pattern, hidden, config.dropout)
        self.fixed = False  # whether everything but the head stays as it is

    def phases(self) -> tuple[Phase, ...]:
        """Reconstruction, then the tasks."""
        c: CMAEConfig = self.config
        return (
            Phase("reconstruct", {"task": 0.0, "rec": 1.0}, c.pretrain_epochs),
            Phase("predict", {"task": 1.0, "rec": c.weight_rec * c.finetune}),
        )

    def prepare(self, train: PatientBatch) -> None:
        """Mean and scale of the targets."""
        self.plain.fit(train)

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        """From phase 2 on the features may be fixed."""
        self.fixed = phase.name == "predict" and not self.c.finetune

    def train(self, mode: bool = True) -> CMAE:
        """Training mode; fixed features know no dropout."""
        super().train(mode)
        if self.fixed:
            self.encoders.eval()
            self.nonlinearity.eval()
        return self

    def forward(self, batch: PatientBatch) -> Output:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fixed):
            e = encode(self.encoders, batch, self.c.width)  # (B, M, D)
            z = self.code(e, batch.present)  # (B, D)
        losses = {}
        if self.training and self.loss_weights["rec"]:
            losses["rec"] = self.reconstruction_loss(self.code(e, self.shown(batch.present)), batch)
        seen = z if self.c.head_input == "code" else self.completed(z, batch)
        return Output(self.head(seen, batch.present), z, losses)

    def code(self, e: Tensor, shown: Tensor) -> Tensor:
        """z of the shown modalities: (B, M, D), V (B, M) bool → (B, D)."""
        return self.nonlinearity(self.shared((e * shown[..., None]).flatten(1)))  # type: ignore[no-any-return]

    def shown(self, present: Tensor) -> Tensor:
        """V ⊆ O (B, M): all of it, one modality, or a random subset, a third of the patients each."""
        kind = torch.randint(3, (len(present), 1), device=present.device)
        return torch.where(kind == 0, present, torch.where(kind == 1, one_of(present), some_of(present)))

    def reconstruction_loss(self, z: Tensor, batch: PatientBatch) -> Tensor:
        """L_rec: squared error of the known entries, averaged within each observed modality, then over them all."""
        error, observed = z.new_zeros(()), z.new_zeros(())
        for decoder, (x, known) in zip(self.decoders, self.plain(batch), strict=True):
            square = torch.where(known, (decoder(z) - x) ** 2, 0.0)  # (B, F_m)
            error = error + (square.sum(1) / known.sum(1).clamp(min=1)).sum()
            observed = observed + known.any(1).sum()
        return error / observed.clamp(min=1)

    def completed(self, z: Tensor, batch: PatientBatch) -> Tensor:
        """[x^m where known, else x̂^m]_m, (B, Σ F_m)."""
        # x̂ stands in for data: a label loss that could shape it would use it as a second code
        rebuilt = [decoder(z).detach() for decoder in self.decoders]
        pairs = zip(self.plain(batch), rebuilt, strict=True)
        return torch.cat([torch.where(known, x, values) for (x, known), values in pairs], dim=1)

"""CRL-MMNAR: representation learning under modality missingness not at random.

Liang, Pan, Xiong: "Causal Representation Learning from Multimodal Clinical Records under Non-Random Modality
Missingness", 2025 (arXiv 2509.17228). Sections in comments are the paper's. The rectifier (3.3, step 2) is a
separate, post-hoc object: ``mmnar.posthoc.rectify``.

    z = MLP(δ)                                          missingness embedding        (3.2.1, step 1)
    e_gate^m = δ^m · σ(W^m z + b^m) · e^m               gate
    h = mean over present of Attention({e_gate^m})      fusion                       (3.2.1, step 2)
    ê^m = φ^m(h^{∖m})                                    reconstruction without m     (3.2.2)
    L = λ_miss L_miss + λ_rec L_rec + λ_cont L_cont + Σ_t λ_t L_t                    (3.4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.losses import info_nce
from mmnar.ops.masked import FusionLayer, masked_mean
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

DONORS: Final = 1024
"""Training patients who may stand in for an absent modality of the blind ablation. A few would not do: their mean is
not that of all who have it, and would mark whoever lacks it."""
DRAWS: Final = 8
"""Donors of each patient; the logits are the mean over them."""


@dataclass(frozen=True)
class CRLMMNARConfig:
    """Settings of CRL-MMNAR; defaults are the paper's where it states one.

    Args:
        width: d of every embedding (Table 4: 128).
        layers, heads: Layers and attention heads of the fusion.
        dropout: Table 4: 0.2.
        pattern_hidden: Hidden width of z = MLP(δ).
        pattern_input: What knows of δ. ``gate``: mask, z and gates (3.2.1). ``concat``: these, and z enters the heads,
            too (the general form of equation 3). ``mask``: the attention alone, which still says which tokens there
            are. ``blind``: nothing. An absent modality is that of another patient who has it, drawn anew each step,
            so that no function of what the network sees tells an absent modality from a present one. At prediction
            the logits are the mean over eight training patients, drawn by the row's number in its store; the model
            keeps the embeddings of those who may be drawn.
        holdout: ``one`` hides one random present modality per patient and step, at less cost than ``all``,
            which hides each in turn in one batched pass.
        schedule: ``joint`` (3.4) or ``pretrain`` (C.2: representation losses first, then the tasks).
        pretrain_epochs: Length of the first phase of ``pretrain``.
        weight_rec, weight_miss, weight_cont: λ of the joint schedule (Table 4 lists 0.15 as contrastive default).
        temperature: τ, the temperature of InfoNCE.
        append_pattern: Concatenate δ to what the heads see.
        image, series: How those are encoded.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2
    pattern_hidden: int = 64
    pattern_input: Literal["gate", "concat", "mask", "blind"] = "gate"
    holdout: Literal["one", "all"] = "one"
    schedule: Literal["joint", "pretrain"] = "joint"
    pretrain_epochs: int = 20
    weight_rec: float = 1.0
    weight_miss: float = 0.5
    weight_cont: float = 0.15
    temperature: float = 0.1
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        if self.blind and self.append_pattern:
            raise ConfigError(
                "model.append_pattern", "false where pattern_input=blind", "true", "leave out one of them"
            )

    @property
    def blind(self) -> bool:
        return self.pattern_input == "blind"

    @property
    def sees_pattern(self) -> bool:
        """Whether there are z and gates."""
        return self.pattern_input in ("gate", "concat")

    @property
    def keeps_patients(self) -> bool:
        return self.blind


class CRLMMNAR(Model):
    """Missingness-aware fusion, reconstruction with contrast, multitask heads."""

    card = ModelCard(
        title="CRL-MMNAR",
        paper="Liang, Pan, Xiong (2025), arXiv 2509.17228",
        missing="absent tokens are masked in the attention; the pattern gates the present ones",
        deviations=(
            "The pattern is a multi-label target: L_miss is the mean binary cross-entropy over modalities "
            "(the paper writes CrossEntropy).",
            "The gate is a vector of d gates per modality, its bias starts at +1 so that nothing is closed at first.",
            "Absent modalities are masked tokens, not zero tokens; a patient with nothing present gets a learned "
            "null vector.",
            "The heads see h, which contains the pattern through z and the mask; equation (4) wants g(h) free of it.",
            "The reconstruction target is stop-gradient and layer-normalised: a trainable target collapses.",
            "What each ablation knows of δ is said by its name: pattern_input=mask still sees which tokens there are "
            "and finds most of what only the pattern tells; pattern_input=blind sees no difference between an absent "
            "modality and another patient's.",
            "h without m is the model's own forward on the reduced pattern (mask, z and gates all see it).",
            "One present modality is hidden per patient and step, the paper hides each (model.holdout=all): fewer rows "
            "in the contrast, and a cheaper step. With each, KL to the exact risks is lower by 0.9 ± 2.2 of 51.9 (1e-4 "
            "nats; 4,000 simulated patients, M = 3, three seeds ± standard error) and by 9.4 ± 8.9 of 72.3 (M = 4): "
            "benchmarks/choices.py.",
            "L_rec is the mean over hidden entries and features, L_cont the sum over modalities of each one's mean.",
            "Patients who lack m are neither anchors nor negatives for m in the contrast.",
            "Optimiser: batch 256, lr 5e-4 with warm-up and cosine decay over 12 epochs, patience 6. preset=original "
            "is section 4.2 of the paper and its rectifier. The paper does not say how many epochs (200 here), which γ "
            "and α of the focal loss, nor the λ of the joint objective (0.15 of the contrast is its Table 4's; its "
            "C.2.1 has others, for a pretraining that 3.4 and 4.2 do not mention: model.schedule=pretrain).",
            "The rectifier is fitted on out-of-fold predictions of the training subjects. Algorithm 4 of the paper "
            "applies its rule on the validation and test folds: with labels of the patients who are scored.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.holdout": "all",
            "train.lr": 2e-4,
            "train.weight_decay": 1e-6,
            "train.batch_size": 32,
            "train.patience": 30,
            "train.max_epochs": 200,
            "train.label_loss": "focal",
            "rectifier.rule": "threshold",
            "fits": 2,
        },
    )
    Config = CRLMMNARConfig
    donors: Tensor
    """(DONORS, M, D) of the blind ablation."""

    def __init__(self, schema: Schema, config: CRLMMNARConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        if config.sees_pattern:
            self.pattern_encoder = nn.Sequential(
                nn.Linear(m, config.pattern_hidden), nn.GELU(), nn.Linear(config.pattern_hidden, d)
            )
            self.pattern_decoder = nn.Sequential(
                nn.Linear(d, config.pattern_hidden), nn.GELU(), nn.Linear(config.pattern_hidden, m)
            )
            self.gate = nn.Linear(d, m * d)  # all W^m and b^m at once
            nn.init.constant_(self.gate.bias, 1.0)
        self.modality = nn.Parameter(torch.randn(m, d) * 0.02)
        if config.blind:
            self.register_buffer("donors", torch.zeros(DONORS, m, d))
        else:
            self.null = nn.Parameter(torch.randn(d) * 0.02)
        self.fusion = nn.ModuleList(FusionLayer(d, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        head_input = d * (1 + (config.pattern_input == "concat")) + m * config.append_pattern
        self.head_hidden = nn.Linear(head_input, k * d)  # K task MLPs d → d → 1 side by side
        self.head_out = nn.Parameter(torch.randn(k, d) / d**0.5)
        self.head_bias = nn.Parameter(torch.zeros(k))
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d)) for _ in schema.modalities
        )

    def phases(self) -> tuple[Phase, ...]:
        """``joint``: everything at once (3.4). ``pretrain``: C.2.1, then C.2.2."""
        c: CRLMMNARConfig = self.config
        joint = {"task": 1.0, "rec": c.weight_rec, "cont": c.weight_cont, "miss": c.weight_miss * c.sees_pattern}
        if c.schedule == "joint":
            return (Phase("joint", joint),)
        first = {"task": 0.0, "rec": 1.0, "cont": 0.3, "miss": 0.5 * c.sees_pattern}
        return (
            Phase("pretrain", first, c.pretrain_epochs),
            Phase("finetune", {"task": 1.0, "rec": 0.0, "cont": 0.0, "miss": 0.0}),
        )

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        self.after_epoch(train)

    def after_epoch(self, train: PatientBatch) -> None:
        """Donors by the present weights: of each modality, training patients who have it, evenly spaced, some twice."""
        if not self.c.blind:
            return
        for m in range(train.present.shape[1]):
            holders = train.present[:, m].nonzero().squeeze(1)
            if len(holders):
                places = torch.linspace(0, len(holders) - 1, DONORS, device=holders.device).round().long()
                self.donors[:, m] = self.encode(train.take(holders[places]))[:, m]

    def forward(self, batch: PatientBatch) -> Output:
        e = self.encode(batch)  # (B, M, D)
        if self.c.blind and not self.training:
            return self._over_donors(e, batch)
        others = self.of_others(e, batch.present) if self.c.blind else None
        if not (self.training and (self.loss_weights["rec"] or self.loss_weights["cont"])):
            h, z = self.fuse(e, batch.present, others)
            return Output(self.heads(h, z, batch.pattern), h, self._pattern_loss(z, batch) if self.training else {})
        rows, hidden = self._holdout(batch.present)  # patient and modality of each reconstruction, (R,), (R,)
        reduced = batch.present[rows].scatter(1, hidden[:, None], False)  # δ − m
        # one pass for the full and the reduced patterns together
        twice = None if others is None else torch.cat([others, others[rows]])
        h_all, z_all = self.fuse(torch.cat([e, e[rows]]), torch.cat([batch.present, reduced]), twice)
        h, z, h_without = h_all[: len(e)], z_all[: len(e)], h_all[len(e) :]
        losses = self._pattern_loss(z, batch) | self._reconstruction_losses(e, rows, hidden, h_without)
        return Output(self.heads(h, z, batch.pattern), h, losses)

    def _over_donors(self, e: Tensor, batch: PatientBatch) -> Output:
        """Of the blind ablation: mean logits and h over what the donors have in place of what is absent."""
        modality = torch.arange(e.shape[1], device=e.device)
        passes = []
        for draw in range(DRAWS):
            mixed = (batch.rows[:, None] * DRAWS + draw) * len(modality) + modality  # (B, M), each number once
            donor = (mixed * 2654435761 % 2**32) * DONORS >> 32  # Knuth's multiplicative hash
            passes.append(self.fuse(e, batch.present, self.donors[donor, modality]))
        logits = torch.stack([self.heads(h, z, batch.pattern) for h, z in passes]).mean(0)
        return Output(logits, torch.stack([h for h, _ in passes]).mean(0))

    def of_others(self, e: Tensor, present: Tensor) -> Tensor:
        """(B, M, D): of each modality, that of a random other patient of the batch; zeros where nobody has it."""
        out, everyone = torch.zeros_like(e), torch.arange(len(e), device=e.device)
        for m in range(e.shape[1]):
            holders = present[:, m].nonzero().squeeze(1)
            if len(holders):
                drawn = torch.randint(len(holders), (len(e),), device=e.device)
                drawn = (drawn + (holders[drawn] == everyone)) % len(holders)  # not the patient's own
                out[:, m] = e.detach()[holders[drawn], m]
        return out

    def encode(self, batch: PatientBatch) -> Tensor:
        """e^m by the encoder of each modality (3.1); (B, M, D), zeros where absent."""
        return encode(self.encoders, batch, self.c.width)

    def fuse(self, e: Tensor, present: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, M, D), δ (B, M) → h (B, D), z (B, D). Nothing of e behind an absent modality is read.

        Args:
            others: (B, M, D) what stands for absent modalities in the blind ablation: all tokens are there then.
        """
        if others is not None:
            e, present = torch.where(present[..., None], e, others), torch.ones_like(present)
        z = self.missingness(present)  # (B, D)
        if self.c.sees_pattern:
            e = e * torch.sigmoid(self.gate(z)).view_as(e)  # 3.2.1: σ(W^m z + b^m) · e^m
        tokens = e + self.modality  # (B, M, D); absent ones are neither attended to nor averaged
        nothing = ~present.any(1)
        keys = present | nothing[:, None]  # softmax over no key is NaN; such rows are replaced by null below
        for layer in self.fusion:
            tokens = layer(tokens, keys)
        h = self.norm(masked_mean(tokens, present))
        return h if others is not None else torch.where(nothing[:, None], self.null, h), z

    def missingness(self, present: Tensor) -> Tensor:
        """z = MLP(δ), (B, D); zeros where neither gates nor heads see it."""
        if not self.c.sees_pattern:
            return torch.zeros(len(present), self.c.width, device=present.device)
        return self.pattern_encoder(present.float())  # type: ignore[no-any-return]

    def heads(self, h: Tensor, z: Tensor, pattern: Tensor) -> Tensor:
        """One MLP per task (3.3, step 1): (B, K) logits."""
        inputs = torch.cat([h, z], dim=1) if self.c.pattern_input == "concat" else h
        if self.c.append_pattern:
            inputs = torch.cat([inputs, pattern], dim=1)
        hidden = F.gelu(self.head_hidden(inputs)).view(len(h), -1, self.c.width)  # (B, K, D)
        return (hidden * self.head_out).sum(-1) + self.head_bias

    def _pattern_loss(self, z: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        """L_miss: the pattern decoded from z (3.2.1)."""
        if not self.loss_weights["miss"]:
            return {}
        return {"miss": F.binary_cross_entropy_with_logits(self.pattern_decoder(z), batch.pattern)}

    def _holdout(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Which (patient, modality) to hide: patients with at least two present; one each, or all in turn."""
        eligible = present & (present.sum(1, keepdim=True) >= 2)
        if self.c.holdout == "all":
            rows, hidden = eligible.nonzero(as_tuple=True)
            return rows, hidden
        rows = eligible.any(1).nonzero().squeeze(1)
        if not len(rows):
            return rows, rows
        return rows, torch.multinomial(eligible[rows].float(), 1).squeeze(1)

    def _reconstruction_losses(self, e: Tensor, rows: Tensor, hidden: Tensor, h_without: Tensor) -> dict[str, Tensor]:
        """L_rec, averaged over the hidden entries, and L_cont, summed over modalities (3.2.2).

        Args:
            e: (B, M, D).
            rows, hidden: (R,) patient and modality of each entry.
            h_without: (R, D) h^{∖m}.
        """
        rec, cont = e.new_zeros(()), e.new_zeros(())
        for m, decoder in enumerate(self.decoders):
            chosen = (hidden == m).nonzero().squeeze(1)
            if not len(chosen):
                continue
            original = e[rows[chosen], m]  # (n, D)
            rebuilt = decoder(h_without[chosen])  # ê^m = φ^m(h^{∖m})
            target = F.layer_norm(original.detach(), original.shape[-1:])
            rec = rec + len(chosen) / len(rows) * F.mse_loss(rebuilt, target)
            cont = cont + info_nce(original, rebuilt, self.c.temperature)
        named = {"rec": rec, "cont": cont}
        return {name: loss for name, loss in named.items() if self.loss_weights[name]}

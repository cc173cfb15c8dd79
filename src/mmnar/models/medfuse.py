"""MedFuse: an LSTM reads the modalities of a patient one after the other, as many as there are.

Hayat, Geras, Shamout: "MedFuse: Multi-modal fusion with clinical time-series data and chest X-ray images", MLHC 2022.
O is the set of present modalities.

    v^m = Enc_m(x^m),  v*^m = v^m of a series, φ_m(v^m) = W_m v^m + b_m of all else
    s = (v*^m : m ∈ O), series first, then the others in the schema's order; (v_∅) where O is empty
    i, f, o = σ(W s_t + U h_{t−1} + b),  g = tanh(W_g s_t + U_g h_{t−1} + b_g)
    c_t = f ∘ c_{t−1} + i ∘ g,  h_t = o ∘ tanh c_t
    ŷ_k = w_k'h_T + b_k,  T = |s|
    first, where ``pretrain``: Σ_m ℓ(g_m(v^m), y), g_m linear; then the g_m are dropped and all else learns by ℓ(ŷ, y)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS, MEDFUSE
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError, TrainingError
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.alone import OwnHeads
from mmnar.ops.beside import projections
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class MedFuseConfig:
    """Settings of MedFuse; letters are those of the equations above.

    Args:
        width: D, the width of v and v*.
        hidden: H, the width of h and c.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to h_T.
        pretrain: Encoders learn alone first, each by its g_m on those who have the modality, until the tune fold says
            stop.
        pretrain_rate: Factor on the learning rate of that stage.
        share: ρ, of the training patients who lack a modality so many learn the fusion, 0 to 1, drawn by the seed (who
            is there at one share is there at every larger one); of those who lack none all do. Tuned on all.
        image, series: How those are encoded.

    Raises:
        ConfigError: ``hidden`` is below 1, ``pretrain_rate`` not above 0, ``share`` no share.
    """

    width: int = 128
    hidden: int = 256
    dropout: float = 0.2
    append_pattern: bool = False
    pretrain: bool = False
    pretrain_rate: float = 1.0
    share: float = 1.0
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError("model.hidden", "1 or more", str(self.hidden), "correct it")
        if not self.pretrain_rate > 0:
            raise ConfigError("model.pretrain_rate", "a number above 0", str(self.pretrain_rate), "correct it")
        if not 0 <= self.share <= 1:
            raise ConfigError("model.share", "a share, 0 … 1", str(self.share), "correct it")


class MedFuse(Model):
    """The sequence of present modalities through an LSTM; its last state through a linear head."""

    card = ModelCard(
        title="MedFuse",
        paper="Hayat, Geras, Shamout (MLHC 2022)",
        missing="an absent modality is left out: the LSTM reads a shorter sequence",
        deviations=(
            "Any M modalities and any pattern, series first, then the others in the schema's order. The paper has a "
            "time series, which nobody lacks, then a film.",
            "A patient with nothing present has a sequence of one learned vector.",
            "All vectors have one width; as in the paper, series go in as they are and all others through "
            "a projection of their own.",
            "By default trained end to end on all patients, as CareBench does (the paper's random initialisation, RI). "
            "model.pretrain=true is its other way (PT): each encoder learns alone first. There the film's encoder "
            "learns 14 findings of films from outside; here each learns the labels of the patients at hand, and films "
            "from outside are a file of weights (model.image.weights), as `mmnar pretrain images` makes it.",
            "That first stage trains all encoders in one pass, as they share no weight, and ends when the mean of "
            "their logits is best on the tune fold; in the paper each stops by itself. Its heads stay in the file of "
            "weights, unused.",
            "model.share keeps a share of those who lack a modality that others have while fusion is learned. The "
            "paper's OPTIMAL chooses it on the validation fold (.2 for phenotypes, .1 for death in hospital). So is it "
            "to be here: by a study that searches model.share, which sees the tune fold alone. Nothing chooses it "
            "inside a fit, and the default keeps all.",
            "The release draws those patients anew with replacement, for testing as well, and validates on pairs "
            "alone; here they are drawn once, and tune and test fold are whole.",
            "preset=original is the random initialisation with the rate found best for phenotypes (for death in "
            "hospital it is 9.4e-5). For PT, train.lr=7.347e-5 (1.452e-5) model.pretrain=true model.pretrain_rate=7.35 "
            "(37.2). The paper mirrors films at random, too; here none ever is.",
            "H is twice D, as in the paper (256 and 512); CareBench has 256 for both. Its table says that the time "
            "series is read both ways, its release reads one way, and so does preset=carebench.",
            "The releases choose epochs by the tune fold's AUROC, AUPRC or accuracy; here it is its log loss, as with "
            "all methods.",
            "In CareBench the image encoder starts from ImageNet's weights. Such a file is the user's and no part of "
            "preset=carebench: model.image.weights=FILE model.image.norm=frozen.",
        ),
        original={**MEDFUSE, "train.lr": 4.741e-5, "model.hidden": 512},
        carebench={**CAREBENCH, **CAREBENCH_ENCODERS, "model.series.encoder": "lstm", "model.hidden": 256},
    )
    Config = MedFuseConfig

    def __init__(self, schema: Schema, config: MedFuseConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        self.order = sorted(range(len(schema.modalities)), key=lambda i: schema.modalities[i].kind != "series")
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.project = projections(schema, d)  # φ
        self.null = nn.Parameter(torch.randn(d) * 0.02)  # v_∅
        self.fusion = nn.LSTM(d, config.hidden, batch_first=True)
        self.head = TaskHead(schema, config.hidden, config.append_pattern)
        self.own = OwnHeads(schema, d) if config.pretrain else None  # g_m
        self.loss_weights = self.phases()[-1].weights  # a loaded model is past its first stage

    def phases(self) -> tuple[Phase, ...]:
        """Together; encoders alone before, where that is asked for."""
        c: MedFuseConfig = self.config
        if not c.pretrain:
            return super().phases()
        alone = Phase("alone", {"task": 0.0, "alone": 1.0}, rate=c.pretrain_rate)
        return alone, Phase("fusion", {"task": 1.0})

    def learners(self, phase: Phase, train: PatientBatch) -> Tensor | None:
        """Of a fusion phase: all who lack nothing that anybody has, and ρ of the others.

        Raises:
            TrainingError: ρ leaves nobody.
        """
        if self.config.share == 1 or phase.name == "alone":
            return None
        present = train.present.cpu()
        complete = present[:, present.any(0)].all(1)
        others = (~complete).nonzero().squeeze(1)
        drawn = others[torch.randperm(len(others))[: round(self.config.share * len(others))]]
        rows = torch.cat([complete.nonzero().squeeze(1), drawn])
        if not len(rows):
            expected = "patients who have all modalities"
            raise TrainingError("MedFuse: model.share", expected, "none", "raise it or leave modalities out")
        return rows

    def forward(self, batch: PatientBatch) -> Output:
        v = encode(self.encoders, batch, self.width)  # (B, M, D)
        if self.own is not None and self.loss_weights.get("alone"):
            return self.own.stage(v, batch, self.task_loss if self.training else None)
        h = self.fuse(*self.sequence(v, batch.present))  # (B, H)
        return Output(self.head(h, batch.present), h)

    def sequence(self, v: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """s (B, M, D), arbitrary behind each patient's last, and how long it is (B,), at least 1.

        Args:
            v: (B, M, D).
            present: (B, M) bool.
        """
        tokens = torch.stack([self.project[i](v[:, i]) for i in self.order], 1)
        there = present[:, self.order]
        front = (~there).int().argsort(dim=1, stable=True)  # what is there first, in order
        tokens = tokens.gather(1, front[..., None].expand_as(tokens))
        nothing = ~there.any(1)
        first = torch.where(nothing[:, None], self.null, tokens[:, 0])
        return torch.cat([first[:, None], tokens[:, 1:]], 1), there.sum(1).clamp(min=1)

    def fuse(self, s: Tensor, lengths: Tensor) -> Tensor:
        """h_T (B, H)."""
        packed = pack_padded_sequence(s, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (h, _) = self.fusion(packed)
        return h[0]  # type: ignore[no-any-return]

"""Joint fusion: vectors of all modalities side by side, a learned one for each absent, trained end to end.

The baseline of this name in MedFuse (Hayat, Geras, Shamout, MLHC 2022): the graph of early fusion, from scratch.

    v^m = Enc_m(x^m),  v*^m = φ_m(v^m) where present, else a^m      φ_m: nothing for a series, linear for all else
    ŷ_k = w_k'[v*¹, …, v*ᴹ] + b_k
"""

from __future__ import annotations

from dataclasses import dataclass

from mmnar.config import MEDFUSE
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard
from mmnar.ops.beside import Absent, SideBySide
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class JointFusionConfig:
    """Settings of joint fusion; letters are those of the equations above.

    Args:
        width: D, the width of v.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to what the head sees.
        absent: What a^m is: a ``learned`` vector, or ``zeros``.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    absent: Absent = "learned"
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class JointFusion(Model):
    """A linear head on vectors side by side, with a vector for each absence; everything learns at once."""

    card = ModelCard(
        title="Joint fusion",
        paper="A baseline of MedFuse (Hayat, Geras, Shamout, MLHC 2022): concatenated vectors, trained end to end",
        missing="a learned vector stands for an absent modality (or zeros: model.absent=zeros)",
        deviations=(
            "Any M modalities and any pattern; each has a vector for its absence. The paper has a time series, which "
            "nobody lacks, and a film.",
            "Logits are sums over modalities and absences, as in LateFusion, which has no projections and zeros for "
            "what is absent.",
            "Whoever has nothing has the risk that the absences together say.",
            "The paper's other version knows complete patients only: rows.train=paired rows.modalities=…; its tables "
            "find no clear difference between zeros and a learned vector.",
            "preset=original has the rate found best for phenotypes on all patients; for death in hospital it is "
            "7.565e-4. Epochs are chosen by log loss, not AUROC; films are never mirrored.",
        ),
        original={**MEDFUSE, "train.lr": 3.831e-5},
    )
    Config = JointFusionConfig

    def __init__(self, schema: Schema, config: JointFusionConfig) -> None:
        super().__init__(schema, config)
        d, self.width = config.width, config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.beside = SideBySide(schema, d, config.absent)
        self.head = TaskHead(schema, len(schema.modalities) * d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        v = encode(self.encoders, batch, self.width)  # (B, M, D)
        z = self.beside(v, batch.present)  # (B, M D)
        return Output(self.head(z, batch.present), z)

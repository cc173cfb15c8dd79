"""A model of one's own: the mean of what is present, through one linear layer."""

from dataclasses import dataclass

import mmnar
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import masked_mean
from mmnar.types import Output


@dataclass(frozen=True)
class MeanConfig:
    width: int = 32
    dropout: float = 0.1
    append_pattern: bool = True
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class MeanFusion(mmnar.Model):
    card = mmnar.ModelCard("Mean of modalities", paper="ours", missing="an absent modality is left out of the mean")
    Config = MeanConfig

    def __init__(self, schema, config):
        super().__init__(schema, config)
        self.encoders = encoders_of(schema, config.width, config.dropout, config.image, config.series)
        self.head = TaskHead(schema, config.width, config.append_pattern)

    def forward(self, batch):
        h = masked_mean(encode(self.encoders, batch, self.config.width), batch.present)
        return Output(self.head(h, batch.present), h)

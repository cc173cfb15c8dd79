"""How images and series are encoded: the same keys for every method, so that a comparison compares methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mmnar.errors import ConfigError

Backbone = Literal["resnet10", "tiny", "resnet18", "resnet34", "resnet50", "densenet121"]
Norm = Literal["group", "frozen"]
Augment = Literal["slight", "strong", "none"]


@dataclass(frozen=True)
class ImageConfig:
    """The image encoder.

    Args:
        backbone: ``tiny`` is a ResNet-10 an eighth as wide, for small machines and small images.
        weights: Local file of the backbone's weights, in the names of torchvision or MONAI; "" = from scratch. The last
            layer is not taken. Of released embeddings: what ``mmnar pretrain images --embeddings`` made.
        norm: ``group`` normalises each image by itself; ``frozen`` is batch normalisation with the statistics of the
            file of weights, which stay as they are.
        channels: Copies of the grey image that the network is given; 3 for weights of colour photographs, which then
            are centred and scaled as those were (ImageNet).
        augment: What training does to images: ``slight`` turns by up to 7°, shifts by up to 5 % of the side and changes
            contrast and brightness a little; ``strong`` turns by up to 45°, shifts by up to 15 % and changes the size
            by up to 15 %.
        frozen: The backbone stays as the file of weights has it; only its last layer is trained.

    Raises:
        ConfigError: What only a file of weights can give is asked for without one; neither 1 nor 3 channels.
    """

    backbone: Backbone = "resnet10"
    weights: str = ""
    norm: Norm = "group"
    channels: int = 1
    augment: Augment = "slight"
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ConfigError("model.image.channels", "1 or 3", str(self.channels), "correct it")
        for key, asked in (("norm=frozen", self.norm == "frozen"), ("frozen=true", self.frozen)):
            if asked and not self.weights:
                raise ConfigError(f"model.image.{key}", "a file of weights", "none", "add model.image.weights=FILE")


@dataclass(frozen=True)
class SeriesConfig:
    """The encoder of series.

    Args:
        encoder: ``set`` attends to all measurements at their own times, beside summaries; ``lstm`` and ``transformer``
            read the last ``hours`` in steps: in each the last value known, and whether it was measured in that step.
        hours: Before the prediction, that lstm and transformer see.
        step: Hours of each step.
        layers: Of lstm and transformer.
        heads: Of the transformer's attention; a divisor of ``model.width``.
        both_ways: The lstm also reads from the end to the start.

    Raises:
        ConfigError: A number that is none of its kind, or hours that are no whole number of steps.
    """

    encoder: Literal["set", "lstm", "transformer"] = "set"
    hours: float = 48.0
    step: float = 1.0
    layers: int = 1
    heads: int = 4
    both_ways: bool = False

    def __post_init__(self) -> None:
        check_steps("model.series", self.hours, self.step, self.layers, self.heads)

    @property
    def steps(self) -> int:
        """T."""
        return round(self.hours / self.step)


def check_steps(where: str, hours: float, step: float, layers: int, heads: int = 1) -> None:
    """
    Args:
        where: What the settings belong to, for messages.

    Raises:
        ConfigError: A number that is none of its kind, or hours that are no whole number of steps.
    """
    for key, number in (("layers", layers), ("heads", heads)):
        if number < 1:
            raise ConfigError(f"{where}.{key}", "1 or more", str(number), "correct it")
    if not step > 0 or not hours > 0 or abs(hours / step - round(hours / step)) > 1e-6:
        fact = f"{hours} in steps of {step}"
        raise ConfigError(f"{where}.hours", "a whole number of steps", fact, "correct hours or step")


def check_stages(stages: tuple[int, ...]) -> None:
    """The stages of a ResNet at which a method acts: some of 1 to 4, in order.

    Raises:
        ConfigError: They are something else.
    """
    if not stages or not set(stages) <= {1, 2, 3, 4} or list(stages) != sorted(set(stages)):
        given = ",".join(map(str, stages)) or "nothing"
        raise ConfigError("model.stages", "some of 1,2,3,4, in this order", given, "correct it")


IMAGE: Final = ImageConfig()
SERIES: Final = SeriesConfig()

"""A batch's films or series on their way through a network that stops where other modalities act on them.

Both ways have J places to stop at: a film's are behind J stages of a ResNet, a series' between J + 1 stretches of
layers.
Only patients who have the modality are under way: n of the batch's B.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.modality import encode_present
from mmnar.encoders.stream import SeriesStream, mean_over_steps
from mmnar.ops.packed import segment_sum
from mmnar.types import Items, PatientBatch, Series


class Passage(ABC):
    """What stands at a place, to be read and changed.

    Args:
        patients: B.
        patient: (n,) whose each row of ``values`` is.

    Attributes:
        values: (n, C, …), the maps or states at the place.
    """

    values: Tensor

    def __init__(self, patients: int, patient: Tensor) -> None:
        self.patients, self.patient = patients, patient

    def go(self, place: int) -> None:
        """To place 0, 1, …, one after the other."""
        if len(self.patient):
            self._go(place)
        else:
            self.values = torch.zeros(0, self.channels(place), 1, 1, device=self.patient.device)

    def squeezed(self) -> Tensor:
        """(B, C): the mean over space or time, zeros for a patient without the modality."""
        return segment_sum(self.mean(), self.patient, self.patients)

    def scale(self, factor: Tensor) -> None:
        """Multiply all values of a channel by the patient's factor for it, (B, C)."""
        factor = factor[self.patient].to(self.values.dtype)
        self.values = self.values * factor.view(*factor.shape, *(1 for _ in self.values.shape[2:]))

    def vector(self) -> Tensor:
        """(B, D): where the way ends, zeros for a patient without the modality."""
        if len(self.patient):
            return self._vector()
        return torch.zeros(self.patients, self.width, device=self.patient.device)

    @property
    @abstractmethod
    def width(self) -> int:
        """D."""

    @abstractmethod
    def channels(self, place: int) -> int:
        """C."""

    @abstractmethod
    def mean(self) -> Tensor:
        """(n, C) over space or time."""

    @abstractmethod
    def _go(self, place: int) -> None: ...

    @abstractmethod
    def _vector(self) -> Tensor: ...


class FilmPassage(Passage):
    """Maps (n, C, h, w).

    Args:
        encoder: With a ResNet.
        content: The batch's films.
        present: (B,) bool; what lies behind false is not looked at.
        stages: Behind which the places are, in order.
    """

    def __init__(self, encoder: ImageEncoder, content: Items, present: Tensor, stages: tuple[int, ...]) -> None:
        self.encoder, self.content, self.stages = encoder, content.blank(present), stages
        super().__init__(len(content), self.content.patient)
        self.stage = 0
        if len(self.patient):
            self.values = encoder.stem(self.content.values)

    @property
    def width(self) -> int:
        return self.encoder.width

    def channels(self, place: int) -> int:
        return self.encoder.resnet.channels[self.stages[place] - 1]

    def mean(self) -> Tensor:
        return self.values.mean((2, 3))

    def _go(self, place: int) -> None:
        while self.stage < self.stages[place]:
            self.stage += 1
            self.values = self.encoder.resnet.stage(self.stage, self.values)

    def _vector(self) -> Tensor:
        return self.encoder.placed(self.encoder.from_stage(self.stage, self.values), self.content)


class SeriesPassage(Passage):
    """States (n, C, L).

    Args:
        stream: With J + 1 stretches.
        content: The batch's series.
        present: (B,) bool; what lies behind false is not looked at.
    """

    def __init__(self, stream: SeriesStream, content: Series, present: Tensor) -> None:
        super().__init__(len(content), present.nonzero().squeeze(1))
        self.stream = stream
        if len(self.patient):
            self.values, self.lengths = stream.start(content.take(self.patient))

    @property
    def width(self) -> int:
        return self.stream.width

    def channels(self, place: int) -> int:
        return self.stream.channels

    def mean(self) -> Tensor:
        return mean_over_steps(self.values, self.lengths) if len(self.patient) else self.values.mean((2, 3))

    def _go(self, place: int) -> None:
        self.values = self.stream.stretch(place, self.values, self.lengths)

    def _vector(self) -> Tensor:
        last = self.stream.stretch(len(self.stream.stretches) - 1, self.values, self.lengths)
        found = self.stream.vector(last, self.lengths)
        return found.new_zeros(self.patients, self.width).index_copy(0, self.patient, found)


def passages(
    encoders: nn.ModuleList, batch: PatientBatch, width: int, stages: tuple[int, ...]
) -> tuple[dict[int, Passage], dict[int, Tensor]]:
    """Films and streamed series at the start of their ways; h^m (B, D) of all other modalities, zeros where absent.

    Args:
        encoders: Enc_m of every modality, in schema order.
        width: D.
        stages: Behind which films stop.
    """
    ways: dict[int, Passage] = {}
    vectors = {}
    for i, (encoder, content) in enumerate(zip(encoders, batch.modalities.values(), strict=True)):
        present = batch.present[:, i]
        if isinstance(encoder, ImageEncoder) and isinstance(content, Items):
            ways[i] = FilmPassage(encoder, content, present, stages)
        elif isinstance(encoder, SeriesStream) and isinstance(content, Series):
            ways[i] = SeriesPassage(encoder, content, present)
        else:
            vectors[i] = encode_present(encoder, content, present, width)
    return ways, vectors


def squeezed(ways: dict[int, Passage], vectors: dict[int, Tensor], modalities: Iterable[int]) -> Tensor:
    """(B, …): what each of the modalities tells at this place, side by side; zeros where absent."""
    return torch.cat([ways[i].squeezed() if i in ways else vectors[i] for i in modalities], dim=1)


def channels_at(encoder: nn.Module, stage: int, width: int) -> int:
    """Of what ``squeezed`` has of one modality behind a stage."""
    if isinstance(encoder, ImageEncoder):
        return encoder.resnet.channels[stage - 1]
    return encoder.channels if isinstance(encoder, SeriesStream) else width

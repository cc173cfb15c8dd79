"""What all gatherers share: how content is made, what a gatherer is, how items grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import Content, offsets_of
from mmnar.dataset.growing import Growing
from mmnar.notes.encoder import TextEncoder
from mmnar.schema import ModalitySpec
from mmnar.sources.events import PastEvents


@dataclass(frozen=True)
class Gathering:
    """How content is made where there is a choice.

    Args:
        notes: Encoder of notes; None = hashed counts, reduced by a basis fitted on the training fold.
        cache: Folder of encoded notes; needed where there is an encoder.
        bin_hours: Series at native times (0), or means over bins of so many hours.
        folder: Disk for content that grows while it is gathered; None = the machine's own place.
        told: Called with the number of notes of a modality encoded so far.
    """

    notes: TextEncoder | None = None
    cache: Path | None = None
    bin_hours: float = 0.0
    folder: Path | None = None
    told: Callable[[int], None] | None = None


class Gatherer(ABC):
    """Content of one modality, growing part by part.

    ``spec`` describes it; ``left_out`` says what was left out, ``never_seen`` what nobody has, once all are in.
    """

    spec: ModalitySpec

    @abstractmethod
    def add(self, past: PastEvents) -> None:
        """Add the samples of a part."""

    @abstractmethod
    def content(self) -> Content:
        """All samples added."""

    def left_out(self) -> dict[str, int]:
        """What, with # in place of a count → number of values or items left out, or chosen among."""
        return {}

    def never_seen(self) -> tuple[str, ...]:
        """Features of which no sample has a value."""
        return ()


class Items:
    """Offsets and hours of packed items, growing."""

    def __init__(self, folder: Path | None) -> None:
        self.counts: list[NDArray[np.int64]] = []
        self.hours = Growing(np.float32, folder=folder)

    def add(self, counts: NDArray[np.int64], hours: NDArray[np.float32]) -> None:
        self.counts.append(counts)
        self.hours.append(hours)

    def offsets(self) -> NDArray[np.int64]:
        return offsets_of(np.concatenate(self.counts))


def per_sample(offsets: NDArray[np.int64], pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) pieces per sample, when item e falls into ``pieces[e]`` of them."""
    return np.diff(offsets_of(pieces)[offsets])

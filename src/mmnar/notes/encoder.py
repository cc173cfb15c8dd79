"""What turns notes into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TextEncoder(Protocol):
    """A frozen encoder.

    Attributes:
        identity: Changes whenever an output could change: model content, segmentation, version.
        width: D.
    """

    identity: str
    width: int

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One (n_i, D) array per note, n_i ≥ 1 segments."""
        ...

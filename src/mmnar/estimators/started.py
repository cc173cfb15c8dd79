"""What a method starts from may have seen patients: these it must not be judged by."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.errors import LeakageError
from mmnar.privacy import counted_of
from mmnar.roles import key_mark

_WHAT: Final = "weights of the image encoder (model.image.weights)"


def refuse_other_key(seen: NDArray[np.uint64], secret: bytes) -> None:
    """
    Args:
        seen: See ``Estimator.starts_from``.
        secret: Of the store to be fitted on.

    Raises:
        LeakageError: The record was made beside another store: nobody can tell who of this one was seen.
    """
    if len(seen) and key_mark(secret) not in seen:
        raise LeakageError(
            _WHAT,
            "weights pre-trained for this store",
            "ones for another, so that nobody can tell whom of this one they have seen",
            "run `mmnar pretrain images --store` with this store",
        )


def refuse_seen(seen: NDArray[np.uint64], fold: Fold[Any], who: str, remedy: str) -> None:
    """
    Args:
        seen: See ``Estimator.starts_from``.
        fold: Of patients who are to be scored.
        who, remedy: For the message.

    Raises:
        LeakageError: Some of them were seen.
    """
    digests = np.unique(fold.subject_digest())
    if shared := int(np.isin(digests, seen).sum()):
        fact = f"{counted_of(shared, len(digests))} of them"
        raise LeakageError(_WHAT, f"weights that have seen none of the {who}", fact, remedy)

"""The five roles a fold can play, as types: what may be fitted on what is a matter of signatures.

``Development`` reaches ``cross_fit``, which divides it; ``Train`` and ``Tune`` reach ``Estimator.fit``; ``Calibration``
alone reaches ``posthoc``; ``Test`` alone reaches ``evaluate``. The classes are never instantiated.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ROLES",
    "Calibration",
    "Development",
    "R",
    "Role",
    "Test",
    "Train",
    "Tune",
    "key_mark",
    "subject_digests",
    "subject_keys",
]


class Role:
    """Phantom type; ``name`` is how the role is written in files and messages."""

    name: str = ""


class Development(Role):
    """All but the test fold: who may be learned from, before anybody has said who fits, tunes or is scored."""

    name = "development"


class Train(Role):
    """Who is fitted on."""

    name = "train"


class Tune(Role):
    """Who stops training early and chooses settings."""

    name = "tune"


class Calibration(Role):
    """Development subjects, each scored by a fit that never saw them: what corrections are fitted on."""

    name = "calibration"


class Test(Role):
    """Who is scored, and nothing is fitted on."""

    name = "test"
    __test__ = False  # pytest, not a test class


R = TypeVar("R", bound=Role)
ROLES: Final[dict[str, type[Role]]] = {r.name: r for r in (Development, Train, Tune, Calibration, Test)}

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def subject_keys(subject_id: NDArray[np.int64], seed: int = 0, space: str = "") -> NDArray[np.uint64]:
    """64-bit keys of subjects: equal for equal (subject, seed, space), otherwise as good as random (splitmix64).

    Used to assign subjects to folds by content. Anybody can compute it and turn it round: it is written nowhere
    (``subject_digests`` is). ``space`` names where an identifier is valid (``"eicu"``): patient 7 of one hospital
    is not patient 7 of another.

    >>> a, b = subject_keys(np.array([7, 8])); bool(a != b)
    True
    """
    if space:
        seed += int.from_bytes(hashlib.blake2b(space.encode(), digest_size=6).digest())
    with np.errstate(over="ignore"):
        x = subject_id.astype(np.uint64) + _GOLDEN * np.uint64((seed * 2 + 1) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def subject_digests(subject_id: NDArray[np.int64], secret: bytes, space: str = "") -> NDArray[np.uint64]:
    """(n,) keyed 64-bit digests (BLAKE2b, RFC 7693): who has ``secret`` can tell whether a subject is meant; nobody
    else can, though they try all identifiers there are.

    What was fitted remembers its subjects so; the secret stays with the store. Two of a million subjects share a digest
    with probability 3e-8.

    >>> a, b = subject_digests(np.array([7, 7]), b"key"); bool(a == b)
    True
    >>> bool(a == subject_digests(np.array([7]), b"another")[0])
    False
    """
    found, which = np.unique(subject_id, return_inverse=True)
    domain = space.encode() + b"\x00"
    digests = [_digest(domain + int(s).to_bytes(8, "little", signed=True), secret) for s in found]
    return np.array(digests, dtype=np.uint64)[which.reshape(-1)]


def key_mark(secret: bytes) -> np.uint64:
    """Which key digests were made with; it stands among them in every record of subjects."""
    return np.uint64(_digest(b"which key", secret))


def _digest(content: bytes, secret: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, key=secret, digest_size=8, person=b"mmnar").digest(), "little")

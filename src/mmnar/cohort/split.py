"""Split: which subject plays which role. By content hash, so that adding patients never moves the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError, LeakageError
from mmnar.roles import ROLES, subject_keys


class HasSubjects(Protocol):
    """Anything with a (N,) ``subject_id`` array."""

    @property
    def subject_id(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Split:
    """Assignment of subjects to ``train``, ``tune``, ``calibration`` and ``test``.

    Make one with :meth:`by_subject` or :meth:`k_fold`.

    Args:
        seed: Changes the assignment.
        tune, calibration, test: Shares of subjects; with folds > 1 ``test`` is 1/folds.
        fold, folds: Which of how many cross-validation folds is the test fold; folds = 1: a single split.
        everything: ``"test"`` for a store that nothing is fitted on (external validation).
    """

    seed: int = 0
    tune: float = 0.15
    calibration: float = 0.0
    test: float = 0.25
    fold: int = 0
    folds: int = 1
    everything: str = ""

    def __post_init__(self) -> None:
        if not (self.folds >= 1 and 0 <= self.fold < self.folds):
            raise ConfigError("split.fold", f"0 … {self.folds - 1}", str(self.fold), "count folds from 0")
        shares = (self.tune, self.calibration, self.test)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ConfigError(
                "split",
                "shares ≥ 0 that leave some subjects to train on",
                f"{shares}",
                "lower tune, calibration or test",
            )

    @classmethod
    def by_subject(
        cls,
        data: HasSubjects,
        seed: int = 0,
        tune: float = 0.15,
        test: float = 0.25,
        calibration: float = 0.0,
    ) -> Split:
        """One random split of the subjects of ``data``."""
        split = cls(seed, tune, calibration, test)
        split._check_every_role_filled(data)
        return split

    @classmethod
    def k_fold(cls, data: HasSubjects, fold: int, folds: int = 5, seed: int = 0, tune: float = 0.15) -> Split:
        """Fold ``fold`` of ``folds``: the test folds of all of them together hold every subject once."""
        split = cls(seed, tune, 0.0, 1.0 / folds, fold, folds)
        split._check_every_role_filled(data)
        return split

    @classmethod
    def external(cls) -> Split:
        """Every subject is a test subject: for evaluating a fitted model on another store."""
        return cls(everything="test")

    def roles(self, subject_id: NDArray[np.int64]) -> NDArray[np.str_]:
        """(N,) role name of each row; rows of one subject always get the same one.

        >>> roles = Split(seed=1).roles(np.arange(10_000)); round(float((roles == "test").mean()), 2)
        0.25
        """
        if self.everything:
            return np.full(len(subject_id), self.everything, dtype="<U11")
        u = subject_keys(subject_id, self.seed) / 2.0**64  # uniform on [0, 1)
        share = 1.0 / self.folds if self.folds > 1 else self.test
        is_test = (u * self.folds).astype(np.int64) == self.fold if self.folds > 1 else u < share
        # an independent draw decides among the rest, so tune subjects change with the seed but not with the fold
        v = subject_keys(subject_id, self.seed + 1_000_003) / 2.0**64 * (1.0 - share)
        rest = np.where(v < self.tune, "tune", np.where(v < self.tune + self.calibration, "calibration", "train"))
        return np.where(is_test, "test", rest).astype("<U11")

    def _check_every_role_filled(self, data: HasSubjects) -> None:
        roles = self.roles(data.subject_id)
        needed = ["train", "tune", "test"] + (["calibration"] if self.calibration else [])
        for role in needed:
            if not (roles == role).any():
                raise LeakageError(
                    f"split fold '{role}'", "at least one subject", "none", "use more subjects or larger shares"
                )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_role(name: str) -> None:
    if name not in ROLES:
        raise ConfigError("fold role", " | ".join(ROLES), repr(name), "use one of the four")

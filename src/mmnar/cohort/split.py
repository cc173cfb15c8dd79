"""Split: which subject plays which role. By content hash, so that adding patients never moves the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import ConfigError, LeakageError, nearest
from mmnar.privacy import counted
from mmnar.roles import ROLES, subject_keys

__all__ = ["Split"]


class HasSubjects(Protocol):
    """Anything with a (N,) ``subject_id`` array and subgroup attributes, (N,) each."""

    @property
    def subject_id(self) -> NDArray[np.int64]: ...
    @property
    def attributes(self) -> Mapping[str, NDArray[np.str_]]: ...


@dataclass(frozen=True)
class Split:
    """Assignment of subjects to ``train``, ``tune``, ``calibration`` and ``test``.

    Make one with :meth:`by_subject`, :meth:`k_fold` or :meth:`by_attribute`.

    Args:
        seed: Changes the assignment.
        tune, calibration, test: Shares of subjects; with folds > 1 ``test`` is 1/folds.
        fold, folds: Which of how many cross-validation folds is the test fold; folds = 1: a single split.
        by: Name of an attribute, e.g. ``"set"`` or ``"site"``; the test fold is then the subjects whose value of it
            is among ``held_out``, and ``test`` is not used.
        held_out: Values of ``by``.
        everything: ``"test"`` for a store that nothing is fitted on (external validation).
    """

    seed: int = 0
    tune: float = 0.15
    calibration: float = 0.0
    test: float = 0.25
    fold: int = 0
    folds: int = 1
    by: str = ""
    held_out: tuple[str, ...] = ()
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
        if bool(self.by) != bool(self.held_out) or (self.by and self.folds > 1):
            raise ConfigError(
                "split.by",
                "an attribute together with the values held out, and no folds",
                f"by={self.by!r}, {len(self.held_out)} values, {self.folds} folds",
                "write for example split.by=set split.held_out=b",
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
    def by_attribute(
        cls,
        data: HasSubjects,
        by: str,
        held_out: Sequence[str],
        seed: int = 0,
        tune: float = 0.15,
        calibration: float = 0.0,
    ) -> Split:
        """Test on the subjects whose attribute ``by`` is one of ``held_out``, fit on all others."""
        split = cls(seed, tune, calibration, 0.0, by=by, held_out=tuple(held_out))
        split._check_every_role_filled(data)
        return split

    @classmethod
    def external(cls) -> Split:
        """Every subject is a test subject: for evaluating a fitted model on another store."""
        return cls(everything="test")

    def roles(
        self, subject_id: NDArray[np.int64], attributes: Mapping[str, NDArray[np.str_]] | None = None
    ) -> NDArray[np.str_]:
        """(N,) role name of each row; rows of one subject always get the same one.

        Args:
            subject_id: (N,) int64.
            attributes: name → (N,) str; read where the split is ``by`` one of them.

        Raises:
            ConfigError: No such attribute, or none of its rows has a value held out.
            LeakageError: A subject has rows on both sides.

        >>> roles = Split(seed=1).roles(np.arange(10_000)); round(float((roles == "test").mean()), 2)
        0.25
        """
        if self.everything:
            return np.full(len(subject_id), self.everything, dtype="<U11")
        u = subject_keys(subject_id, self.seed) / 2.0**64  # uniform on [0, 1)
        share = 1.0 / self.folds if self.folds > 1 else self.test
        if self.by:
            share, is_test = 0.0, self._held_out(subject_id, attributes or {})
        else:
            is_test = (u * self.folds).astype(np.int64) == self.fold if self.folds > 1 else u < share
        # an independent draw decides among the rest, so tune subjects change with the seed but not with the fold
        v = subject_keys(subject_id, self.seed + 1_000_003) / 2.0**64 * (1.0 - share)
        rest = np.where(v < self.tune, "tune", np.where(v < self.tune + self.calibration, "calibration", "train"))
        return np.where(is_test, "test", rest).astype("<U11")

    def _held_out(self, subject_id: NDArray[np.int64], attributes: Mapping[str, NDArray[np.str_]]) -> NDArray[np.bool_]:
        """(N,) whether a row's value of ``by`` is held out."""
        if self.by not in attributes:
            raise ConfigError("split.by", "an attribute of the store", "another name", nearest(self.by, attributes))
        held: NDArray[np.bool_] = np.isin(attributes[self.by], self.held_out)
        if not held.any():
            raise ConfigError(
                "split.held_out", f"values of the attribute '{self.by}'", "none that occurs", "see `mmnar describe`"
            )
        torn = np.intersect1d(subject_id[held], subject_id[~held]).size
        if torn:
            raise LeakageError(
                f"split by '{self.by}'", "each subject on one side", f"{counted(torn)} on both", "split by subject"
            )
        return held

    def _check_every_role_filled(self, data: HasSubjects) -> None:
        roles = self.roles(data.subject_id, data.attributes)
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
        raise ConfigError("fold role", " | ".join(ROLES), repr(name), "use one of these")

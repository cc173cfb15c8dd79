"""What is held against what: answers of a service, and the patients of its run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.shift import RARE
from mmnar.predictions import Predictions
from mmnar.privacy import patients_by_group

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """N patients' answers, in the order in which they were given.

    Args:
        time: (N,) microseconds since 1970, UTC.
        patient: (N,) equal for the same patient.
        read: (N,) whether records were read; a patient may be refused before.
        present: (N, M) what there was of each whose were.
        risks: Task → (N,) risk; NaN where it was refused.
        rectified: The same, of a run with a rectifier.
        refused: Task → (N,) reason, "" where there is a risk.
    """

    time: Int
    patient: Int
    read: Bool
    present: Bool
    risks: dict[str, Float]
    rectified: dict[str, Float]
    refused: dict[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def first(self) -> Bool:
        """(N,) whether it is the first about its patient of those whose records were read."""
        rows = np.flatnonzero(self.read)
        found = np.zeros(len(self), dtype=bool)
        found[rows[np.unique(self.patient[rows], return_index=True)[1]]] = True
        return found


@dataclass(frozen=True)
class Learned:
    """A run's patients, each by the first of their samples.

    Args:
        modalities: M names.
        present: (n, M) of who it learned from.
        common: Patterns that ``RARE`` or more of those had, in any sample.
        held_out: (t, M) of its test patients, and task → (t,) their risks, NaN where nobody learned from had the
            pattern, for the service refuses them; None without a test fold.
    """

    modalities: tuple[str, ...]
    present: Bool
    common: frozenset[bytes]
    held_out: tuple[Bool, dict[str, Float]] | None

    @classmethod
    def of(cls, learned: Predictions[Any], held_out: Predictions[Any] | None) -> Learned:
        """Of the predictions of who was learned from, and of the test fold."""
        patterns, group = np.unique(learned.present, axis=0, return_inverse=True)
        people = patients_by_group(group.reshape(-1), learned.subject_id, len(patterns))
        common = frozenset(row.tobytes() for row, n in zip(patterns, people, strict=True) if n >= RARE)
        apart = None
        if held_out is not None:
            rows, seen = _firsts(held_out), {row.tobytes() for row in patterns}
            strange = np.array([row.tobytes() not in seen for row in held_out.present[rows]], dtype=bool)
            risks = {task: np.where(strange, np.nan, held_out.proba[rows, k]) for k, task in enumerate(held_out.tasks)}
            apart = held_out.present[rows], risks
        return cls(learned.modalities, learned.present[_firsts(learned)], common, apart)

    def rare(self, present: Bool) -> Bool:
        """(n,) whether fewer than ``RARE`` of who was learned from had the pattern of a row, or none."""
        return np.array([row.tobytes() not in self.common for row in np.ascontiguousarray(present)], dtype=bool)


def _firsts(of: Predictions[Any]) -> Int:
    order = np.lexsort((of.stay_id, of.prediction_time, of.subject_id))
    return np.asarray(order[np.unique(of.subject_id[order], return_index=True)[1]])

"""Predictions[Role]: the only thing evaluation and the rectifier ever see of a model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import LeakageError, SchemaError
from mmnar.roles import R, subject_keys

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions(Generic[R]):
    """Risks of N samples for K tasks, with everything needed to judge them. No number exists without one.

    Args:
        role: The fold's role type, e.g. ``Test``.
        tasks: K task names.
        modalities: M modality names.
        proba: (N, K) float64 in [0, 1].
        labels: (N, K) bool; meaningless where ``label_mask`` is false (stored false there).
        label_mask: (N, K) bool; true where the task was asked of this sample and its outcome is known.
        present: (N, M) bool; the observation pattern δ.
        subject_id, hadm_id, stay_id: (N,) int64.
        prediction_time: (N,) int64, microseconds since 1970.
        attributes: name -> (N,) str array of subgroup values ("" = unknown).
        fold: (N,) int64; which cross-validation fold the row was scored in (0 for a single split).
        fitted_subjects: per fold, sorted keys (``roles.subject_keys``) of every subject that any fitted
            state behind these numbers has seen.
        bayes: (N, K) exact Bayes risks where the source knows them (simulator); otherwise None.
        provenance: model name, data fingerprint, seed and so on; plain JSON.

    Raises:
        SchemaError: A shape, range or role does not fit.
    """

    role: type[R]
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    proba: Float
    labels: Bool
    label_mask: Bool
    present: Bool
    subject_id: Int
    hadm_id: Int
    stay_id: Int
    prediction_time: Int
    attributes: dict[str, NDArray[np.str_]]
    fold: Int
    fitted_subjects: tuple[NDArray[np.uint64], ...]
    bayes: Float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k, m = len(self.subject_id), len(self.tasks), len(self.modalities)
        shapes = {
            "proba": (self.proba, (n, k)),
            "labels": (self.labels, (n, k)),
            "label_mask": (self.label_mask, (n, k)),
            "present": (self.present, (n, m)),
            "hadm_id": (self.hadm_id, (n,)),
            "stay_id": (self.stay_id, (n,)),
            "prediction_time": (self.prediction_time, (n,)),
            "fold": (self.fold, (n,)),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise SchemaError(f"predictions.{name}", f"{shape}", f"{array.shape}", "score the fold again")
        if not (np.isfinite(self.proba).all() and (self.proba >= 0).all() and (self.proba <= 1).all()):
            bad = int((~((self.proba >= 0) & (self.proba <= 1))).sum())
            raise SchemaError(
                "predictions.proba", "numbers in [0, 1]", f"{bad} outside or NaN", "look for NaN in the weights"
            )

    def __len__(self) -> int:
        return len(self.subject_id)

    def task(self, name: str) -> tuple[Float, Bool, Bool]:
        """(proba, labels, asked) of one task: (N,), (N,), (N,)."""
        k = self.tasks.index(name)
        return self.proba[:, k], self.labels[:, k], self.label_mask[:, k]

    def pattern_ids(self) -> tuple[NDArray[np.int64], Bool]:
        """(N,) index of each row's pattern and the (G, M) distinct patterns, in a fixed order."""
        patterns, index = np.unique(self.present, axis=0, return_inverse=True)
        return index.reshape(-1).astype(np.int64), patterns

    def with_proba(self, proba: Float, **provenance: Any) -> Predictions[R]:
        """The same samples with other risks (a rectifier's, an ensemble's)."""
        return replace(self, proba=proba, provenance={**self.provenance, **provenance})

    def also_fitted_on(self, keys: NDArray[np.uint64]) -> Predictions[R]:
        """Record that the numbers now also depend on these subjects' labels."""
        merged = tuple(np.union1d(f, keys) for f in self.fitted_subjects)
        return replace(self, fitted_subjects=merged)

    def refuse_overlap(self) -> None:
        """Raise unless no scored subject was seen by what scored it.

        Raises:
            LeakageError: A subject is among those the fitted state was made from.
        """
        for f, fitted in enumerate(self.fitted_subjects):
            scored = np.unique(subject_keys(self.subject_id[self.fold == f]))
            shared = np.intersect1d(scored, fitted, assume_unique=False)
            if len(shared):
                raise LeakageError(
                    f"{self.role.name} predictions of '{self.provenance.get('model', 'a model')}'",
                    "subjects that nothing fitted has seen",
                    f"{len(shared)} of {len(scored)} subjects seen during fitting",
                    "split by subject (Split.by_subject) and score only the test fold",
                )

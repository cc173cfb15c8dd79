"""What every control asks of its folds: whom a task was asked of, who was seen, the table view on disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView
from mmnar.errors import TrainingError
from mmnar.estimators.base import Predictor
from mmnar.privacy import counted
from mmnar.roles import Train, Tune
from mmnar.schema import Schema

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Keys = NDArray[np.uint64]

# sums split among threads depend on how many there are; and on a busy machine waiting for threads costs tenfold
THREADS: Final = 1


def by_pattern(present: Bool) -> Iterator[tuple[Bool, NDArray[np.int64]]]:
    """Distinct patterns (M,) with the rows that have them."""
    patterns, group = np.unique(present, axis=0, return_inverse=True)
    for g, pattern in enumerate(patterns):
        yield pattern, np.flatnonzero(group.reshape(-1) == g)


def asked_of(train: Fold[Train], k: int) -> tuple[Bool, Bool]:
    """((n,) which samples task k was asked of, their labels).

    Raises:
        TrainingError: The labels do not show both classes.
    """
    asked = train.label_mask[:, k]
    y = train.labels[asked, k]
    if y.all() or not y.any():  # also where nobody was asked
        raise TrainingError(
            f"task '{train.schema.task_names[k]}'",
            "training samples with and without the outcome",
            f"{counted(int(y.sum()))} with, {counted(int((~y).sum()))} without",
            "drop the task or use more records",
        )
    return asked, y


def asked_of_tune(tune: Fold[Tune], k: int) -> tuple[Bool, Bool]:
    """The same of the tune fold, where one class is enough.

    Raises:
        TrainingError: The task was asked of nobody.
    """
    asked = tune.label_mask[:, k]
    if not asked.any():
        raise TrainingError(
            f"task '{tune.schema.task_names[k]}'",
            "tune samples it was asked of",
            "none",
            "raise the tune share of the split",
        )
    return asked, tune.labels[asked, k]


class Asked(NamedTuple):
    """Whom one task was asked of, (n,) bool, and their labels, in the training and the tune fold."""

    train: Bool
    y: Bool
    tune: Bool
    y_tune: Bool


def asked_tasks(train: Fold[Train], tune: Fold[Tune]) -> Iterator[Asked]:
    """Every task in turn.

    Raises:
        TrainingError: One cannot be learned, or not be tuned.
    """
    for k in range(len(train.schema.tasks)):
        yield Asked(*asked_of(train, k), *asked_of_tune(tune, k))


class TaskByTask(Predictor):
    """A predictor that learns each task by itself. Of an exclusive panel it gives shares of their sum."""

    def predict_proba(self, fold: Fold[Any]) -> Float:
        risks = self.task_risks(fold)
        for columns in self.schema.exclusive:
            total = risks[:, columns].sum(axis=1, keepdims=True)
            equal = np.full_like(risks[:, columns], 1 / len(columns))
            risks[:, columns] = np.divide(risks[:, columns], total, out=equal, where=total > 0)
        return risks

    @abstractmethod
    def task_risks(self, fold: Fold[Any]) -> Float:
        """(n, K) a new array: the risk of each task, whatever the others'."""


def seen_subjects(train: Fold[Train], tune: Fold[Tune]) -> Keys:
    return np.union1d(train.subjects(), tune.subjects())


def load_view(folder: Path, schema: Schema) -> TableView:
    with np.load(folder / "view.npz", allow_pickle=False) as arrays:
        return TableView.from_arrays(schema, dict(arrays))

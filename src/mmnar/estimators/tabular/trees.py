"""The columns of gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView, column_features
from mmnar.errors import RequirementError
from mmnar.estimators.tabular.folds import Bool, Float
from mmnar.roles import Train, Tune

MAX_CATEGORIES: Final = 255
"""Most categories of one feature that gradient boosting can bin."""


DRAWS: Final = 8
"""Fillings of what is absent over which a blind model's risk is averaged."""


@dataclass(frozen=True)
class TreeDesign:
    """How a fold becomes columns of trees; fitted on a training fold.

    Trees that are to be blind to the pattern need more than a mean in place of an absent modality: two splits single
    it out. They are fitted with the modality of a random training sample in its place, and a risk is the mean over
    fillings drawn from each column's training values.

    Args:
        view: What each modality's columns are; missing values stay as they are.
        fillings: None, or (DRAWS, ΣC) what the columns of an absent modality hold, the same for everybody. Then no
            column says which modalities are there.
    """

    view: TableView
    fillings: Float | None = None

    @classmethod
    def of(cls, train: Fold[Train], append_pattern: bool, seed: int) -> TreeDesign:
        view = TableView.fit(train)
        if append_pattern:
            return cls(view)
        rng = np.random.default_rng(seed)
        values = np.concatenate(_contents(view, train), axis=1)
        return cls(view, np.column_stack([_quantiles(column[~np.isnan(column)], rng) for column in values.T]))

    def fitting(self, train: Fold[Train], tune: Fold[Tune], seed: int) -> tuple[Float, Float]:
        """(n, D) columns of both folds for fitting and for stopping."""
        if self.fillings is None:
            return next(self.versions(train)), next(self.versions(tune))
        rng = np.random.default_rng([seed, 1])
        given = _contents(self.view, train)
        return (
            _with_donors(given, train.present, given, train.present, rng),
            _with_donors(_contents(self.view, tune), tune.present, given, train.present, rng),
        )

    def versions(self, fold: Fold[Any]) -> Iterator[Float]:
        """What a risk is the mean over: (n, ΣC + M) contents with NaN, then presence; or each filling's (n, ΣC)."""
        contents, present = _contents(self.view, fold), fold.present
        if self.fillings is None:
            yield np.concatenate([*contents, present.astype(np.float64)], axis=1)
            return
        there = np.repeat(present, [c.shape[1] for c in contents], axis=1)
        values = np.concatenate(contents, axis=1)
        for filling in self.fillings:
            yield np.where(there, values, filling)

    def mean_risk(self, fold: Fold[Any], tasks: int, risks: Callable[[Float], Float]) -> Float:
        """(n, K) mean over ``versions`` of what ``risks`` makes of one."""
        if not len(fold):  # neither library takes an empty table
            return np.empty((0, tasks))
        return np.asarray(np.mean([risks(x) for x in self.versions(fold)], axis=0))

    def categorical(self) -> Bool:
        """(D,) which columns are categories.

        Raises:
            RequirementError: A feature has more categories than boosting can bin.
        """
        columns = column_features(self.view)
        for spec, feature in columns:
            if len(feature.categories) > MAX_CATEGORIES:
                raise RequirementError(
                    f"feature '{spec.name}.{feature.name}'",
                    f"at most {MAX_CATEGORIES} categories for gradient boosting",
                    f"{len(feature.categories)}",
                    "group rare categories in the source's feature rules",
                )
        presence = len(self.view.schema.modalities) if self.fillings is None else 0
        return np.array([bool(f.categories) for _, f in columns] + [False] * presence)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For saving, the view apart: name → array."""
        return {} if self.fillings is None else {"fillings": self.fillings}


def boosting_record(fit: str, trees: int, loss: float, seconds: float, rate: float) -> dict[str, Any]:
    """What a monitor is told while trees are added: their number stands for the epoch."""
    return {
        "fit": fit,
        "phase": "boost",
        "epoch": trees,
        "train": {},
        "tune": {"log_loss": loss},
        "seconds": seconds,
        "lr": rate,
    }


def _contents(view: TableView, fold: Fold[Any]) -> list[Float]:
    """(n, C) of each modality."""
    return [view.columns(fold, m) for m in range(len(fold.schema.modalities))]


def _with_donors(
    own: list[Float], present: Bool, given: list[Float], given_present: Bool, rng: np.random.Generator
) -> Float:
    """(n, ΣC), an absent modality taken whole from a random one of those to whom it is ``given``."""
    filled = []
    for m, (x, y) in enumerate(zip(own, given, strict=True)):
        donors, x = np.flatnonzero(given_present[:, m]), x.copy()
        absent = ~present[:, m]
        if len(donors):
            x[absent] = y[rng.choice(donors, int(absent.sum()))]
        filled.append(x)
    return np.concatenate(filled, axis=1)


def _quantiles(values: Float, rng: np.random.Generator) -> Float:
    """(DRAWS,) in random order; NaN where training saw no value."""
    if not len(values):
        return np.full(DRAWS, np.nan)
    at = (rng.permutation(DRAWS) + 0.5) / DRAWS
    return np.asarray(np.quantile(values, at, method="inverted_cdf"))

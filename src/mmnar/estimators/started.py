"""What a method starts from may have seen patients: these it must not be judged by."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.config import RunConfig
from mmnar.dataset.store import Fold, PatientDataset
from mmnar.errors import LeakageError
from mmnar.estimators.base import Estimator
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


def refuse_judged(recipe: Estimator, config: RunConfig, data: PatientDataset, split: Split, proper: bool) -> None:
    """Before anything is fitted, refuse what could not be judged after it.

    Args:
        recipe, config: Of the run.
        data: What it is fitted and scored on.
        split: Who plays which role there.
        proper: Whether its training loss is a proper score; where it is not, the run needs risks out of fold.

    Raises:
        LeakageError: What the recipe starts from has seen who is to be scored, or nobody can tell.
    """
    seen = recipe.starts_from()
    if not len(seen):
        return
    refuse_other_key(seen, data.secret)
    test = data.fold(split, "test")
    remedy = "run `mmnar pretrain images` with this store and the split of this run"
    _refuse_seen(seen, test, "test patients", remedy)
    if config.fit == "cross" or config.rectifier.rule != "none" or not proper or not len(test):
        remedy = "add fit=single rectifier.rule=none, or pre-train with --outside"
        _refuse_seen(seen, data.fold(split, "development"), "patients who are scored out of fold", remedy)


def _refuse_seen(seen: NDArray[np.uint64], fold: Fold[Any], who: str, remedy: str) -> None:
    """
    Raises:
        LeakageError: Some patients of the fold were seen.
    """
    digests = np.unique(fold.subject_digest())
    if shared := int(np.isin(digests, seen).sum()):
        fact = f"{counted_of(shared, len(digests))} of them"
        raise LeakageError(_WHAT, f"weights that have seen none of the {who}", fact, remedy)

"""Settings that make a fit of any registered method short."""

from __future__ import annotations

from mmnar.estimators.registry import STACK, SWITCH
from mmnar.models.registry import MODELS

SHORT = ("train.min_steps=0", "train.max_epochs=2")


def quick(name: str) -> tuple[str, ...]:
    """Overrides of ``mmnar.estimator`` and ``mmnar train``."""
    if name in MODELS:
        return (*SHORT, "model.width=16")
    if name == SWITCH:
        members = ("model.complete=zero-fill", "model.complete_with=width=16", "model.other=logistic-pattern")
        return (*SHORT, *members, "model.modalities=vitals,labs")
    return (*SHORT, "model.members=zero-fill,lightgbm-pattern,logistic-pattern") if name == STACK else ()

"""Settings that make a fit of any registered method short."""

from __future__ import annotations

from mmnar.estimators.registry import STACK
from mmnar.models.registry import MODELS

SHORT = ("train.min_steps=0", "train.max_epochs=2")


def quick(name: str) -> tuple[str, ...]:
    """Overrides of ``mmnar.estimator`` and ``mmnar train``."""
    if name in MODELS:
        return (*SHORT, "model.width=16")
    return (*SHORT, "model.members=zero-fill,lightgbm-pattern,logistic-pattern") if name == STACK else ()

"""mmnar: honest clinical risk when whole modalities are missing not at random.

The names below are imported on first use, so that ``import mmnar`` and ``mmnar --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnar.cohort.split import Split as Split
    from mmnar.dataset.store import open_store as open_store
    from mmnar.estimators.cross import cross_predict as cross_predict
    from mmnar.estimators.registry import estimator as estimator
    from mmnar.estimators.storage import load_predictor as load_predictor
    from mmnar.evaluation.evaluate import evaluate as evaluate
    from mmnar.posthoc.rectify import LatticeRectifier as LatticeRectifier
    from mmnar.posthoc.rectify import ThresholdRectifier as ThresholdRectifier

__version__ = version("mmnar")

_WHERE = {
    "LatticeRectifier": "mmnar.posthoc.rectify",
    "Split": "mmnar.cohort.split",
    "ThresholdRectifier": "mmnar.posthoc.rectify",
    "cross_predict": "mmnar.estimators.cross",
    "estimator": "mmnar.estimators.registry",
    "evaluate": "mmnar.evaluation.evaluate",
    "load_predictor": "mmnar.estimators.storage",
    "open_store": "mmnar.dataset.store",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'mmnar' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]

"""mmnar: honest clinical risk when whole modalities are missing not at random.

The names below are public; ``dir(mmnar)`` shows them alone. They are imported on first use, so that ``import mmnar``
and ``mmnar --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnar.cohort.split import Split as Split
    from mmnar.dataset.store import Fold as Fold
    from mmnar.dataset.store import PatientDataset as PatientDataset
    from mmnar.dataset.store import open_store as open_store
    from mmnar.errors import MmnarError as MmnarError
    from mmnar.estimators.base import Estimator as Estimator
    from mmnar.estimators.base import Predictor as Predictor
    from mmnar.estimators.cross import cross_fit as cross_fit
    from mmnar.estimators.registry import estimator as estimator
    from mmnar.estimators.registry import model_names as model_names
    from mmnar.estimators.storage import load_predictor as load_predictor
    from mmnar.evaluation.evaluate import evaluate as evaluate
    from mmnar.evaluation.result import Result as Result
    from mmnar.models.base import Model as Model
    from mmnar.models.base import ModelCard as ModelCard
    from mmnar.posthoc.rectify import LatticeRectifier as LatticeRectifier
    from mmnar.posthoc.rectify import ThresholdRectifier as ThresholdRectifier
    from mmnar.predictions import Predictions as Predictions
    from mmnar.schema import Schema as Schema
    from mmnar.types import PatientBatch as PatientBatch
    from mmnar.workflow import Run as Run
    from mmnar.workflow import evaluate_runs as evaluate_runs
    from mmnar.workflow import from_frame as from_frame
    from mmnar.workflow import open_run as open_run
    from mmnar.workflow import train_run as train_run

__version__ = version("mmnar")

_WHERE = {
    "Estimator": "mmnar.estimators.base",
    "Fold": "mmnar.dataset.store",
    "LatticeRectifier": "mmnar.posthoc.rectify",
    "MmnarError": "mmnar.errors",
    "Model": "mmnar.models.base",
    "ModelCard": "mmnar.models.base",
    "PatientBatch": "mmnar.types",
    "PatientDataset": "mmnar.dataset.store",
    "Predictions": "mmnar.predictions",
    "Predictor": "mmnar.estimators.base",
    "Result": "mmnar.evaluation.result",
    "Run": "mmnar.workflow",
    "Schema": "mmnar.schema",
    "Split": "mmnar.cohort.split",
    "ThresholdRectifier": "mmnar.posthoc.rectify",
    "cross_fit": "mmnar.estimators.cross",
    "estimator": "mmnar.estimators.registry",
    "evaluate": "mmnar.evaluation.evaluate",
    "evaluate_runs": "mmnar.workflow",
    "from_frame": "mmnar.workflow",
    "load_predictor": "mmnar.estimators.storage",
    "model_names": "mmnar.estimators.registry",
    "open_run": "mmnar.workflow",
    "open_store": "mmnar.dataset.store",
    "train_run": "mmnar.workflow",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'mmnar' has no attribute '{name}'")


def __dir__() -> list[str]:
    return list(__all__)

"""Metrics, intervals, comparisons: recomputed from stored Predictions[Test], never from a model."""

from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.result import (
    SMALL_CELL,
    Comparison,
    Curve,
    Estimate,
    GroupRow,
    ModelTask,
    OracleBound,
    Result,
    TaskCounts,
)

__all__ = [
    "SMALL_CELL",
    "Comparison",
    "Curve",
    "Estimate",
    "GroupRow",
    "ModelTask",
    "OracleBound",
    "Result",
    "TaskCounts",
    "evaluate",
]

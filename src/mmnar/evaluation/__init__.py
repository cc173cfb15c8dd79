"""Metrics, intervals, comparisons: recomputed from stored Predictions[Test], never from a model."""

from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.result import (
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

"""Metrics, intervals, comparisons: recomputed from stored Predictions[Test], never from a model."""

from mmnar.evaluation.decided import Decided, TaskDecisions
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
from mmnar.evaluation.thresholds import Thresholds

__all__ = [
    "Comparison",
    "Curve",
    "Decided",
    "Estimate",
    "GroupRow",
    "ModelTask",
    "OracleBound",
    "Result",
    "TaskCounts",
    "TaskDecisions",
    "Thresholds",
    "evaluate",
]

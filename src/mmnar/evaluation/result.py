"""Result: every number of a report, with its interval or the reason it is refused. Plain data, JSON both ways."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number with a 95 % interval, or the reason there is none.

    ``value``, ``low``, ``high`` are None where refused; ``reason`` is "" otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"an Estimate must be finite or refused with a reason, however: value={self.value}")
        if self.value is None and not self.reason:
            raise ValueError("a refused Estimate needs a reason")


@dataclass(frozen=True)
class Comparison:
    """Paired comparison on the same patients: ``difference`` = model − control, higher = more."""

    task: str
    metric: str
    model: str
    control: str
    difference: Estimate
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class GroupRow:
    """One observation pattern or subgroup.

    Counts under SMALL_CELL are None, and so are those that would tell one; ``observed_rate.reason`` says which.
    """

    group: str
    n: int | None
    events: int | None
    observed_rate: Estimate
    mean_risk: Estimate
    auroc: Estimate
    calibration_bias: Estimate


@dataclass(frozen=True)
class Curve:
    """Points of a plot, e.g. ROC (x = false positive rate, y = true positive rate)."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class OracleBound:
    """How much AUROC the exact population pattern correction could give, and what we report.

    ``alarm`` is true where the reported gain exceeds bound + 2 SE: look for a leak.
    """

    bound: Estimate
    reported_gain: float | None
    alarm: bool
    n: int
    words: str


@dataclass(frozen=True)
class ModelTask:
    """One model on one task."""

    metrics: dict[str, Estimate]
    patterns: tuple[GroupRow, ...] = ()
    subgroups: dict[str, tuple[GroupRow, ...]] = field(default_factory=dict)
    roc: Curve | None = None
    pr: Curve | None = None
    calibration: Curve | None = None
    oracle: OracleBound | None = None


@dataclass(frozen=True)
class TaskCounts:
    """Whom the task was asked of in the test fold.

    ``events`` is None where fewer than ten patients have it, or lack it; ``n`` and ``subjects`` where it was asked of
    fewer than ten.
    """

    n: int | None
    events: int | None
    subjects: int | None


@dataclass(frozen=True)
class Result:
    """Everything evaluated: ``tasks[task][model]``.

    ``metrics`` names: auroc, auprc, brier, log_loss, ece, auroc_within_pattern, auroc_between_pattern,
    pattern_pair_share, and for simulated data auroc_gap_to_bayes, kl_to_bayes, brier_to_bayes.
    A rectified model appears as ``<model>+rectifier``.
    """

    tasks: dict[str, dict[str, ModelTask]]
    counts: dict[str, TaskCounts]
    comparisons: tuple[Comparison, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON with ``tasks.<task>.<model>.<metric> = {value, low, high}``; everything else under ``details``."""
        return {
            "tasks": {
                task: {model: {name: asdict(e) for name, e in entry.metrics.items()} for model, entry in models.items()}
                for task, models in self.tasks.items()
            },
            "counts": {t: asdict(c) for t, c in self.counts.items()},
            "comparisons": [asdict(c) for c in self.comparisons],
            "details": {
                task: {
                    model: {k: v for k, v in asdict(entry).items() if k != "metrics"} for model, entry in models.items()
                }
                for task, models in self.tasks.items()
            },
            "provenance": self.provenance,
        }

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")

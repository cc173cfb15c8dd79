"""Thresholds at which risks are judged as decisions: said before anybody looks at the patients who are scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mmnar.errors import ConfigError, nearest
from mmnar.predictions import Predictions
from mmnar.privacy import SMALL_CELL, in_tens
from mmnar.roles import Calibration

LADDER: Final = (
    *(0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.125, 0.15),
    *(0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)
"""Round risks, about evenly apart in log odds."""
SPAN: Final = 4
"""A decision curve goes from the odds of the outcome divided by this to the odds times this."""
USUAL: Final = (0.05, 0.1, 0.2)
"""Where nothing was said and no outcome rate is known but that of the patients who are scored."""
PER_100: Final = (5, 10, 20)


@dataclass(frozen=True)
class Thresholds:
    """Of one task.

    Args:
        main: Where groups are judged.
        stated: Of the tables, rising; ``main`` is one of them.
        curve: Of the decision curve, rising.
        source: Where they are from, in words.
        per_100: model → k → the risk that k of 100 patients reached out of fold.
        learned: Samples that were learned from and asked, to the nearest ten.
    """

    main: float
    stated: tuple[float, ...]
    curve: tuple[float, ...]
    source: str
    per_100: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    learned: int | None = None

    def of(self, model: str) -> list[tuple[float, str, int | None]]:
        """(threshold, kind, k) of a model, those first that a table shows; each risk once."""
        near = sorted(self.stated, key=lambda t: abs(_log_odds(t) - _log_odds(self.main)))
        found: list[tuple[float, str, int | None]] = [(t, "stated", None) for t in near]
        found += [(t, "per 100", k) for k, t in self.per_100.get(model, {}).items()]
        far = sorted(self.curve, key=lambda t: abs(_log_odds(t) - _log_odds(self.main)))
        return found + [(t, "curve", None) for t in far if t not in self.stated]


def stated(values: Sequence[float], task: str) -> Thresholds:
    """The user's own thresholds; the first is the main one, and the curve spans them all.

    Raises:
        ConfigError: None, or one outside (0, 1).

    >>> stated([.2, .1], "death").stated, stated([.2, .1], "death").main
    ((0.1, 0.2), 0.2)
    >>> stated([1.2], "death")
    Traceback (most recent call last):
    mmnar.errors.ConfigError: thresholds of task 'death': expected risks between 0 and 1, got 1.2; correct them
    """
    wrong = [v for v in values if not 0 < v < 1]
    if wrong or not values:
        got = ", ".join(f"{v:g}" for v in wrong) or "none"
        raise ConfigError(f"thresholds of task '{task}'", "risks between 0 and 1", got, "correct them")
    low, high = min(values) / 2, min(2 * max(values), 0.95)
    return Thresholds(values[0], tuple(sorted(set(values))), _rungs(low, high, values), "stated by the user")


def of_rate(rate: float, source: str) -> Thresholds:
    """From an outcome rate: the round risks nearest to it, and to half and twice its odds; the curve as ``SPAN`` says.

    >>> of_rate(.11, "").stated, of_rate(.11, "").curve[0], of_rate(.11, "").curve[-1]
    ((0.05, 0.1, 0.2), 0.03, 0.3)
    """

    def times(factor: float) -> float:
        odds = factor * rate / (1 - rate)
        return odds / (1 + odds)

    table = sorted({_nearest_rung(times(factor)) for factor in (0.5, 1, 2)})
    return Thresholds(_nearest_rung(rate), tuple(table), _rungs(times(1 / SPAN), times(SPAN), table), source)


def usual() -> Thresholds:
    """Where nothing else is known."""
    source = "the same for every task: no outcome rate was known beforehand"
    return Thresholds(0.1, USUAL, _rungs(0.02, 0.5, USUAL), source)


def per_hundred(out_of_fold: Predictions[Calibration], task: str) -> dict[int, float]:
    """k → the risk, to four decimals, that k of 100 samples reached out of fold; {} of fewer than a hundred."""
    risks, _, asked = out_of_fold.task(task)
    if asked.sum() < 100:
        return {}
    found = {k: round(float(np.quantile(risks[asked], 1 - k / 100)), 4) for k in PER_100}
    return {k: t for k, t in found.items() if 0 < t < 1}


def learned_rate(out_of_fold: Predictions[Calibration], task: str) -> float | None:
    """The outcome rate among those learned from; None where it would be of few."""
    _, labels, asked = out_of_fold.task(task)
    events = int(labels[asked].sum())
    return events / int(asked.sum()) if min(events, int(asked.sum()) - events) >= SMALL_CELL else None


def learned_samples(out_of_fold: Predictions[Calibration], task: str) -> int | None:
    """How many samples were learned from, to the nearest ten; None where they are few."""
    asked = int(out_of_fold.task(task)[2].sum())
    return in_tens(asked) if asked >= SMALL_CELL else None


def check_tasks(given: Mapping[str, Any], tasks: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: Thresholds of a task that there is not.
    """
    for name in given:
        if name not in tasks:
            raise ConfigError("thresholds", "names of tasks", f"'{name}'", nearest(name, tasks))


def _nearest_rung(rate: float) -> float:
    return min(LADDER, key=lambda t: abs(_log_odds(t) - _log_odds(min(max(rate, 1e-6), 1 - 1e-6))))


def _rungs(low: float, high: float, also: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({*also, *(t for t in LADDER if low <= t <= high)}))


def _log_odds(t: float) -> float:
    return math.log(t / (1 - t))

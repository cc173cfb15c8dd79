"""What a run took, over all the calls that it took."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mmnar.dataset.store import Fold
from mmnar.errors import StoreError
from mmnar.estimators.base import Predictor
from mmnar.files import read_sealed, write_sealed
from mmnar.training.monitor import Monitor

_LATENCY_SAMPLES: Final = 10
_EVERY: Final = 1.0
"""Seconds between two notes of what was spent: what a kill can make it forget."""


class Clock:
    """Time and memory of a run, noted in its folder while it works, so that a call that was killed counts, too.

    A ``Monitor`` that passes all events on.

    Args:
        path: Where it is noted.
        inner: Receives the events.
    """

    def __init__(self, path: Path, inner: Monitor) -> None:
        self._path, self._inner = path, inner
        self._started, self._cpu_started = time.time(), time.process_time()
        self._noted = 0.0
        try:
            before = read_sealed(path, "", "")
        except (OSError, StoreError):  # none, or a kill's
            before = {}
        self._seconds, self._cpu = float(before.get("seconds", 0)), float(before.get("cpu_seconds", 0))
        self._peak = float(before.get("peak_memory_mb", 0))

    def spent(self) -> dict[str, float]:
        """Seconds by the clock, processor seconds of this process and largest memory, over all calls so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes
        return {
            "seconds": round(self._seconds + time.time() - self._started, 1),
            "cpu_seconds": round(self._cpu + time.process_time() - self._cpu_started, 1),
            "peak_memory_mb": round(max(self._peak, peak)),
        }

    def note(self) -> None:
        """Keep what was spent.

        Raises:
            OSError: No room or no permission.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(self._path, self.spent())
        self._noted = time.monotonic()

    def start(self, what: str, total: int) -> None:
        self._inner.start(what, total)

    def epoch(self, record: dict[str, Any]) -> None:
        if time.monotonic() - self._noted > _EVERY:
            self.note()
        self._inner.epoch(record)

    def step(self, loss: float) -> None:
        self._inner.step(loss)

    def stop(self) -> None:
        self.note()
        self._inner.stop()


def size_of(predictor: Predictor, scored: Fold[Any]) -> dict[str, float | None]:
    """Milliseconds to score one sample; and the number of its parameters, None for what is no network."""
    milliseconds = []
    for i in range(min(len(scored), 1 + _LATENCY_SAMPLES)):
        begun = time.perf_counter()
        predictor.predict_proba(replace(scored, rows=scored.rows[i : i + 1]))
        milliseconds.append(1000 * (time.perf_counter() - begun))
    latency = statistics.median(milliseconds[1:] or milliseconds)  # the first one warms up
    return {"latency_ms": round(latency, 2), "parameters": getattr(predictor, "parameters", None)}

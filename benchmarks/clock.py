"""What an epoch costs, seen from outside the loop: shared by the benchmarks."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from mmnar.training.monitor import Silent


class Clock(Silent):
    """CPU seconds between the ends of epochs, by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.last = time.process_time()

    def epoch(self, record: dict[str, Any]) -> None:
        now = time.process_time()
        self.seconds[record["phase"]].append(now - self.last)
        self.last = now

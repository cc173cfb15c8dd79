"""Where jobs run. An engine starts jobs and says when they are over; what came of a job is in its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mmnar.study.plan import Job

Ended = Callable[[Job], None]
"""Called once a job is over, whatever came of it."""


class Engine(Protocol):
    """A way to run jobs. Every process sees the study's folder and the stores at the same paths."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all of them; return when all are over."""

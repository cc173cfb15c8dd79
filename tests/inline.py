"""A study engine in the very process of the test."""

from __future__ import annotations

from collections.abc import Sequence

from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.work import do


class Inline:
    """It remembers what it did."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        for job in jobs:
            do(job)
            self.done.append(job.label)
            ended(job)

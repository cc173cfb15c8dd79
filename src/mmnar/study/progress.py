"""How far a study is: jobs done, failed, time left."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from mmnar.study.plan import Job


class Progress(Protocol):
    """Receives a study's events."""

    def begin(self, total: int, finished: int) -> None:
        """A stage of so many jobs begins; some were finished before."""

    def ended(self, job: Job) -> None:
        """A job is over."""

    def say(self, message: str) -> None:
        """Something the user should know."""

    def end(self) -> None:
        """The stage is over."""


class Quiet:
    """Says nothing."""

    def begin(self, total: int, finished: int) -> None:
        return

    def ended(self, job: Job) -> None:
        return

    def say(self, message: str) -> None:
        return

    def end(self) -> None:
        return


class Console:
    """One line per finished job on stderr, with the time left at the pace so far; a bar where there is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._started = 0.0
        self._total = self._before = self._done = self._failed = 0

    def begin(self, total: int, finished: int) -> None:
        self._total, self._before, self._done, self._failed = total, finished, 0, 0
        self._started = time.monotonic()
        if finished:
            self.say(f"{finished} of {total} jobs were finished before")
        if sys.stderr.isatty() and total > finished:
            from rich.console import Console as Rich
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Bar(*columns, console=Rich(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=total, completed=finished)
            self._bar.start()

    def ended(self, job: Job) -> None:
        self._done += 1
        self._failed += not job.finished
        if self._bar is not None:
            failed = f"  {self._failed} failed" if self._failed else ""
            self._bar.update(self._task, advance=1, description=job.label + failed)
            return
        place = self._before + self._done
        left = (time.monotonic() - self._started) / self._done * max(0, self._total - place)
        self.say(f"[{place}/{self._total}] {'done' if job.finished else 'FAILED'}: {job.label} · {_time(left)} left")

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _time(seconds: float) -> str:
    """
    >>> _time(42), _time(600), _time(9000)
    ('42 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

"""What a fit reports while it runs: progress to look at, history to keep."""

from __future__ import annotations

from typing import Any, Protocol


class Monitor(Protocol):
    """Receives a fit's events; the command shows bars and writes ``history.jsonl``, the library stays silent."""

    def start(self, what: str, total: int) -> None:
        """A fit of at most ``total`` epochs begins."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch ended: ``{"fit", "phase", "epoch", "train": {loss: value}, "tune": {...}, "seconds", "lr"}``."""

    def step(self, loss: float) -> None:
        """A batch ended."""

    def stop(self) -> None:
        """The fit ended."""


class Silent:
    """Says and keeps nothing."""

    def start(self, what: str, total: int) -> None:
        return

    def epoch(self, record: dict[str, Any]) -> None:
        return

    def step(self, loss: float) -> None:
        return

    def stop(self) -> None:
        return

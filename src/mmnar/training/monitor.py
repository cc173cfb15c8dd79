"""What a fit reports while it runs: progress to look at, history to keep."""

from __future__ import annotations

import sys
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


class Recorder:
    """Keeps every epoch's record and passes all events on."""

    def __init__(self, inner: Monitor) -> None:
        self.inner = inner
        self.history: list[dict[str, Any]] = []

    def start(self, what: str, total: int) -> None:
        self.inner.start(what, total)

    def epoch(self, record: dict[str, Any]) -> None:
        self.history.append(record)
        self.inner.epoch(record)

    def replay(self, history: list[dict[str, Any]]) -> None:
        """The records of a fit that was finished before."""
        if history:
            self.start(str(history[0]["fit"]), len(history))
            for record in history:
                self.epoch(record)
            self.stop()

    def step(self, loss: float) -> None:
        self.inner.step(loss)

    def stop(self) -> None:
        self.inner.stop()


class Named:
    """Says of every record which of several fits it is of: "crl-mmnar" becomes "crl-mmnar, fit 3"."""

    def __init__(self, inner: Monitor, which: str) -> None:
        self.inner, self.which = inner, which

    def start(self, what: str, total: int) -> None:
        self.inner.start(f"{what}, {self.which}", total)

    def epoch(self, record: dict[str, Any]) -> None:
        self.inner.epoch({**record, "fit": f"{record['fit']}, {self.which}"})

    def step(self, loss: float) -> None:
        self.inner.step(loss)

    def stop(self) -> None:
        self.inner.stop()


class Lines:
    """One line an epoch on stderr, for logs and pipes. A context manager, as ``Bars`` is."""

    def __init__(self) -> None:
        self._total = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def start(self, what: str, total: int) -> None:
        self._total = total

    def epoch(self, record: dict[str, Any]) -> None:
        unit = "epoch" if record["train"] else "trees"
        parts = [f"{record['fit']}, {record['phase']}: {unit} {record['epoch']} of {self._total}"]
        parts.append(f"tune loss {next(iter(record['tune'].values())):.4f}")
        parts += [f"{name} {value:.4f}" for name, value in record["train"].items()]
        print(", ".join([*parts, f"{record['seconds']:.1f} s"]), file=sys.stderr, flush=True)

    def step(self, loss: float) -> None:
        return

    def stop(self) -> None:
        return


def shown() -> Bars | Lines:
    """Bars where stderr is a terminal, else lines."""
    return Bars() if sys.stderr.isatty() else Lines()


class Bars:
    """Progress bars on the terminal: fit, epoch, loss, time left. A context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  tune {task.fields[tune]:.4f}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, what: str, total: int) -> None:
        self._task = self._progress.add_task(what, total=total, loss=float("nan"), tune=float("nan"))

    def epoch(self, record: dict[str, Any]) -> None:
        self._progress.update(self._task, advance=1, tune=next(iter(record["tune"].values())))

    def step(self, loss: float) -> None:
        self._progress.update(self._task, loss=loss)

    def stop(self) -> None:
        self._progress.remove_task(self._task)

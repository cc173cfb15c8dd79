"""The command, called in a forked copy of one interpreter that has imported everything: a case costs what it does."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 300.0
"""Seconds after which a call is taken to hang."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Args:
        status: Exit status; minus the signal where it was killed; None where it hung.
        out, err: What it printed.
        seconds: By the clock.
    """

    status: int | None
    out: str
    err: str
    seconds: float

    @property
    def refused(self) -> bool:
        """Exit status 2 and one line that says why."""
        return self.status == 2 and any(line.startswith("mmnar: ") for line in self.err.splitlines())

    @property
    def broken(self) -> bool:
        """A traceback, a fault of the package, a hang, or a status that no call should have."""
        words = ("Traceback (most recent call last)", "a fault of mmnar", "Exception ignored", "panicked at")
        return self.status not in (0, 1, 2, 130) or any(w in self.err + self.out for w in words)


@dataclass
class Call:
    """A call on its way."""

    pid: int
    log: Path
    begun: float

    def kill(self, group: bool) -> None:
        """SIGKILL to the process alone, or to all that it has started, too."""
        os.killpg(self.pid, signal.SIGKILL) if group else os.kill(self.pid, signal.SIGKILL)

    def end(self, wait: float = PATIENCE) -> Outcome:
        """Wait for it."""
        status: int | None = None
        limit = time.monotonic() + wait
        while time.monotonic() < limit:
            done, found = os.waitpid(self.pid, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(found)
                break
            time.sleep(0.003)
        else:
            self.kill(group=True)
            os.waitpid(self.pid, 0)
        out, err = (self.log.with_suffix(s).read_text(errors="replace") for s in (".out", ".err"))
        return Outcome(status, out, err, time.monotonic() - self.begun)


def start(
    arguments: Sequence[object],
    log: Path,
    *,
    largest: int | None = None,
    before: Callable[[], None] | None = None,
) -> Call:
    """``mmnar ARGUMENTS`` in a process group of its own.

    Args:
        largest: No file may be larger, in bytes.
        before: Done first, in the new process.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Call(pid, log, time.monotonic())
    status = 97
    try:
        os.setsid()
        for number, suffix in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(log.with_suffix(suffix), os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        if before is not None:
            before()
        from mmnar.cli import main

        main([str(a) for a in arguments])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                status = status or 2
        os._exit(status)


def call(arguments: Sequence[object], log: Path, **options: object) -> Outcome:
    """``start`` and ``end``."""
    return start(arguments, log, **options).end()  # type: ignore[arg-type]


def brief(done: Outcome) -> str:
    """The last lines on stderr: of a traceback enough to know it again."""
    lines = [line for line in done.err.strip().splitlines() if line.strip()]
    return " / ".join(lines[-8:] if done.broken else lines[-1:])[:900]

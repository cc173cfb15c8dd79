"""The command. Heavy imports happen inside the verbs: ``mmnar --help`` must answer at once."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

# read when OpenMP is loaded: on a busy machine threads that spin while they wait take the cores they wait for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mmnar import progress
from mmnar.cli import inspect, ordering, predict, prepare, pretrain, run, serve, simulate, study
from mmnar.cli.apps import app
from mmnar.faults import as_report, in_one_line

__all__ = ["app", "inspect", "main", "ordering", "predict", "prepare", "pretrain", "run", "serve", "simulate", "study"]


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. What can be expected to fail is one line on stderr and exit status 2; a fault of this package is
    told by its kind and places, with status 1; an interrupt is status 130."""
    progress.show()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # no file and line of ours
    try:
        found = app(arguments)
        sys.stdout.flush()  # a full disk shows here, not behind our back
        return found
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _silence()
        sys.exit(1)
    except KeyboardInterrupt:
        _say("interrupted; what was finished stays")
        sys.exit(130)
    except Exception as error:
        line = in_one_line(error)
        _say(line if line is not None else as_report(error))
        _silence()
        sys.exit(2 if line is not None else 1)


def _say(message: str) -> None:
    try:
        print(f"mmnar: {message}", file=sys.stderr, flush=True)
    except OSError:
        return  # nowhere to say it


def _silence() -> None:
    """Forget what stdout could not take, or the interpreter would complain of it at the end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

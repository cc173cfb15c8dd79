"""The command. Heavy imports happen inside the verbs: ``mmnar --help`` must answer at once."""

from __future__ import annotations

import os
import sys
from typing import Any

from mmnar import progress
from mmnar.cli import inspect, prepare, run, simulate, study
from mmnar.cli.apps import app
from mmnar.errors import MmnarError

__all__ = ["app", "inspect", "main", "prepare", "run", "simulate", "study"]


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: errors of ours are one line on stderr and exit status 2; others keep their traceback."""
    progress.show()
    try:
        return app(arguments)
    except MmnarError as error:
        print(f"mmnar: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

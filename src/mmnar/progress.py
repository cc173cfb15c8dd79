"""What long work says of itself: lines to the logger ``mmnar``. Silent in Python; the command shows them on stderr."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

_LOG: Final = logging.getLogger("mmnar")
SECONDS: Final = 15.0
"""Between two lines about one piece of work."""


def say(message: str) -> None:
    """One line: what begins, or what is done. Never a count under ten, an identifier or a cell."""
    _LOG.info(message)


def warn(message: str) -> None:
    """One line on what went wrong, also where progress is not told; see ``say``."""
    _LOG.warning(message)


def hush() -> None:
    """Tell progress no more: of a service it would be a line a request."""
    _LOG.setLevel(logging.WARNING)


class Pace:
    """Says how far one long piece of work is, at most every ``SECONDS``."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, message: str) -> None:
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            say(message)


class _Stderr(logging.Handler):
    """Lines on the stderr of the moment, which a progress bar may have put itself before."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def show() -> None:
    """Show the lines on stderr from now on."""
    if not any(isinstance(handler, _Stderr) for handler in _LOG.handlers):
        _LOG.addHandler(_Stderr())
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False

"""A check: one promise, kept or broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Check:
    """One promise of one method, to be called. ``str`` is its name, for ids of parametrized tests.

    Args:
        name: Of the promise.
        subject: Whose it is.
        run: Raises AssertionError if it is broken.
    """

    name: str
    subject: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.name}-{self.subject}"

    def __call__(self) -> None:
        """
        Raises:
            AssertionError: The promise is broken, or the method fails where it is looked at; names the check.
        """
        try:
            with torch.random.fork_rng(devices=[]):
                self.run()
        except AssertionError as error:
            raise AssertionError(f"{self.subject}: {self.name}: {error}") from None
        except Exception as error:
            raise AssertionError(f"{self.subject}: {self.name}: {type(error).__name__}: {error}") from error


def must(holds: object, said: str) -> None:
    """As ``assert``, also where Python runs without asserts.

    Raises:
        AssertionError: It does not hold.
    """
    if not holds:
        raise AssertionError(said)

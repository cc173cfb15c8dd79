"""Small linear algebra in loops on one thread: several wait for each other longer than they compute, and on a busy
machine they spin for minutes over what takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
T = TypeVar("T")


def one_thread(work: Callable[P, T]) -> Callable[P, T]:
    """While ``work`` runs, BLAS and OpenMP compute in one thread."""

    @wraps(work)
    def alone(*args: P.args, **options: P.kwargs) -> T:
        with threadpool_limits(1):
            return work(*args, **options)

    return alone

"""Small linear algebra computes in one thread, whatever the machine has."""

from __future__ import annotations

from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from mmnar.evaluation import informative
from mmnar.ops.threads import one_thread
from tests.conftest import draw_predictions
from tests.populations import population


def threads() -> int:
    return max((int(pool["num_threads"]) for pool in threadpool_info()), default=1)


def watched(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """How many threads there were whenever ``name`` was called."""
    seen: list[int] = []
    inner = getattr(module, name)

    def watching(*args: Any, **options: Any) -> Any:
        seen.append(threads())
        return inner(*args, **options)

    monkeypatch.setattr(module, name, watching)
    return seen


def test_loops_of_small_matrices_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with threadpool_limits(2):
        if threads() < 2:
            pytest.skip("this machine computes in one thread anyway")
        seen = watched(monkeypatch, informative, "pattern_rates")
        informative.informativeness(population(400), permutations=200, resamples=2)
        assert seen
        assert set(seen) == {1}
        assert threads() == 2  # afterwards as before


def test_it_gives_back_what_the_work_gives() -> None:
    with threadpool_limits(2):
        assert one_thread(threads)() == 1
    assert one_thread(draw_predictions)(50).proba.shape == (50, 2)

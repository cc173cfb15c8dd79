"""Items packed patient by patient, beside each other."""

from __future__ import annotations

import torch

from mmnar.ops.grid import content_grid, series_grid
from mmnar.ops.packed import held, padded
from mmnar.types import Items, Series
from tests.conformance.test_models import mixed, only


def test_padded_places_are_told_by_counts_not_by_content() -> None:
    content = Items(torch.tensor([0, 2, 2, 3]), torch.tensor([-2.0, -1.0, 0.0]), torch.tensor([[0.0], [5.0], [0.0]]))
    assert torch.equal(padded(content.values, content)[..., 0], torch.tensor([[0.0, 5.0], [0.0, 0.0], [0.0, 0.0]]))
    assert torch.equal(held(content), torch.tensor([[True, True], [False, False], [True, False]]))


def test_nothing_at_all_is_one_empty_place() -> None:
    content = Items(torch.tensor([0, 0]), torch.zeros(0), torch.zeros(0, 4))
    assert padded(content.values, content).shape == (1, 1, 4)
    assert not held(content).any()
    assert padded(content.values, content.take(torch.zeros(0, dtype=torch.long))).shape == (0, 1, 4)


def test_the_grid_of_one_series_is_that_of_a_batch_with_no_other() -> None:
    b = only(mixed(), ("course",))
    course = b.modalities["course"]
    assert isinstance(course, Series)
    for steps in (300, 2):
        one, same = content_grid(course, 3, steps), series_grid(b, steps)
        for name in ("offsets", "hours", "values", "observed"):
            assert torch.equal(getattr(one, name), getattr(same, name))

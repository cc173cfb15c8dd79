"""What several processes agree on."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from mmnar.ops.processes import summed


def test_one_process_has_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([1.0, 2.0])
    assert summed(x) is x
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))  # another process with the same
    assert summed(x).tolist() == [2, 4]
    assert x.tolist() == [1, 2]

"""Numbers on which several training processes must agree."""

from __future__ import annotations

from torch import Tensor, distributed


def summed(x: Tensor) -> Tensor:
    """``x`` added up over the processes that train together; as it is where there is one."""
    if distributed.is_available() and distributed.is_initialized():
        x = x.clone()
        distributed.all_reduce(x)
    return x

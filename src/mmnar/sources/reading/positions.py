"""Which of many identifiers are known ones, and where these stand."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Positions:
    """Where identifiers stand among known ones: what a join tells, at a fraction of its cost.

    Args:
        known: Distinct identifiers in ascending order.

    >>> Positions(pl.Series([3, 5])).of(pl.Series([5, None, 4, 3])).tolist()
    [1, -1, -1, 0]
    """

    def __init__(self, known: pl.Series) -> None:
        self._known = known.cast(pl.Int64).to_numpy()

    def of(self, asked: pl.Series) -> NDArray[np.int64]:
        """(n,) positions; −1 for null and for what is not known."""
        if not len(self._known):
            return np.full(len(asked), -1)
        ids = asked.cast(pl.Int64).fill_null(0).to_numpy()
        place = np.searchsorted(self._known, ids)
        np.minimum(place, len(self._known) - 1, out=place)
        place[(self._known[place] != ids) | asked.is_null().to_numpy()] = -1
        return place

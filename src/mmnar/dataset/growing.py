"""An array that grows on disk, for content that need not fit into memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Growing:
    """Rows appended one block after another to a file without a name; it is gone with the last array on it.

    Args:
        dtype: Of the rows.
        shape: Of one row.
        folder: On which disk; None = the machine's own place for such files.

    >>> rows = Growing(np.float32, (2,))
    >>> rows.append(np.ones((3, 2)))
    >>> rows.array().shape
    (3, 2)
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = (), folder: Path | None = None) -> None:
        self._dtype, self._shape, self._rows = np.dtype(dtype), shape, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (lives as long as the arrays on it)

    def __len__(self) -> int:
        return self._rows

    def append(self, block: NDArray[Any]) -> None:
        """Add ``block`` (n, *shape)."""
        np.ascontiguousarray(block, dtype=self._dtype).reshape(-1, *self._shape).tofile(self._file)
        self._rows += len(block)

    def array(self) -> NDArray[Any]:
        """(rows, *shape), read from the disk as it is used."""
        if not self._rows or 0 in self._shape:
            return np.zeros((self._rows, *self._shape), dtype=self._dtype)
        self._file.flush()
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._rows, *self._shape))

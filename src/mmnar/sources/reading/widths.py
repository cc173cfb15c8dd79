"""Rows of a CSV with more or fewer cells than its header: where they are, never what they hold."""

from __future__ import annotations

import csv
import io

import numpy as np

_COMMA, _LINE, _QUOTE, _RETURN = ord(","), ord("\n"), ord('"'), ord("\r")


def uneven_row(block: bytes, width: int) -> tuple[int, int] | None:
    r"""The first row of another width: its line, from 0 at the begin of the block, and how many cells it has.

    Args:
        block: Whole rows; blank lines are none.
        width: Cells of a row.

    >>> uneven_row(b'1,2\n"a,b\n",3\n\n4\n', 2)
    (4, 1)
    """
    if not _looks_uneven(block, width):
        return None
    # a quote within a cell is none: the exact reader has the last word
    rows = csv.reader(io.StringIO(block.decode(errors="replace"), newline=""))
    begins = 0
    for row in rows:
        if len(row) != width and "".join(row).strip():
            return begins, len(row)
        begins = rows.line_num
    return None


def _looks_uneven(block: bytes, width: int) -> bool:
    """Whether some row has another number of commas outside quotes: quick, wrong where quotes come in no pairs."""
    signs = np.frombuffer(block, dtype=np.uint8)
    commas, lines = signs == _COMMA, signs == _LINE
    if b'"' in block:
        outside = np.cumsum(signs == _QUOTE, dtype=np.int32) % 2 == 0
        commas &= outside
        lines &= outside
    ends = np.flatnonzero(lines)
    if not len(block):
        return False
    if not len(ends) or ends[-1] < len(block) - 1:
        ends = np.append(ends, len(block))
    begins = np.append(0, ends[:-1] + 1)
    before = np.append(0, np.cumsum(commas, dtype=np.int64))
    counts = before[ends] - before[begins]
    # nothing, or the rest of a line end of two signs
    length = ends - begins
    blank = (length == 0) | ((length == 1) & (signs[np.minimum(begins, len(signs) - 1)] == _RETURN))
    return bool((~blank & (counts != width - 1)).any())

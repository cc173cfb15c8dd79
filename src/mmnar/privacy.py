"""Small cells: groups of fewer than ten patients are never shown, printed or written into a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SMALL_CELL: Final = 10
"""Groups of fewer patients are never shown."""

FEW: Final = f"fewer than {SMALL_CELL} patients"
FEW_OUTCOMES: Final = f"fewer than {SMALL_CELL} patients with or without the event"


FEW_ON_A_SIDE: Final = f"fewer than {SMALL_CELL} patients with or without it"
COMPLEMENT: Final = "withheld: with the total it would give a small count away"


def hidden_cells(counts: Sequence[int]) -> list[bool]:
    """Which counts of one total may not be shown: small ones, and enough others that no difference is small.

    A count of 1 to 9 is hidden. Where the hidden ones together are still fewer than ten, the total minus the shown ones
    would tell; the smallest shown one is then hidden too.

    >>> hidden_cells([50, 12, 4])
    [False, True, True]
    >>> hidden_cells([50, 12, 4, 7, 0])
    [False, False, True, True, False]
    """
    hidden = [0 < c < SMALL_CELL for c in counts]
    while 0 < sum(c for c, h in zip(counts, hidden, strict=True) if h) < SMALL_CELL:
        shown = [i for i, c in enumerate(counts) if c and not hidden[i]]
        if not shown:
            break
        hidden[min(shown, key=lambda i: counts[i])] = True
    return hidden


def briefly(reason: str) -> str:
    """A refusal in two words where a table or chart has no room for more.

    >>> briefly(FEW_OUTCOMES)
    'few outcomes'
    """
    words = {FEW: "few patients", FEW_OUTCOMES: "few outcomes", FEW_ON_A_SIDE: "few patients", COMPLEMENT: "withheld"}
    return words.get(reason, reason)


def counted(n: int) -> str:
    """A count in words that hides small ones.

    >>> counted(0), counted(3), counted(12345)
    ('0', 'fewer than 10', '12,345')
    """
    return f"fewer than {SMALL_CELL}" if 0 < n < SMALL_CELL else f"{n:,}"

"""Small cells: groups of fewer than ten patients are never shown, printed or written into a report."""

from __future__ import annotations

from typing import Final

SMALL_CELL: Final = 10
"""Groups of fewer patients are never shown."""

FEW: Final = f"fewer than {SMALL_CELL} patients"
FEW_OUTCOMES: Final = f"fewer than {SMALL_CELL} patients with or without the event"


def briefly(reason: str) -> str:
    """A refusal in two words where a table or chart has no room for more.

    >>> briefly(FEW_OUTCOMES)
    'few outcomes'
    """
    return {FEW: "few patients", FEW_OUTCOMES: "few outcomes"}.get(reason, reason)


def counted(n: int) -> str:
    """A count in words that hides small ones.

    >>> counted(0), counted(3), counted(12345)
    ('0', 'fewer than 10', '12,345')
    """
    return f"fewer than {SMALL_CELL}" if 0 < n < SMALL_CELL else f"{n:,}"

"""Small cells: groups of fewer than ten patients are never shown, printed or written into a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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


def patients_by_group(group: NDArray[Any], subject: NDArray[Any], groups: int) -> list[int]:
    """Distinct patients of each group, from the (n,) group number and subject of rows.

    >>> patients_by_group(np.array([0, 0, 1, 0]), np.array([7, 7, 7, 9]), 3)
    [2, 1, 0]
    """
    people, person = np.unique(subject, return_inverse=True)
    pairs = np.unique(group.astype(np.int64) * max(len(people), 1) + person)
    return np.bincount(pairs // max(len(people), 1), minlength=groups).tolist()  # type: ignore[no-any-return]


def count_refusals(patients: Sequence[int], with_event: Sequence[int], without: Sequence[int]) -> list[tuple[str, str]]:
    """Why each group's size may not be shown, and why its events may not; "" where they may.

    What is refused leaves no small remainder in the totals over the groups, which are taken to be known. A rate beside
    a size tells the events, so it goes where they go.

    Args:
        patients, with_event, without: Distinct patients of each group, all of them and by outcome.

    >>> [[briefly(reason) for reason in refusals] for refusals in count_refusals([90, 4, 80], [15, 1, 12], [75, 3, 68])]
    [['', ''], ['few patients', 'few patients'], ['withheld', 'withheld']]
    """
    hide_size = hidden_cells(patients)
    hide_events = [any(h) for h in zip(hidden_cells(with_event), hidden_cells(without), strict=True)]
    found = []
    for n, of_n, positive, negative, of_events in zip(
        patients, hide_size, with_event, without, hide_events, strict=True
    ):
        if n < SMALL_CELL:
            found.append((FEW, FEW))
            continue
        few = FEW_OUTCOMES if min(positive, negative) < SMALL_CELL else ""
        found.append((COMPLEMENT if of_n else "", few or (COMPLEMENT if of_n or of_events else "")))
    return found


def refusals_by_group(
    group: NDArray[Any], subject: NDArray[Any], event: NDArray[np.bool_], groups: int
) -> list[tuple[str, str]]:
    """``count_refusals`` from the (n,) group number, subject and outcome of rows."""
    sides = (np.ones(len(event), dtype=bool), event, ~event)
    return count_refusals(*(patients_by_group(group[side], subject[side], groups) for side in sides))


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

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
FEW_WITH: Final = f"fewer than {SMALL_CELL} patients with it"
FEW_WITHOUT: Final = f"fewer than {SMALL_CELL} patients without it"
COMPLEMENT: Final = "withheld: with the total it would give a small count away"
UNASKED: Final = "withheld: of fewer than 10 patients the outcome is not known"
BETWEEN: Final = (
    f"withheld: fewer than {SMALL_CELL} patients with or without the event have a risk above it, below it, or between "
    "it and another threshold"
)
BESIDE: Final = (
    f"withheld: beside the model's own figures it would tell of fewer than {SMALL_CELL} patients whom the rectifier "
    "moves across the threshold"
)
BY_GROUP: Final = "withheld: risks that are the same for all of a group would give small counts away"


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


def rows_of_groups(
    group: NDArray[Any], subject: NDArray[Any], event: NDArray[np.bool_], groups: int
) -> tuple[NDArray[np.int64], int]:
    """Table row of each group, and how many rows hold one group alone: those of ten patients with the event and ten
    without, the largest first. All other groups share the row after them, which takes in the smallest of the rows
    until it holds as many, or everyone.

    Args:
        group, subject, event: (n,) group number, subject and outcome of rows.

    >>> group = np.repeat([0, 1, 2], [40, 30, 6])
    >>> rows_of_groups(group, np.arange(76), np.arange(76) % 2 == 0, 3)
    (array([0, 1, 1]), 1)
    """
    size = np.bincount(group, minlength=groups)
    sides = [patients_by_group(group[side], subject[side], groups) for side in (event, ~event)]
    alone = [g for g in range(groups) if min(side[g] for side in sides) >= SMALL_CELL]
    alone.sort(key=lambda g: -size[g])
    while alone:
        rest = ~np.isin(group, alone)
        with_event, without = (len(np.unique(subject[rest & side])) for side in (event, ~event))
        if not rest.any() or min(with_event, without) >= SMALL_CELL:
            break
        alone.pop()  # what the total leaves over must not be a small cell
    row = np.full(groups, len(alone))
    row[alone] = np.arange(len(alone))
    return row, len(alone)


def in_tens(count: int) -> int:
    """To the nearest ten, halves up: what is subtracted from it is known to plus or minus five.

    >>> in_tens(1234), in_tens(15)
    (1230, 20)
    """
    return (count + 5) // 10 * 10


def few(patients: int) -> bool:
    """Whether so many patients are a small cell."""
    return 0 < patients < SMALL_CELL


def briefly(reason: str) -> str:
    """A refusal in two words where a table or chart has no room for more.

    >>> briefly(FEW_OUTCOMES)
    'few outcomes'
    """
    words = {FEW: "few patients", FEW_OUTCOMES: "few outcomes", FEW_WITH: "few patients", FEW_WITHOUT: "nearly all"}
    if reason.startswith("withheld"):
        return "withheld"
    return words.get(reason, reason)


def counted(n: int) -> str:
    """A count in words that hides small ones.

    >>> counted(0), counted(3), counted(12345)
    ('0', 'fewer than 10', '12,345')
    """
    return f"fewer than {SMALL_CELL}" if 0 < n < SMALL_CELL else f"{n:,}"


def counted_of(n: int, total: int) -> str:
    """A part of a total in words that hide a small part and a small rest.

    >>> counted_of(95, 100), counted_of(3, 100), counted_of(60, 100), counted_of(100, 100)
    ('all but fewer than 10 of 100', 'fewer than 10 of 100', '60 of 100', '100 of 100')
    """
    part = f"all but fewer than {SMALL_CELL}" if few(total - n) and not few(n) else counted(n)
    return f"{part} of {counted(total)}"

"""Requests of each period, those that were refused, and why; small counts withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.monitor.asked import Answers
from mmnar.evaluation.monitor.figures import some_tens
from mmnar.evaluation.monitor.periods import Period
from mmnar.privacy import hidden_cells

Int = NDArray[np.int64]

ANSWERED: Final = "answered"
WORDS: Final = {
    200: ANSWERED,
    401: "no token",
    408: "body too slow",
    413: "body too large",
    422: "records cannot be read",
    500: "a fault of mmnar",
    503: "no time or room",
}


@dataclass(frozen=True)
class Requests:
    """One period.

    Args:
        requests: To the nearest ten; None = fewer than ten.
        became: What became of them → how many; None = withheld.
        refused: Reason → patients of whom a task was refused for it; None = withheld.
    """

    period: str
    requests: int | None
    became: dict[str, int | None]
    refused: dict[str, int | None]


def requests_by_period(time: Int, status: Int, answers: Answers, spans: Sequence[Period]) -> tuple[Requests, ...]:
    """
    Args:
        time, status: (L,) moment, microseconds since 1970, and HTTP status of each line.
    """
    words = np.array([WORDS.get(int(s), f"status {s}") for s in status])
    became = [ANSWERED, *sorted(set(words.tolist()) - {ANSWERED})]
    reasons = sorted({word for of in answers.refused.values() for word in np.unique(of).tolist()} - {""})
    refused = {word: np.any([of == word for of in answers.refused.values()], axis=0) for word in reasons}
    found = []
    for period in spans:
        inside, theirs = period.holds(time), period.holds(answers.time)
        counts = [int((words[inside] == word).sum()) for word in became]
        people = {
            name: [len(np.unique(answers.patient[theirs & side])) for side in (which, ~which)]
            for name, which in refused.items()
        }
        found.append(
            Requests(
                period.name,
                some_tens(int(inside.sum())),
                dict(zip(became, _withheld(counts), strict=True)),
                {name: _withheld(sides)[0] for name, sides in people.items()},
            )
        )
    return tuple(found)


def _withheld(counts: Sequence[int]) -> list[int | None]:
    return [None if hidden else n for n, hidden in zip(counts, hidden_cells(counts), strict=True)]

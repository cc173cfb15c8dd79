"""Does one value rule an outcome out, or in? A column of AUROC .6 may still decide a third of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from mmnar.evaluation.audit.columns import patients
from mmnar.evaluation.audit.findings import Finding, Severity
from mmnar.privacy import SMALL_CELL, counted

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Ids = NDArray[np.int64]

RULED: Final = 0.05
"""A value rules an outcome out where its rate is certainly below this share of the rate of all."""
MUCH: Final = 0.10
"""Share of the rows without (or with) the outcome from which on such a value is no rare circumstance."""
LITTLE: Final = 0.01
VALUES: Final = 50
"""Most values of a column that are looked at: the most frequent."""
TAIL: Final = 0.30
"""Share of the rows that an end of the values must hold to be looked at."""


def ruled_out(name: str, x: Float, y: Bool, subject: Ids, task: str) -> Iterator[Finding]:
    """Values of one column, its missing cells among them, that hardly any patient with (or without) the outcome has.

    The rate among a value's patients has an upper 95 % limit (Clopper and Pearson) below a twentieth of everybody's.
    With none at all that takes about sixty expected: no chance, however many values are tried.

    Args:
        x: (n,) numbers, or numbers of categories; NaN where missing.
        y: (n,) label of the same rows.
        subject: (n,) whose rows they are, numbered from 0.
    """
    total = patients(subject)
    for how, event in (("out", y), ("in", ~y)):
        events = patients(subject[event])
        if not 0 < events < total:
            continue
        found: list[tuple[float, Severity, str]] = []
        for words, gravest, at in _candidates(x, event):
            n, with_event = patients(subject[at]), patients(subject[at & event])
            share = float(np.count_nonzero(at & ~event) / np.count_nonzero(~event))
            if (
                min(n, patients(subject[~at])) >= SMALL_CELL
                and share >= LITTLE
                and upper_limit(with_event, n) < RULED * events / total
            ):
                facts = f"{counted(with_event)} of {counted(n)} patients with {words} are {_side(how)} '{task}'"
                found.append((share, gravest if share >= MUCH else "note", facts))
        if found:
            _, severity, facts = max(found)
            more = f"; so do {len(found) - 1} more values" if len(found) > 1 else ""
            yield Finding(severity, "rules a label out or in", name, f"{facts}, which rules it {how}{more}")


def _side(how: str) -> str:
    return "with" if how == "out" else "without"


def _candidates(x: Float, event: Bool) -> Iterator[tuple[str, Severity, Bool]]:
    """Sets of rows to look at: missing cells, frequent values, and the ends of the values where no event ever is.

    Whom nobody measured may honestly be free of events, and so may an end of an honest score: suspicions at most.
    """
    seen = np.isfinite(x)
    if not seen.all():
        yield "no value of it", "suspect", ~seen
    values, counts = np.unique(x[seen], return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:VALUES]
    for v in values[frequent[counts[frequent] >= max(SMALL_CELL, LITTLE * len(x))]]:
        yield "one value of it", "leak", x == v
    if len(values) > VALUES and (event & seen).any():
        for at in (seen & (x < x[event & seen].min()), seen & (x > x[event & seen].max())):
            if at.sum() >= TAIL * len(x):
                yield "values at one end of it", "suspect", at


def upper_limit(events: int, n: int) -> float:
    """Upper 95 % limit of a rate, Clopper and Pearson 1934.

    >>> round(upper_limit(0, 2904), 5), round(upper_limit(3, 100), 3), upper_limit(5, 5)
    (0.00103, 0.076, 1.0)
    """
    return 1.0 if events >= n else float(beta.ppf(0.95, events + 1, n - events))

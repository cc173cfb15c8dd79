"""Whether alerts at the main threshold find, miss and disturb the groups of an attribute alike.

Rates of a group: sensitivity ``P(alert | event)``, false alarms ``P(alert | no event)``, ppv ``P(event | alert)``; and
whether its risks mean what they say: calibration slope and O:E (``evaluation.recalibration``).
Whether the largest and smallest differ by more than chance is asked of permutations: among those the rate is of, the
attribute is dealt out anew to the patients (those with equally many rows change places), and nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.compare import holm
from mmnar.evaluation.decided import Fairness, Gap, RateRow
from mmnar.evaluation.decisions import sums_by_cell
from mmnar.evaluation.groups import Grouping
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.metrics import ratio
from mmnar.evaluation.recalibration import slope_and_ratio
from mmnar.evaluation.result import Estimate
from mmnar.privacy import BY_GROUP, SMALL_CELL

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

RATES: Final = ("sensitivity", "false_alarms", "ppv")
MEANING: Final = ("slope", "o_to_e")
PERMUTATIONS: Final = 999
ONE_GROUP: Final = (
    f"fewer than two groups have {SMALL_CELL} patients with an alert and {SMALL_CELL} without, both of those with the "
    "event and of those without it"
)
POOLED: Final = "other values, each with few alerts or outcomes"


def fairness(
    groupings: Mapping[str, Grouping],
    y: Float,
    alert: Bool,
    rows: Int,
    threshold: float,
    resampling: Resampling,
    seed: int,
    risk: Float | None = None,
) -> dict[str, Fairness]:
    """Rates by each attribute, with gaps whose p values are corrected for all of them.

    Args:
        groupings: attribute → rows of its table of figures, which no group here may part (a difference would tell).
        y, alert, rows: (n,) outcome, whether the risk is at or above the threshold, and where the rows are among those
            ``resampling`` was drawn for.
        risk: (n,) Of groups also calibration slope and O:E are given; None = these are withheld.
    """
    found = {}
    subject = resampling.subject[rows]
    for i, (attribute, grouping) in enumerate(groupings.items()):
        labels, group = merged(grouping, y == 1, alert, subject)
        if len(labels) < 2:
            found[attribute] = Fairness(threshold, reason=ONE_GROUP)
            continue
        values = _rates(group, len(labels), y == 1, alert, rows, resampling)
        table = tuple(
            RateRow(
                label,
                {r: _estimate(values[r][:, g]) for r in RATES} | _meaning(group == g, y, risk, rows, resampling),
            )
            for g, label in enumerate(labels)
        )
        gaps = tuple(_gap(r, values[r], labels, group, y == 1, alert, subject, [seed, i]) for r in RATES)
        found[attribute] = Fairness(threshold, table, gaps)
    return _corrected(found)


def merged(grouping: Grouping, event: Bool, alert: Bool, subject: Int) -> tuple[list[str], Int]:
    """Groups with ten patients in each of the four cells of event and alert, and (n,) which of them a row is in.

    Others share the last group, which takes in the smallest of the rest until it has as many; where it cannot, all are
    one.
    """
    cells = [event & alert, event & ~alert, ~event & alert, ~event & ~alert]
    size = np.bincount(grouping.row, minlength=len(grouping.labels))

    def few(mine: Bool) -> bool:
        return min(len(np.unique(subject[mine & cell])) for cell in cells) < SMALL_CELL

    alone = [g for g in range(len(grouping.labels)) if not few(grouping.row == g)]
    alone.sort(key=lambda g: (g < grouping.alone, size[g]), reverse=True)
    while alone:
        rest = ~np.isin(grouping.row, alone)
        if not rest.any() or not few(rest):
            break
        alone.pop()
    place = np.full(len(grouping.labels), len(alone))
    place[alone] = np.arange(len(alone))
    labels = [grouping.labels[g] for g in alone]
    return labels + [POOLED] * (len(alone) < len(grouping.labels)), place[grouping.row]


def _meaning(mine: Bool, y: Float, risk: Float | None, rows: Int, resampling: Resampling) -> dict[str, Estimate]:
    """Whether risks mean in a group what they say."""
    if risk is None:
        return dict.fromkeys(MEANING, Estimate(None, reason=BY_GROUP))
    return slope_and_ratio(y[mine], risk[mine], rows[mine], resampling)


def _rates(group: Int, groups: int, event: Bool, alert: Bool, rows: Int, resampling: Resampling) -> dict[str, Float]:
    """Rate → (1 + B, G) of the sample and its resamples."""
    cell = group + groups * (2 * event.astype(np.int64) + alert)
    sums = sums_by_cell(cell, 4 * groups, rows, resampling).reshape(-1, 4, groups)
    spared, false, missed, hits = (sums[:, i] for i in range(4))
    return {
        "sensitivity": ratio(hits, hits + missed),
        "false_alarms": ratio(false, false + spared),
        "ppv": ratio(hits, hits + false),
    }


def _gap(
    rate: str, values: Float, labels: Sequence[str], group: Int, event: Bool, alert: Bool, subject: Int, seed: Any
) -> Gap:
    high, low = int(np.argmax(values[0])), int(np.argmin(values[0]))
    difference = _estimate(values[:, high] - values[:, low])
    base, hit = {"sensitivity": (event, alert), "false_alarms": (~event, alert), "ppv": (alert, event)}[rate]
    rng = np.random.default_rng([*seed, RATES.index(rate)])
    p = permutation_p(group[base], hit[base], subject[base], len(labels), rng)
    return Gap(rate, labels[high], labels[low], difference, p)


def permutation_p(group: Int, hit: Bool, subject: Int, groups: int, rng: np.random.Generator) -> float:
    """Of the largest less the smallest rate of hits, over ``PERMUTATIONS`` deals of the groups to the patients.

    ``(#{gap* ≥ gap} + 1) / (permutations + 1)``. A patient is in the group of the first row, and changes places with
    patients of equally many rows. How many of those with so many hits each group is dealt is hypergeometric: nothing is
    shuffled one by one.

    Args:
        group, hit, subject: (n,) of the rows that the rate is of.
    """
    _, first, patient = np.unique(subject, return_index=True, return_inverse=True)
    of, size = group[first], np.bincount(patient)
    hits = np.bincount(patient, hit).astype(np.int64)
    rows = np.bincount(of, size, groups)
    seen = _spread(np.bincount(of, hits, groups)[None], rows)[0]
    dealt = _spread(_dealt(of, size, hits, groups, rng), rows)
    return float(((dealt >= seen - 1e-12).sum() + 1) / (len(dealt) + 1))


def _spread(hits: NDArray[Any], rows: NDArray[Any]) -> Float:
    """(B,) largest less smallest rate of (B, G) hits among (G,) rows; groups without a row are left out."""
    rates = hits[:, rows > 0] / rows[rows > 0]
    return np.asarray(rates.max(axis=1) - rates.min(axis=1))


def _dealt(group: Int, size: Int, hits: Int, groups: int, rng: np.random.Generator) -> Float:
    """(PERMUTATIONS, G) hits of each group."""
    total = np.zeros((PERMUTATIONS, groups))
    for k in np.unique(size):
        mine = size == k
        left = np.tile(np.bincount(group[mine], minlength=groups), (PERMUTATIONS, 1))
        levels, counts = np.unique(hits[mine], return_counts=True)
        for level, count in zip(levels[:0:-1], counts[:0:-1], strict=True):
            drawn = _without_replacement(left, int(count), rng)
            total += level * drawn
            left -= drawn
        total += levels[0] * left
    return total


def _without_replacement(left: Int, count: int, rng: np.random.Generator) -> Int:
    """(B, G) how many of ``count`` patients are drawn from each of the groups that hold ``left``."""
    drawn, still, rest = np.zeros_like(left), np.full(len(left), count), left.sum(axis=1)
    for g in range(left.shape[1]):
        rest = rest - left[:, g]
        drawn[:, g] = rng.hypergeometric(left[:, g], rest, still)
        still = still - drawn[:, g]
    return drawn


def _corrected(found: dict[str, Fairness]) -> dict[str, Fairness]:
    """With ``p_holm`` over every rate and attribute."""
    every = [(name, i) for name, of in found.items() for i in range(len(of.gaps))]
    corrected = dict(zip(every, holm([found[n].gaps[i].p or 0.0 for n, i in every]), strict=True))
    return {
        name: replace(of, gaps=tuple(replace(g, p_holm=corrected[name, i]) for i, g in enumerate(of.gaps)))
        for name, of in found.items()
    }


def _estimate(values: Float) -> Estimate:
    """From (1 + B,) values, the sample's first."""
    return interval(float(values[0]), values[1:], "nobody it could be a rate of")

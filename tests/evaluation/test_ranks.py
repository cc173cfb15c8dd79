"""Average ranks against Demšar's worked example and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmnar.evaluation.ranks import Ranks, average_ranks

# Demšar 2006, Table 6: AUC of C4.5 with its parameters m, cf, both or none tuned, on 14 data sets
DEMSAR = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
}


def test_demsars_example() -> None:
    ranks = average_ranks(DEMSAR, higher_is_better=True)
    averages = dict(zip(ranks.names, ranks.average, strict=True))
    # as printed: 3.143, 2.000, 2.893, 1.964; χ²_F = 9.28; CD(.05) = 2.569 √(4 · 5 / (6 · 14)) = 1.25
    assert [round(averages[name], 3) for name in DEMSAR] == [3.143, 2.0, 2.893, 1.964]
    assert 12 * 14 / (4 * 5) * (sum(r**2 for r in ranks.average) - 4 * 25 / 4) == pytest.approx(9.28, abs=0.01)
    assert ranks.names[0] == "C4.5+m+cf"
    assert ranks.critical_difference == pytest.approx(2.569 * np.sqrt(20 / 84), abs=2e-3)
    # scipy's, which also corrects for ties, so its statistic is a little larger than the printed one
    assert ranks.friedman_p == pytest.approx(stats.friedmanchisquare(*DEMSAR.values()).pvalue)
    assert (ranks.friedman_p or 1.0) < stats.chi2.sf(9.28, 3)
    assert ranks.groups() == ((0, 3),)


def test_lower_is_better_turns_the_ranks_round() -> None:
    up, down = (average_ranks(DEMSAR, higher) for higher in (True, False))
    assert {n: 5 - r for n, r in zip(up.names, up.average, strict=True)} == pytest.approx(
        dict(zip(down.names, down.average, strict=True))
    )


def test_blocks_without_a_number_are_left_out() -> None:
    broken = {name: [*values, np.nan if name == "C4.5" else 0.5] for name, values in DEMSAR.items()}
    assert average_ranks(broken, True) == average_ranks(DEMSAR, True)


def test_one_block_or_all_alike_tells_nothing_apart() -> None:
    one = average_ranks({"a": [0.9], "b": [0.8], "c": [0.7]}, True)
    assert (one.friedman_p, one.critical_difference, one.groups()) == (None, None, ())
    alike = average_ranks({"a": [0.9, 0.8], "b": [0.9, 0.8], "c": [0.9, 0.8]}, True)
    assert alike.average == (2.0, 2.0, 2.0)
    assert alike.friedman_p is None
    none = average_ranks({"a": [np.nan], "b": [0.8]}, True)
    assert none.blocks == 0


def test_groups_are_the_longest_runs() -> None:
    ranks = Ranks(("a", "b", "c", "d", "e"), (1.0, 1.5, 2.6, 4.0, 5.2), 10, 0.01, 1.5)
    assert ranks.groups() == ((0, 1), (1, 2), (2, 3), (3, 4))
    assert Ranks(("a", "b"), (1.0, 2.0), 10, None, 0.5).groups() == ()

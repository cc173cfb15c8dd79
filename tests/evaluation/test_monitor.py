"""A service's answers held against a run's patients: exact tests, each patient once, nothing told of few."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import fisher_exact

from mmnar.errors import ConfigError
from mmnar.evaluation.monitor.asked import Answers, Learned
from mmnar.evaluation.monitor.judged import CHOSEN, PATTERNS, RARITY, RISKS
from mmnar.evaluation.monitor.labelled import came_true
from mmnar.evaluation.monitor.periods import A_YEAR, periods
from mmnar.evaluation.monitor.refusals import requests_by_period
from mmnar.evaluation.monitor.unlike import chosen_p, law_p
from mmnar.evaluation.monitor.watch import Watched, watch
from tests.conftest import draw_predictions

NOW = 2**62
DAY = 86_400_000_000


def microseconds(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY


def test_weeks_are_those_of_iso_8601() -> None:
    days = [date(2025, 12, 1) + timedelta(days=i) for i in range(0, 450, 3)]
    spans = periods(microseconds(days[0]), microseconds(days[-1]), "week")
    for day in days:
        (name,) = [span.name for span in spans if span.start <= microseconds(day) < span.end]
        year, week, _ = day.isocalendar()
        assert name == f"{year}-W{week:02d}"
    with pytest.raises(ConfigError, match="quarter"):
        periods(0, 1, "year")


def test_the_p_value_of_a_law_is_that_of_all_permutations() -> None:
    first, second = np.array([0, 0, 0, 1, 1, 2]), np.array([2, 2, 1])
    everybody = np.concatenate([first, second])

    def variation(theirs: Sequence[int]) -> float:
        laws = [
            np.bincount(of, minlength=3) / len(of) for of in (np.delete(everybody, theirs), everybody[list(theirs)])
        ]
        return float(0.5 * np.abs(laws[0] - laws[1]).sum())

    every = [variation(theirs) for theirs in itertools.combinations(range(9), 3)]
    seen, chance, p = law_p(first, second, 0.01, 0)
    assert seen == pytest.approx(variation([6, 7, 8]))
    assert p == pytest.approx(np.mean(np.array(every) >= seen - 1e-12), abs=0.03)
    assert chance in [pytest.approx(value) for value in every]


def test_a_law_that_is_another_gets_a_p_value_below_its_level() -> None:
    first, second = np.repeat([0, 1], [900, 100]), np.repeat([0, 1], [40, 60])
    assert law_p(first, second, 1e-4, 0)[2] < 5e-5


def test_who_is_chosen_is_told_by_risks_though_rates_and_risks_are_as_before() -> None:
    rng = np.random.default_rng(0)

    def drawn(n: int, turned: bool) -> tuple[np.ndarray, np.ndarray]:
        risk = rng.random((n, 2))
        high = risk[:, 1] > 0.5
        return np.column_stack([rng.random(n) < 0.5, rng.random(n) < np.where(high != turned, 0.8, 0.2)]), risk

    (k, m), p = chosen_p(drawn(400, False), drawn(150, True), 1e-3, 0)
    assert (k, m) == (1, 1)
    assert p < 5e-4
    assert chosen_p(drawn(400, False), drawn(150, False), 1e-3, 0)[1] > 0.01
    nobody = np.zeros((40, 2), dtype=bool)
    assert chosen_p((nobody, rng.random((40, 2))), (nobody[:20], rng.random((20, 2))), 1e-3, 0)[1] == 1


def learned(n: int = 900) -> Learned:
    return Learned.of(draw_predictions(n, seed=1), draw_predictions(500, seed=2, first_subject=10_000))


def asked(n: int, seed: int, day: date, without: Sequence[int] = (), first: int = 0) -> Answers:
    """Patients as ``learned`` has them, all on one day."""
    of = draw_predictions(n, seed=seed)
    present = of.present.copy()
    present[:, list(without)] = False
    risks = {task: of.proba[:, k] for k, task in enumerate(of.tasks)}
    time = np.full(n, microseconds(day))
    return Answers(time, first + np.arange(n), np.ones(n, dtype=bool), present, risks, {}, reasons(n))


def reasons(n: int) -> dict[str, np.ndarray]:
    return {task: np.full(n, "", dtype="<U20") for task in ("death", "los")}


def joined(*parts: Answers) -> Answers:
    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    tasks = parts[0].risks
    return Answers(
        *(together(name) for name in ("time", "patient", "read", "present")),
        {task: np.concatenate([part.risks[task] for part in parts]) for task in tasks},
        {},
        {task: np.concatenate([part.refused[task] for part in parts]) for task in tasks},
    )


def watched(answers: Answers, now: int = NOW) -> tuple[Watched, ...]:
    spans = periods(int(answers.time.min()), int(answers.time.max()), "month")
    return watch(answers, ("a", "b", "c"), learned(), spans, "month", now, tuple(answers.risks))


def test_a_modality_that_is_no_longer_ordered_is_found_and_nothing_else_is() -> None:
    before, after = asked(150, 3, date(2026, 1, 5)), asked(150, 4, date(2026, 3, 5), [1], first=1000)
    january, february, march = watched(joined(before, after))
    assert january.alarms == ()
    assert set(january.p) == {"a", "b", "c", PATTERNS, RARITY, RISKS + "death", RISKS + "los", CHOSEN}
    assert january.rates["b"].value == pytest.approx(before.present[:, 1].mean())
    assert (february.patients, february.p, february.alarms) == (0, {}, ())
    assert {"b", PATTERNS} <= set(march.alarms)
    assert not {"a", "c", RISKS + "death"} & set(march.alarms)
    assert march.rates["b"].value == 0


def test_p_values_are_corrected_over_tests_and_over_the_periods_of_a_year() -> None:
    answers, run = asked(150, 3, date(2026, 1, 5), [1]), learned()
    answers.present[:60, 1] = True
    of = {}
    for every in A_YEAR:
        spans = periods(int(answers.time[0]), int(answers.time[0]), every)
        (of[every],) = watch(answers, ("a", "b", "c"), run, spans, every, NOW)
    table = [[int(has.sum()), int((~has).sum())] for has in (run.present[:, 1], answers.present[:, 1])]
    smallest = float(fisher_exact(table).pvalue)
    assert of["month"].p["b"] == min(of["month"].p.values())
    assert len(of["month"].p) == 5
    for every, times in (("week", 53), ("month", 12), ("quarter", 4)):
        assert of[every].p["b"] == pytest.approx(smallest * 5 * times)


def test_a_patient_counts_once_by_the_first_answer() -> None:
    many, one = asked(150, 3, date(2026, 1, 5)), asked(1, 5, date(2026, 1, 6), [0, 1, 2], first=5)
    (alone,), (again,) = watched(many), watched(joined(many, *[one] * 300))
    assert again.p == alone.p
    refused = joined(asked(1, 6, date(2026, 1, 1), [0, 1, 2], first=5), many)
    refused.read[0] = False
    assert watched(refused)[0].p == alone.p


def test_a_period_is_judged_when_it_is_over_and_has_ten_patients() -> None:
    answers = joined(asked(9, 3, date(2026, 1, 5)), asked(150, 4, date(2026, 2, 5), [1], first=1000))
    january, february = watched(answers, microseconds(date(2026, 2, 28)))
    assert (january.over, january.patients, january.p) == (True, None, {})
    assert january.rates["a"].value is None
    assert (february.over, february.p, february.alarms) == (False, {}, ())
    assert watched(answers, microseconds(date(2026, 3, 1)))[1].alarms


def test_what_nine_have_is_found_but_not_told() -> None:
    answers = asked(150, 3, date(2026, 1, 5), [1])
    answers.present[:9, 1] = True
    (found,) = (period.disclosed() for period in watched(answers))
    assert "b" in found.alarms
    assert found.rates["b"].value is found.variation.value is None
    assert not {"b", PATTERNS} & set(found.p)
    assert "a" in found.p


def test_small_counts_of_requests_are_withheld() -> None:
    answers = asked(150, 3, date(2026, 1, 5))
    answers.refused["death"][:9] = answers.refused["los"][:30] = "of this hour"
    answers.refused["los"][30:39] = "of another"
    status = np.repeat([200, 422, 503], [150, 20, 3])
    time = np.full(len(status), microseconds(date(2026, 1, 5)))
    (found,) = requests_by_period(time, status, answers, periods(int(time[0]), int(time[0]), "month"))
    assert found.requests == 170
    assert found.became == {"answered": 150, "no time or room": None, "records cannot be read": None}
    assert found.refused == {"of another": None, "of this hour": 30}


def test_ratio_of_events_to_risks_by_hand() -> None:
    answers = asked(400, 3, date(2026, 1, 5))
    outcome = (np.random.default_rng(0).random(400) < 0.5).astype(float)
    outcome[::7] = np.nan
    known = np.isfinite(outcome)
    spans = periods(int(answers.time[0]), int(answers.time[0]), "month")
    every, january = came_true(answers, {"death": outcome}, spans, resamples=40)
    assert every.o_to_e == january.o_to_e
    assert every.o_to_e.value == pytest.approx(outcome[known].sum() / answers.risks["death"][known].sum())
    few = np.where(np.arange(400) < 200, np.where(np.arange(400) < 9, 1.0, 0.0), np.nan)
    assert came_true(answers, {"death": few}, spans, resamples=40)[0].o_to_e.value is None

"""The grid of observation times against loops over patients and a table made by hand; what stands beside a sequence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mmnar.encoders.context import Context, How
from mmnar.ops.grid import Grid, carried, gaps, series_grid
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.types import PatientBatch, Series
from tests.conformance.test_models import mixed

Measurement = tuple[float, int, float]  # hours, variable, value


def batch(*series: list[list[Measurement]], absent: tuple[tuple[int, int], ...] = ()) -> PatientBatch:
    """A series of two variables per list of patients; ``absent`` are (patient, series) whose items are poison."""
    schema = Schema(
        tuple(ModalitySpec(f"s{i}", (Feature("a"), Feature("b")), "series") for i in range(len(series))),
        (Task("death", "", ""),),
    )
    n = len(series[0])
    contents, present = {}, torch.zeros(n, len(series), dtype=torch.bool)
    for i, patients in enumerate(series):
        items = [item for patient in patients for item in patient]
        hours, feature, values = zip(*items, strict=True) if items else ((), (), ())
        counts = torch.tensor([0, *map(len, patients)])
        contents[f"s{i}"] = Series(
            counts.cumsum(0), torch.tensor(hours), torch.tensor(values), torch.tensor(feature, dtype=torch.long)
        )
        present[:, i] = counts[1:] > 0
    for patient, i in absent:
        present[patient, i] = False
    none = torch.zeros(n, 1)
    return PatientBatch(schema, contents, present, none, none > 0, torch.arange(n), checked=True)


def invented(seed: int, patients: int = 9) -> list[list[Measurement]]:
    """Measurements in time order; times often coincide, also of one variable; the second patient has none."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=g))

    one = [[(-draw(13) / 2, draw(2), float(draw(99))) for _ in range(draw(14))] for _ in range(patients)]
    return [[] if i == 1 else sorted(items, key=lambda item: item[0]) for i, items in enumerate(one)]


def literal(b: PatientBatch) -> list[dict[float, dict[int, float]]]:
    """Per patient time → variable → last value."""
    grids: list[dict[float, dict[int, float]]] = []
    for p in range(len(b)):
        grid: dict[float, dict[int, float]] = {}
        for i, content in enumerate(b.modalities.values()):
            assert isinstance(content, Series)
            for e in range(int(content.offsets[p]), int(content.offsets[p + 1])):
                if b.present[p, i]:
                    grid.setdefault(float(content.hours[e]), {})[2 * i + int(content.feature[e])] = float(
                        content.values[e]
                    )
        grids.append(dict(sorted(grid.items())))
    return grids


@pytest.mark.parametrize("seed", range(3))
def test_grid_against_a_loop_over_measurements(seed: int) -> None:
    b = batch(invented(seed), invented(seed + 10), absent=((0, 1), (4, 0)))
    grid, want = series_grid(b, 50), literal(b)
    assert grid.counts.tolist() == [len(times) for times in want]
    assert grid.hours.tolist() == [t for times in want for t in times]
    rows = [row for times in want for row in times.values()]
    assert grid.observed.tolist() == [[v in row for v in range(4)] for row in rows]
    assert grid.values.tolist() == [[row.get(v, 0.0) for v in range(4)] for row in rows]


def test_gaps_of_the_papers_table() -> None:
    times, seen = (0.0, 0.1, 0.6, 1.6, 2.2, 2.5, 3.1), (0, 1, 0, 1, 0, 1, 0)
    # where the first variable is not observed the second is, or there would be no such time
    items = [(t - 3.1, 1 - m, 5.0) for t, m in zip(times, seen, strict=True)]
    grid = series_grid(batch([[(-9.0, 0, 1.0), (-1.0, 0, 1.0)], items]), 50)
    assert torch.allclose(gaps(grid)[2:, 0], torch.tensor([0, 0.1, 0.5, 1.5, 0.6, 0.9, 0.6]), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gaps_and_carried_values_against_the_recursion(seed: int) -> None:
    grid = series_grid(batch(invented(seed), invented(seed + 10)), 50)
    gap, last = gaps(grid), carried(grid)
    for p in range(len(grid)):
        rows = range(int(grid.offsets[p]), int(grid.offsets[p + 1]))
        for v in range(4):
            delta, value = 0.0, 0.0
            for r in rows:
                if r > rows[0]:
                    unseen = 1 - float(grid.observed[r - 1, v])
                    delta = float(grid.hours[r] - grid.hours[r - 1]) + unseen * delta
                value = float(grid.values[r, v]) if grid.observed[r, v] else value
                assert abs(float(gap[r, v]) - delta) < 1e-5
                assert float(last[r, v]) == value


def test_too_many_times_become_hours_and_wider_bins_where_hours_are_too_many() -> None:
    short = [(-h / 4, 0, float(h)) for h in range(20, -1, -1)]  # 21 times in 5 hours
    long = [(-float(h), 1, float(h)) for h in range(100, 0, -1)]  # 100 times in 100 hours
    few = [(-2.25, 0, 1.0), (-0.5, 0, 2.0)]
    grid = series_grid(batch([short, long, few]), 11)
    first, second, third = (slice(int(a), int(z)) for a, z in zip(grid.offsets, grid.offsets[1:], strict=False))
    assert grid.hours[first].tolist() == [-5, -4, -3, -2, -1, 0]
    assert grid.values[first, 0].tolist() == [20, 16, 12, 8, 4, 0]  # the last within (−5, −4] is that of −4
    assert grid.hours[second].tolist() == [-10.0 * h for h in range(10, -1, -1)]
    assert grid.values[second, 1].tolist() == [100, *range(90, 0, -10), 1]
    assert grid.hours[third].tolist() == [-2.25, -0.5]
    assert bool((grid.counts <= 11).all())


def test_nobody_has_anything() -> None:
    grid = series_grid(batch([[], []], [[], []]), 11)
    assert (len(grid), grid.values.shape, gaps(grid).shape, carried(grid).shape) == (2, (0, 4), (0, 4), (0, 4))


def test_nothing_of_an_absent_series_is_read() -> None:
    poisoned = [[(-1.0, 0, math.nan)], [(-2.0, 1, 3.0)]]
    clean = [[], [(-2.0, 1, 3.0)]]
    other = [[(-3.0, 0, 1.0)], []]
    one, two = series_grid(batch(poisoned, other, absent=((0, 0),)), 11), series_grid(batch(clean, other), 11)
    assert torch.equal(one.values, two.values)
    assert torch.equal(one.hours, two.hours)


def test_a_grid_is_taken_apart_patient_by_patient() -> None:
    grid = series_grid(batch(invented(0), invented(1)), 50)
    rows = torch.tensor([3, 0])
    part = grid.take(rows)
    assert isinstance(part, Grid)
    wanted = [torch.arange(int(grid.offsets[i]), int(grid.offsets[i + 1])) for i in rows]
    assert torch.equal(part.values, grid.values[torch.cat(wanted)])
    assert torch.equal(gaps(part), gaps(grid)[torch.cat(wanted)])


@pytest.mark.parametrize("how", ["none", "delta_only", "embeddings"])
def test_context_holds_the_other_modalities_and_their_part_of_the_pattern(how: How) -> None:
    b = mixed(40)
    torch.manual_seed(0)
    context = Context(b.schema, "series", how, 8, 0.0).eval()
    st = context(b)
    others = [i for i, m in enumerate(b.schema.modalities) if m.kind != "series"]
    assert st.shape == (len(b), context.width)
    assert context.width == {"none": 0, "delta_only": len(others), "embeddings": 9 * len(others)}[how]
    if how != "none":
        assert torch.equal(st[:, -len(others) :], b.pattern[:, others])
    if how == "embeddings":
        blocks = st[:, : 8 * len(others)].view(len(b), len(others), 8)
        assert bool((blocks[~b.present[:, others]] == 0).all())
        assert bool((blocks[b.present[:, others]].abs().sum(1) > 0).all())
    without = replace(b, present=b.present.clone(), checked=True)
    without.present[:, 3] = False  # the series
    assert torch.equal(context(without), st)

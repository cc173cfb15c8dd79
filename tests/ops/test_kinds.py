"""All series as one, against a list of what each patient has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmnar.errors import SchemaError
from mmnar.ops.kinds import one_series, one_series_of
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.types import PatientBatch, Series, Static
from tests.populations import SCHEMA

SPECS = (
    ModalitySpec("course", (Feature("hr"), Feature("rate")), "series"),
    ModalitySpec("labs", (Feature("ph"),)),
    ModalitySpec("pump", (Feature("rate"), Feature("volume"), Feature("alarm")), "series"),
)
TWO = Schema(SPECS, (Task("death", "now", "death"),))
PATIENTS = 7


def invented(seed: int) -> PatientBatch:
    """Times are whole hours, so that measurements of both series fall together; the second patient has none."""
    g = torch.Generator().manual_seed(seed)
    contents: dict[str, Series | Static] = {}
    for spec in SPECS:
        if spec.kind == "static":
            contents[spec.name] = Static(torch.randn(PATIENTS, 1), torch.ones(PATIENTS, 1, dtype=torch.bool))
            continue
        counts = torch.randint(0, 9, (PATIENTS,), generator=g)
        counts[1] = 0
        hours = [torch.randint(-9, 1, (int(c),), generator=g).float().sort().values for c in counts]
        n = int(counts.sum())
        feature = torch.randint(0, len(spec.features), (n,), generator=g)
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
        contents[spec.name] = Series(offsets, torch.cat(hours), torch.randn(n, generator=g), feature)
    present = torch.stack([contents["course"].counts > 0, torch.ones(PATIENTS) > 0, contents["pump"].counts > 0], 1)  # type: ignore[union-attr]
    zeros = torch.zeros(PATIENTS, 1)
    return PatientBatch(TWO, contents, present, zeros, zeros == 0, torch.arange(PATIENTS))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_every_measurement_is_there_once_in_time_order_under_a_number_of_its_own(seed: int) -> None:
    b = invented(seed)
    got = one_series(b)
    assert len(one_series_of(TWO).features) == 5
    for i in range(PATIENTS):
        want = []
        for name, before in (("course", 0), ("pump", 2)):
            one = b.modalities[name].take(torch.tensor([i]))
            assert isinstance(one, Series)
            want += list(zip(one.hours.tolist(), (one.feature + before).tolist(), one.values.tolist(), strict=True))
        own = got.take(torch.tensor([i]))
        assert own.hours.tolist() == sorted(own.hours.tolist())
        there = list(zip(own.hours.tolist(), own.feature.tolist(), own.values.tolist(), strict=True))
        for feature in range(5):  # of one feature in the order given, where times coincide too
            assert [t for t in there if t[1] == feature] == [w for w in want if w[1] == feature]
    assert int(got.counts[1]) == 0


def test_nothing_of_an_absent_series_is_in_it() -> None:
    b = invented(0)
    hidden = replace(b, present=torch.tensor([True, True, False]).expand_as(b.present), checked=True)  # content stays
    assert int(one_series(hidden).feature.max()) < 2


def test_one_alone_is_itself() -> None:
    b = invented(0)
    schema = replace(TWO, modalities=SPECS[:1])
    alone = PatientBatch(schema, {"course": b.modalities["course"]}, b.present[:, :1], b.labels, b.label_mask, b.rows)
    one = one_series(alone)
    course = b.modalities["course"]
    assert isinstance(course, Series)
    assert all(
        torch.equal(getattr(one, key), getattr(course, key)) for key in ("offsets", "hours", "values", "feature")
    )


def test_without_series_there_is_none() -> None:
    with pytest.raises(SchemaError):
        one_series_of(SCHEMA)

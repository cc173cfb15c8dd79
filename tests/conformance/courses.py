"""Patients with hand-made series, for methods that read nothing else."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.types import PatientBatch, Series, Static

COURSES: Final = Schema(
    (
        ModalitySpec("labs", (Feature("ph"),)),
        ModalitySpec("course", (Feature("a"), Feature("b")), "series"),
        ModalitySpec("pump", (Feature("rate"),), "series"),
    ),
    (Task("death", "now", "death"), Task("stay", "now", "a long stay")),
)
HOURS: Final = 12
"""Of ``episodes``."""

Measurement = tuple[float, int, float]
"""Hours, feature (0 and 1 of the course, 2 of the pump), value."""


def patients(*courses: list[Measurement]) -> PatientBatch:
    """Everybody has labs; measurements in time order."""
    n, contents = len(courses), {}
    for name, features in (("course", (0, 1)), ("pump", (2,))):
        own = [[m for m in course if m[1] in features] for course in courses]
        hours, feature, values = (torch.tensor([m[i] for part in own for m in part]) for i in range(3))
        offsets = torch.tensor([0, *map(len, own)]).cumsum(0)
        contents[name] = Series(offsets, hours.float(), values.float(), feature.long() - features[0])
    labs = Static(torch.linspace(-1, 1, n)[:, None], torch.ones(n, 1, dtype=torch.bool))
    present = torch.stack([torch.ones(n) > 0, *(content.counts > 0 for content in contents.values())], 1)
    zeros = torch.zeros(n, 2)
    return PatientBatch(COURSES, {"labs": labs, **contents}, present, zeros, zeros == 0, torch.arange(n))


def episodes(n: int, seed: int) -> PatientBatch:
    """Hourly zeros of one feature, and two episodes, of +2 and of −2; both labels: which of them came first?"""
    g = torch.Generator().manual_seed(seed)
    values = torch.zeros(n, HOURS)
    places = torch.stack([torch.randperm(HOURS, generator=g)[:2] for _ in range(n)])
    values.scatter_(1, places, torch.tensor([2.0, -2.0]).expand(n, 2))
    first: Tensor = (places[:, :1] < places[:, 1:]).float().expand(n, 2)
    hours = torch.arange(1.0 - HOURS, 1.0).repeat(n)
    course = Series(torch.arange(n + 1) * HOURS, hours, values.flatten(), torch.zeros(n * HOURS, dtype=torch.long))
    none = Series(torch.zeros(n + 1, dtype=torch.long), torch.zeros(0), torch.zeros(0), torch.zeros(0).long())
    labs = Static(torch.zeros(n, 1), torch.zeros(n, 1, dtype=torch.bool))
    present = torch.tensor([False, True, False]).repeat(n, 1)
    contents = {"labs": labs, "course": course, "pump": none}
    return PatientBatch(COURSES, contents, present, first, torch.ones(n, 2, dtype=torch.bool), torch.arange(n))

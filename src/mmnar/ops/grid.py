"""Series of measurements on a grid: of each patient's own observation times, where nothing is resampled or imputed, or
of equal steps before the prediction, where the last value is carried forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmnar.ops.kinds import one_series, one_series_of
from mmnar.types import Packed, PatientBatch, Series


@dataclass(frozen=True)
class Grid(Packed):
    """S distinct observation times of B patients, packed patient by patient, in time order.

    ``values`` are (S, V), 0 where not observed; V counts the variables of all series, one series after another.

    Args:
        observed: (S, V) bool; at least one in each row.
    """

    observed: Tensor

    @property
    def starts(self) -> Tensor:
        """(S,) the first row of each row's patient."""
        return self.offsets[:-1][self.patient]


def series_grid(batch: PatientBatch, max_steps: int) -> Grid:
    """All series of the batch on one grid per patient.

    Args:
        batch: At least one series; items in time order.
        max_steps: A patient with more distinct times gets bins of one hour with each variable's last value in it, at
            the bin's end; wider bins where the hours are still too many. At least 2.
    """
    return content_grid(one_series(batch), len(one_series_of(batch.schema).features), max_steps)


def content_grid(content: Series, features: int, max_steps: int) -> Grid:
    """One series on a grid per patient, with V = ``features``; otherwise as ``series_grid``."""
    patient, values, b = content.patient, content.values, len(content)
    hours = _binned(content.hours, patient, b, max_steps)
    new = _changes(patient, hours)  # (E,) whether a row of the grid begins
    step, steps = new.cumsum(0) - 1, int(new.sum())
    place = torch.arange(len(values), device=values.device)
    last = torch.full((steps * features,), -1, device=values.device)
    last = last.scatter_reduce(0, step * features + content.feature, place, "amax").view(steps, features)
    counts = torch.bincount(patient[new], minlength=b)
    return Grid(
        offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        hours=hours[new],
        values=torch.cat([values, values.new_zeros(1)])[last],
        observed=last >= 0,
    )


def gaps(grid: Grid) -> Tensor:
    """Δ (S, V): Δ_1 = 0; Δ_t^v = s_t − s_{t−1} + (1 − m_{t−1}^v) Δ_{t−1}^v (Che et al. 2018), in hours.

    That is, the time since the variable was last observed before now, or since the patient's first row.
    """
    first = grid.starts == torch.arange(len(grid.hours), device=grid.hours.device)
    since = _latest(grid.observed | first[:, None]).roll(1, 0)  # a first row is marked: nothing of other patients
    return torch.where(first[:, None], 0.0, grid.hours[:, None] - grid.hours[since])


def carried(grid: Grid) -> Tensor:
    """(S, V) the latest observed value at or before each row; 0 before a variable's first."""
    latest = _latest(grid.observed)
    return torch.where(latest >= grid.starts[:, None], grid.values.gather(0, latest.clamp(min=0)), 0.0)


def hourly(content: Series, features: int, steps: int, step: float = 1.0) -> tuple[Tensor, Tensor]:
    """A series in T equal steps that end at the prediction: step t has the measurements after −(T − t)·step hours and
    up to −(T − t − 1)·step, which is in it.

    Args:
        features: V.
        steps: T.
        step: Hours of each.

    Returns:
        Values (B, T, V): the last one known within the T steps, 0 where there is none; of normal scores (ADR 9) that is
        the training median. Nothing from before the first step is known. Flags (B, T, V) bool: measured in this step.
    """
    b, cells = len(content), len(content) * steps * features
    at = torch.ceil(content.hours / step).long() + steps - 1  # (E,)
    inside = at >= 0
    cell = ((content.patient * steps + at) * features + content.feature)[inside]
    place = torch.arange(len(content.hours), device=at.device)[inside]
    # items are in time order, so that the last of a cell has the highest place; so it has of all steps up to now
    last = torch.full((cells,), -1, device=at.device).scatter_reduce(0, cell, place, "amax").view(b, steps, features)
    values = torch.cat([content.values, content.values.new_zeros(1)])
    return values[last.cummax(1).values], last >= 0


def _binned(hours: Tensor, patient: Tensor, patients: int, max_steps: int) -> Tensor:
    """Hours (E,), rounded up to a full bin for the patients with too many distinct ones."""
    times = torch.bincount(patient[_changes(patient, hours)], minlength=patients)
    span = -hours.new_zeros(patients).scatter_reduce(0, patient, hours, "amin")
    width = (span / (max_steps - 1)).clamp(min=1)[patient]
    return torch.where(times[patient] > max_steps, torch.ceil(hours / width) * width, hours)


def _changes(patient: Tensor, hours: Tensor) -> Tensor:
    """(E,) bool: another patient or another time than in the row before."""
    changed = (patient[1:] != patient[:-1]) | (hours[1:] != hours[:-1])
    return torch.cat([changed.new_ones(min(1, len(hours))), changed])


def _latest(marked: Tensor) -> Tensor:
    """(S, V) bool → the latest marked row at or before each row, -1 where there is none."""
    row = torch.arange(len(marked), device=marked.device)[:, None]
    return torch.where(marked, row, -1).cummax(0).values

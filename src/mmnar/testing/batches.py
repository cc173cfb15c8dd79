"""The populations as models see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import PatientDataset
from mmnar.testing.populations import mixed_population, population
from mmnar.types import Items, PatientBatch, Series, Static


def batch(n: int = 60, seed: int = 0) -> PatientBatch:
    """The training fold of n samples: numbers and categories."""
    return _training(population(n, seed))


def mixed(n: int = 60, seed: int = 0) -> PatientBatch:
    """The same with one modality of every kind."""
    return _training(mixed_population(n, seed))


def _training(data: PatientDataset) -> PatientBatch:
    fold = data.fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def only(b: PatientBatch, names: Sequence[str]) -> PatientBatch:
    """The batch of some modalities."""
    index = [b.schema.modality_names.index(name) for name in names]
    return replace(
        b,
        schema=replace(b.schema, modalities=tuple(b.schema.modalities[i] for i in index)),
        modalities={name: b.modalities[name] for name in names},
        present=b.present[:, index],
        checked=False,
    )


def poisoned(b: PatientBatch) -> PatientBatch:
    """The batch with content behind every absent modality, which no source can make."""
    contents = {
        spec.name: _poisoned(b.modalities[spec.name], b.present[:, i], any(f.categories for f in spec.features))
        for i, spec in enumerate(b.schema.modalities)
    }
    return replace(b, modalities=contents, checked=True)


def _poisoned(m: Static | Series | Items, present: torch.Tensor, categorical: bool) -> Static | Series | Items:
    if isinstance(m, Static):
        absent = ~present[:, None].expand_as(m.values)
        # category indices must stay legal, or the embedding would refuse before the model can be judged
        bad = torch.ones_like(m.values) if categorical else torch.full_like(m.values, 1e3)
        return Static(torch.where(absent, bad, m.values), m.observed | absent)
    donor = int(m.counts.argmax())  # every patient without items gets this one's
    rows = torch.where(present, torch.arange(len(present)), donor)
    return m.take(rows)

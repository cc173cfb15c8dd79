"""The part of a schema or batch that is of one kind of modality; all series as one."""

from __future__ import annotations

from dataclasses import replace

import torch

from mmnar.schema import Feature, ModalityKind, ModalitySpec, Schema
from mmnar.types import PatientBatch, Series


def schema_of(schema: Schema, kind: ModalityKind) -> Schema:
    """The modalities of one kind, in order.

    Raises:
        SchemaError: There are none.
    """
    return replace(schema, modalities=tuple(spec for spec in schema.modalities if spec.kind == kind))


def of_kind(batch: PatientBatch, kind: ModalityKind) -> PatientBatch:
    """The same patients with the modalities of one kind."""
    index = [i for i, spec in enumerate(batch.schema.modalities) if spec.kind == kind]
    schema = schema_of(batch.schema, kind)
    return PatientBatch(
        schema,
        {name: batch.modalities[name] for name in schema.modality_names},
        batch.present[:, index],
        batch.labels,
        batch.label_mask,
        batch.rows,
        checked=True,
    )


def one_series_of(schema: Schema) -> ModalitySpec:
    """All series as one modality: the features of one after those of another, by names of both.

    Raises:
        SchemaError: There are none.
    """
    parts = schema_of(schema, "series").modalities
    return ModalitySpec("series", tuple(Feature(f"{m.name}: {f.name}") for m in parts for f in m.features), "series")


def one_series(batch: PatientBatch) -> Series:
    """All series of the batch as one, in time order; nothing of a series that is absent.

    Raises:
        SchemaError: There are none.
    """
    part, columns, before = of_kind(batch, "series"), [], 0
    for i, spec in enumerate(part.schema.modalities):
        content = part.modalities[spec.name]
        assert isinstance(content, Series)
        content = content.blank(part.present[:, i])
        columns.append((content.patient, content.hours, content.feature + before, content.values))
        before += len(spec.features)
    patient, hours, feature, values = (torch.cat(column) for column in zip(*columns, strict=True))
    order = torch.argsort(hours, stable=True)
    order = order[torch.argsort(patient[order], stable=True)]
    counts = torch.bincount(patient, minlength=len(batch))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Series(offsets, hours[order], values[order], feature[order])

"""The part of a schema or batch that is of one kind of modality."""

from __future__ import annotations

from dataclasses import replace

from mmnar.schema import ModalityKind, Schema
from mmnar.types import PatientBatch


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

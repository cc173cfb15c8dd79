"""A table read as another one was: its columns get the types, words and ranges that were found there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mmnar.errors import SchemaError
from mmnar.sources.table.spec import ColumnSpec, TableSpec


def columns_like(spec: TableSpec, stated: TableSpec, there: Collection[str]) -> TableSpec:
    """The columns of ``stated`` that are there, as they were understood then; what else the spec says stays.

    Raises:
        SchemaError: A column has another unit here.
    """
    here = {(c.modality, c.name): c for c in spec.columns}
    columns = []
    for wanted in stated.columns:
        own = here.get((wanted.modality, wanted.name), wanted)
        if own.unit != wanted.unit:
            what = f"column '{own.name}' of modality '{own.modality}'"
            raise SchemaError(what, f"the unit of the run, '{wanted.unit}'", f"'{own.unit}'", "convert it before")
        if wanted.name in there and (not own.known_at or own.known_at in there):
            columns.append(_understood(own, wanted))
    attributes = tuple((name, column) for name, column in spec.attributes if column in there)
    return replace(spec, columns=tuple(columns), attributes=attributes, ignore=())


def _understood(own: ColumnSpec, wanted: ColumnSpec) -> ColumnSpec:
    return replace(own, type=wanted.type, categories=wanted.categories, low=wanted.low, high=wanted.high)


def without_answers(spec: TableSpec) -> TableSpec:
    """Neither outcomes nor what is known in hindsight."""
    return replace(spec, outcomes=(), exclude=tuple(rule for rule in spec.exclude if not rule.hindsight))

"""``PatientBatch``, the input of every deep model, and ``Output``, what it returns. Read after ``schema.py``.

Axes: B patients, M modalities, F features, D width, K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from mmnar.errors import SchemaError
from mmnar.privacy import counted
from mmnar.schema import ModalitySpec, Schema
from mmnar.shown import Shown, names

__all__ = ["Items", "Output", "Packed", "PatientBatch", "Series", "Static"]


@dataclass(frozen=True)
class Static:
    """Content of a static modality.

    Args:
        values: (B, F) float32; standardised numbers, or category indices; 0 wherever not observed.
        observed: (B, F) bool.
    """

    values: Tensor
    observed: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Tensor) -> Static:
        return Static(self.values[rows], self.observed[rows])

    def blank(self, keep: Tensor) -> Static:
        """Erase the rows where ``keep`` (B,) is false."""
        # multiplication would let a NaN through; where does not
        return Static(
            torch.where(keep[:, None], self.values, torch.zeros_like(self.values)), self.observed & keep[:, None]
        )

    def to(self, device: torch.device) -> Static:
        return Static(self.values.to(device), self.observed.to(device))


@dataclass(frozen=True)
class Packed:
    """E items of B patients, packed patient by patient, in time order.

    Args:
        offsets: (B + 1,) int64; patient i's items are ``offsets[i]:offsets[i + 1]``.
        hours: (E,) float32 hours before the prediction, ≤ 0.
        values: (E, …).
    """

    offsets: Tensor
    hours: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Tensor:
        """(B,) items per patient."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def patient(self) -> Tensor:
        """(E,) whose each item is."""
        return _owners(self.counts)

    def take(self, rows: Tensor) -> Self:
        """The items of the given patients."""
        offsets, items = _gather(self.offsets, rows)
        return self._changed(offsets, lambda column: column[items])

    def blank(self, keep: Tensor) -> Self:
        """Erase the items of patients where ``keep`` (B,) is false."""
        counts = self.counts
        items = torch.repeat_interleave(keep, counts).nonzero().squeeze(1)
        return self._changed(_offsets(counts * keep), lambda column: column[items])

    def to(self, device: torch.device) -> Self:
        return self._changed(self.offsets.to(device), lambda column: column.to(device))

    def _changed(self, offsets: Tensor, change: Callable[[Tensor], Tensor]) -> Self:
        columns = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "offsets"}
        return type(self)(offsets=offsets, **columns)


@dataclass(frozen=True)
class Series(Packed):
    """Content of a series modality: measurements, ``values`` (E,) float32, standardised.

    Args:
        feature: (E,) int64 column of each.
    """

    feature: Tensor


@dataclass(frozen=True)
class Items(Packed):
    """Content of an embedding or image modality: ``values`` (E, D) float32, or (E, side, side) uint8."""


Content = Static | Series | Items


def _owners(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _gather(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets of the taken rows and the positions of their items."""
    counts = (offsets[1:] - offsets[:-1])[rows]
    new = _offsets(counts)
    shift = offsets[:-1][rows] - new[:-1]
    return new, torch.arange(int(new[-1]), device=offsets.device) + torch.repeat_interleave(shift, counts)


@dataclass(frozen=True, repr=False)
class PatientBatch(Shown):
    """B patients as a model sees them.

    Args:
        schema: Names and order of everything.
        modalities: name → content, in schema order.
        present: (B, M) bool; the observation pattern δ. Where false the content is blank.
        labels: (B, K) float32, 0/1; 0 where ``label_mask`` is false.
        label_mask: (B, K) bool.
        rows: (B,) int64 row numbers in the dataset.

    Raises:
        SchemaError: An invariant does not hold (see ``validate``).
    """

    schema: Schema
    modalities: dict[str, Content]
    present: Tensor
    labels: Tensor
    label_mask: Tensor
    rows: Tensor
    checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not self.checked:
            self.validate()
            object.__setattr__(self, "checked", True)

    def __len__(self) -> int:
        return len(self.rows)

    def _facts(self) -> dict[str, str]:
        modalities = [f"{m.name} ({m.kind})" for m in self.schema.modalities]
        return {
            "size": f"{counted(len(self))} rows",
            "modalities": names(modalities),
            "tasks": names(self.schema.task_names),
        }

    @property
    def pattern(self) -> Tensor:
        """(B, M) float32 δ."""
        return self.present.float()

    def take(self, rows: Tensor) -> PatientBatch:
        """The batch of the given positions; invariants survive indexing, so they are not checked again."""
        return PatientBatch(
            self.schema,
            {name: m.take(rows) for name, m in self.modalities.items()},
            self.present[rows],
            self.labels[rows],
            self.label_mask[rows],
            self.rows[rows],
            checked=True,
        )

    def drop(self, present: Tensor) -> PatientBatch:
        """The only way to simulate missingness: keep a modality where ``present`` (B, M) also says so."""
        kept = self.present & present
        modalities = {n: m.blank(kept[:, i]) for i, (n, m) in enumerate(self.modalities.items())}
        return replace(self, modalities=modalities, present=kept)

    def to(self, device: torch.device) -> PatientBatch:
        return PatientBatch(
            self.schema,
            {name: m.to(device) for name, m in self.modalities.items()},
            self.present.to(device),
            self.labels.to(device),
            self.label_mask.to(device),
            self.rows.to(device),
            checked=True,
        )

    def validate(self) -> None:
        """Check every invariant: names and order, shapes, finite values, zero where unobserved, blank where absent."""
        b, m, k = len(self.rows), len(self.schema.modalities), len(self.schema.tasks)
        if tuple(self.modalities) != self.schema.modality_names:
            raise SchemaError(
                "batch", f"modalities {self.schema.modality_names}", f"{tuple(self.modalities)}", "reorder"
            )
        for name, tensor, shape in (
            ("present", self.present, (b, m)),
            ("labels", self.labels, (b, k)),
            ("label_mask", self.label_mask, (b, k)),
        ):
            if tuple(tensor.shape) != shape:
                raise SchemaError(f"batch.{name}", f"{shape}", f"{tuple(tensor.shape)}", "rebuild the batch")
        if bool((self.labels[~self.label_mask] != 0).any()):
            raise SchemaError("batch.labels", "0 where label_mask is false", "another value", "mask before building")
        for panel, columns in zip((p for p in self.schema.panels if p.exclusive), self.schema.exclusive, strict=True):
            asked, true = self.label_mask[:, columns].sum(1), self.labels[:, columns].sum(1)
            if not bool((((asked == len(columns)) & (true == 1)) | (asked == 0)).all()):
                expected = "all tasks asked and one true, or none asked"
                raise SchemaError(f"panel '{panel.name}'", expected, "another row", "correct the labels")
        for i, spec in enumerate(self.schema.modalities):
            content = self.modalities[spec.name]
            if len(content) != b:
                raise SchemaError(f"modality '{spec.name}'", f"{b} patients", f"{len(content)}", "rebuild the batch")
            _check_static(content, spec) if isinstance(content, Static) else _check_packed(content, spec)
            has = content.observed.any(1) if isinstance(content, Static) else content.counts > 0
            if bool(has[~self.present[:, i]].any()):
                raise SchemaError(
                    f"modality '{spec.name}'", "nothing observed where absent", "observed cells", "use batch.drop"
                )


def _check_static(content: Static, spec: ModalitySpec) -> None:
    name, shape = f"modality '{spec.name}'", (len(content), len(spec.features))
    if tuple(content.values.shape) != shape or tuple(content.observed.shape) != shape or spec.kind != "static":
        raise SchemaError(name, f"{spec.kind} {shape}", f"static {tuple(content.values.shape)}", "rebuild the batch")
    # a NaN behind a `where` still poisons weight gradients, so none may exist at all
    if not bool(torch.isfinite(content.values).all()):
        raise SchemaError(name, "finite values", "NaN or infinity", "impute or mask first")
    if bool((content.values[~content.observed] != 0).any()):
        raise SchemaError(name, "0 where unobserved", "another value", "mask first")


def _check_packed(content: Series | Items, spec: ModalitySpec) -> None:
    name = f"modality '{spec.name}'"
    if (spec.kind == "series") != isinstance(content, Series) or spec.kind == "static":
        raise SchemaError(name, spec.kind, type(content).__name__, "rebuild the batch")
    items = int(content.offsets[-1])
    if len(content.hours) != items or len(content.values) != items or bool((content.counts < 0).any()):
        raise SchemaError(name, f"{items} items", f"{len(content.values)}", "rebuild the batch")
    if not bool((content.hours <= 0).all()):
        raise SchemaError(name, "times at or before the prediction", "later ones", "use events.before")
    if spec.kind == "image" and tuple(content.values.shape[1:]) != spec.shape:
        raise SchemaError(name, f"images {spec.shape}", f"{tuple(content.values.shape[1:])}", "rebuild the batch")
    if content.values.is_floating_point() and not bool(torch.isfinite(content.values).all()):
        raise SchemaError(name, "finite values", "NaN or infinity", "impute or mask first")


@dataclass(frozen=True)
class Output:
    """What a model returns.

    Args:
        logits: (B, K); no sigmoid.
        representation: (B, D) patient representation.
        losses: name → unweighted scalar, exactly the auxiliary names of the model's ``loss_weights``
            whose weight is not zero.
    """

    logits: Tensor
    representation: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)

"""The one container every deep model eats, and what it gives back. Read after ``schema.py``.

Axes: B patients, M modalities, F features, D width, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmnar.errors import SchemaError
from mmnar.schema import Schema


@dataclass(frozen=True)
class Modality:
    """Content of one static modality.

    Args:
        values: (B, F) float32; standardised numbers, or category indices; 0 wherever not observed.
        observed: (B, F) bool.
    """

    values: Tensor
    observed: Tensor

    def take(self, rows: Tensor) -> Modality:
        return Modality(self.values[rows], self.observed[rows])

    def blank(self, keep: Tensor) -> Modality:
        """Erase the rows where ``keep`` (B,) is false."""
        # multiplication would let a NaN through; where does not
        return Modality(
            torch.where(keep[:, None], self.values, torch.zeros_like(self.values)), self.observed & keep[:, None]
        )

    def to(self, device: torch.device) -> Modality:
        return Modality(self.values.to(device), self.observed.to(device))


@dataclass(frozen=True)
class PatientBatch:
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
    modalities: dict[str, Modality]
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
        for i, spec in enumerate(self.schema.modalities):
            content, shape = self.modalities[spec.name], (b, len(spec.features))
            if tuple(content.values.shape) != shape or tuple(content.observed.shape) != shape:
                raise SchemaError(
                    f"modality '{spec.name}'", f"{shape}", f"{tuple(content.values.shape)}", "rebuild the batch"
                )
            # a NaN behind a `where` still poisons weight gradients, so none may exist at all
            if not bool(torch.isfinite(content.values).all()):
                raise SchemaError(f"modality '{spec.name}'", "finite values", "NaN or infinity", "impute or mask first")
            if bool((content.values[~content.observed] != 0).any()):
                raise SchemaError(f"modality '{spec.name}'", "0 where unobserved", "another value", "mask first")
            if bool(content.observed[~self.present[:, i]].any()):
                raise SchemaError(
                    f"modality '{spec.name}'", "nothing observed where absent", "observed cells", "use batch.drop"
                )


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

"""Model: what every deep method implements, and its card. Read third."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmnar.errors import TrainingError
from mmnar.ops.losses import masked_label_loss
from mmnar.schema import ModalityKind, Schema
from mmnar.types import Output, PatientBatch

__all__ = ["Forward", "Model", "ModelCard", "Objective", "Phase", "TaskLoss", "summed_label_loss"]


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know about a method before believing its numbers.

    Args:
        title: The method's name in its paper's spelling.
        paper: Citation.
        missing: How it handles absent modalities.
        deviations: Where we decide otherwise than the paper, or it is silent.
        control: True for the plain controls that every method is compared with.
        needs: Kinds of modality of which the data set must have at least one each.
        keeps_patients: The fitted model holds vectors of training patients (a bank of neighbours): its file is patient
            data and goes nowhere that the records may not go. A ``Config`` with a property of this name says so of some
            settings only.
        original: The published settings, as overrides: ``preset=original``.
        carebench: Those of the CareBench benchmark where ``original`` is of another publication: ``preset=carebench``.
    """

    title: str
    paper: str
    missing: str
    deviations: tuple[str, ...] = ()
    control: bool = False
    needs: tuple[ModalityKind, ...] = ()
    keeps_patients: bool = False
    original: Mapping[str, Any] = field(default_factory=dict)
    carebench: Mapping[str, Any] = field(default_factory=dict)

    def refuses(self, schema: Schema) -> str | None:
        """Why the method cannot run on such data, or None where it can.

        >>> from mmnar.schema import Feature, ModalitySpec, Task
        >>> schema = Schema((ModalitySpec("labs", (Feature("ph"),)),), (Task("mortality", "", ""),))
        >>> ModelCard("GRU-D", "", "", needs=("series",)).refuses(schema)
        'needs a modality of kind series, the data has static'
        """
        kinds = sorted({m.kind for m in schema.modalities})
        lacking = [kind for kind in self.needs if kind not in kinds]
        if not lacking:
            return None
        return f"needs a modality of kind {' and '.join(lacking)}, the data has {', '.join(kinds)}"


@dataclass(frozen=True)
class Phase:
    """A stretch of training with fixed loss weights.

    Args:
        name: Shown in progress and history.
        weights: Loss name → weight; ``task`` is the label loss.
        epochs: How many; 0 = only what ``begin_phase`` does, None = up to ``max_epochs`` with early stopping on the
            tune fold. Small folds get more passes in either case (``training.loop.epochs_of``).
        rate: Factor on the learning rate of this phase.
    """

    name: str
    weights: dict[str, float]
    epochs: int | None = None
    rate: float = 1.0


@dataclass(frozen=True)
class Objective:
    """A scalar to differentiate and the named terms it is made of (detached, for the history)."""

    total: Tensor
    terms: dict[str, Tensor]


Forward = Callable[[PatientBatch], Output]
TaskLoss = Callable[[Tensor, PatientBatch], Tensor]


def summed_label_loss(logits: Tensor, batch: PatientBatch) -> Tensor:
    """Σ_t L_t: cross-entropy, every task with weight 1."""
    weights = torch.ones(logits.shape[1], device=logits.device)
    exclusive = batch.schema.exclusive
    return masked_label_loss(logits.float(), batch.labels, batch.label_mask, weights, exclusive)


class Model(nn.Module, ABC):
    """A deep method. Subclasses set ``card`` and ``Config`` and implement ``__init__`` and ``forward``.

    ``loss_weights`` holds the weights of the current phase; a term of weight zero need not be computed.
    ``task_loss`` is the label loss of this training, weighted over tasks, focal if configured: the term ``task``, and
    what auxiliary heads learn from.
    The other methods are no-ops or defaults that a method with special needs replaces, once.

    What a method fits by other means than the optimizer (means, clusters, a bank of training patients that stands in
    for the graph at prediction) is a buffer, filled in ``prepare``, ``begin_phase`` or ``after_epoch``: it is saved
    with the weights it was made with, and a patient's risk never depends on who is scored beside them. ``Config`` has
    ``width``, ``dropout`` and ``append_pattern`` (concatenate δ before the head: the control that tells whether a
    method merely lacks the pattern).
    """

    card: ClassVar[ModelCard]
    Config: ClassVar[type]

    def __init__(self, schema: Schema, config: Any) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        self.loss_weights: dict[str, float] = self.phases()[0].weights
        self.task_loss: TaskLoss = summed_label_loss

    @abstractmethod
    def forward(self, batch: PatientBatch) -> Output:
        """Logits (B, K), representation (B, D); in training mode also the auxiliary losses."""

    def phases(self) -> tuple[Phase, ...]:
        """Phases in order; by default one, on the label loss alone."""
        return (Phase("joint", {"task": 1.0}),)

    def prepare(self, train: PatientBatch) -> None:
        """See the whole training fold once, before training: means, scales, neighbours of raw vectors."""
        return

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        """At the start of each phase, on its first weights, in eval mode without gradients: clusters, alignments."""
        return

    def learners(self, phase: Phase, train: PatientBatch) -> Tensor | None:
        """After ``begin_phase``: positions in the training fold of those whom the phase learns from, at least one.

        None = everybody. ``after_epoch`` sees the whole fold in any case, and the tune fold is judged whole.
        """
        return None

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """What to differentiate for one batch; the loop steps the optimizer after each."""
        output = forward(batch)
        terms = {"task": self.task_loss(output.logits, batch), **output.losses}
        wanted = {name for name, weight in self.loss_weights.items() if weight}
        unknown = (wanted - set(terms)) | (set(terms) - set(self.loss_weights))
        if unknown:
            raise TrainingError(type(self).__name__, f"losses {sorted(wanted)}", f"{sorted(terms)}", "match the names")
        total = sum((self.loss_weights[name] * terms[name] for name in wanted), start=output.logits.new_zeros(()))
        yield Objective(total, {name: term.detach() for name, term in terms.items()})

    def after_backward(self) -> None:
        """Between backward and the optimizer's step."""
        return

    def after_step(self, rate: float) -> None:
        """After the optimizer's step, without gradients: pulls and projections of weights.

        Args:
            rate: The learning rate of that step.
        """
        return

    def after_epoch(self, train: PatientBatch) -> None:
        """After each epoch, in eval mode without gradients: renew what prediction needs of the training fold."""
        return

    def finish(self) -> None:
        """Training is over: forget what only training needs."""
        return

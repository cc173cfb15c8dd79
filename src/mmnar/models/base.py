"""Model: what every deep method implements, and its card. Read third."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from mmnar.errors import TrainingError
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know about a method before believing its numbers.

    Args:
        title: The method's name in its paper's spelling.
        paper: Citation.
        missing: How it handles absent modalities.
        deviations: Where we decide otherwise than the paper, or it is silent.
        control: True for the plain controls that every method is compared with.
    """

    title: str
    paper: str
    missing: str
    deviations: tuple[str, ...] = ()
    control: bool = False


@dataclass(frozen=True)
class Phase:
    """A stretch of training with fixed loss weights.

    Args:
        name: Shown in progress and history.
        weights: Loss name → weight; ``task`` is the label loss.
        epochs: How many; None = up to ``max_epochs`` with early stopping on the tune fold.
    """

    name: str
    weights: dict[str, float]
    epochs: int | None = None


@dataclass(frozen=True)
class Objective:
    """A scalar to differentiate and the named terms it is made of (detached, for the history)."""

    total: Tensor
    terms: dict[str, Tensor]


Forward = Callable[[PatientBatch], Output]
TaskLoss = Callable[[Tensor, PatientBatch], Tensor]


class Model(nn.Module, ABC):
    """A deep method. Subclasses set ``card`` and ``Config`` and implement ``__init__`` and ``forward``.

    ``loss_weights`` holds the weights of the current phase; a term of weight zero need not be computed.
    The other methods are no-ops or defaults that a method with special needs replaces, once.
    """

    card: ClassVar[ModelCard]
    Config: ClassVar[type]

    def __init__(self, schema: Schema, config: Any) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        self.loss_weights: dict[str, float] = self.phases()[0].weights

    @abstractmethod
    def forward(self, batch: PatientBatch) -> Output:
        """Logits (B, K), representation (B, D); in training mode also the auxiliary losses."""

    def phases(self) -> tuple[Phase, ...]:
        """Phases in order; by default one, on the label loss alone."""
        return (Phase("joint", {"task": 1.0}),)

    def prepare(self, train: PatientBatch) -> None:
        """See the whole training fold once, before training (prototypes, means). The only place that does."""
        return

    def objectives(self, batch: PatientBatch, forward: Forward, task_loss: TaskLoss) -> Iterator[Objective]:
        """What to differentiate for one batch; the loop steps the optimizer after each."""
        output = forward(batch)
        terms = {"task": task_loss(output.logits, batch), **output.losses}
        wanted = {name for name, weight in self.loss_weights.items() if weight}
        unknown = (wanted - set(terms)) | (set(terms) - set(self.loss_weights))
        if unknown:
            raise TrainingError(type(self).__name__, f"losses {sorted(wanted)}", f"{sorted(terms)}", "match the names")
        total = sum((self.loss_weights[name] * terms[name] for name in wanted), start=output.logits.new_zeros(()))
        yield Objective(total, {name: term.detach() for name, term in terms.items()})

    def after_backward(self) -> None:
        """Between backward and the optimizer's step."""
        return

    def after_epoch(self) -> None:
        """At the end of an epoch."""
        return

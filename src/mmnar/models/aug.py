"""AUG: each modality learns by itself, and those that tell less are given more classifiers, by boosting.

Jiang, Huang, Yang: "Rethinking Multimodal Learning from the Perspective of Mitigating Classification Ability
Disproportion", NeurIPS 2025. h^m = Enc_m(x^m); j = 0 is the first classifier of m, the others are added to it.

    φ_j^m = relu(W_j^m h^m),  f_j^m = F φ_j^m                  one output layer F for all
    z^m = Σ_{j ≤ J_m} f_j^m,  prev^m = z^m − f_{J_m}^m
    L^m = ℓ(z^m, y) + ℓ(prev^m, y) + (1 − r sg[p(y | prev^m)]) ℓ(f_{J_m}^m, y)      first term alone while J_m = 0
    m = 1 … M in turn, a step of the optimizer each
    c^m = mean p(y | z^m);  where max_n c^n / c^m > 1 + δ at the end of an epoch, J_m grows by one
    ŷ = Σ_{m∈O} α^m z^m / Σ_{m∈O} α^m                          O: what is present

Of patients who have the same, logits are sums over modalities: nothing that two tell only together can be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.modality import encode_present, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.confidence import confidence, confidence_in_company, truth
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

FREE: Final = -1
"""Owner of a block that no modality has been given."""

FOLD_ROWS: Final = 2048
"""Patients of the training fold whose logits are compared at once."""


@dataclass(frozen=True)
class AUGConfig:
    """Settings of AUG; letters are those of the equations above.

    Args:
        width: D, the width of every h and φ.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to every h.
        blocks: Classifiers that can be added, in all; 0 = each modality keeps its first.
        every: Epochs between two comparisons; one more is at the end of the first epoch.
        margin: δ, by how much a modality must be surer than another for that to be given a classifier.
        residual: r, how much less the newest classifier learns of what those before it know.
        alpha: α of each modality, in the order of the store, separated by commas; none = all the same.
        image, series: How those are encoded.

    Raises:
        ConfigError: A number that is none of its kind.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    blocks: int = 12
    every: int = 2
    margin: float = 0.01
    residual: float = 0.5
    alpha: tuple[float, ...] = ()
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        for key, least in (("blocks", 0), ("every", 1), ("margin", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"model.{key}", f"{least} or more", str(getattr(self, key)), "correct it")
        if not 0 <= self.residual <= 1:
            raise ConfigError("model.residual", "a share, 0 … 1", str(self.residual), "correct it")
        if any(not a >= 0 for a in self.alpha) or (self.alpha and not sum(self.alpha) > 0):
            raise ConfigError("model.alpha", "weights of 0 or more, not all 0", str(self.alpha), "correct them")


class AUG(Model):
    """Classifiers of single modalities, trained in turn; their number is fitted to how much each tells."""

    card = ModelCard(
        title="AUG",
        paper="Jiang, Huang, Yang (NeurIPS 2025)",
        missing="every modality has a logit of its own, learnt from who has it; present ones are averaged",
        deviations=(
            "Any M modalities; the paper has two. Each is compared with every other by the patients who have both, "
            "and all that are weaker than some other by the margin are given a classifier, the weakest first.",
            "The releases never give an added classifier to the optimiser, so that it stays as drawn; here it learns. "
            "Those that can be added exist from the start, in a pool for all modalities, and first count at "
            "prediction when they have learnt for an epoch.",
            "The paper's loss is for one of several classes. For yes or no CareBench writes the residual's term with "
            "soft labels, which has no lower bound; here, as in the paper's, it lessens each patient's share in the "
            "newest classifier's loss.",
            "How sure each modality is, is measured on the training fold without dropout at an epoch's end, not in "
            "passing.",
            "λ, by which CareBench's search favours one of two modalities, is 1, as in the paper; how much surer the "
            "record may be than the film is part of the margin in preset=original. The search's α, .72 for the record, "
            "is not: it depends on which modalities there are.",
            "A patient with nothing present, or with nothing that has a weight, has one learned risk.",
            "The release encodes a black film in place of an absent one; here nothing is.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
            "There the image encoder starts from ImageNet's weights. Such a file is the user's and no part of "
            "preset=original: model.image.weights=FILE model.image.norm=frozen.",
        ),
        original={**CAREBENCH, **CAREBENCH_ENCODERS, "model.every": 15, "model.margin": 0.205},
    )
    Config = AUGConfig
    owner: Tensor
    learnt: Tensor
    epochs: Tensor

    def __init__(self, schema: Schema, config: AUGConfig) -> None:
        super().__init__(schema, config)
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        if config.alpha and len(config.alpha) != m:
            raise ConfigError("model.alpha", f"{m} weights", str(len(config.alpha)), "give one for each modality")
        self.c = config
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        inputs = d + m * config.append_pattern
        self.first = nn.ModuleList(nn.Linear(inputs, d) for _ in range(m))  # W_0
        self.pool = nn.ModuleList(nn.Linear(inputs, d) for _ in range(config.blocks))  # W_j, j ≥ 1, for who needs them
        self.out = nn.Linear(d, k)  # F
        self.nothing = nn.Parameter(torch.zeros(k))
        self.turn: int | None = None
        self.register_buffer("owner", torch.full((config.blocks,), FREE))
        self.register_buffer("learnt", torch.full((config.blocks,), FREE))  # ``owner`` as the last epoch began
        self.register_buffer("epochs", torch.tensor(0))

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once: the three terms of L, and the risk of who has nothing."""
        return (Phase("joint", {"task": 1.0, "previous": 1.0, "added": 1.0, "nothing": 1.0}),)

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """L^m of each modality, of the patients who have it."""
        for self.turn in range(batch.present.shape[1]):
            losses = forward(batch).losses
            yield Objective(torch.stack(list(losses.values())).sum(), {n: loss.detach() for n, loss in losses.items()})
        self.turn = None

    def forward(self, batch: PatientBatch) -> Output:
        if self.training and self.turn is not None:
            return self._in_turn(self.turn, batch)
        every = [self.classifiers(m, batch) for m in range(batch.present.shape[1])]  # M of (1 + J_m, B, D)
        z = torch.stack([self.out(phi).sum(0) for phi in every], 1)  # (B, M, K)
        share = self.shares(batch.present)[..., None]  # (B, M, 1)
        h = (share * torch.stack([phi.sum(0) for phi in every], 1)).sum(1)  # (B, D)
        return Output(self._known((share * z).sum(1), share.any(1)), h)

    def _in_turn(self, m: int, batch: PatientBatch) -> Output:
        """z^m and what it learns from besides the label."""
        phi, has = self.classifiers(m, batch), batch.present[:, m, None]
        f = self.out(phi)  # (1 + J, B, K)
        z, theirs = self._known(f.sum(0), has), _of(batch, has)
        losses = {"task": self.task_loss(z, theirs), "previous": z.new_zeros(()), "added": z.new_zeros(())}
        losses["nothing"] = self.task_loss(z, _of(batch, ~batch.present.any(1, keepdim=True)))
        if len(f) > 1:
            previous = f[:-1].sum(0)
            weight = 1 - self.c.residual * truth(previous.detach(), batch)
            losses["previous"] = self.task_loss(previous, theirs)
            losses["added"] = self.task_loss(_learning(f[-1], weight), theirs)
        return Output(z, phi.sum(0), losses)

    def classifiers(self, m: int, batch: PatientBatch) -> Tensor:
        """φ^m: (1 + J_m, B, D); arbitrary where m is absent."""
        content = batch.modalities[self.schema.modality_names[m]]
        h = encode_present(self.encoders[m], content, batch.present[:, m], self.c.width)
        if self.c.append_pattern:
            h = torch.cat([h, batch.pattern.to(h.dtype)], 1)
        owners = (self.owner if self.training else self.learnt).tolist()
        mine = [block for block, owner in zip(self.pool, owners, strict=True) if owner == m]
        return F.relu(torch.stack([block(h) for block in (self.first[m], *mine)]))

    def shares(self, present: Tensor) -> Tensor:
        """(B, M): α of what is present, summing to 1; zeros where nothing with a weight is."""
        alpha = torch.tensor(self.c.alpha or [1.0] * present.shape[1], device=present.device) * present
        return alpha / alpha.sum(1, keepdim=True).clamp(min=torch.finfo(alpha.dtype).tiny)

    def alone(self, m: int, batch: PatientBatch) -> Tensor:
        """z^m: (B, K), or the learned risk where m is absent."""
        return self._known(self.out(self.classifiers(m, batch)).sum(0), batch.present[:, m, None])

    def _known(self, z: Tensor, known: Tensor) -> Tensor:
        """z, or the learned risk of who has nothing."""
        return torch.where(known, z, self.nothing.to(z.dtype))

    def after_epoch(self, train: PatientBatch) -> None:
        """After the first epoch and every few, one more classifier for each that is weaker than another."""
        self.learnt.copy_(self.owner)
        self.epochs += 1
        if self.epochs == 1 or self.epochs % self.c.every == 0:
            free = (self.owner == FREE).nonzero().squeeze(1)
            weak = self.weaker(self.confidences(train))[: len(free)]
            self.owner[free[: len(weak)]] = weak

    def confidences(self, train: PatientBatch) -> Tensor:
        """(M, M) sums as ``confidence_in_company`` has them."""
        total = torch.zeros(train.present.shape[1], train.present.shape[1], device=train.present.device)
        for rows in torch.split(torch.arange(len(train), device=total.device), FOLD_ROWS):
            part = train.take(rows)
            z = [self.alone(m, part) for m in range(len(total))]
            total += confidence_in_company(torch.stack([confidence(one, part) for one in z], 1), part.present)
        return total

    def weaker(self, told: Tensor) -> Tensor:
        """Which modalities are weaker than some other by the margin, the weakest first.

        Args:
            told: (M, M) sums as ``confidence_in_company`` has them.
        """
        ratio = torch.where(told > 0, told.T / told, 1.0).amax(1)  # (M,) of the surest beside m, to m
        order = ratio.argsort(descending=True, stable=True)
        return order[ratio[order] > 1 + self.c.margin]


def _of(batch: PatientBatch, who: Tensor) -> PatientBatch:
    """The labels of some patients (B, 1)."""
    return replace(batch, label_mask=batch.label_mask & who)


def _learning(logits: Tensor, weight: Tensor) -> Tensor:
    """The same logits; what is differentiated through them has the gradient of a loss weighted by ``weight``."""
    return logits.detach() + weight.to(logits.dtype) * (logits - logits.detach())

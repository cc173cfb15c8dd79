"""InfoReg: while a modality that leads the others learns fast, it is held back.

Huang, Wei, Yang, Hu: "Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition", CVPR 2025.
h^m = Enc_m(x^m; θ^m), θ_0^m its weights at the epoch's start, O what is present.

    ŷ = W [δ¹ h¹, …, δᴹ hᴹ] + b,  ŷ^m = V^m h^m + c^m
    L = ℓ(ŷ, y) + w Σ_m ℓ(ŷ^m, y)                            ŷ^m of who has m
    Tr_t^m = Σ_steps |∇_{θ^m} L|²                            trace of the Fisher information of epoch t
    T_t^m = mean of the last Q traces before epoch t,  k_t^m = (T_t^m − T_{t−1}^m) / T_t^m,  k_0^m = 1
    G^{mn} = Σ_i p(y_i | ŷ_i^m) − p(y_i | ŷ_i^n)             of a batch's patients who have both
    d = argmax_m mean_n G^{mn},  g = mean_n G^{dn}           the modality that leads
    β_d = β exp(tanh g) where g > 0 and k_t^d > κ, else 0
    θ^d ← θ^d − min(1, η β_d) (θ^d − θ_0^d)                  after each step of the optimizer, η its rate

Logits are sums over modalities: nothing that two tell only together can be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmnar.config import CAREBENCH, CAREBENCH_ENCODERS
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.confidence import confidence, confidence_in_company
from mmnar.ops.heads import TaskHead
from mmnar.ops.processes import summed
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class InfoRegConfig:
    """Settings of InfoReg; letters are those of the equations above.

    Args:
        width: D, the width of every h.
        dropout: Dropout in the encoders.
        append_pattern: Concatenate δ to h; logits stay sums over modalities.
        weight_own: w of the modalities' own label losses, above 0: they tell who leads.
        beta: β, how strongly the leading modality is held at its weights of the epoch's start; 0 = not at all.
        window: κ, the least relative change k of its Fisher trace at which it is.
        history: Q, epochs that a trace is averaged over.
        image, series: How those are encoded.

    Raises:
        ConfigError: A number that is none of its kind.
    """

    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    weight_own: float = 1.0
    beta: float = 40.0
    window: float = 0.05
    history: int = 10
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        if not self.weight_own > 0:
            raise ConfigError("model.weight_own", "above 0", str(self.weight_own), "correct it")
        if not self.beta >= 0:
            raise ConfigError("model.beta", "0 or more", str(self.beta), "correct it")
        if self.history < 1:
            raise ConfigError("model.history", "1 or more", str(self.history), "correct it")


class InfoReg(Model):
    """Late fusion with a label loss of each modality, and a pull that slows whichever leads."""

    card = ModelCard(
        title="InfoReg",
        paper="Huang, Wei, Yang, Hu (CVPR 2025)",
        missing="an absent modality is a zero vector: it adds nothing to any logit",
        deviations=(
            "Any M modalities; the paper has two. Two are compared by the patients of the batch who have both; the one "
            "whose lead over the others is greatest on average is held back, in the window of its own trace.",
            "The authors add the pull to the gradient of SGD. Under AdamW, which all methods here have, what scales or "
            "shifts a gradient slowly has no effect (CareBench's version scales it); here the weights are pulled after "
            "the step. The authors' β of .95 at a rate of .002 and a momentum of .9 is .019 of the way at each step; "
            "β = 40 is that at the rate here.",
            "One β for all modalities; in the release .95 where audio leads and .1 where video does.",
            "CareBench's version takes the trace of every batch for that of an epoch, and always that of the record. "
            "Its search is of those settings; preset=original has the paper's κ and Q, and the authors' pull.",
            "Traces are of all weights of an encoder; the release adds up the means of layers.",
            "ŷ^m has weights of its own, as in CareBench; the authors read them off W, so that of M logits each and "
            "their sum should be the patient's.",
            "The release encodes a black film in place of an absent one; here its vector is zero, and nothing is "
            "encoded.",
            "The release chooses epochs by the tune fold's AUPRC or accuracy; here by its log loss, as all methods.",
            "There the image encoder starts from ImageNet's weights. Such a file is the user's and no part of "
            "preset=original: model.image.weights=FILE model.image.norm=frozen.",
        ),
        original={**CAREBENCH, **CAREBENCH_ENCODERS, "model.beta": 190.0},
    )
    Config = InfoRegConfig
    traces: Tensor
    trace: Tensor

    def __init__(self, schema: Schema, config: InfoRegConfig) -> None:
        super().__init__(schema, config)
        m, d, k = len(schema.modalities), config.width, len(schema.tasks)
        self.c = config
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.head = TaskHead(schema, m * d, config.append_pattern)
        self.own = nn.ModuleList(nn.Linear(d, k) for _ in range(m))  # V^m, c^m
        # Q + 1 epochs, the latest last; what this epoch adds up to
        self.register_buffer("traces", torch.zeros(config.history + 1, m))
        self.register_buffer("trace", torch.zeros(m))
        self.start: list[list[Tensor]] = []  # θ_0^m; at a checkpoint they are the weights themselves
        self.pull: tuple[int, float] | None = None  # d, β_d of this step
        self.told = torch.zeros(m, m)  # (M, M) sums of this batch

    def phases(self) -> tuple[Phase, ...]:
        """Everything at once; ``own`` is Σ_m ℓ(ŷ^m, y)."""
        return (Phase("joint", {"task": 1.0, "own": self.config.weight_own}),)

    def forward(self, batch: PatientBatch) -> Output:
        h = encode(self.encoders, batch, self.c.width)  # (B, M, D)
        z = h.flatten(1)
        return Output(self.head(z, batch.present), z, self._losses(h, batch) if self.training else {})

    def _losses(self, h: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        own = [head(x) for head, x in zip(self.own, h.unbind(1), strict=True)]  # M of (B, K)
        told = torch.stack([confidence(one.detach(), batch) for one in own], 1)
        self.told = confidence_in_company(told, batch.present)
        theirs = [replace(batch, label_mask=batch.label_mask & has[:, None]) for has in batch.present.unbind(1)]
        return {"own": torch.stack([self.task_loss(*pair) for pair in zip(own, theirs, strict=True)]).sum()}

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """L; before its step it is decided who will be held back."""
        if not self.start:
            self.start = [[p.detach().clone() for p in encoder.parameters()] for encoder in self.encoders]
        for objective in super().objectives(batch, forward):
            self.pull = self.held_back(summed(self.told), self.relative_change())
            yield objective
        self.pull = None

    def held_back(self, told: Tensor, k: Tensor) -> tuple[int, float] | None:
        """d and β_d, or None where nobody is.

        Args:
            told: (M, M) sums as ``confidence_in_company`` has them.
            k: (M,) relative change of the traces.
        """
        lead = (told - told.T).sum(1) / max(1, len(told) - 1)  # (M,)
        d = int(lead.argmax())
        if not self.c.beta or not lead[d] > 0 or not k[d] > self.c.window:
            return None
        return d, self.c.beta * float(lead[d].tanh().exp())

    def relative_change(self) -> Tensor:
        """k (M,); 1 before there is any trace."""
        now, before = self.traces[1:].mean(0), self.traces[:-1].mean(0)
        return torch.where(now > 0, (now - before) / now, 1.0)

    def after_backward(self) -> None:
        """Traces, of the gradients before they are clipped."""
        for m, encoder in enumerate(self.encoders):
            for p in encoder.parameters():
                if p.grad is not None:
                    self.trace[m] += p.grad.square().sum()

    def after_step(self, rate: float) -> None:
        """The pull."""
        if self.pull is None:
            return
        d, beta = self.pull
        for p, p_0 in zip(self.encoders[d].parameters(), self.start[d], strict=True):
            p.lerp_(p_0, min(1.0, rate * beta))

    def after_epoch(self, train: PatientBatch) -> None:
        """An epoch's traces are known, and the next starts from other weights."""
        self.traces.copy_(torch.cat([self.traces[1:], self.trace[None]]))
        self.trace.zero_()
        self.start = []

    def finish(self) -> None:
        self.start, self.pull = [], None

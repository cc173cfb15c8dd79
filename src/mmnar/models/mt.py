"""MT: a multimodal transformer trained on incomplete views, with a searched fusion layer.

Ma, Ren, Zhao, Testuggine, Peng: "Are Multimodal Transformers Robust to Missing Modality?", CVPR 2022.
Each modality is P tokens and a cls token of its own; F is the fusion layer, O the observed modalities.

    token a may attend to token b in layer l  ⟺  δ^mod(a) δ^mod(b) (mod(a) = mod(b) or l ≥ F)
    logits(O) = Σ_{m ∈ O} π_m Head_m(cls_m),  π = softmax over O of learned scalars
    L = L_task(O) + λ_u L̄_task({m}) + λ_s L_task(random subset of O),  L̄ = mean over pairs of a patient and an m ∈ O
    search: min_α L_held-out(w*(α), F ~ softmax α)  with  w*(α) = argmin_w L_rest(w, F ~ softmax α)

F = 1 is early fusion, F = L + 1 late fusion: no attention between modalities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import Forward, Model, ModelCard, Objective, Phase
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import EVERY, FusionLayer
from mmnar.ops.views import some_of
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch

ALPHA_SCALE: Final = 20.0
"""What α is multiplied by: the loop has one learning rate, too low for a few logits to get anywhere."""


@dataclass(frozen=True)
class MTConfig:
    """Settings of MT; letters are those of the equations above.

    Args:
        width: D, the width of the encoders.
        dropout: Dropout in encoders and layers.
        patches: P, tokens per modality; divides ``width``.
        token_width: Width of a token; ``heads`` divides it.
        layers, heads: L layers and their attention heads.
        fusion_layer: F, from 1 (early) to L + 1 (late); None = early, or what the search finds.
        weight_alone, weight_subset: Weights λ_u, λ_s of the losses of single modalities and of random subsets.
        search: Search F in a phase of its own before training goes on with the one found.
        search_epochs: Length of that phase.
        search_share: Share of the training patients who decide on F and not on the weights during the search.
        append_pattern: Concatenate δ to what the heads see; a view's own subset for a view.
        image, series: How those are encoded.

    Raises:
        ConfigError: A number that does not divide another, no such layer, or F both given and searched.
    """

    width: int = 128
    dropout: float = 0.2
    patches: int = 4
    token_width: int = 64
    layers: int = 2
    heads: int = 4
    fusion_layer: int | None = None
    weight_alone: float = 0.5
    weight_subset: float = 0.5
    search: bool = False
    search_epochs: int = 20
    search_share: float = 0.2
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES

    def __post_init__(self) -> None:
        for name, part, whole in (("patches", self.patches, self.width), ("heads", self.heads, self.token_width)):
            if part < 1 or whole % part:
                raise ConfigError(
                    f"model.{name}", f"a divisor of {whole}", f"{part}", f"choose one that divides {whole}"
                )
        late, f = self.layers + 1, self.fusion_layer
        if f is not None and not 1 <= f <= late:
            raise ConfigError("model.fusion_layer", f"1 (early) to {late} (late)", f"{f}", "choose one of these layers")
        if f is not None and self.search:
            raise ConfigError("model.fusion_layer", "none where the search decides", f"{f}", "leave out one of the two")


class MT(Model):
    """Tokens of each modality by itself up to the fusion layer, all together from there on."""

    card = ModelCard(
        title="MT",
        paper="Ma, Ren, Zhao, Testuggine, Peng (2022), Are Multimodal Transformers Robust to Missing Modality?, CVPR",
        missing="tokens of absent modalities are neither attended to nor read; training adds incomplete views",
        deviations=(
            "We hold the abstract only: views, weights, sizes and the readout are ours.",
            "Not a pretrained vision-language transformer: tokens are P slices of the shared encoder's output, "
            "projected; no text or image patches of their own.",
            "Two layers on tokens of 64 numbers, not of the width that all methods share: attention over M (P + 1) "
            "tokens costs.",
            "One readout for every F, so that the search compares fusion and nothing else: per-modality heads on the "
            "cls tokens, averaged with weights that are renormalised over what is present. Of late fusion this is no "
            "surer than the surest of them. Adding up what each tells beyond the prior is worse, since modalities "
            "tell much of the same: KL to the exact risks higher by 166 ± 23 of 174.9 (1e-4 nats; 4,000 simulated "
            "patients, M = 4, three seeds ± standard error); a learned power of how many there are, between mean and "
            "sum, gains 12 ± 7 (M = 3: 9 ± 3 of 104.3). benchmarks/choices.py.",
            "Early fusion is the default. Late fusion (model.fusion_layer=3), as the CRL-MMNAR paper ran it, has KL "
            "higher by 71 ± 11 and tune log loss by 0.0061 ± 0.0016 (M = 4), 36 ± 6 and 0.0032 ± 0.0007 (M = 3); an "
            "epoch costs 5 times one of the zero-fill net in place of 13 (4,000 patients, M = 4; benchmarks/epoch.py).",
            "The search draws F anew for every step of the weights and for every patient of a step of α "
            "(straight-through); the two alternate, first order, and the likeliest F is kept.",
            "α is scaled by 20, since the loop has one learning rate.",
            "The tune fold chooses the epoch, so α is fitted to a fixed share of the training patients, chosen by row "
            "number; during the search they do not move the weights, afterwards they do.",
        ),
        original={"model.search": True},
    )
    Config = MTConfig
    fused_from: Tensor
    """F, a number from 1 to L + 1."""

    def __init__(self, schema: Schema, config: MTConfig) -> None:
        super().__init__(schema, config)
        self.c = config
        m, d, k = len(schema.modalities), config.token_width, len(schema.tasks)
        self.encoders = encoders_of(schema, config.width, config.dropout, config.image, config.series)
        self.slice = nn.Linear(config.width // config.patches, d)
        self.kind = nn.Parameter(torch.randn(m, 1, d) * 0.02)
        self.position = nn.Parameter(torch.randn(config.patches, d) * 0.02)
        self.cls = nn.Parameter(torch.randn(m, 1, d) * 0.02)
        self.layers = nn.ModuleList(FusionLayer(d, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.heads = nn.ModuleList(TaskHead(schema, d, config.append_pattern) for _ in schema.modalities)
        self.share = nn.Parameter(torch.zeros(m))  # π before the softmax
        self.null = nn.Parameter(torch.zeros(k))  # logits of a patient of whom nothing is known
        self.register_buffer("fused_from", torch.tensor(1 if config.fusion_layer is None else config.fusion_layer))
        if config.search:
            self.alpha = nn.Parameter(torch.zeros(config.layers + 1))
        self.searching = config.search
        self.choosing = False  # whether the present step is one of α

    def phases(self) -> tuple[Phase, ...]:
        """Search, if wanted, then training."""
        c: MTConfig = self.config
        weights = {"task": 1.0, "alone": c.weight_alone, "subset": c.weight_subset}
        search = (Phase("search", weights, c.search_epochs),) if c.search else ()
        return (*search, Phase("joint", weights))

    def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
        """Note whether F is being searched."""
        self.searching = phase.name == "search"

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        """The loss; during the search on most patients for the weights, then on the others for α."""
        if not self.searching:
            yield from super().objectives(batch, forward)
            return
        held = held_out(batch.rows, self.c.search_share)
        for self.choosing, part in ((False, ~held), (True, held)):
            rows = part.nonzero().squeeze(1)
            for objective in super().objectives(batch.take(rows) if len(rows) else batch, forward):
                # several processes step together, so a batch without such patients makes a step too, of no gradient
                yield objective if len(rows) else replace(objective, total=0 * objective.total)
        self.choosing = False

    def after_backward(self) -> None:
        """A step of α moves nothing else; one of the weights has no gradient of α."""
        if self.choosing:
            for name, parameter in self.named_parameters():
                if name != "alpha":
                    parameter.grad = None

    def after_epoch(self, train: PatientBatch) -> None:
        """The likeliest F so far is the one that predicts."""
        if self.searching:
            self.fused_from.fill_(int(self.alpha.argmax()) + 1)

    def forward(self, batch: PatientBatch) -> Output:
        tokens = self.tokens(encode(self.encoders, batch, self.c.width))
        present, start = batch.present, self._start()
        tokens = self.alone(tokens, present, self.layers[: start - 1])
        if not self.training:
            cls = self.fused(tokens, present, self.layers[start - 1 :])
            return Output(*self.read(cls, present))
        # the full and the reduced view in one pass; single modalities are what stays unfused
        views = torch.cat([present, some_of(present)])
        fuse = self.mixed if self.choosing else self.fused
        logits, h = self.read(fuse(torch.cat([tokens, tokens]), views, self.layers[start - 1 :]), views)
        b = len(present)
        losses = {}
        if self.loss_weights["alone"]:
            losses["alone"] = self.alone_loss(self.alone(tokens, present, self.layers[start - 1 :]), batch)
        if self.loss_weights["subset"]:
            losses["subset"] = self.task_loss(logits[b:], batch)
        return Output(logits[:b], h[:b], losses)

    def tokens(self, e: Tensor) -> Tensor:
        """(B, M, D) → (B, M, 1 + P, token width): cls^m, then the slices of e^m."""
        slices = self.slice(e.view(*e.shape[:2], self.c.patches, -1)) + self.kind + self.position
        return torch.cat([self.cls.expand(len(e), -1, -1, -1).to(slices.dtype), slices], dim=2)

    def alone(self, tokens: Tensor, views: Tensor, layers: nn.ModuleList) -> Tensor:
        """Layers l < F: every modality of a view attends to itself. (B, M, S, D), (B, M) → the same, 0 elsewhere.

        S of the last layer is 1, here and in ``fused``.
        """
        own = tokens[views]  # (N, S, D)
        for layer in layers:
            own = layer(own, None, self._wanted(layer, own.shape[1]))
        out = own.new_zeros(*views.shape, *own.shape[1:])
        out[views] = own
        return out

    def fused(self, tokens: Tensor, views: Tensor, layers: nn.ModuleList) -> Tensor:
        """Layers l ≥ F: tokens of a view attend to all of it. Shapes as in ``alone``; what is not in it is noise."""
        keys = views | ~views.any(1, keepdim=True)  # softmax over no key is NaN; such rows are read as null
        keys = keys.repeat_interleave(tokens.shape[2], dim=1)  # (B, M S)
        flat = tokens.flatten(1, 2)
        for layer in layers:
            flat = layer(flat, keys, self._wanted(layer, tokens.shape[2]))
        m = views.shape[1]
        return flat.view(len(flat), m, flat.shape[1] // m, flat.shape[2])

    def _wanted(self, layer: nn.Module, s: int) -> slice:
        """Of the last layer cls alone, one of every S tokens; nothing else is read."""
        return slice(0, None, s) if layer is self.layers[-1] else EVERY

    def mixed(self, tokens: Tensor, views: Tensor, layers: nn.ModuleList) -> Tensor:
        """Layers with an F drawn for each row, straight-through: its gradient is that of the Gumbel-softmax of α."""
        drawn = F.gumbel_softmax((self.alpha * ALPHA_SCALE).expand(len(tokens), -1), hard=True)  # (B, L + 1)
        reached = drawn.cumsum(1)  # 1 where l ≥ F
        for number in range(len(layers)):
            meets, layer = reached[:, number, None, None, None], layers[number : number + 1]
            tokens = meets * self.fused(tokens, views, layer) + (1 - meets) * self.alone(tokens, views, layer)
        return tokens

    def read(self, tokens: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_{m ∈ view} π_m Head_m(cls_m), (B, K), and Σ π_m cls_m, (B, D)."""
        cls, m = self.norm(tokens[:, :, 0]), views.shape[1]
        something = views.any(1, keepdim=True)
        share = self.share.expand_as(views).masked_fill(~views & something, -torch.inf).softmax(1) * something
        logits = (share[..., None] * self._heads(cls, views[:, None].expand(-1, m, -1))).sum(1)
        return torch.where(something, logits, self.null.to(logits.dtype)), (share[..., None] * cls).sum(1)

    def alone_loss(self, tokens: Tensor, batch: PatientBatch) -> Tensor:
        """L̄_task({m}): the label loss of each m over who has it, weighted by how many they are."""
        m = len(self.heads)
        only = torch.eye(m, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        logits = self._heads(self.norm(tokens[:, :, 0]), only)  # (B, M, K)
        who = batch.present.sum(0)  # (M,)
        of_each = [
            self.task_loss(logits[:, i], replace(batch, label_mask=batch.label_mask & batch.present[:, [i]]))
            for i in range(m)
        ]
        return (torch.stack(of_each) * who).sum() / who.sum().clamp(min=1)

    def _heads(self, cls: Tensor, patterns: Tensor) -> Tensor:
        """Head_m(cls_m) with the pattern that each is told, (B, M, M): (B, M, K)."""
        return torch.stack([head(cls[:, m], patterns[:, m]) for m, head in enumerate(self.heads)], dim=1)

    def _start(self) -> int:
        """F of this pass; a step of α runs every layer both ways."""
        if not (self.training and self.searching):
            return int(self.fused_from)
        return 1 if self.choosing else int(torch.multinomial((self.alpha * ALPHA_SCALE).softmax(0), 1)) + 1


def held_out(rows: Tensor, share: float) -> Tensor:
    """Which dataset rows (B,) decide on F: a fixed pseudo-random part (Knuth's multiplicative hash).

    >>> bool(abs(held_out(torch.arange(1000), 0.2).float().mean() - 0.2) < 0.02)
    True
    """
    return rows * 2654435761 % 2**32 < share * 2**32

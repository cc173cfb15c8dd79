"""UMSE: every measurement a token of its time, feature and value; modalities meet in a few bottleneck tokens.

Lee, Lee, Hahn, Hyun, Choi, Ahn, Lee: "Learning Missing Modal Electronic Health Records with Unified Multi-modal Data
Embedding and Modality-Aware Attention", MLHC 2023 (arXiv 2305.02504). O is the set of present modalities; layers of
modality m are its own.

    e = f_v(value) + f_t(time) + E[type]              one f_v, f_t and E for all modalities; f: linear, LN, relu
    [z^m_l ; c^m_l ; x^m_l] = Layer^m_l [z_{l−1} ; c^m_{l−1} ; x^m_{l−1}]         x^m_0 the e of m;  l = 1 … L
    z_l = mean_{m∈O} z^m_l                                     skip bottleneck: who is absent is not in the mean
    w^m = softmax_{m∈O}( a^m + v' tanh(W c^m_L) )
    ŷ_k = w_k' Σ_{m∈O} w^m c^m_L + b_k
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import CAREBENCH
from mmnar.errors import ConfigError
from mmnar.models.base import Model, ModelCard
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import EVERY, FusionLayer
from mmnar.ops.packed import TIME_WIDTH, held, latest, padded, time_features
from mmnar.ops.parts import by_parts
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Content, Items, Output, PatientBatch, Series, Static

ROWS: Final = 64
"""Patients predicted at a time: each has hundreds of tokens."""


@dataclass(frozen=True)
class UMSEConfig:
    """Settings of UMSE; letters are those of the equations above.

    Args:
        width: D, the width of tokens.
        dropout: Dropout of tokens and in the layers.
        layers: L, at least 2: modalities read in each layer what the others wrote in the one before.
        bottlenecks: Tokens z.
        heads: Of the attention; a divisor of ``width``.
        max_items: Of each series the latest so many measurements are tokens.
        patch: Pixels of a side of an image's patches; margins are filled up with black.
        append_pattern: Concatenate δ to what the head sees.

    Raises:
        ConfigError: A number that is none of its kind, or heads that do not divide the width.
    """

    width: int = 128
    dropout: float = 0.2
    layers: int = 2
    bottlenecks: int = 4
    heads: int = 4
    max_items: int = 512
    patch: int = 16
    append_pattern: bool = False

    def __post_init__(self) -> None:
        for key, least in (("layers", 2), ("bottlenecks", 1), ("heads", 1), ("max_items", 1), ("patch", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"model.{key}", f"{least} or more", str(getattr(self, key)), "correct it")
        if self.width % self.heads:
            expected = f"a divisor of model.width ({self.width})"
            raise ConfigError("model.heads", expected, str(self.heads), "change one of them")


class UMSE(Model):
    """Triplet tokens, a transformer for each modality, a shared skip bottleneck, attention over what is present."""

    card = ModelCard(
        title="UMSE",
        paper="Lee, Lee, Hahn, Hyun, Choi, Ahn, Lee (MLHC 2023), arXiv 2305.02504",
        missing="an absent modality has no tokens, adds nothing to the bottleneck and is not in the last attention; a "
        "value that was not measured is no token",
        deviations=(
            "Any M modalities: the measured features of a static one are tokens with the time of the prediction, a "
            "category having a vector of its own in place of f_v; a note is one token of its vector.",
            "Tokens are the substance of the method, so it has no shared encoder: images are cut into patches, whose "
            "places have learned vectors, as in the paper. They are not changed in training.",
            "Time enters as it does everywhere here, on two scales and by a few periods; the paper has one number.",
            "Two layers by default, inner width 2 D, normalised before attention; the release's example has six.",
            "Of each series the latest 512 measurements are tokens by default: attention among 1,300 costs six "
            "times as much (model.max_items).",
            "We know the last attention by its purpose, to read what is present and nothing else; its scores are ours.",
            "A patient with nothing present has a learned null vector.",
            "CareBench's port makes tokens of the imputed values and drops the measured ones, cuts away the latest, "
            "takes the film's flag for its opposite, has one layer, in which no modality reads another, weighs a blank "
            "film like a real one and takes a measurement of the median at time zero for padding; nothing of it is "
            "here, and preset=original has two layers in place of its one.",
            "There epochs are chosen by the tune fold's AUPRC or accuracy, here by its log loss.",
        ),
        original={
            **CAREBENCH,
            "model.bottlenecks": 1,
            "model.heads": 8,
            "model.max_items": 500,
            "model.patch": 32,
        },
    )
    Config = UMSEConfig

    def __init__(self, schema: Schema, config: UMSEConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.c = config
        self.tokens = SetEmbedding(schema, config)
        self.bottleneck = nn.Parameter(torch.randn(config.bottlenecks, d) * 0.02)  # z_0
        self.cls = nn.Parameter(torch.randn(m, d) * 0.02)  # c_0
        self.layers = nn.ModuleList(
            nn.ModuleList(FusionLayer(d, config.heads, config.dropout) for _ in range(m)) for _ in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(m))
        self.score = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, 1, bias=False))  # W, v
        self.bias = nn.Parameter(torch.zeros(m))  # a
        self.null = nn.Parameter(torch.randn(d) * 0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.head = TaskHead(schema, d, config.append_pattern)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, ROWS)

    def _outputs(self, batch: PatientBatch) -> Output:
        c = self.summaries(batch)  # (B, M, D)
        w = self.weights(c, batch.present)
        h = torch.where(batch.present.any(1, keepdim=True), (w[..., None] * c).sum(1), self.null)  # (B, D)
        return Output(self.head(h, batch.present), h)

    def summaries(self, batch: PatientBatch) -> Tensor:
        """c^m_L (B, M, D), zeros where absent."""
        rows = [there.nonzero().squeeze(1) for there in batch.present.unbind(1)]  # who has m, (n_m,)
        contents = [content.take(r) for content, r in zip(batch.modalities.values(), rows, strict=True)]
        state, keys = map(list, zip(*(self._sequence(m, content) for m, content in enumerate(contents)), strict=True))
        z, n = self.bottleneck.expand(len(batch), -1, -1), self.c.bottlenecks  # (B, n, D)
        for layers in self.layers[:-1]:
            state = _layer(layers, z, state, keys, rows)
            z = skip_mean([x[:, :n] for x in state], rows, batch.present)
            state = [x[:, n:] for x in state]
        # of the last layer only c is read
        state = _layer(self.layers[-1], z, state, keys, rows, slice(n, n + 1))
        c = [norm(x[:, 0]) for norm, x in zip(self.norms, state, strict=True)]  # (n_m, D)
        whole = [x.new_zeros(len(batch), x.shape[1]).index_copy(0, r, x) for x, r in zip(c, rows, strict=True)]
        return torch.stack(whole, 1)

    def weights(self, c: Tensor, present: Tensor) -> Tensor:
        """w^m (B, M): 0 where absent, of sum 1 where anything is present."""
        scores = (self.bias + self.score(c).squeeze(2)).float().masked_fill(~present, -torch.inf)
        return torch.where(present.any(1, keepdim=True), scores, 0.0).softmax(1) * present

    def _sequence(self, m: int, content: Content) -> tuple[Tensor, Tensor]:
        """[c^m_0 ; x^m_0] (n, 1 + L, D) of those who have m, and which places of [z ; c ; x] are tokens."""
        tokens = self.tokens(m, content)
        x = padded(self.dropout(tokens.values), tokens)
        always = torch.ones(len(x), self.c.bottlenecks + 1, dtype=torch.bool, device=x.device)
        return torch.cat([self.cls[m].expand(len(x), 1, -1), x], 1), torch.cat([always, held(tokens)], 1)


class SetEmbedding(nn.Module):
    """e of every measurement, item and patch, packed patient by patient.

    Args:
        schema: Each feature of a static modality or series is a type, and so is each other modality.
        c: Width, side of patches, and how many measurements of a series are tokens.
    """

    def __init__(self, schema: Schema, c: UMSEConfig) -> None:
        super().__init__()
        self.c, d = c, c.width
        types = [max(1, len(spec.features)) for spec in schema.modalities]
        self.first = [sum(types[:m]) for m in range(len(types))]  # type of each modality's first feature, or its own
        self.types = nn.Embedding(sum(types), d)  # E
        self.time = _f(TIME_WIDTH, d)  # f_t
        self.value = _f(1, d)  # f_v
        # what stands for f_v where values are no numbers
        self.special = nn.ModuleDict(
            {str(m): of for m, spec in enumerate(schema.modalities) if (of := _special(spec, c))}
        )

    def forward(self, m: int, content: Content) -> Items:
        """Tokens (E, D) of modality m."""
        if isinstance(content, Static):
            return self._of_static(m, content)
        if isinstance(content, Series):
            content = latest(content, self.c.max_items)
            e = self.value(content.values[:, None]) + self._placed(content.hours, self.first[m] + content.feature)
            return Items(content.offsets, content.hours, e)
        vectors = self.special[str(m)](content.values)  # (E, D), or of each image's P patches (E, P, D)
        vectors = vectors[:, None] if vectors.ndim == 2 else vectors
        kind = torch.full_like(content.patient, self.first[m])
        each, e = vectors.shape[1], vectors + self._placed(content.hours, kind)[:, None]
        return Items(content.offsets * each, content.hours.repeat_interleave(each), e.flatten(0, 1))

    def _placed(self, hours: Tensor, kind: Tensor) -> Tensor:
        """f_t(hours) + E[kind]: (E,), (E,) → (E, D)."""
        return self.time(time_features(hours)) + self.types(kind)  # type: ignore[no-any-return]

    def _of_static(self, m: int, content: Static) -> Items:
        patient, feature = content.observed.nonzero(as_tuple=True)
        values, hours = content.values[patient, feature], content.values.new_zeros(len(patient))
        told = self.value(values[:, None])
        if str(m) in self.special:
            told = self.special[str(m)](told, values, feature)
        counts = content.observed.sum(1)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Items(offsets, hours, told + self._placed(hours, self.first[m] + feature))


class Categories(nn.Module):
    """A learned vector of each category in place of f_v(value)."""

    index: Tensor
    categorical: Tensor

    def __init__(self, spec: ModalitySpec, width: int) -> None:
        super().__init__()
        counts = torch.tensor([len(f.categories) for f in spec.features])
        self.register_buffer("index", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("categorical", counts > 0, persistent=False)
        self.vectors = nn.Embedding(int(counts.sum()), width)

    def forward(self, told: Tensor, values: Tensor, feature: Tensor) -> Tensor:
        """(E, D), as ``told`` where the value is a number."""
        of = self.categorical[feature]
        return torch.where(of[:, None], self.vectors(torch.where(of, self.index[feature] + values.long(), 0)), told)


class Patches(nn.Module):
    """(E, side, side) → (E, P, D): each patch by one linear map, and a learned vector of its place."""

    def __init__(self, side: int, patch: int, width: int) -> None:
        super().__init__()
        self.margin = -side % patch
        self.linear = nn.Conv2d(1, width, patch, stride=patch)
        self.place = nn.Parameter(torch.randn(((side + self.margin) // patch) ** 2, width) * 0.02)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.float() / 255 if images.dtype == torch.uint8 else images
        x = F.pad(grey, (0, self.margin, 0, self.margin))[:, None]
        return self.linear(4 * x - 2).flatten(2).transpose(1, 2) + self.place  # type: ignore[no-any-return]


def _layer(
    layers: nn.Module, z: Tensor, state: list[Tensor], keys: list[Tensor], rows: list[Tensor], read: slice = EVERY
) -> list[Tensor]:
    """Layer^m of [z ; c^m ; x^m] of those who have m: (n_m, n + 1 + L_m, D), or of them what is ``read``."""
    assert isinstance(layers, nn.ModuleList)
    parts = zip(layers, state, keys, rows, strict=True)
    return [layer(torch.cat([z[r], x], 1), key, read) for layer, x, key, r in parts]


def skip_mean(parts: list[Tensor], rows: list[Tensor], present: Tensor) -> Tensor:
    """Mean over present modalities: z^m (n_m, n, D) of the patients ``rows`` (n_m,) each → (B, n, D)."""
    total = parts[0].new_zeros(len(present), *parts[0].shape[1:])
    for part, r in zip(parts, rows, strict=True):
        total = total.index_add(0, r, part)
    return total / present.sum(1).clamp(min=1)[:, None, None]


def _f(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU())


def _special(spec: ModalitySpec, c: UMSEConfig) -> nn.Module | None:
    if spec.kind == "image":
        return Patches(spec.shape[0], c.patch, c.width)
    if spec.kind in ("embedding", "hashed"):
        return _f(spec.shape[-1], c.width)
    if any(f.categories for f in spec.features):
        return Categories(spec, c.width)
    return None

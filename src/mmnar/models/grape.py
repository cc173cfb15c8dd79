"""GRAPE: a bipartite graph of patients and features; imputation is edge regression, the label is read from the row.

You, Ma, Ding, Kochenderfer, Leskovec: "Handling Missing Data with Graph Representation Learning", NeurIPS 2020
(arXiv 2010.16418). Here the columns are modalities and an edge carries a vector. ``ops.bipartite`` has the layers.

    h_i = 1,  h_m = onehot(m),  e_im = Enc_m(x_im)                      patients, modalities, edges    (0)
    n_v = mean_u ReLU(P [h_u; e_uv]),  h_v ← ‖ReLU(Q [n_v; h_v])‖,  e_uv ← ReLU(W [h_u; h_v; e_uv])    (1 … L)
    x̂_im = O_edge([MLP(h_i); MLP(h_m)])                                 for every m, observed or not
    ŷ_i = O_node([x̂_i1, …, x̂_iM])                                       label from the imputed row
    L = L_task + λ_imp mean over dropped observed edges of ‖R_m x̂_im − x_im‖² / F_m
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.plain import PlainVectors
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.bipartite import BipartiteSage, linear_of_parts, scaled_linear
from mmnar.ops.heads import TaskHead
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class GRAPEConfig:
    """Settings of GRAPE; letters are those of the equations above.

    Args:
        width: D, the width of nodes, edges and imputed vectors.
        dropout: Dropout in the encoders; the graph has none.
        layers: L, the number of graph layers.
        keep: r, the share of observed edges that each training step keeps.
        weight_imp: λ_imp; 0 trains on labels alone, as the released label script does.
        append_pattern: Concatenate δ to the imputed row.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    layers: int = 2
    keep: float = 0.7
    weight_imp: float = 0.3
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class GRAPE(Model):
    """Edge-aware graph network over patients and modalities; the label is regressed on the imputed row."""

    card = ModelCard(
        title="GRAPE",
        paper="You, Ma, Ding, Kochenderfer, Leskovec (2020), NeurIPS, arXiv 2010.16418",
        missing="an absent modality is an absent edge; its vector is imputed from the graph",
        deviations=(
            "Columns are modalities and edges carry encoder outputs, as CRL-MMNAR describes its baseline; the paper's "
            "columns are single features with scalar edges. There is no variant on single features.",
            "Training is by mini-batch: a modality's neighbourhood is the batch. At prediction modality states are "
            "those of the whole training fold, renewed after each epoch; the release puts test patients in the graph.",
            "The imputation target is the given data x_im (scaled on the training fold, known entries alone), "
            "read from the imputed vector through a fixed orthogonal basis R_m: a target that trains could collapse.",
            "The release scales values with all rows, test rows and cells it later hides included; we do not.",
            "The imputation loss is on the edges that the step dropped; the release's is on all training edges.",
            "Labels and imputation are trained together (λ_imp 0.3, our choice); the release has a script for each.",
            "O_edge has a hidden layer, as in the release's imputation script: a linear one would give every modality "
            "of a patient the same vector up to a constant.",
            "Node states are scaled to unit mean square, not to length one, and weights start at He's scale: both "
            "change only where training starts, which 20,000 epochs forgive and ours do not.",
            "The edge states that the release also updates after the last layer are read by nobody and left out.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.width": 16,
            "model.dropout": 0.0,
            "model.weight_imp": 0.0,
            "train.lr": 1e-3,
            "train.batch_size": 1_000_000,  # the whole fold
            "train.max_epochs": 20_000,
            "train.patience": 20_000,
        },
    )
    Config = GRAPEConfig
    config: GRAPEConfig
    columns: Tensor

    def __init__(self, schema: Schema, config: GRAPEConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.register_buffer("columns", torch.eye(m), persistent=False)
        self.graph = BipartiteSage(m, m, d, d, config.layers, pooled=config.layers, normalise=True)
        self.post = nn.Sequential(scaled_linear(d, d), nn.ReLU(), scaled_linear(d, d, "linear"))
        self.edge_hidden, self.edge_out = scaled_linear(2 * d, d), scaled_linear(d, d, "linear")  # O_edge
        self.head = TaskHead(schema, m * d, config.append_pattern)  # O_node
        self.plain = PlainVectors(schema)
        for i, width in enumerate(self.plain.widths):
            self.register_buffer(f"basis{i}", nn.init.orthogonal_(torch.empty(width, d)))  # R_m

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase("joint", {"task": 1.0, "imp": c.weight_imp}),)

    def prepare(self, train: PatientBatch) -> None:
        """Mean and scale of the imputation targets."""
        self.plain.fit(train)

    def after_epoch(self, train: PatientBatch) -> None:
        """Modality states of the training fold."""
        self.graph.fit(self.columns, train, self.edges)

    def forward(self, batch: PatientBatch) -> Output:
        kept = self.drop_edges(batch.present) if self.training else batch.present
        h, columns = self.graph(self.columns, self.edges(batch), kept)  # (B, D), (M, D)
        h = self.post(h)
        imputed = self.impute(h, self.post(columns))  # (B, M, D)
        logits = self.head(imputed.flatten(1), batch.present)
        if not (self.training and self.loss_weights["imp"]):
            return Output(logits, h)
        return Output(logits, h, {"imp": self._imputation_loss(imputed, batch, batch.present & ~kept)})

    def edges(self, batch: PatientBatch) -> Tensor:
        """e_im, (B, M, D)."""
        return encode(self.encoders, batch, self.config.width)

    def drop_edges(self, present: Tensor) -> Tensor:
        """Each observed edge stays with probability r, or goes in both directions; (B, M) bool."""
        return present & (torch.rand(present.shape, device=present.device) < self.config.keep)

    def impute(self, patients: Tensor, columns: Tensor) -> Tensor:
        """x̂_im of every patient and modality: (B, D), (M, D) → (B, M, D)."""
        hidden = F.relu(linear_of_parts(self.edge_hidden, patients[:, None], columns))
        return self.edge_out(hidden)  # type: ignore[no-any-return]

    def _imputation_loss(self, imputed: Tensor, batch: PatientBatch, dropped: Tensor) -> Tensor:
        """Squared error of x̂_im: mean over the known entries of an edge, then over the dropped edges; 0 without any.

        Args:
            imputed: (B, M, D).
            dropped: (B, M) bool; observed, and hidden from the graph.
        """
        total = imputed.new_zeros(())
        for i, (x, known) in enumerate(self.plain(batch)):  # (B, F_m), (B, F_m)
            basis: Tensor = getattr(self, f"basis{i}")
            error = torch.where(known, F.linear(imputed[:, i], basis) - x, 0.0) ** 2
            per_edge = error.sum(1) / known.sum(1).clamp(min=1)  # (B,)
            total = total + (per_edge * dropped[:, i]).sum()
        return total / dropped.sum().clamp(min=1)

"""MUSE+: a bipartite graph of patients and modalities whose two views agree, trained on unlabelled patients too.

Wu, Dadu, Tustison, Avants, Nalls, Sun, Faghri: "Multimodal Patient Representation Learning with Missing Modalities
and Labels", ICLR 2024. ``ops.bipartite`` has the layers.

    h_i = 1,  h_m learned,  e_im = Dropout(Enc_m(x_im))                  patients, modalities, edges    (0)
    n_v = mean_u ReLU(P [h_u; e_uv]),  h_v ← ReLU(Q [n_v; h_v]),  e_uv ← ReLU(W [h_u; h_v; e_uv])       (1 … L)
    z = h_i of all edges, z' = h_i of the edges that are left by dropping some
    u = tanh(Lin z) / ‖·‖,  S(U, V) = U Vᵀ / τ
    L_uns = ½ (CE(S(U, U')) + CE(S(U', U)))                              target: the identity
    L_sup = ¼ (2 BCE(S(U, U)) + BCE(S(U, U')) + BCE(S(U', U)))           target: [y_i = y_j], labelled pairs
    L = L_task(MLP z) + ½ L_uns + ½ L_sup
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.bipartite import BipartiteSage
from mmnar.ops.heads import TaskHead
from mmnar.ops.losses import info_nce
from mmnar.schema import Schema
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class MUSEConfig:
    """Settings of MUSE+; letters are those of the equations above.

    Args:
        width: D, the width of nodes and edges.
        dropout: Dropout in encoders, on edges, on nodes between layers and in the classifier.
        layers: L, the number of graph layers.
        temperature: τ, the temperature of the contrasts.
        weight_uns, weight_sup: Weights of the contrast without and of that with labels.
        append_pattern: Concatenate δ to what the classifier sees.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    layers: int = 2
    temperature: float = 0.07
    weight_uns: float = 0.5
    weight_sup: float = 0.5
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class MUSE(Model):
    """Edge-aware graph network over patients and modalities with contrast between two views of it."""

    card = ModelCard(
        title="MUSE+",
        paper="Wu, Dadu, Tustison, Avants, Nalls, Sun, Faghri (2024), ICLR",
        missing="an absent modality is an absent edge; views with fewer edges must agree with the full one",
        deviations=(
            "As we understand it, the plus is training on unlabelled patients too: the release can load them and does "
            "not by default. Patients without any task asked are in the graph and in L_uns. Where every patient has a "
            "label, MUSE+ is MUSE.",
            "Several tasks: L_sup is averaged over tasks, each over the pairs in which both were asked.",
            "A patient with nothing present is the same constant in both views and takes no part in the contrasts; "
            "all of them get the same risk.",
            "At prediction modality states are those of the whole training fold, renewed after each epoch; in the "
            "release they are the batch's, and a patient's risk depends on who is scored beside them.",
            "Weights of the graph start at He's scale.",
            "The hidden layer of the classifier has a GELU (release: ReLU).",
            "Encoders are those of all methods here, so there is no mapper after them and no frozen language model.",
        ),
        original={
            **PLAIN_TRAINING,
            "model.dropout": 0.25,
            "train.batch_size": 512,
            "train.lr": 2e-4,
            "train.max_epochs": 100,
            "train.patience": 100,
        },
    )
    Config = MUSEConfig
    config: MUSEConfig

    def __init__(self, schema: Schema, config: MUSEConfig) -> None:
        super().__init__(schema, config)
        m, d = len(schema.modalities), config.width
        self.encoders = encoders_of(schema, d, config.dropout, config.image, config.series)
        self.edge_dropout = nn.Dropout(config.dropout)
        self.columns = nn.Parameter(torch.randn(m, d))
        # only patients are read after the last layer
        self.graph = BipartiteSage(m, d, d, d, config.layers, pooled=config.layers - 1, dropout=config.dropout)
        self.project = nn.Sequential(nn.Linear(d, d), nn.Tanh())
        self.head = TaskHead(schema, d, config.append_pattern, d, config.dropout)

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase("joint", {"task": 1.0, "uns": c.weight_uns, "sup": c.weight_sup}),)

    def after_epoch(self, train: PatientBatch) -> None:
        """Modality states of the training fold."""
        self.graph.fit(self.columns, train, self.edges)

    def forward(self, batch: PatientBatch) -> Output:
        e = self.edges(batch)  # (B, M, D)
        z, _ = self.graph(self.columns, e, batch.present)  # (B, D)
        logits = self.head(z, batch.present)
        if not (self.training and (self.loss_weights["uns"] or self.loss_weights["sup"])):
            return Output(logits, z)
        z_dropped, _ = self.graph(self.columns, e, drop_edges(batch.present))
        return Output(logits, z, self._contrasts(z, z_dropped, batch))

    def edges(self, batch: PatientBatch) -> Tensor:
        """e_im, (B, M, D)."""
        return self.edge_dropout(encode(self.encoders, batch, self.config.width))  # type: ignore[no-any-return]

    def _contrasts(self, z: Tensor, z_dropped: Tensor, batch: PatientBatch) -> dict[str, Tensor]:
        """L_uns and L_sup of the patients who have anything; z (B, D) of either view."""
        rows = batch.present.any(1).nonzero().squeeze(1)
        u, v = (F.normalize(self.project(view[rows]).float(), dim=-1) for view in (z, z_dropped))
        losses, tau = {}, self.config.temperature
        if self.loss_weights["uns"]:
            losses["uns"] = (info_nce(u, v, tau) + info_nce(v, u, tau)) / 2
        if self.loss_weights["sup"]:
            losses["sup"] = supervised_contrast(u, v, batch.labels[rows], batch.label_mask[rows], tau)
        return losses


def drop_edges(present: Tensor) -> Tensor:
    """The second view (B, M): half of the patients keep all edges, the others 1 … |O_i| − 1 of them, each number and
    each choice of so many equally likely; a last edge is never dropped."""
    b, count = len(present), present.sum(1)  # |O_i|
    fewer = 1 + (torch.rand(b, device=present.device) * (count - 1)).long()
    kept = torch.where(torch.rand(b, device=present.device) < 0.5, count, fewer)
    score = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
    return present & (score.argsort(1).argsort(1) < kept[:, None])


def supervised_contrast(u: Tensor, v: Tensor, labels: Tensor, asked: Tensor, temperature: float) -> Tensor:
    """L_sup, averaged over tasks; a task that was asked of nobody adds 0.

    Args:
        u, v: (n, D) of length one.
        labels: (n, K).
        asked: (n, K) bool; only pairs of patients asked count.
        temperature: τ.
    """
    same = (labels[:, None] == labels).to(u.dtype)  # (n, n, K)
    pairs = (asked[:, None] & asked).to(u.dtype)

    def bce(similarity: Tensor) -> Tensor:
        logits = (similarity / temperature)[..., None].expand_as(same)
        return F.binary_cross_entropy_with_logits(logits, same, reduction="none")

    with torch.autocast(u.device.type, enabled=False):  # half precision is too coarse for 1/τ times a cosine
        among, across = u @ u.T, u @ v.T
    # S(U', U) is the transpose of S(U, U') and has the same targets, so its mean is the same
    per_pair = (bce(among) + bce(across)) / 2
    per_task = (per_pair * pairs).sum((0, 1)) / pairs.sum((0, 1)).clamp(min=1)  # (K,)
    return per_task.mean()

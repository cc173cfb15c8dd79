"""Raindrop: sensors observed at their own times send messages along a graph that every patient has alone.

Zhang, Zeman, Tsiligkaridis, Zitnik: "Graph-Guided Network for Irregularly Sampled Multivariate Time Series", ICLR 2022
(arXiv 2110.05357). Of patient i, sensor u is observed at the times T_u with values x_u^t; p^t encodes the time.

    h_u^t = relu(x_u^t R_u)                                  x_u a number, or the indicators of a category
    α_uv^t = σ(h_u^t D [r_v; p^t]')                           how u speaks to v at time t
    e_uv ← e_uv · mean over T_u of α_uv^t, lowest half → 0    edges of this patient, all 1 at first
    h_v^t ← relu(Σ_u h_u^t w_u w_v' α_uv^t e_uv)              over the u observed at t; two layers
    z_v = relu(Σ_t softmax_t(q_v^t · k̄_v / √Z) [h_v^t; p^t] W)         q, k and z have length Z
    ŷ = MLP([z_1, …, z_V]);  L_r = Σ_uv Σ_{i≠j} (e_i,uv − e_j,uv)² / ((N − 1)² V²)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmnar.config import PLAIN_TRAINING
from mmnar.encoders.context import Context, How
from mmnar.encoders.plain import PlainVectors
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.models.base import Model, ModelCard, Phase
from mmnar.ops.grid import Grid, series_grid
from mmnar.ops.heads import TaskHead, trunk
from mmnar.ops.kinds import of_kind, schema_of
from mmnar.ops.packed import TIME_WIDTH, segment_softmax, segment_sum, time_features
from mmnar.ops.parts import by_parts
from mmnar.schema import ModalitySpec, Schema
from mmnar.types import Output, PatientBatch

ROWS: Final = 256
"""Patients predicted at a time: messages and edges between many sensors are large."""
PAPER: Final = "Zhang, Zeman, Tsiligkaridis, Zitnik (ICLR 2022), arXiv 2110.05357"
GRAPH_DEVIATIONS: Final = (
    "The paper's graph, as we understand it, not the release's: there messages are made of the receiver's own "
    "features, so that none passes between sensors, the attention on time and receiver is off, edges are all 1 and "
    "the regulariser is not added.",
    "The embedding of an observation has a bias: a value at the median would otherwise send nothing.",
    "An observed sensor keeps its embedding beside the messages it receives.",
    "The lowest half is of the edges whose sender was observed, and still gets gradient (straight-through); patients "
    "are compared in L_r where both observed the sender, within the batch.",
)


@dataclass(frozen=True)
class RaindropConfig:
    """Settings of Raindrop; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in the encoders of the other modalities, and before the head.
        static: How the modalities that are not series enter: by their ``embeddings`` and their part of δ, by
            ``delta_only``, or not at all (``none``).
        sensor_width: Width of h, what one sensor observes.
        inner: Width of r, of the temporal attention and of z.
        layers: Layers of propagation.
        prune: Share of a patient's edges that is removed.
        times: Where the temporal attention of a sensor goes: its ``own``, or ``all`` at which any is observed.
            A sensor that was never observed in a patient has all in either case.
        weight_graph: λ, the weight of L_r.
        max_steps: Patients with more observation times get hourly bins.
        append_pattern: Concatenate δ to what the head sees.
        image: How images are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    static: How = "embeddings"
    sensor_width: int = 4
    inner: int = 16
    layers: int = 2
    prune: float = 0.5
    times: Literal["own", "all"] = "own"
    weight_graph: float = 0.02
    max_steps: int = 300
    append_pattern: bool = False
    image: ImageConfig = IMAGE


class Raindrop(Model):
    """Raindrop over the variables of all series; their embeddings join the other modalities."""

    card = ModelCard(
        title="Raindrop",
        paper=PAPER,
        missing="only observed sensors send; a sensor is known by what it sent and received, at the times there are; "
        "a patient without series has zeros",
        deviations=(
            *GRAPH_DEVIATIONS,
            "All series modalities are one set of sensors. Other modalities join their embeddings by their own "
            "embeddings and pattern.",
            "The temporal attention of a sensor goes over the times at which it was observed: among all times of a "
            "patient a laboratory value of twice a day is one of seventy. The paper, as we remember it, takes the "
            "times at which a sensor is active, by itself or through a neighbour, which is nearly all; the release "
            "takes all: model.times=all, as in preset=original.",
            "Every key weighs the same in the temporal attention (k̄ is their mean): a learned weight per position has "
            "no meaning where times differ between patients.",
            "Time is encoded as by the shared series encoder.",
            "Batches are not balanced by class and the rate does not fall where the tune fold stands still, also in "
            "preset=original; the release does both.",
        ),
        needs=("series",),
        original={
            **PLAIN_TRAINING,
            "model.times": "all",
            "train.lr": 1e-4,
            "train.batch_size": 128,
            "train.max_epochs": 20,
            "train.patience": 20,
        },
    )
    Config = RaindropConfig
    config: RaindropConfig

    def __init__(self, schema: Schema, config: RaindropConfig) -> None:
        super().__init__(schema, config)
        c = config
        v = sum(len(m.features) for m in schema_of(schema, "series").modalities)
        token = c.sensor_width + TIME_WIDTH
        self.graph = SensorGraph([1] * v, c.sensor_width, c.inner, TIME_WIDTH, c.layers, c.prune)
        self.query, self.key = nn.Linear(token, c.inner, bias=False), nn.Linear(token, c.inner, bias=False)
        self.value = nn.Linear(token, c.inner, bias=False)  # W
        self.context = Context(schema, "series", c.static, c.width, c.dropout, c.image)
        self.trunk = trunk(v * c.inner + self.context.width, c.width, c.dropout)
        self.head = TaskHead(schema, c.width, c.append_pattern)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("joint", {"task": 1.0, "graph": self.config.weight_graph}),)

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, ROWS)

    def _outputs(self, batch: PatientBatch) -> Output:
        grid = series_grid(batch, self.config.max_steps)
        time = time_features(grid.hours)  # p (S, P)
        h, edges = self.graph(grid, time)
        z = self.over_time(h, time, grid).flatten(1)  # (B, V Z)
        representation = self.trunk(torch.cat([z, self.context(batch)], dim=1))
        losses = _graph_losses(self, edges, len(grid))
        return Output(self.head(representation, batch.present), representation, losses)

    def over_time(self, h: Tensor, time: Tensor, grid: Grid) -> Tensor:
        """Temporal self-attention of each sensor: (S, V, d), p (S, P) → z (B, V, Z); zeros without any time."""
        b, patient = len(grid), grid.patient
        tokens = torch.cat([h, time[:, None].expand(-1, h.shape[1], -1)], dim=2)
        heeded = self._heeded(grid)  # (S, V)
        counts = segment_sum(heeded.to(tokens.dtype), patient, b).clamp(min=1)
        mean = segment_sum(heeded[..., None] * tokens, patient, b) / counts[..., None]
        asked = self.key(mean) @ self.query.weight  # q · k̄ = token · asked, without a q for every token
        scores = (tokens * asked[patient]).sum(2) / self.config.inner**0.5  # (S, V)
        scores = scores.masked_fill(~heeded, -torch.inf)
        weights = segment_softmax(scores.float(), patient, b)[..., None]
        return torch.relu(self.value(segment_sum(weights * tokens, patient, b)))

    def _heeded(self, grid: Grid) -> Tensor:
        """Which times each sensor's attention goes over: (S, V), for every patient and sensor at least one."""
        observed = grid.observed
        if self.config.times == "all":
            return torch.ones_like(observed)
        ever = segment_sum(observed.float(), grid.patient, len(grid)) > 0  # (B, V)
        return observed | ~ever[grid.patient]


class Edges(NamedTuple):
    """Of the N pairs of a patient and a sensor that this patient has; in order of patient, then sensor.

    Args:
        patient, sensor: (N,).
        weights: e_uv (N, V) from u = ``sensor`` to every v.
    """

    patient: Tensor
    sensor: Tensor
    weights: Tensor


class SensorGraph(nn.Module):
    """Propagation among V sensors.

    Args:
        readings: Length of each of the V sensors' readings, C in all: 1 of a number.
        width: d of h.
        inner: Of r.
        times: P, length of p.
        layers: At least one.
        prune: Share of edges removed.
    """

    sensor: Tensor
    """(C,) which sensor a column is of."""
    first: Tensor
    """(V,) the first column of each sensor."""

    def __init__(self, readings: Sequence[int], width: int, inner: int, times: int, layers: int, prune: float) -> None:
        super().__init__()
        self.prune, sensors, lengths = prune, len(readings), torch.tensor(readings)
        self.register_buffer("sensor", torch.arange(sensors).repeat_interleave(lengths), persistent=False)
        self.register_buffer("first", lengths.cumsum(0) - lengths, persistent=False)
        self.scale = nn.Parameter(2 * torch.rand(sum(readings), width) - 1)  # R of all
        self.shift = nn.Parameter(2 * torch.rand(sensors, width) - 1)
        self.receiver = nn.Parameter(torch.randn(sensors, inner) / inner**0.5)  # r_v
        self.weights = nn.ParameterList(torch.randn(sensors, width) / width**0.5 for _ in range(layers))  # w
        self.attention = nn.ModuleList(nn.Linear(width, inner + times, bias=False) for _ in range(layers))  # D

    def forward(self, grid: Grid, time: Tensor) -> tuple[Tensor, Edges]:
        """Messages between the sensors.

        Args:
            grid: Of C columns.
            time: p (S, P).

        Returns:
            h of the last layer at every time (S, V, d), and the patients' edges from what each observed at any time.
        """
        observed = grid.observed[:, self.first]  # (S, V): a reading is known whole or not at all
        step, sensor = observed.nonzero(as_tuple=True)  # of each of the E observations
        h = torch.relu(self.read(grid.values)[step, sensor] + self.shift[sensor])  # (E, d)
        sends = segment_sum(observed.float(), grid.patient, len(grid)) > 0  # (B, V)
        of_patient, of_sensor = sends.nonzero(as_tuple=True)  # of each of the N pairs
        pair = (sends.flatten().cumsum(0) - 1)[grid.patient[step] * sends.shape[1] + sensor]  # (E,) in [0, N)
        times = torch.bincount(pair, minlength=len(of_patient))[:, None]
        edges = h.new_ones(len(of_patient), sends.shape[1])
        received = h.new_zeros(*observed.shape, h.shape[1])
        for w, attention in zip(self.weights, self.attention, strict=True):
            toward = attention(h)
            at_receiver, at_time = toward.split([self.receiver.shape[1], time.shape[1]], dim=1)
            alpha = (at_receiver @ self.receiver.T + (at_time * time[step]).sum(1, keepdim=True)).float().sigmoid()
            mean = segment_sum(alpha, pair, len(edges)) / times  # (N, V)
            edges = pruned(edges * mean, of_patient, self.prune)
            spoken = (h * w[sensor]).sum(1, keepdim=True)  # h_u w_u (E, 1)
            heard = segment_sum(spoken * alpha * edges[pair], step, len(received))  # (S, V)
            received = torch.relu(heard[..., None] * w)
            h = h + received[step, sensor]
        return received.index_put((step, sensor), h), Edges(of_patient, of_sensor, edges)

    def read(self, values: Tensor) -> Tensor:
        """x_u R_u of every sensor at every time: (S, C) → (S, V, d)."""
        products = values[..., None] * self.scale
        return products.new_zeros(len(values), *self.shift.shape).index_add(1, self.sensor, products)


def pruned(edges: Tensor, patient: Tensor, share: float) -> Tensor:
    """The lowest share of each patient's edges set to zero; their gradient stays (straight-through).

    Args:
        edges: (N, V).
        patient: (N,) ascending.
    """
    values = edges.detach()
    of_each = torch.split(values, torch.bincount(patient).tolist())
    kept = [highest(e.flatten(), int(share * e.numel())).view_as(e) for e in of_each if len(e)]
    return edges - values.masked_fill(torch.cat(kept), 0.0) if kept else edges


def highest(values: Tensor, lost: int) -> Tensor:
    """Which of (n,) values stay when the lowest go; of equal ones the last go first.

    >>> highest(torch.tensor([2.0, 1.0, 2.0, 3.0]), 2)
    tensor([ True, False, False,  True])
    """
    if not lost:
        return torch.ones_like(values, dtype=torch.bool)
    bound = values.kthvalue(lost).values  # a selection: sorting the edges took half of all time
    tied = values == bound
    places = lost - (values < bound).sum()
    return (values > bound) | (tied & (tied.flip(0).cumsum(0).flip(0) > places))


def disagreement(edges: Edges, patients: int) -> Tensor:
    """L_r of N edges, over the pairs of B patients who both observed the sender."""
    sensor, e = edges.sensor, edges.weights
    v = e.shape[1]
    n = torch.bincount(sensor, minlength=v)[:, None]
    mean = segment_sum(e, sensor, v) / n.clamp(min=1)  # (V, V)
    pairs = 2 * n * segment_sum((e - mean[sensor]) ** 2, sensor, v)  # Σ_{i≠j} (e_i − e_j)² = 2 n Σ_i (e_i − ē)²
    return pairs.sum() / (max(1, patients - 1) * v) ** 2


def _graph_losses(model: Model, edges: Edges, patients: int) -> dict[str, Tensor]:
    if not (model.training and model.loss_weights["graph"]):
        return {}
    return {"graph": disagreement(edges, patients)}


@dataclass(frozen=True)
class RaindropStaticConfig:
    """Settings of Raindrop-static; letters are those of the equations above.

    Args:
        width: D, the width of embeddings.
        dropout: Dropout in the encoders of the other modalities, and before the head.
        static: How the modalities that are not static features enter, as in ``RaindropConfig``.
        sensor_width: Width of h, what one sensor observes.
        inner: Width of r.
        prune: Share of a patient's edges that is removed.
        weight_graph: λ, the weight of L_r.
        append_pattern: Concatenate δ to what the head sees.
        image, series: How those are encoded.
    """

    width: int = 128
    dropout: float = 0.2
    static: How = "embeddings"
    sensor_width: int = 4
    inner: int = 16
    prune: float = 0.5
    weight_graph: float = 0.02
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class RaindropStatic(Model):
    """What is left of Raindrop where every feature is an aggregate: one layer of the graph over features."""

    card = ModelCard(
        title="Raindrop-static",
        paper=PAPER,
        missing="only observed features send; an unobserved one is what it received",
        deviations=(
            "Not the paper's model: with one time there is no encoding of time and no attention over it, and what "
            "remains of Raindrop is one layer of its graph over features. For data without series.",
            "A categorical feature is one sensor; its reading is the centred indicators of its categories.",
            "Modalities of other kinds join by their embeddings and pattern.",
            *GRAPH_DEVIATIONS,
        ),
        needs=("static",),
        original={key: value for key, value in Raindrop.card.original.items() if key != "model.times"},
    )
    Config = RaindropStaticConfig
    config: RaindropStaticConfig

    def __init__(self, schema: Schema, config: RaindropStaticConfig) -> None:
        super().__init__(schema, config)
        c = config
        self.features = PlainVectors(schema_of(schema, "static"))
        readings = [length for m in self.features.specs for length in readings_of(m)]
        self.graph = SensorGraph(readings, c.sensor_width, c.inner, 0, 1, c.prune)
        self.context = Context(schema, "static", c.static, c.width, c.dropout, c.image, c.series)
        self.trunk = trunk(len(readings) * c.sensor_width + self.context.width, c.width, c.dropout)
        self.head = TaskHead(schema, c.width, c.append_pattern)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("joint", {"task": 1.0, "graph": self.config.weight_graph}),)

    def prepare(self, train: PatientBatch) -> None:
        self.features.fit(of_kind(train, "static"))

    def forward(self, batch: PatientBatch) -> Output:
        return self._outputs(batch) if self.training else by_parts(self._outputs, batch, ROWS)

    def _outputs(self, batch: PatientBatch) -> Output:
        values, observed = zip(*self.features(of_kind(batch, "static")), strict=True)
        moment = torch.zeros(len(batch), device=batch.present.device)  # everybody at one time
        offsets = torch.arange(len(batch) + 1, device=moment.device)
        grid = Grid(offsets, moment, torch.cat(values, dim=1), torch.cat(observed, dim=1))
        h, edges = self.graph(grid, moment.new_zeros(len(batch), 0))
        representation = self.trunk(torch.cat([h.flatten(1), self.context(batch)], dim=1))
        return Output(self.head(representation, batch.present), representation, _graph_losses(self, edges, len(batch)))


def readings_of(spec: ModalitySpec) -> list[int]:
    """Columns of each feature of a static modality, in the order of ``PlainVectors``: numbers, then categories."""
    numbers = [1 for f in spec.features if f.kind == "continuous"]
    return numbers + [len(f.categories) for f in spec.features if f.kind == "categorical"]

"""One small world with a series and a film, four outcomes that each need something else of a method, and exact risks.

=========  ==========================================================================================================
outcome    mechanism (x of the series, z of the film, both N(0, 1); o = ±1 says which of two episodes came first)
=========  ==========================================================================================================
record     σ(2.5 x)
film       σ(2.5 z)
product    .95 where x z > 0, else .05: neither of the two alone, nor any sum of what they say, tells
order      .95 where o > 0, else .05: first, last, least, greatest value, mean and number are the same for both
=========  ==========================================================================================================

The film is there for seven in ten, at random; who has none has a coin for ``film`` and ``product``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.dataset.content import ItemArrays, SeriesArrays
from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.estimators.base import Predictor
from mmnar.estimators.registry import estimator
from mmnar.schema import Feature, ModalitySpec, Schema, Task

TIMES: Final = 8
SIDE: Final = 32
OUTCOMES: Final = ("record", "film", "product", "order")
SCHEMA: Final = Schema(
    (
        ModalitySpec("record", (Feature("level"), Feature("episode")), "series"),
        ModalitySpec("film", kind="image", shape=(SIDE, SIDE)),
    ),
    tuple(Task(name, "now", name) for name in OUTCOMES),
)
SPLIT: Final = Split(tune=0.1, test=0.5)
SHORT: Final = ("train.batch_size=64", "train.lr=3e-3", "train.min_steps=0", "train.max_epochs=12", "train.patience=12")
"""Steps enough for this world."""


@lru_cache(maxsize=2)
def scene(patients: int = 3200, seed: int = 0) -> PatientDataset:
    """The world's patients; its exact risks are the dataset's ``bayes``."""
    rng = np.random.default_rng([seed, 23])
    x, z = rng.normal(size=(2, patients))
    order = rng.choice([-1.0, 1.0], patients)
    filmed = rng.random(patients) < 0.7
    product = np.where(filmed, np.where(x * z > 0, 0.95, 0.05), 0.5)
    film = np.where(filmed, expit(2.5 * z), 0.5)
    risks = np.column_stack([expit(2.5 * x), film, product, np.where(order > 0, 0.95, 0.05)])
    ids = np.arange(patients) + 1_000_000 * seed
    return make_dataset(
        SCHEMA,
        {"record": _record(rng, x, order), "film": _film(rng, z, filmed)},
        rng.random(risks.shape) < risks,
        np.ones_like(risks, dtype=bool),
        ids,
        ids,
        ids,
        ids * 3_600_000_000,
        {},
        {"source": "scene", "id_space": "scene"},
        risks,
    )


def _record(rng: np.random.Generator, x: NDArray[np.float64], order: NDArray[np.float64]) -> SeriesArrays:
    """Every three hours the level and the episode's channel, which begins and ends at rest."""
    n = len(x)
    level = x[:, None] + 0.3 * rng.normal(size=(n, TIMES))
    episode = np.zeros((n, TIMES))
    early, late = rng.integers(1, 4, n), rng.integers(4, TIMES - 1, n)
    episode[np.arange(n), early], episode[np.arange(n), late] = 2 * order, -2 * order
    values = np.stack([level, episode], axis=2).reshape(-1)
    hours = np.tile(np.repeat(-3.0 * np.arange(TIMES)[::-1], 2), n)
    feature = np.tile([0, 1], n * TIMES)
    offsets = np.arange(n + 1) * 2 * TIMES
    return SeriesArrays(offsets, hours.astype(np.float32), feature.astype(np.int16), values.astype(np.float32))


def _film(rng: np.random.Generator, z: NDArray[np.float64], filmed: NDArray[np.bool_]) -> ItemArrays:
    """Lighter on one side than on the other, by z."""
    side = np.linspace(-1, 1, SIDE)[None, None, :]
    light = 0.5 + 0.35 * np.tanh(z[filmed])[:, None, None] * side + 0.03 * rng.normal(size=(filmed.sum(), SIDE, SIDE))
    pixels = (255 * np.clip(light, 0, 1)).astype(np.uint8)
    return ItemArrays(np.r_[0, np.cumsum(filmed)], np.full(filmed.sum(), -1.0, dtype=np.float32), pixels)


@dataclass(frozen=True)
class Found:
    """AUROC by outcome on test patients, of a method and of the exact risks: those with a film, and those without."""

    filmed: dict[str, float]
    filmless: dict[str, float]
    exact: dict[str, float]

    def share(self, outcome: str) -> float:
        """What was found of what there is to find, 0 = a coin, 1 = the exact risks; of patients with a film."""
        return (self.filmed[outcome] - 0.5) / (self.exact[outcome] - 0.5)


@lru_cache(maxsize=4)
def fitted(name: str, *overrides: str, seed: int = 0) -> Predictor:
    """Fit ``name`` on the scene; ``seed`` is that of its patients and of the fit."""
    data = scene(seed=seed)
    return estimator(name, *SHORT, *overrides).fit(data.fold(SPLIT, "train"), data.fold(SPLIT, "tune"), seed=seed)


def found(name: str, *overrides: str, seed: int = 0) -> Found:
    """What ``name`` finds in the scene, see ``fitted``."""
    scored = fitted(name, *overrides, seed=seed).predict(scene(seed=seed).fold(SPLIT, "test"))
    assert scored.bayes is not None
    filmed = scored.present[:, 1]
    return Found(
        _aurocs(scored.labels, scored.proba, filmed),
        _aurocs(scored.labels, scored.proba, ~filmed),
        _aurocs(scored.labels, scored.bayes, filmed),
    )


def _aurocs(labels: NDArray[np.bool_], risks: NDArray[np.float64], rows: NDArray[np.bool_]) -> dict[str, float]:
    return {name: float(roc_auc_score(labels[rows, k], risks[rows, k])) for k, name in enumerate(OUTCOMES)}

"""The law of the CareBench world: what patients are like, what record and film show, and what becomes of them.

Seven latents h ~ N(0, I): severity s, three that the record alone shows (e), three that the film alone shows (f); and
an order o = ±1, a fair coin that the record alone shows.

* contents: x = W (s, e) + 2 ε of the record, g = V (s, f) + 2 κ ε of the film, five each, W and V with orthogonal
  columns; κ = 3 for one group of patients, whose films are noisier, else 1;
* the film is there with probability σ(a + γ s), half of the time;
* a phenotype has P = σ(b + 2.5 aᵀe), σ(b ± 2.5), σ(b + 2.5 aᵀf) or p₀ + (p₁ - p₀) σ(10 aᵀe cᵀf); the last is the same
  number on average whatever either of record and film says alone;
* death: σ(b + 1.2 s + .6 e₁ + .6 f₁ ± η), + with a film; length of stay: one of seven classes, softmax of
  α_c + τ_c (s + .7 e₂ + .7 f₂).

Outcomes are independent given (h, o, δ). Phenotypes depend on neither s nor δ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri, softmax
from scipy.stats import qmc

from mmnar.simulation.carebench.outcomes import LENGTHS, MORTALITY, OUTCOMES, PHENOTYPES
from mmnar.simulation.population import (
    CONTENT_NOISE,
    DIMENSIONS,
    Bool,
    Float,
    Policy,
    World,
    intercept_for,
    make_policy,
    pattern_number,
)
from mmnar.simulation.risks import exact_risks

MODALITIES: Final = ("structured", "chest_xray")
RECORD, FILM = 0, 1
FILM_RATE: Final = 0.5
NOISIER: Final = 3.0
"""κ of the group whose films are noisier."""

LATENTS: Final = 7
_OF_RECORD, _OF_FILM = slice(1, 4), slice(4, 7)
_LOADING: Final = 8.0
_SLOPE: Final = 2.5
_ORDER: Final = 2.5
_SHARPNESS: Final = 10.0
_LEAST: Final = 0.04  # p₀
_POINTS: Final = 1024
_DEATHS: Final = 0.14
_SHARES: Final = (0.26, 0.19, 0.13, 0.10, 0.07, 0.17, 0.08)  # of the classes of length in a patient whose latents are 0
_LENGTHEN: Final = (-1.1, -0.7, -0.3, 0.0, 0.3, 0.7, 1.1)  # τ


@dataclass(frozen=True)
class CareWorld(World):
    """A world of 7 latents, 2 modalities and the K = 33 outcomes ``OUTCOMES``.

    Args:
        order: o of the patients whose risks are asked.
        ordered: (K,) what o adds to the logit.
        left, right: (P, 7) directions of the P outcomes that are a product.
        bounds: (P, 2) p₀ and p₁.
        products, lengths: (P,), (7,) columns of the products and of the classes of length.
    """

    order: int = 1
    ordered: Float = field(default_factory=lambda: np.zeros(len(OUTCOMES)))
    left: Float = field(default_factory=lambda: np.zeros((0, LATENTS)))
    right: Float = field(default_factory=lambda: np.zeros((0, LATENTS)))
    bounds: Float = field(default_factory=lambda: np.zeros((0, 2)))
    products: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()

    def linear_predictor(self, h: Float, pattern: NDArray[np.int64]) -> Float:
        """(..., K) logits, and scores of the classes of length; means nothing where an outcome is a product."""
        fixed = self.intercepts + self.order * self.ordered
        predictor: Float = h @ self.slopes.T + (fixed + self.eta * self.effects.T)[pattern]
        return predictor

    def risks(self, h: Float, pattern: NDArray[np.int64]) -> Float:
        predictor = self.linear_predictor(h, pattern)
        risks: Float = expit(predictor)
        low, high = self.bounds.T
        agree = expit(_SHARPNESS * (h @ self.left.T) * (h @ self.right.T))
        risks[..., list(self.products)] = low + (high - low) * agree
        lengths = list(self.lengths)
        risks[..., lengths] = softmax(predictor[..., lengths], axis=-1)
        return risks


@dataclass(frozen=True)
class Drawn:
    """N stays and all that is true of them.

    Args:
        latent: (N, 7) h.
        order: (N,) o.
        content: (N, 2, 5) of record and film, also where there is no film.
        noisy: (N,) whose films are noisier.
        present: (N, 2) δ.
        labels: (N, K) y; exactly one class of length each.
        world, policy: The law.
    """

    latent: Float
    order: NDArray[np.int64]
    content: Float
    noisy: Bool
    present: Bool
    labels: Bool
    world: CareWorld
    policy: Policy

    def __len__(self) -> int:
        return len(self.order)

    def take(self, rows: NDArray[np.int64]) -> Drawn:
        names = ("latent", "order", "content", "noisy", "present", "labels")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def draw(noisy: Bool, seed: int, *, gamma: float = 1.0, eta: float = 0.5, mcar: float = 0.0) -> Drawn:
    """As many stays as ``noisy`` (N,) has entries; equal seeds are the same stays.

    >>> drawn = draw(np.zeros(100, dtype=bool), seed=1)
    >>> drawn.labels.shape, bool((drawn.labels[:, -7:].sum(axis=1) == 1).all())
    ((100, 33), True)
    """
    n = len(noisy)
    world = make_world(eta)
    policy = make_policy(world, gamma=gamma, mcar=mcar)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 0xCA2E]).spawn(6)]
    latents, orders, noises, heeding, ordering, outcomes = streams
    h = latents.standard_normal((n, LATENTS))
    order = orders.choice([-1, 1], n)
    content = np.einsum("mfl,nl->nmf", world.loadings, h)
    content += CONTENT_NOISE * _kappa(noisy)[:, :, None] * noises.standard_normal(content.shape)
    site = np.zeros(n, dtype=np.int64)
    rates = np.where((heeding.random(n) >= mcar)[:, None], policy.rates(h, site), policy.blind_rates[site])
    present = ordering.random(rates.shape) < rates
    bits = pattern_number(present)
    risks = np.where((order > 0)[:, None], world.risks(h, bits), replace(world, order=-1).risks(h, bits))
    return Drawn(h, order, content, noisy, present, _happen(risks, outcomes), world, policy)


def film_contents(n: int, rng: np.random.Generator) -> Float:
    """(n, 5) of people of whom nothing else is known, in units of their spread."""
    v = make_world(0.0).loadings[FILM]
    content = rng.standard_normal((n, LATENTS)) @ v.T + CONTENT_NOISE * rng.standard_normal((n, DIMENSIONS))
    spread: Float = content / np.sqrt((v**2).sum(axis=1) + CONTENT_NOISE**2)
    return spread


def risks_of(drawn: Drawn) -> Float:
    """(N, K) P(y | contents and pattern of record and film, order, whether films are noisier): exact but for a
    quadrature of 1,024 points."""
    risks = np.empty(drawn.labels.shape)
    for order in (-1, 1):
        for noisy in (False, True):
            rows = np.flatnonzero((drawn.order == order) & (drawn.noisy == noisy))
            # noise κ times as large on W h is the usual noise on W h / κ
            kappa = _kappa(np.array([noisy]))[0][:, None]
            world = replace(drawn.world, order=order, loadings=drawn.world.loadings / kappa[..., None])
            risks[rows] = exact_risks(
                world,
                drawn.policy,
                drawn.content[rows] / kappa,
                drawn.present[rows],
                range(len(OUTCOMES)),
                seen=np.ones(len(MODALITIES), dtype=bool),
                points=_POINTS,
            )
    return risks


@lru_cache(maxsize=8)
def make_world(eta: float) -> CareWorld:
    """The one CareBench world; its prevalences hold at the reference policy."""
    rng = np.random.default_rng(0xCA2E)
    loadings = np.zeros((2, DIMENSIONS, LATENTS))
    for modality, own in ((RECORD, _OF_RECORD), (FILM, _OF_FILM)):
        columns = _LOADING * np.linalg.qr(rng.standard_normal((DIMENSIONS, 4)))[0]
        loadings[modality][:, 0], loadings[modality][:, own] = columns[:, 0], columns[:, 1:]
    k = len(OUTCOMES)
    slopes, intercepts, ordered, effects = np.zeros((k, LATENTS)), np.zeros(k), np.zeros(k), np.zeros((k, 2))
    left, right, bounds, products = [], [], [], []
    for number, phenotype in enumerate(PHENOTYPES):
        e, f = _direction(_OF_RECORD, rng), _direction(_OF_FILM, rng)
        if phenotype.told_by == "both":
            products.append(number)
            left.append(e)
            right.append(f)
            bounds.append((_LEAST, 2 * phenotype.prevalence - _LEAST))
            continue
        told = _SLOPE * _normal_points()
        if phenotype.told_by == "order":
            ordered[number] = _ORDER
            told = _ORDER * np.array([-1.0, 1.0])
        else:
            slopes[number] = _SLOPE * (e if phenotype.told_by == "series" else f)
        intercepts[number] = intercept_for(told, np.full(len(told), 1 / len(told)), phenotype.prevalence)
    death, lengths = OUTCOMES.index(MORTALITY), tuple(OUTCOMES.index(name) for name in LENGTHS)
    slopes[death, [0, 1, 4]] = 1.2, 0.6, 0.6
    effects[death] = -1.0, 1.0
    slopes[np.ix_(lengths, (0, 2, 5))] = np.outer(_LENGTHEN, (1.0, 0.7, 0.7))
    intercepts[list(lengths)] = np.log(_SHARES)
    directions = np.zeros((2, LATENTS))
    directions[:, 0] = 1.0
    made = CareWorld(
        loadings,
        directions,
        np.array([1.0, FILM_RATE]),
        effects,
        slopes,
        intercepts,
        eta,
        0,
        ordered=ordered,
        left=np.array(left),
        right=np.array(right),
        bounds=np.array(bounds),
        products=tuple(products),
        lengths=lengths,
    )
    intercepts[death] = _death(made, slopes[death], effects[death])
    return made


def _death(world: CareWorld, slopes: Float, effects: Float) -> float:
    """b of death, averaged over latents and whether there is a film."""
    h = ndtri(qmc.Sobol(LATENTS, scramble=False).random(4096) + 0.5 / 4096)
    policy = make_policy(world)
    law = np.stack([policy.likelihood(h, np.array(p)) for p in ((True, False), (True, True))]) / len(h)
    return intercept_for(h @ slopes + world.eta * effects[:, None], law, _DEATHS)


def _direction(of: slice, rng: np.random.Generator) -> Float:
    direction = np.zeros(LATENTS)
    direction[of] = rng.standard_normal(3)
    unit: Float = direction / np.linalg.norm(direction)
    return unit


def _normal_points() -> Float:
    points: Float = ndtri((np.arange(512) + 0.5) / 512)
    return points


def _kappa(noisy: Bool) -> Float:
    """(N, 2) κ of record and film."""
    return np.column_stack([np.ones(len(noisy)), np.where(noisy, NOISIER, 1.0)])


def _happen(risks: Float, rng: np.random.Generator) -> Bool:
    """(N, K) labels; of the classes of length exactly one."""
    labels: Bool = rng.random(risks.shape) < risks
    first = len(OUTCOMES) - len(LENGTHS)
    which = (rng.random(len(risks))[:, None] > np.cumsum(risks[:, first:-1], axis=1)).sum(axis=1)
    labels[:, first:] = which[:, None] == np.arange(len(LENGTHS))
    return labels

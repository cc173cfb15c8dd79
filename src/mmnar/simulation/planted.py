"""Planted truths: small populations with one known mechanism each, and their exact risks.

=========  =========================================================================================================
name       mechanism (ε and contents standard normal, ten features a modality unless said)
=========  =========================================================================================================
pattern    y ~ Bernoulli(σ(1.2 Σ_m w_m (2δ_m − 1))), contents are noise: only the pattern tells
single     y ~ Bernoulli(σ(2 aᵀx¹)); the others are noise, all go missing at random
product    y = 1 with probability .95 where aᵀx¹ · bᵀx² > 0, else .05; a coin where either is missing
recover    x² = A x¹ + .3 ε, y ~ Bernoulli(σ(3 aᵀx²)), x² missing in 70 %, labels of every tenth patient alone
severity   s ~ N(0, 1), δ_m ~ Bernoulli(σ(1.5 s)), each feature s + 2 ε, y ~ Bernoulli(σ(1.5 s − 1))
imbalance  y ~ Bernoulli(σ(2.5 aᵀx¹ + 2 q)), q = sign(x²₁ x²₂): x¹ tells at once, x² says as much and is learnt slowly
=========  =========================================================================================================

Each has four modalities and one task, ``outcome``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.errors import ConfigError, nearest
from mmnar.schema import Feature, ModalitySpec, Schema, Task

FEATURES: Final = 10
MODALITIES: Final = 4
LABELLED: Final = 0.1
"""Share of patients of ``recover`` whose outcome is known."""

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Rng = np.random.Generator
Planted = tuple[Float, Bool, Float]
"""Contents (n, M, F), presence (n, M), exact risk given what is seen (n,)."""

SCHEMA: Final = Schema(
    tuple(ModalitySpec(f"m{m}", tuple(Feature(f"x{f}") for f in range(FEATURES))) for m in range(MODALITIES)),
    (Task("outcome", "at the end of the window", "the planted outcome"),),
)


def planted(name: str, patients: int, seed: int = 0) -> PatientDataset:
    """A population of one mechanism; its exact risks are the dataset's ``bayes``.

    The mechanism is the same for every seed; patients of different seeds are different.

    Raises:
        ConfigError: No such mechanism.

    >>> data = planted("pattern", 500)
    >>> data.labels.shape, bool(abs(data.bayes.mean() - data.labels.mean()) < 0.05)
    ((500, 1), True)
    """
    if name not in MECHANISMS:
        raise ConfigError("planted data", " | ".join(MECHANISMS), f"'{name}'", nearest(name, MECHANISMS))
    rng = np.random.default_rng([seed, _STREAMS.index(name)])
    x, present, risk = MECHANISMS[name](rng, patients)
    values = {
        spec.name: np.where(present[:, m, None], x[:, m], np.nan).astype(np.float32)
        for m, spec in enumerate(SCHEMA.modalities)
    }
    labels = rng.random(patients) < risk
    asked = rng.random(patients) < (LABELLED if name == "recover" else 1.0)
    ids = np.arange(patients) + 1_000_000 * seed
    return make_dataset(
        SCHEMA,
        values,
        labels[:, None],
        asked[:, None],
        ids,
        ids,
        ids,
        ids * 3_600_000_000,
        {},
        {"source": f"planted {name}", "id_space": "planted"},
        risk[:, None],
    )


def _noise(rng: Rng, n: int) -> Float:
    return rng.normal(size=(n, MODALITIES, FEATURES))


def _direction(number: int) -> Float:
    """A unit vector that no seed of patients changes."""
    a = np.random.default_rng([7, number]).normal(size=FEATURES)
    return np.asarray(a / np.linalg.norm(a))


def _pattern(rng: Rng, n: int) -> Planted:
    present = rng.random((n, MODALITIES)) < 0.6
    weights = np.array([1.0, -1.0, 0.7, 0.4])
    return _noise(rng, n), present, expit(1.2 * (2 * present - 1.0) @ weights)


def _single(rng: Rng, n: int) -> Planted:
    x, present = _noise(rng, n), rng.random((n, MODALITIES)) < 0.7
    return x, present, np.where(present[:, 0], expit(2 * x[:, 0] @ _direction(0)), 0.5)


def _product(rng: Rng, n: int) -> Planted:
    x, present = _noise(rng, n), rng.random((n, MODALITIES)) < 0.9
    same = (x[:, 0] @ _direction(0)) * (x[:, 1] @ _direction(1)) > 0
    return x, present, np.where(present[:, 0] & present[:, 1], np.where(same, 0.95, 0.05), 0.5)


def _recover(rng: Rng, n: int) -> Planted:
    x, present = _noise(rng, n), rng.random((n, MODALITIES)) < np.array([0.9, 0.3, 0.7, 0.7])
    mix = np.linalg.qr(np.random.default_rng(8).normal(size=(FEATURES, FEATURES)))[0]
    x[:, 1] = x[:, 0] @ mix.T + 0.3 * x[:, 1]
    told, guessed = x[:, 1] @ _direction(2), x[:, 0] @ mix.T @ _direction(2)  # given x¹: N(guessed, .3²)
    with_first = _normal_mean(lambda z: expit(3 * (guessed[:, None] + 0.3 * z)))
    nothing = _normal_mean(lambda z: expit(3 * np.sqrt(1.09) * z))  # by symmetry one half
    seen = np.where(present[:, 0], with_first, nothing)
    return x, present, np.where(present[:, 1], expit(3 * told), seen)


def _severity(rng: Rng, n: int) -> Planted:
    s = rng.normal(size=n)
    present = rng.random((n, MODALITIES)) < expit(1.5 * s)[:, None]
    x = s[:, None, None] + 2 * _noise(rng, n)
    grid = np.linspace(-6, 6, 401)
    log_weight = -0.5 * grid**2 + present.sum(1)[:, None] * np.log(expit(1.5 * grid))
    log_weight = log_weight + (~present).sum(1)[:, None] * np.log(expit(-1.5 * grid))
    seen, total = present.sum(1) * FEATURES, np.where(present[..., None], x, 0).sum((1, 2))
    log_weight = log_weight + (total[:, None] * grid - 0.5 * seen[:, None] * grid**2) / 4  # variance of ε is 4
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    return x, present, (weight @ expit(1.5 * grid - 1)) / weight.sum(1)


def _imbalance(rng: Rng, n: int) -> Planted:
    x, present = _noise(rng, n), rng.random((n, MODALITIES)) < np.array([0.9, 0.7, 0.7, 0.7])
    easy = x[:, 0] @ _direction(3)  # N(0, 1)
    hard = np.sign(x[:, 1, 0] * x[:, 1, 1])  # a fair coin that neither of the two features tells alone
    easy_alone = (expit(2.5 * easy + 2) + expit(2.5 * easy - 2)) / 2
    hard_alone = _normal_mean(lambda z: expit(2.5 * z + 2 * hard[:, None]))
    seen = np.where(present[:, 1], expit(2.5 * easy + 2 * hard), easy_alone)
    return x, present, np.where(present[:, 0], seen, np.where(present[:, 1], hard_alone, 0.5))


def _normal_mean(function: Callable[[Float], Float]) -> Float:
    """E f(z), z ~ N(0, 1); f takes (Q,) points and gives (…, Q)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return np.asarray(function(nodes) @ weights / weights.sum())


MECHANISMS: Final[dict[str, Callable[[Rng, int], Planted]]] = {
    "pattern": _pattern,
    "single": _single,
    "product": _product,
    "recover": _recover,
    "severity": _severity,
    "imbalance": _imbalance,
}
_STREAMS: Final = ("pattern", "product", "recover", "severity", "single", "imbalance")
"""A mechanism's place here decides its random numbers: new ones come last."""

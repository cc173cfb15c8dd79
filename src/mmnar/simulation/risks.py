"""Exact risks of questions that see only some modalities, or that are asked of survivors only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from mmnar.ops.threads import one_thread
from mmnar.simulation.population import CONTENT_NOISE, Bool, Float, Policy, Simulation, World, pattern_number

_POINTS = 256
_CELLS = 1024 * _POINTS
"""Patients times points that are looked at together."""


def exact_risk(simulation: Simulation, outcome: int, seen: Bool, *, among_survivors_of: int | None = None) -> Float:
    """(N,) P(y_outcome = 1 | contents and pattern of the modalities in ``seen``).

    The presence and content of the other modalities are integrated out, as is the site.

    Args:
        simulation: The patients.
        outcome: Column of ``Simulation.labels``.
        seen: (M,) the modalities the question can see at all; ``simulation.present`` says who has them.
        among_survivors_of: Condition also on y = 0 of this outcome. Outcomes are independent given (h, δ), so this
            reweighs the posterior of h, nothing else.

    Computed like ``simulator.bayes_risks``, by a quadrature of 256 Sobol points.

    >>> from mmnar.simulation.population import simulate
    >>> s = simulate(50, seed=1)
    >>> bool(np.allclose(exact_risk(s, 1, np.ones(4, dtype=bool)), s.bayes[:, 1]))
    True
    """
    s = simulation
    risks = exact_risks(
        s.world, s.policy, s.content, s.present, (outcome,), seen=seen, among_survivors_of=among_survivors_of
    )
    return risks[:, 0]


@one_thread
def exact_risks(
    world: World,
    policy: Policy,
    content: Float,
    present: Bool,
    outcomes: Sequence[int],
    *,
    seen: Bool,
    among_survivors_of: int | None = None,
    points: int = _POINTS,
) -> Float:
    """(N, K) the same for several outcomes, of patients with contents (N, M, F) and patterns (N, M).

    Args:
        points: Of the quadrature over the latents; a power of two.
    """
    latents = world.loadings.shape[-1]
    z = ndtri(qmc.Sobol(latents, scramble=False).random(points) + 0.5 / points)
    visible = present & seen
    risks = np.empty((len(present), len(outcomes)))
    patterns, group = np.unique(visible, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members = np.flatnonzero(group.reshape(-1) == number)
        w = world.loadings[pattern].reshape(-1, latents)
        covariance = np.linalg.inv(np.eye(latents) + w.T @ w / CONTENT_NOISE**2)
        spread = z @ np.linalg.cholesky(covariance).T
        for rows in np.array_split(members, len(members) * points // _CELLS + 1):
            x = content[rows][:, pattern].reshape(len(rows), len(w))
            h = (x @ w @ covariance / CONTENT_NOISE**2)[:, None, :] + spread  # (n, Q, latents)
            happens, total = np.zeros((len(rows), len(outcomes))), np.zeros(len(rows))
            for completion in _completions(pattern, seen):
                bits = pattern_number(completion[None])[0]
                risk = world.risks(h, np.broadcast_to(bits, h.shape[:-1]))
                weight = policy.likelihood(h, completion)
                if among_survivors_of is not None:
                    weight = weight * (1.0 - risk[:, :, among_survivors_of])
                for column, outcome in enumerate(outcomes):
                    happens[:, column] += (weight * risk[:, :, outcome]).sum(axis=1)
                total += weight.sum(axis=1)
            risks[rows] = happens / total[:, None]
    return risks


def _completions(pattern: Bool, seen: Bool) -> list[NDArray[np.bool_]]:
    """Every pattern that agrees with ``pattern`` on the modalities in ``seen``."""
    hidden = np.flatnonzero(~seen)
    completions = []
    for bits in product((False, True), repeat=len(hidden)):
        completion = pattern.copy()
        completion[hidden] = bits
        completions.append(completion)
    return completions

"""Exact risks of questions that see only some modalities, or that are asked of survivors only."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from scipy.stats import qmc

from mmnar.ops.threads import one_thread
from mmnar.simulation.population import CONTENT_NOISE, Bool, Float, Simulation, pattern_number

_POINTS = 256
_ROWS = 1024


@one_thread
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
    world, policy = simulation.world, simulation.policy
    z = ndtri(qmc.Sobol(3, scramble=False).random(_POINTS) + 0.5 / _POINTS)
    visible = simulation.present & seen
    risks = np.empty(len(simulation))
    patterns, group = np.unique(visible, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members = np.flatnonzero(group.reshape(-1) == number)
        w = world.loadings[pattern].reshape(-1, 3)
        covariance = np.linalg.inv(np.eye(3) + w.T @ w / CONTENT_NOISE**2)
        points = z @ np.linalg.cholesky(covariance).T
        for rows in np.array_split(members, len(members) // _ROWS + 1):
            x = simulation.content[rows][:, pattern].reshape(len(rows), len(w))
            h = (x @ w @ covariance / CONTENT_NOISE**2)[:, None, :] + points  # (n, 256, 3)
            happens, total = np.zeros(len(rows)), np.zeros(len(rows))
            for completion in _completions(pattern, seen):
                bits = pattern_number(completion[None])[0]
                risk = expit(world.linear_predictor(h, np.broadcast_to(bits, h.shape[:-1])))
                weight = policy.likelihood(h, completion)
                if among_survivors_of is not None:
                    weight = weight * (1.0 - risk[:, :, among_survivors_of])
                happens += (weight * risk[:, :, outcome]).sum(axis=1)
                total += weight.sum(axis=1)
            risks[rows] = happens / total
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

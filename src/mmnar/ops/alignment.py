"""Orthogonal maps from one space of vectors to another, from pairs or, with few of them, from optimal transport."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist
from torch import Tensor

from mmnar.extras import lacking

NEIGHBOURS: Final = 10
"""Of the graph whose shortest paths are the structure cost (Pamona, Cao et al. 2022)."""

Float = NDArray[np.float64]


def procrustes(source: Tensor, target: Tensor) -> Tensor:
    """argmin over orthogonal Q of ‖source Q − target‖_F (Schönemann 1966).

    Args:
        source, target: (n, D); row i of both belongs together.

    >>> quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> points = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> bool(torch.allclose(procrustes(points, points @ quarter), quarter, atol=1e-6))
    True
    """
    u, _, vh = torch.linalg.svd(source.T @ target)
    rotation: Tensor = u @ vh
    return rotation


def transported(source: Tensor, target: Tensor, pairs: Tensor, mass: float = 0.9) -> tuple[Tensor, Tensor]:
    """Where each row of ``source`` is carried to: its barycentre under ``transport_plan``, and its mass.

    Args:
        source: (n, D).
        target: (m, D).
        pairs: (n, m) bool; known counterparts.
        mass: Share of the mass that is transported.

    Returns:
        (n, D) barycentres, zeros for a row without mass; (n,) mass.
    """
    plan = torch.from_numpy(transport_plan(_array(source), _array(target), pairs.cpu().numpy(), mass)).to(source)
    weight = plan.sum(1)
    barycentres = plan @ target / weight.clamp(min=torch.finfo(weight.dtype).tiny)[:, None]
    return torch.where(weight[:, None] > 0, barycentres, 0.0), weight


def transport_plan(source: Float, target: Float, pairs: NDArray[np.bool_], mass: float) -> Float:
    """The partial fused Gromov-Wasserstein plan between two sets of points of different spaces.

    min over T ≥ 0 with T1 ≤ 1/n, Tᵀ1 ≤ 1/m and total ``mass`` of
    ½ Σ_ij T_ij [not a pair] + ½ Σ_ijkl (C_ik − C'_jl)² T_ij T_kl,
    with C, C' the geodesic distances within each set, the largest of each being 1.

    Args:
        source: (n, D).
        target: (m, D').
        pairs: (n, m) bool; known counterparts.
        mass: In (0, 1].

    Returns:
        (n, m) T.

    Raises:
        RequirementError: The package POT is not installed.
    """
    require_transport()
    from ot.gromov import partial_fused_gromov_wasserstein

    # numItermax also bounds the pivots of each linear programme, of which a few hundred points need over 10,000
    plan = partial_fused_gromov_wasserstein(
        1.0 - pairs, geodesic_distances(source), geodesic_distances(target), m=mass, alpha=0.5, numItermax=1e6
    )
    return np.asarray(plan)


def require_transport() -> None:
    """Raises:
    RequirementError: The package POT is not installed.
    """
    if find_spec("ot") is None:
        raise lacking("alignment of modalities with few common patients", "pot", "transport")


def geodesic_distances(points: Float) -> Float:
    """(n, D) → (n, n) lengths of the shortest paths over a graph of nearest neighbours, divided by the largest.

    Points that no path joins are as far apart as the farthest that one joins.
    """
    straight = cdist(points, points) + 1e-9  # an edge of length zero would count as none
    k = min(NEIGHBOURS, len(points) - 1)
    near = straight <= np.partition(straight, k, axis=1)[:, k : k + 1]
    paths: Float = shortest_path(np.where(near, straight, 0.0), directed=False)
    longest = paths[np.isfinite(paths)].max()
    return np.asarray(np.where(np.isfinite(paths), paths, longest) / max(longest, 1e-9))


def _array(points: Tensor) -> Float:
    return np.asarray(points.detach().cpu().double().numpy())

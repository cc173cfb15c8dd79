"""Clusters of the rows of a matrix."""

from __future__ import annotations

import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor


def kmeans(features: Tensor, start: Tensor) -> Tensor:
    """(C, D) centroids of mini-batch k-means (Sculley 2010, doi:10.1145/1772690.1772862).

    Args:
        features: (n, D) float32 on the CPU. With fewer rows than C some centroids are double, with none all stay.
        start: (C, D) to begin from, so that a renewed centroid keeps its number; all zeros = from scratch.
    """
    clusters = min(len(start), len(features))
    if not clusters:
        return start
    begun = bool(start.any()) and clusters == len(start)
    init = start.numpy() if begun else "k-means++"
    # a fixed seed and one thread: the same features always give the same centroids
    with threadpool_limits(1):
        fitted = MiniBatchKMeans(clusters, init=init, n_init=1, batch_size=1024, random_state=0).fit(features.numpy())
    found = torch.from_numpy(fitted.cluster_centers_).to(start.dtype)
    return found[torch.arange(len(start)) % clusters]

"""Small grey images that resemble chest X-rays and show five contents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmnar.simulation.population import Bool, Float


def chest_images(shows: Float, lateral: Bool, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(N, side, side) images of contents (N, 5), in units of their spread.

    0: opacity blobs in the lungs, 1: fluid at their bases, 2: haze, 3: width of the heart, 4: a dense band low on
    the right side. From the side all are drawn over one lung.
    """
    y, x = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    level = _level(shows)
    shape = (-1, 1, 1)
    centre = np.where(lateral, 0.0, 0.42).reshape(shape)
    width = np.where(lateral, 0.55, 0.32).reshape(shape)
    left, right = (((x + s * centre) / width) ** 2 + ((y + 0.05) / 0.68) ** 2 for s in (1, -1))
    lungs = np.clip(4 * (1 - np.minimum(left, right)), 0, 1)
    body = ((x / 0.95) ** 2 + (y / 1.15) ** 2 < 1).astype(float)
    picture = 0.05 + 0.6 * body - 0.45 * lungs * body
    blobs = np.zeros((len(shows), side, side))
    for _ in range(4):
        bx, by = rng.uniform(0.25, 0.6, (2, len(shows), 1, 1))
        sign = rng.choice([-1.0, 1.0], (len(shows), 1, 1))
        blobs += np.exp(-((x - sign * bx) ** 2 + (y - by + 0.4) ** 2) / 0.02)
    fluid = 1 / (1 + np.exp(-(y - 0.75 + 0.5 * level[:, 1].reshape(shape)) * 14))
    heart = ((x - 0.08) / (0.16 + 0.28 * level[:, 3].reshape(shape))) ** 2 + ((y - 0.3) / 0.34) ** 2 < 1
    band = np.exp(-((y - 0.42) ** 2) / 0.004) * (x < -0.12)
    picture += lungs * (
        0.35 * level[:, 0].reshape(shape) * np.minimum(blobs, 1)
        + 0.35 * fluid * body
        + 0.25 * level[:, 2].reshape(shape)
        + 0.35 * level[:, 4].reshape(shape) * band
    )
    picture = np.maximum(picture, 0.72 * heart)
    picture += 0.02 * rng.standard_normal(picture.shape)
    pixels: NDArray[np.uint8] = (255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return pixels


def _level(shows: Float) -> Float:
    """Between 0 and 1, steep around the middle."""
    level: Float = 1 / (1 + np.exp(-1.2 * shows))
    return level

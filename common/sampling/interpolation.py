"""Walks through latent space."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri


def interpolate(starts: np.ndarray, ends: np.ndarray, steps: int) -> np.ndarray:
    """Walks through latent space, along great circles of the normal distribution.

    On the straight line between two z ~ U(-1, 1)^d the generator sees inputs that it was hardly
    ever trained on: half-way the distribution of each entry is triangular, and z is shorter by a
    factor of the square root of 2. A spherical walk (White: Sampling Generative Networks, 2016,
    arXiv:1609.04468) keeps the length, but with uniform entries it leaves the cube [-1, 1]^d. So
    each entry is mapped to the normal distribution, which the spherical walk is made for, and
    back. Then z ~ U(-1, 1)^d all along the walk.

    Args:
        starts: float32 of shape (count, d) in [-1, 1].
        ends: The same.
        steps: The number of z of each walk, start and end included.

    Returns:
        float32 of shape (count, steps, d) in [-1, 1].
    """
    # an entry of exactly -1 or 1 would be infinite
    bound = 1 - 1e-7
    a, b = (ndtri((np.clip(z.astype(float), -bound, bound) + 1) / 2) for z in (starts, ends))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    angles = np.arccos(np.clip((a * b).sum(axis=1) / norms, -1, 1))[:, np.newaxis, np.newaxis]
    t = np.linspace(0, 1, steps)[:, np.newaxis]
    with np.errstate(invalid="ignore"):  # if start and end are the same
        weights = [np.sin((1 - t) * angles), np.sin(t * angles)] / np.sin(angles)
    weights = np.where(np.sin(angles) > 1e-6, weights, [1 - t + 0 * angles, t + 0 * angles])
    path = weights[0] * a[:, np.newaxis] + weights[1] * b[:, np.newaxis]
    return (2 * ndtr(path) - 1).astype(np.float32)

"""Neighbours: whether two sets of images cover each other, and which image is nearest to another.

`real` and `fake` are features, a row for each image: float64 of shape (count, dimensions).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min, pairwise_distances_chunked

# MB for the distances of a chunk of images.
_CHUNK = 32


class Prdc(NamedTuple):
    """Precision, recall, density and coverage: how far two sets of images cover each other.

    Attributes:
        precision: Share of fakes in a neighbourhood of real images: equations 1 and 2 of [1].
        recall: Share of real images in a neighbourhood of fakes: the same with roles exchanged.
        density: In how many real neighbourhoods a fake lies, divided by k: equation 4 of [2].
            About 1 for real images; it may be more.
        coverage: Share of real images that have a fake in their neighbourhood: equation 6 of [2].

    [1] Kynkaanniemi et al.: Improved Precision and Recall Metric for Assessing Generative Models,
        2019, arXiv:1904.06991
    [2] Naeem et al.: Reliable Fidelity and Diversity Metrics for Generative Models, 2020,
        arXiv:2002.09797
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, fake: np.ndarray, k: int) -> Prdc:
    """Compares two sets by the neighbourhoods of their images.

    The neighbourhood of an image is the open ball around it whose radius is the distance to its
    k-th neighbour in its own set.
    """
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    neighbourhoods = []  # how many real ones each fake lies in
    recalled = np.zeros(len(real), bool)
    nearest = np.full(len(real), np.inf)
    start = 0
    for distances in _distances(fake, real):
        neighbourhoods.append((distances < real_radii).sum(axis=1))
        radii = fake_radii[start : start + len(distances), np.newaxis]
        recalled |= (distances < radii).any(axis=0)
        nearest = np.minimum(nearest, distances.min(axis=0))
        start += len(distances)
    counts = np.concatenate(neighbourhoods)
    return Prdc(
        precision=float(np.mean(counts > 0)),
        recall=float(recalled.mean()),
        density=float(counts.mean() / k),
        coverage=float(np.mean(nearest < real_radii)),
    )


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """The distance from each row to its k-th neighbour among the others."""
    # its own distance, 0, comes first
    return np.concatenate([np.partition(d, k, axis=1)[:, k] for d in _distances(x, x)])


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Euclidean distances of the rows of x, some at a time, to all rows of y."""
    return pairwise_distances_chunked(x, y, working_memory=_CHUNK)


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest of some images to each image, by the Euclidean distance of pixels.

    Args:
        images: float32 of shape (count, size, size, 1).
        among: float32 of shape (others, size, size, 1).

    Returns:
        Indexes into `among` and the distances, of shape (count,) both.
    """
    return pairwise_distances_argmin_min(
        images.reshape(len(images), -1), among.reshape(len(among), -1)
    )

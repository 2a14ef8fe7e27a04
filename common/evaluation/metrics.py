"""Metrics of a set of images: how it compares with another set, and with single images of it.

`real` and `fake` are features, one row per image: float64 of shape (count, dimensions).
"""

from collections.abc import Callable

import numpy as np

# scikit-learn is imported where it is used: it is slow to load, and a training needs none of it.

# The number of neighbours that define a neighbourhood, as in Naeem et al. 2020.
K = 5
# MB for the distances of a chunk of images.
_CHUNK = 32


def digit_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of predicted labels that are right, from 0.0 to 1.0; both of shape (count,)."""
    return float(np.mean(predicted == labels))


def total_variation(counts: np.ndarray, other: np.ndarray) -> float:
    """The total variation distance of two histograms: the share of one that would have to move.

    Both have the number of images of each class, shape (num_labels,). From 0.0 for the same shares
    to 1.0 for no class in common.
    """
    return float(np.abs(counts / counts.sum() - other / other.sum()).sum() / 2)


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """The Frechet distance of the Gaussians with the means and covariances of two sets.

        |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2))

    Heusel et al. 2017, arXiv:1706.08500, equation 6, where the features are Inception's. The trace
    of the root is computed as the sum of the roots of the eigenvalues of S1 S2, which are real and
    not negative. It exists also where the root itself does not: where features are constant, or
    more than the images.

    Returns:
        0.0 or more; 0.0 for a set and itself.
    """
    means, covariances = zip(
        *((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real, fake)), strict=True
    )
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real
    trace_of_root = np.sqrt(eigenvalues.clip(0)).sum()
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    distance = np.sum((means[0] - means[1]) ** 2) + traces - 2 * trace_of_root
    return max(0.0, float(distance))


def prdc(real: np.ndarray, fake: np.ndarray, k: int = K) -> dict[str, float]:
    """Precision, recall, density and coverage: how far two sets of images cover each other.

    The neighbourhood of an image is the open ball around it whose radius is the distance to its
    k-th neighbour in its own set.

    [1] Kynkaanniemi et al.: Improved Precision and Recall Metric for Assessing Generative Models,
        2019, arXiv:1904.06991
    [2] Naeem et al.: Reliable Fidelity and Diversity Metrics for Generative Models, 2020,
        arXiv:2002.09797

    Returns:
        precision: The share of fakes in a neighbourhood of real images: equations 1 and 2 of [1].
        recall: The share of real images in a neighbourhood of fakes: the same, roles exchanged.
        density: The number of real neighbourhoods that a fake lies in, divided by k: equation 4 of
            [2]. About 1 for real images; it may be more.
        coverage: The share of real images with a fake in their neighbourhood: equation 6 of [2].
    """
    real_radii, fake_radii = (
        _reduced(x, x, lambda d: np.partition(d, k, axis=1)[:, k])  # its own distance, 0, is first
        for x in (real, fake)
    )
    neighbourhoods = _reduced(fake, real, lambda d: (d < real_radii).sum(axis=1))
    recalled, nearest_fakes = _reduced(
        real, fake, lambda d: np.column_stack([(d < fake_radii).any(axis=1), d.min(axis=1)])
    ).T
    return {
        "precision": float(np.mean(neighbourhoods > 0)),
        "recall": float(recalled.mean()),
        "density": float(neighbourhoods.mean() / k),
        "coverage": float(np.mean(nearest_fakes < real_radii)),
    }


def _reduced(
    x: np.ndarray, y: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Reduces the Euclidean distances of each row of x to all rows of y, some rows at a time."""
    from sklearn.metrics import pairwise_distances_chunked

    chunks = pairwise_distances_chunked(x, y, working_memory=_CHUNK)
    return np.concatenate([reduce(distances) for distances in chunks])


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of other images to each image, by the Euclidean distance of pixels.

    Images are float32 of shape (count, size, size, 1). Returns indexes into `among`, and distances,
    both of shape (count,).
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    return pairwise_distances_argmin_min(*(x.reshape(len(x), -1) for x in (images, among)))

"""Distances between the distributions of two sets of images."""

from __future__ import annotations

import numpy as np
import scipy.linalg


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
    eigenvalues = scipy.linalg.eigvals(covariances[0] @ covariances[1]).real
    trace_of_root = np.sqrt(eigenvalues.clip(0)).sum()
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    distance = np.sum((means[0] - means[1]) ** 2) + traces - 2 * trace_of_root
    return max(0.0, float(distance))


def total_variation(counts: np.ndarray, other: np.ndarray) -> float:
    """The total variation distance of two histograms: the share of one that would have to move.

    Args:
        counts: The images of each class, shape (num_labels,); not all 0.
        other: The same.

    Returns:
        From 0.0 for the same shares to 1.0 for no class in common.
    """
    return float(np.abs(counts / counts.sum() - other / other.sum()).sum() / 2)

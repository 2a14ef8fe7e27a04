"""What does a generator take in? Noise z, and for a CGAN a one-hot label beside it."""

from __future__ import annotations

import numpy as np

# The chapter's z-vector is 100-dimensional.
LATENT_SIZE = 100


def one_hot(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """One-hot vectors of labels.

    Args:
        labels: Integers of shape (count,), from 0 to num_labels - 1.
        num_labels: The number of classes.

    Returns:
        float32 of shape (count, num_labels).
    """
    return (labels[:, np.newaxis] == np.arange(num_labels)).astype(np.float32)


class Latent:
    """Batches of generator inputs: z ~ U(-1, 1)^latent_size, for a CGAN with random labels.

    Args:
        latent_size: The dimension of z.
        num_labels: The number of classes to draw labels from; 0 for a GAN without conditions.
    """

    def __init__(self, latent_size: int = LATENT_SIZE, num_labels: int = 0) -> None:
        self.latent_size = latent_size
        self.num_labels = num_labels

    def draw(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Draws the inputs for `count` fake images (listings 4.2.4 and 4.3.3).

        Returns:
            `[noise]` or `[noise, labels]`: float32 of shape (count, latent_size) in [-1, 1], and
            one-hot labels, float32 of shape (count, num_labels).
        """
        noise = rng.uniform(-1.0, 1.0, size=(count, self.latent_size)).astype(np.float32)
        if not self.num_labels:
            return [noise]
        return [noise, one_hot(rng.integers(0, self.num_labels, size=count), self.num_labels)]

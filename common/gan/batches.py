"""What does a generator take in? Noise z, and for a CGAN a one-hot label beside it."""

from __future__ import annotations

import keras
import numpy as np

# The chapter's z-vector is 100-dimensional.
LATENT_SIZE = 100

# Images that are drawn at a time, for the sake of memory.
_BATCH = 250


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


def generate(generator: keras.Model, noise_input: list[np.ndarray]) -> np.ndarray:
    """What a generator makes of its inputs.

    Args:
        generator: The generator.
        noise_input: `[noise]` or `[noise, labels]`, as in `Latent.draw`, of any number.

    Returns:
        Images, float32 of shape (count, size, size, 1) in [0, 1].
    """
    count = len(noise_input[0])
    batches = [[x[i : i + _BATCH] for x in noise_input] for i in range(0, count, _BATCH)]
    # called, and not asked to predict, in which all workers of a training would have to take part
    return np.concatenate([generator(batch, training=False).numpy() for batch in batches])

"""Batches: real images with their labels, and the generator's inputs (z, and one-hot labels)."""

from __future__ import annotations

import keras
import numpy as np

from common.data import num_classes
from common.gan.models import lowest_pixel

# Images generated at a time, to limit memory.
_BATCH_SIZE = 250


def one_hot(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """One-hot vectors, float32 of shape (count, num_labels), of integers of shape (count,)."""
    return (labels[:, np.newaxis] == np.arange(num_labels)).astype(np.float32)


class RealImages:
    """Batches of real images, for a CGAN with their labels.

    Args:
        images: uint8 of shape (N, size, size). They are kept as they are: float32 would take four
            times the memory.
        labels: Integers of shape (N,), or None for a GAN without labels.
        lowest: The value of a black pixel in a batch: 0, or -1 for a generator that ends in tanh.
            White is 1.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray | None = None, lowest: int = 0
    ) -> None:
        self.images = images
        self.labels = labels
        self.num_labels = 0 if labels is None else num_classes(labels)
        self.lowest = lowest

    def draw_indexes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws indexes of images with replacement (listing 4.2.4): int64 of shape (count,)."""
        return rng.integers(0, len(self.images), size=count)

    def take(self, indexes: np.ndarray) -> list[np.ndarray]:
        """The images at these indexes.

        Returns:
            `[images]` or `[images, labels]`: float32 of shape (count, size, size, 1) in
            [lowest, 1], and one-hot labels, float32 of shape (count, num_labels).
        """
        images = self.images[indexes, :, :, np.newaxis].astype(np.float32) / 255
        if self.lowest < 0:
            images = images * 2 - 1
        if self.labels is None:
            return [images]
        return [images, one_hot(self.labels[indexes], self.num_labels)]


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 images of shape (N, size, size) as float32 of shape (N, size, size, 1) in [0, 1]."""
    return RealImages(images).take(np.arange(len(images)))[0]


class LatentSampler:
    """Draws generator inputs: z ~ U(-1, 1)^latent_size, for a CGAN with random labels.

    Args:
        latent_size: The dimension of z.
        num_labels: The number of classes to draw labels from; 0 for a GAN without labels.
    """

    def __init__(self, latent_size: int, num_labels: int = 0) -> None:
        self.latent_size = latent_size
        self.num_labels = num_labels

    @classmethod
    def of(cls, generator: keras.Model) -> LatentSampler:
        """The sampler for the inputs of a generator, `[z]` or `[z, labels]`."""
        return cls(*(tensor.shape[1] for tensor in generator.inputs))

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

    def draw_in_turn(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Draws noise as `draw` does, with the labels 0, 1, 2, ... in turn."""
        noise, *labels = self.draw(rng, count)
        in_turn = np.arange(count) % max(self.num_labels, 1)
        return [noise, *(one_hot(in_turn, self.num_labels) for _ in labels)]


def labels_of(noise_input: list[np.ndarray]) -> np.ndarray | None:
    """The labels in a generator's inputs, or the nearest ones: int64 of shape (count,).

    None for a GAN without labels.
    """
    return noise_input[1].argmax(axis=1) if len(noise_input) > 1 else None


def generate(generator: keras.Model, noise_input: list[np.ndarray]) -> np.ndarray:
    """Generates images.

    Args:
        generator: The generator.
        noise_input: Its inputs, `[noise]` or `[noise, labels]`, as from `LatentSampler.draw`.

    Returns:
        Images, float32 of shape (count, size, size, 1) in [0, 1], also if the generator ends in
        tanh; NaN where it draws NaN.
    """
    count = len(noise_input[0])
    batches = [[x[i : i + _BATCH_SIZE] for x in noise_input] for i in range(0, count, _BATCH_SIZE)]
    # not `predict`, in which all workers of a distributed training would have to take part
    images = np.concatenate([generator(batch, training=False).numpy() for batch in batches])
    if lowest_pixel(generator) < 0:
        images = (images + 1) / 2
    return images.clip(0, 1)

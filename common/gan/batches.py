"""Batches: real images with their labels, and the generator's inputs (z, and one-hot labels)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from common.data import num_classes
from common.errors import UserError
from common.gan.models import lowest_pixel

# Images generated at a time, to limit memory.
_BATCH_SIZE = 250


def one_hot(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """One-hot vectors of labels.

    Args:
        labels: Integers of shape (count,), from 0 to num_labels - 1.
        num_labels: The number of classes.

    Returns:
        float32 of shape (count, num_labels).
    """
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

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws `count` images at random, with replacement (listing 4.2.4).

        Returns:
            Their indexes: int64 of shape (count,).
        """
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
    """Images as the classifier and the metrics take them.

    Args:
        images: uint8 of shape (N, size, size).

    Returns:
        float32 of shape (N, size, size, 1) in [0, 1].
    """
    return RealImages(images).take(np.arange(len(images)))[0]


def named(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What classes are called: text of shape (count,), or the numbers themselves without names.

    Args:
        labels: Integers of shape (count,).
        names: The names of all classes, or none.
    """
    return np.array(names)[labels] if names else labels


class LatentSampler:
    """Draws generator inputs: z ~ U(-1, 1)^latent_size, for a CGAN with random labels.

    Args:
        latent_size: The dimension of z.
        num_labels: The number of classes to draw labels from; 0 for a GAN without labels.
    """

    def __init__(self, latent_size: int, num_labels: int = 0) -> None:
        self.latent_size = latent_size
        self.num_labels = num_labels

    @property
    def conditional(self) -> bool:
        """Whether the generator takes labels."""
        return self.num_labels > 0

    @classmethod
    def of(cls, generator: keras.Model) -> LatentSampler:
        """The inputs of a generator: from `[z]`, or, if it is conditional, `[z, labels]`."""
        return cls(*(tensor.shape[1] for tensor in generator.inputs))

    def draw(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Draws the inputs for `count` fake images (listings 4.2.4 and 4.3.3).

        Returns:
            `[noise]` or `[noise, labels]`: float32 of shape (count, latent_size) in [-1, 1], and
            one-hot labels, float32 of shape (count, num_labels).
        """
        noise = rng.uniform(-1.0, 1.0, size=(count, self.latent_size)).astype(np.float32)
        if not self.conditional:
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
        noise_input: Any number of `[noise]` or `[noise, labels]`, as from `LatentSampler.draw`.

    Returns:
        Images, float32 of shape (count, size, size, 1) in [0, 1], whatever the generator's own
        range is; NaN where it draws NaN.
    """
    count = len(noise_input[0])
    batches = [[x[i : i + _BATCH_SIZE] for x in noise_input] for i in range(0, count, _BATCH_SIZE)]
    # not `predict`, in which all workers of a distributed training would have to take part
    images = np.concatenate([generator(batch, training=False).numpy() for batch in batches])
    if lowest_pixel(generator) < 0:
        images = (images + 1) / 2
    if images.min() < -0.01 or images.max() > 1.01:
        _warn_of_range(f"{images.min():.3g} to {images.max():.3g}")
    return images.clip(0, 1)


def check_finite(images: np.ndarray, path: Path | None) -> None:
    """Refuses what a generator has drawn if it is no picture.

    Args:
        images: As from `generate`.
        path: The generator's file.

    Raises:
        UserError: Pixels are NaN or infinite.
    """
    if not np.isfinite(images).all():
        raise UserError(
            f"{path} draws NaN: its weights are damaged, or its training has diverged; give "
            "another generator"
        )


@functools.cache
def _warn_of_range(values: str) -> None:
    """Warns, once for the same values, of images that are cut off at black and white."""
    print(
        f"warning: the generator draws values from {values}, which are shown cut off at 0 and 1: "
        "end it in a sigmoid, or in a tanh for [-1, 1]",
        file=sys.stderr,
    )

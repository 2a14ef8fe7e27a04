"""The alternating step as one compiled function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.gan.step import AlternatingStep, alternating_step


class CompiledStep(AlternatingStep):
    """The alternating step as one compiled function, with the data set on the device.

    Python draws the random numbers and fetches the metrics of several steps at once, so that it
    runs ahead of a fast device instead of waiting for it in each step.

    Args:
        args: As for `AlternatingStep`.
        xla: Whether to compile with XLA, for a GPU.
    """

    steps_per_execution = 10

    def __init__(self, *args: Any, xla: bool = False) -> None:
        super().__init__(*args)
        # Tensors that the function captures are its inputs. Constants of its own would be folded:
        # x / 255 would become x * (1 / 255), which differs in the last bit.
        self._white = tf.constant(255.0)
        of_images = (self.real.images, self.real.labels)
        self._data = [tf.constant(array) for array in of_images if array is not None]
        real_or_fake, all_real = self.targets
        self.targets = (tf.constant(real_or_fake), tf.constant(all_real))
        self._compiled = tf.function(self._take_step, jit_compile=xla)

    def __call__(self, count: int = 1) -> np.ndarray:
        """Takes steps, and waits for the metrics of all of them at the end."""
        return tf.stack([self._compiled(*self._draw()) for _ in range(count)]).numpy()

    def _take_step(self, *inputs: Any) -> tf.Tensor:
        """The compiled function: takes one step with the inputs that `_draw` gave.

        Returns:
            The `METRICS` of the step: float32 of shape (4,).
        """
        return self._take_step_with(self._data, *inputs)

    def _take_step_with(
        self, data: list[tf.Tensor], indexes: Any, d_inputs: list, g_inputs: list
    ) -> tf.Tensor:
        """The same, with the data set `data`: `[images]` or `[images, labels]` on the device."""
        real = self._real(*(tf.gather(array, indexes) for array in data))
        metrics = alternating_step(
            self.models, real, d_inputs, g_inputs, self.targets, _generate, _train_on_batch
        )
        return tf.stack(metrics)

    def _real(self, images: tf.Tensor, *labels: tf.Tensor) -> list[tf.Tensor]:
        """What `RealImages.take` gives."""
        images = tf.cast(images[..., tf.newaxis], tf.float32) / self._white
        if self.real.lowest < 0:
            images = images * 2 - 1
        return [images, *(tf.one_hot(classes, self.real.num_labels) for classes in labels)]


def _generate(generator: keras.Model, inputs: list[tf.Tensor]) -> tf.Tensor:
    return generator(inputs, training=False)


def _train_on_batch(model: keras.Model, x: list[tf.Tensor], y: tf.Tensor) -> Sequence:
    model.reset_metrics()
    metrics = model.train_step((x, y))  # which `train_on_batch` compiles
    return metrics["loss"], metrics["accuracy"]

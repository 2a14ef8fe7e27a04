"""The alternating step, compiled: many of them in one call."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.gan.step import AlternatingStep


class CompiledStep(AlternatingStep):
    """The alternating step in a compiled loop, with the data set on the device.

    Python draws the random numbers of many steps, and calls the loop once for all of them. So a
    fast device does not wait for Python in each step.

    Args:
        args: As for `AlternatingStep`.
        xla: Whether to compile the step with XLA, for a GPU.
    """

    steps_per_execution = 100

    def __init__(self, *args: Any, xla: bool = False) -> None:
        super().__init__(*args)
        # Tensors that the function captures are its inputs. Constants of its own would be folded:
        # x / 255 would become x * (1 / 255), which differs in the last bit.
        self._white = tf.constant(255.0)
        # TensorFlow gathers int64 on a GPU, but no uint8: for that it would copy the whole data set
        # to the CPU in each step. The number of pixels of an image is a multiple of 16.
        packed = self.real.images.reshape(len(self.real.images), -1).view(np.int64)
        self._data = [
            tf.constant(array) for array in (packed, self.real.labels) if array is not None
        ]
        self.targets = [tf.constant(target) for target in self.targets]
        # The step stays a function of its own: TensorFlow would optimize it differently as a part
        # of the loop, and it would round differently; XLA would compile the loop anew for every
        # number of steps.
        self._compiled_step = tf.function(
            self._take_step, jit_compile=xla, experimental_attributes={"_noinline": True}
        )
        indexes = tf.TensorSpec((None, self.batch_size), tf.int64)
        g_inputs = [
            tf.TensorSpec((None, self.batch_size, x.shape[1])) for x in self.generator.inputs
        ]
        self._compiled_loop = tf.function(
            self._take_steps, input_signature=[indexes, g_inputs, g_inputs]
        )

    def __call__(self, count: int = 1) -> np.ndarray:
        """Takes steps in one call, with the random numbers that single steps would draw."""
        inputs = [self._draw() for _ in range(count)]
        return self._compiled_loop(*tf.nest.map_structure(lambda *x: np.stack(x), *inputs)).numpy()

    def generate(self, generator: keras.Model, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Draws images in inference mode."""
        return generator(inputs, training=False)

    def train_on_batch(self, model: keras.Model, x: list[tf.Tensor], y: tf.Tensor) -> Sequence:
        """Updates what is trainable in a model; returns the batch's own loss and accuracy."""
        model.reset_metrics()
        metrics = model.train_step((x, y))  # which Keras's `train_on_batch` compiles
        return metrics["loss"], metrics["accuracy"]

    def _take_steps(self, *inputs: Any) -> tf.Tensor:
        """Takes a step with each of the inputs that `_draw` gave: the loop that is compiled.

        Returns the `METRICS` of the steps, float32 of shape (count, 4).
        """
        return tf.map_fn(
            lambda inputs_of_step: self._compiled_step(*inputs_of_step),
            inputs,
            fn_output_signature=keras.config.floatx(),  # float32, except in a test
            parallel_iterations=1,  # each step needs the weights of the one before
        )

    def _take_step(self, *inputs: Any) -> tf.Tensor:
        """Takes one step; returns its `METRICS`, float32 of shape (4,)."""
        return self._take_step_on(self._data, *inputs)

    def _take_step_on(
        self, data: list[tf.Tensor], indexes: Any, d_inputs: list, g_inputs: list
    ) -> tf.Tensor:
        """Takes one step; `data` is the data set on a device, as `_data` has it."""
        real = self._real(*(tf.gather(array, indexes) for array in data))
        return tf.stack(self._alternate(real, d_inputs, g_inputs))

    def _real(self, packed: tf.Tensor, *labels: tf.Tensor) -> list[tf.Tensor]:
        """What `RealImages.take` gives."""
        side = self.real.images.shape[1]
        pixels = tf.reshape(tf.bitcast(packed, tf.uint8), (-1, side, side, 1))
        images = tf.cast(pixels, tf.float32) / self._white
        if self.real.lowest < 0:
            images = images * 2 - 1
        return [images, *(tf.one_hot(classes, self.real.num_labels) for classes in labels)]

"""What is one alternating step?

The chapter's two calls of `train_on_batch`, or the same compiled into one function: two engines
that are fed the same random numbers and compute the same, on a CPU bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from common.gan.batches import Latent
from common.gan.data import RealImages

if TYPE_CHECKING:
    from common.cli import Options

# What a step tells of itself, in this order.
FIGURES = ("discriminator_loss", "discriminator_acc", "adversarial_loss", "adversarial_acc")


class AlternatingStep:
    """The chapter's step: D learns from real and fake images, then G learns from D.

    Calling it takes steps as the chapter does, with `train_on_batch` (listings 4.2.4 and 4.3.3).

    Args:
        models: `(generator, discriminator, adversarial)`; the last two compiled.
        real: Where real images come from.
        latent: Where the generator's inputs come from.
        batch_size: Real images a step, and as many fake ones for D and for G.
        rng: Draws, in this order: real images, D's fakes, G's fakes.

    Attributes:
        together: How many steps to ask for at once.
    """

    together = 1

    def __init__(
        self,
        models: tuple[keras.Model, keras.Model, keras.Model],
        real: RealImages,
        latent: Latent,
        batch_size: int,
        rng: np.random.Generator,
    ) -> None:
        self.generator, self.discriminator, self.adversarial = models
        self.real = real
        self.latent = latent
        self.batch_size = batch_size
        self.rng = rng
        self._ones = np.ones((batch_size, 1), np.float32)
        self._ones_and_zeros = np.concatenate([self._ones, np.zeros_like(self._ones)])
        # The optimizers' variables are there from now on, for a checkpoint to fill.
        for model, thawed in ((self.discriminator, True), (self.adversarial, False)):
            self.discriminator.trainable = thawed
            model.optimizer.build(model.trainable_variables)
        self.generator.jit_compile = False  # as in compile_model; G itself is not compiled

    def __call__(self, count: int = 1) -> np.ndarray:
        """Takes steps.

        Args:
            count: How many.

        Returns:
            Each step's own `FIGURES`: float32 of shape (count, 4).
        """
        return np.array([self._step(*self._draw()) for _ in range(count)], np.float32)

    def _draw(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """What a step needs of chance: indexes of real images, inputs for D's and for G's fakes."""
        return (
            self.real.draw(self.rng, self.batch_size),
            self.latent.draw(self.rng, self.batch_size),
            self.latent.draw(self.rng, self.batch_size),
        )

    def _step(self, indexes: Any, d_inputs: list, g_inputs: list) -> tuple:
        """Takes one step with what `_draw` gave, and returns its `FIGURES`."""
        # D's turn: real images are 1.0, fake ones 0.0
        real = self._real(indexes)
        # drawn as they are when sampled, with batch normalization by its moving statistics
        fake = [self._generate(d_inputs), *d_inputs[1:]]
        x = [keras.ops.concatenate(both) for both in zip(real, fake, strict=True)]
        # Keras reads the flag when it traces the training function: in the first step, and again
        # in any step that traces anew. D trains alone here ...
        self.discriminator.trainable = True
        d_loss, d_acc = self._learn(self.discriminator, x, self._ones_and_zeros)

        # G's turn: its fakes are called real, and it learns from what a frozen D makes of them
        # ... and G alone here.
        self.discriminator.trainable = False
        a_loss, a_acc = self._learn(self.adversarial, g_inputs, self._ones)
        return d_loss, d_acc, a_loss, a_acc

    # What the engines do each in their way, with arrays of NumPy or with tensors:

    def _real(self, indexes: Any) -> list:
        """`[images]` or `[images, labels]`."""
        return self.real.take(indexes)

    def _generate(self, inputs: list) -> Any:
        """What G draws when it is sampled."""
        return self.generator.predict_on_batch(inputs)

    def _learn(self, model: keras.Model, x: list, y: Any) -> Sequence:
        """One update of whatever is trainable; the batch's own loss and accuracy."""
        model.reset_metrics()  # which before Keras 3.15 ran on from step to step
        return model.train_on_batch(x, y)


class CompiledStep(AlternatingStep):
    """The same step as one compiled function, the data set being resident on the device.

    Python draws the random numbers, and asks for figures once in a while: it runs ahead of a fast
    device instead of waiting for it at every step.

    Args:
        args: As for `AlternatingStep`.
        xla: Whether to compile with XLA, for a GPU.
    """

    together = 10

    def __init__(self, *args: Any, xla: bool = False) -> None:
        super().__init__(*args)
        # What the function captures are inputs to it: constants of its own would be folded, and
        # x / 255 become x * (1 / 255), which is another number in the last bit.
        self._white = tf.constant(255.0)
        self._images = tf.constant(self.real.images)
        self._labels = None if self.real.labels is None else tf.constant(self.real.labels)
        self._ones = tf.constant(self._ones)
        self._ones_and_zeros = tf.constant(self._ones_and_zeros)
        self._compiled = tf.function(self._figures, jit_compile=xla)

    def __call__(self, count: int = 1) -> np.ndarray:
        """Takes steps, and waits for the figures of all of them at the end."""
        return tf.stack([self._compiled(*self._draw()) for _ in range(count)]).numpy()

    def _figures(self, *drawn: Any) -> tf.Tensor:
        """What is compiled: one step, which gives its `FIGURES`, float32 of shape (4,)."""
        return tf.stack(self._step(*drawn))

    def _real(self, indexes: tf.Tensor) -> list[tf.Tensor]:
        images = tf.gather(self._images, indexes)[..., tf.newaxis]
        images = tf.cast(images, tf.float32) / self._white
        if self._labels is None:
            return [images]
        return [images, tf.one_hot(tf.gather(self._labels, indexes), self.real.num_labels)]

    def _generate(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return self.generator(inputs, training=False)

    def _learn(self, model: keras.Model, x: list[tf.Tensor], y: tf.Tensor) -> Sequence:
        model.reset_metrics()
        figures = model.train_step((x, y))  # what train_on_batch compiles
        return figures["loss"], figures["accuracy"]


ENGINES = ("train_on_batch", "compiled")


def new_step(
    models: tuple[keras.Model, keras.Model, keras.Model],
    real: RealImages,
    latent: Latent,
    rng: np.random.Generator,
    options: Options,
) -> AlternatingStep:
    """Makes the alternating step of a training, with the engine and batch size of its options."""
    arguments = (models, real, latent, options.batch_size, rng)
    if options.strategy != "none":
        from common.training.distribution import DistributedStep

        return DistributedStep(*arguments, sync_batchnorm=options.sync_batchnorm)
    if options.engine == "compiled":
        return CompiledStep(*arguments, xla=options.xla)
    return AlternatingStep(*arguments)

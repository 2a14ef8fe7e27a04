"""One alternating step: D learns from real and fake images, then G learns from D.

`alternating_step` is the chapter's step (listings 4.2.4 and 4.3.3). `AlternatingStep` takes it as
the chapter does, with `train_on_batch`. Two variations take the same step: compiled into one
function (`common.training.compiled`), and on several devices (`common.training.distribution`).
All draw the same random numbers; on one CPU they compute the same, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from common.gan.batches import LatentSampler, RealImages

# The metrics of a step, in this order: losses are means over the batch in nats, accuracies shares
# from 0 to 1.
METRICS = ("discriminator_loss", "discriminator_acc", "adversarial_loss", "adversarial_acc")

# (generator, discriminator, adversarial); the last two are compiled.
Models = tuple[keras.Model, keras.Model, keras.Model]


def alternating_step(
    models: Models,
    real: list,
    d_inputs: list,
    g_inputs: list,
    targets: Sequence,
    generate: Callable[[keras.Model, list], Any],
    train_on_batch: Callable[[keras.Model, list, Any], Sequence],
) -> tuple:
    """Takes one step. Works on NumPy arrays and, inside a compiled function, on tensors.

    Args:
        models: The networks and the adversarial model.
        real: `[images]` or `[images, labels]`: a batch of real ones.
        d_inputs: G's inputs for the fakes that D learns from, `[noise]` or `[noise, labels]`.
        g_inputs: G's inputs for its own turn.
        targets: 1.0 for each real image and 0.0 for each fake one, shape (2 * batch, 1); and 1.0
            for each of G's fakes, which G wants D to take for real, shape (batch, 1).
        generate: Draws G's images for some inputs, in inference mode.
        train_on_batch: Updates what is trainable in a model; gives the batch's own loss and
            accuracy.

    Returns:
        The `METRICS` of the step.
    """
    generator, discriminator, adversarial = models
    real_or_fake, all_real = targets

    # Keras reads `trainable` whenever it traces a training function, in the first step and in any
    # later one that traces again. So it is set in every step.
    # D's turn: D alone is trained.
    discriminator.trainable = True
    # Batch normalization uses its moving statistics for these fakes, as when sampling.
    fake = [generate(generator, d_inputs), *d_inputs[1:]]
    x = [keras.ops.concatenate(pair) for pair in zip(real, fake, strict=True)]
    d_metrics = train_on_batch(discriminator, x, real_or_fake)

    # G's turn: G alone is trained, through a frozen D.
    discriminator.trainable = False
    a_metrics = train_on_batch(adversarial, g_inputs, all_real)
    return (*d_metrics, *a_metrics)


class AlternatingStep:
    """Takes the step as the chapter does, with `train_on_batch`.

    Args:
        models: The networks and the adversarial model.
        real: Where real images come from.
        batch_size: Real images a step, and as many fake ones for D and for G.
        rng: Draws, in this order: real images, D's fakes, G's fakes.

    Attributes:
        steps_per_execution: How many steps to ask for in one call.
    """

    steps_per_execution = 1

    def __init__(
        self, models: Models, real: RealImages, batch_size: int, rng: np.random.Generator
    ) -> None:
        self.models = models
        self.generator, self.discriminator, self.adversarial = models
        self.real = real
        self.latent = LatentSampler.of(self.generator)
        self.batch_size = batch_size
        self.rng = rng
        ones = np.ones((batch_size, 1), np.float32)
        self.targets: Sequence = (np.concatenate([ones, np.zeros_like(ones)]), ones)
        for model, trainable in ((self.discriminator, True), (self.adversarial, False)):
            self.discriminator.trainable = trainable
            # Optimizers create their variables now, so that a checkpoint can fill them, and metrics
            # theirs, or TensorFlow would trace every training function twice.
            model.optimizer.build(model.trainable_variables)
            model.compute_metrics(None, ones, ones)
        self.generator.jit_compile = False  # as in compile_model; G itself is not compiled

    def __call__(self, count: int = 1) -> np.ndarray:
        """Takes `count` steps; returns the `METRICS` of each: float32 of shape (count, 4)."""
        metrics = []
        for _ in range(count):
            indexes, d_inputs, g_inputs = self._draw()
            metrics.append(self._alternate(self.real.take(indexes), d_inputs, g_inputs))
        return np.array(metrics, np.float32)

    def generate(self, generator: keras.Model, inputs: list) -> Any:
        """Draws images in inference mode."""
        return generator.predict_on_batch(inputs)

    def train_on_batch(self, model: keras.Model, x: list, y: Any) -> Sequence:
        """Updates what is trainable in a model; returns the batch's own loss and accuracy."""
        model.reset_metrics()  # before Keras 3.15 they were means over all batches so far
        return model.train_on_batch(x, y)

    def _draw(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Draws the random inputs of a step: indexes of real images, G's inputs for either turn."""
        return (
            self.real.draw_indexes(self.rng, self.batch_size),
            self.latent.draw(self.rng, self.batch_size),
            self.latent.draw(self.rng, self.batch_size),
        )

    def _alternate(self, real: list, d_inputs: list, g_inputs: list) -> tuple:
        """Takes the alternating step in this engine's way."""
        return alternating_step(
            self.models, real, d_inputs, g_inputs, self.targets, self.generate, self.train_on_batch
        )

"""What is one alternating step?"""

from __future__ import annotations

import keras
import numpy as np

from common.data import RealImages
from common.latent import Latent


class AlternatingStep:
    """The chapter's step: D learns from real and fake images, then G learns from D.

    Calling it takes one step (listings 4.2.4 and 4.3.3).

    Args:
        models: `(generator, discriminator, adversarial)`; the last two compiled.
        real: Where real images come from.
        latent: Where the generator's inputs come from.
        batch_size: Real images a step, and as many fake ones for D and for G.
        rng: Draws, in this order: real images, D's fakes, G's fakes.
    """

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
        # The optimizers' variables are there from now on, for a checkpoint to fill.
        for model, thawed in ((self.discriminator, True), (self.adversarial, False)):
            self.discriminator.trainable = thawed
            model.optimizer.build(model.trainable_variables)
        self.generator.jit_compile = False  # as in compile_model; G itself is not compiled

    def __call__(self) -> dict[str, float]:
        """Takes one step.

        Returns:
            This step's own losses and accuracies: `discriminator_loss`, `discriminator_acc`,
            `adversarial_loss` and `adversarial_acc`.
        """
        # D's turn: real images are 1.0, fake ones 0.0
        real = self.real.draw(self.rng, self.batch_size)
        inputs = self.latent.draw(self.rng, self.batch_size)
        # drawn as they are when sampled, with batch normalization by its moving statistics
        fake = [self.generator.predict_on_batch(inputs), *inputs[1:]]
        x = [np.concatenate(both) for both in zip(real, fake, strict=True)]
        y = np.ones((2 * self.batch_size, 1), np.float32)
        y[self.batch_size :] = 0.0
        # Keras reads the flag when it traces the training function: in the first step, and again
        # in any step that traces anew. D trains alone here ...
        self.discriminator.trainable = True
        self.discriminator.reset_metrics()  # which before Keras 3.15 ran on from step to step
        d_loss, d_acc = self.discriminator.train_on_batch(x, y)

        # G's turn: its fakes are called real, and it learns from what a frozen D makes of them
        inputs = self.latent.draw(self.rng, self.batch_size)
        y = np.ones((self.batch_size, 1), np.float32)
        # ... and G alone here.
        self.discriminator.trainable = False
        self.adversarial.reset_metrics()
        a_loss, a_acc = self.adversarial.train_on_batch(inputs, y)
        return {
            "discriminator_loss": float(d_loss),
            "discriminator_acc": float(d_acc),
            "adversarial_loss": float(a_loss),
            "adversarial_acc": float(a_acc),
        }

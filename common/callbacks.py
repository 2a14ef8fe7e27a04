"""What happens now and then during a run?

These are ordinary Keras callbacks. An epoch is one save interval; a batch is one step.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from common.plotting import plot_images


class StepCallback(keras.callbacks.Callback):
    """Knows the step of the whole run, where Keras counts batches anew in each epoch."""

    step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how many steps the epochs before this one had."""
        self._first_step = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts this step, from 0."""
        self.step = self._first_step + batch


class LogLine(StepCallback):
    """Prints the chapter's line after every step, with the figures of this step alone."""

    LINE = (
        "%(step)d: [discriminator loss: %(discriminator_loss)f, acc: %(discriminator_acc)f]"
        " [adversarial loss: %(adversarial_loss)f, acc: %(adversarial_acc)f]"
    )

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Prints the line of this step."""
        print(self.LINE % {"step": self.step, **logs}, flush=True)


class SampleGrid(StepCallback):
    """Draws what becomes of the same noise, at each save interval and at the end.

    Args:
        generator: The generator.
        noise_input: Its inputs, `[noise]` or `[noise, labels]`, for a square number of images.
        folder: Where the grids go.
    """

    def __init__(self, generator: keras.Model, noise_input: list[np.ndarray], folder: Path) -> None:
        super().__init__()
        self.generator = generator
        self.noise_input = noise_input
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the grid of the steps so far."""
        plot_images(self.generator, self.noise_input, self.path(self.step + 1))

    def path(self, steps: int) -> Path:
        """The file of the grid drawn after so many steps."""
        return self.folder / f"{steps:05d}.png"

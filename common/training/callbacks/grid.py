"""The sample grids of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from common.gan.batches import generate
from common.images import image_grid, save_picture
from common.training.callbacks.base import StepCallback

# A first picture comes after so many steps, for a first try that lasts a few minutes.
EARLY = 100


class SampleGrid(StepCallback):
    """Draws images of the same noise at each save interval and at the end (figure 4.2.2).

    And once after `EARLY` steps.

    Args:
        generator: The generator.
        noise_input: Its inputs, `[noise]` or `[noise, labels]`.
        file: The PNG file of the grid after so many steps.
    """

    def __init__(
        self,
        generator: keras.Model,
        noise_input: list[np.ndarray],
        file: Callable[[int], Path],
    ) -> None:
        super().__init__()
        self.generator = generator
        self.noise_input = noise_input
        self.file = file
        self._drawn = -1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the early grid."""
        if self.step + 1 == EARLY:
            self.draw()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the grid of a save interval."""
        self.draw()

    def draw(self) -> None:
        """Draws a grid, unless that of this step is drawn.

        Raises:
            UserError: The file cannot be written.
        """
        if self.step == self._drawn:
            return
        self._drawn = self.step
        grid = image_grid(generate(self.generator, self.noise_input))
        save_picture(grid, self.file(self.step + 1))

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
        every_steps: The save interval.
    """

    def __init__(
        self,
        generator: keras.Model,
        noise_input: list[np.ndarray],
        file: Callable[[int], Path],
        every_steps: int,
    ) -> None:
        super().__init__(every_steps)
        self.generator = generator
        self.noise_input = noise_input
        self.file = file

    def acts_after(self, steps: int) -> bool:
        """At each save interval, at the end, and once before."""
        return super().acts_after(steps) or steps == EARLY

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Draws a grid.

        Raises:
            UserError: The file cannot be written.
        """
        grid = image_grid(generate(self.generator, self.noise_input))
        save_picture(grid, self.file(steps))

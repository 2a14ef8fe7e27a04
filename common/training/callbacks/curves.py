"""The curves of a run, drawn while it goes on."""

from __future__ import annotations

import keras

from common.training.figures import LossCurves


class DrawCurves(keras.callbacks.Callback):
    """Draws the curves at each save interval and at the end.

    Args:
        curves: What draws them.
    """

    def __init__(self, curves: LossCurves) -> None:
        super().__init__()
        self.curves = curves

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the steps so far."""
        self.curves.draw()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Draws the last steps, also where the run is stopped."""
        self.curves.draw()

"""A callback that knows the step of the whole run.

Callbacks are ordinary Keras callbacks. An epoch is one save interval; a batch is one step.
"""

from __future__ import annotations

import keras


class StepCallback(keras.callbacks.Callback):
    """Counts steps over the whole run, where Keras counts batches anew in each epoch.

    Attributes:
        step: The number of the current step, from 0.
    """

    step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how many steps the earlier epochs had."""
        self._first_step = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts this step."""
        self.step = self._first_step + batch

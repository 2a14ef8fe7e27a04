"""A callback that knows the step of the whole run, and may print.

Callbacks are ordinary Keras callbacks. An epoch is one save interval; a batch is one step.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from common.errors import discard_output


class StepCallback(keras.callbacks.Callback):
    """Counts steps over the whole run, where Keras counts batches anew in each epoch.

    Attributes:
        step: The number of the current step, from 0.
        unread: Whether nobody reads the output any more.
    """

    step = 0
    unread = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how many steps the earlier epochs had."""
        self._first_step = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts this step."""
        self.step = self._first_step + batch

    @contextmanager
    def printing(self) -> Iterator[None]:
        """A context for what prints: if nobody reads it any more, the run ends after this step.

        In good order, with all its callbacks: a pipe whose reader has ended, or a terminal that has
        been closed, must not cost the steps since the last checkpoint.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            discard_output()
            self.unread = True
            if self.model is not None:
                self.model.stop_training = True

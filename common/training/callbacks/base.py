"""A callback that knows the step of the whole run, and prints.

Callbacks are ordinary Keras callbacks. An epoch is one save interval; a batch is one step.
"""

from __future__ import annotations

import errno
import os
import sys

import keras


def print_line(line: str) -> bool:
    """Prints a line at once.

    Returns:
        Whether somebody may read it. A pipe whose reader has ended, or a terminal that has been
        closed, must not cost a run the steps since its last checkpoint.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # Python flushes at exit, which must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


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

    def say(self, line: str) -> None:
        """Prints a line; where nobody reads it any more, the run ends after this step."""
        if not print_line(line):
            self.model.stop_training = True

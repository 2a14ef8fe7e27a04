"""A callback that says after which steps it acts. An epoch is a save interval, a batch a step."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import keras


class StepCallback(keras.callbacks.Callback):
    """Acts at multiples of some number of steps, and after the last step of the run.

    Steps are counted over the whole run, where Keras counts batches anew in each epoch. The
    training loop stops wherever such a callback acts, so that it sees the models exactly as they
    are after that step; elsewhere the compiled engine may be some steps ahead.

    Attributes:
        reads_models: False if the metrics are all that it needs: the loop does not stop for it.
    """

    reads_models = True

    def __init__(self, every_steps: int) -> None:
        super().__init__()
        self.every_steps = every_steps

    def acts_after(self, steps: int) -> bool:
        """Whether it acts after this number of steps."""
        return steps % self.every_steps == 0 or steps == self.params["train_steps"]

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Acts. Steps are counted from the start of the run; the logs are those of the last one."""
        raise NotImplementedError

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how many steps the earlier epochs had."""
        self._steps_before = epoch * self.params["steps"]

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Acts, if this is a step to act after."""
        steps = self._steps_before + batch + 1
        if self.acts_after(steps):
            self.on_steps(steps, logs)


@contextmanager
def printing() -> Iterator[None]:
    """A context for printing that does not fail where the terminal or the pipe has been closed.

    Such a run goes on without output: it must not lose the steps since the last checkpoint. The
    signal that comes with a closed terminal (SIGHUP) then ends it in good order.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # Python flushes at exit, which must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""What happens now and then during a run?

These are ordinary Keras callbacks. An epoch is one save interval; a batch is one step.
"""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from pathlib import Path
from types import FrameType

import keras
import numpy as np

from common.errors import UserError
from common.files import write_file
from common.pictures import plot_images
from common.runs.checkpoints import COLUMNS, Checkpoints, TrainingState
from common.runs.run import Run


class StepCallback(keras.callbacks.Callback):
    """Knows the step of the whole run, where Keras counts batches anew in each epoch."""

    step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes how many steps the epochs before this one had."""
        self._first_step = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts this step, from 0."""
        self.step = self._first_step + batch


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


class StopOnDivergence(StepCallback):
    """Ends a run whose losses are no longer numbers, before anything is overwritten with them."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Looks at the figures of this step.

        Raises:
            UserError: One is NaN or infinite.
        """
        for name, figure in logs.items():
            if not math.isfinite(figure):
                raise UserError(
                    f"training has diverged: {name} is {figure} in step {self.step}; what was "
                    "saved is from before: start again with another --seed"
                )


class BeginRun(keras.callbacks.Callback):
    """Makes the run's folder its own when the first step has been taken, and not before.

    So neither a batch too large for the memory nor a loss that is NaN from the start costs
    anyone the run that was there.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run: Run | None = run

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Begins the run, once."""
        if self.run is not None:
            self.run.begin()
            self.run = None


class SaveState(keras.callbacks.Callback):
    """Saves checkpoints, and the history as a table beside them.

    Args:
        state: The state of the run.
        checkpoints: Where checkpoints go.
        history_file: The table: a line for each step.
        interval: Steps from one checkpoint to the next.
    """

    def __init__(
        self, state: TrainingState, checkpoints: Checkpoints, history_file: Path, interval: int
    ) -> None:
        super().__init__()
        self.state = state
        self.checkpoints = checkpoints
        self.history_file = history_file
        self.interval = interval
        self._saved = len(state.history)

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves what the steps so far have led to.

        That is before the next step, and not after the last, when other callbacks have yet to
        draw its grid: what a checkpoint has behind it is never done again.
        """
        if len(self.state.history) % self.interval == 0:
            self.save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves the last state, wherever the run has ended."""
        self.save()

    def save(self) -> None:
        """Saves the state, unless it has been."""
        steps = len(self.state.history)
        if steps == self._saved:
            return
        self.write_history()
        self.checkpoints.save(self.state)
        self._saved = steps

    def write_history(self) -> None:
        """Writes the table."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        evaluations = self.state.evaluations
        evaluated = list(next(iter(evaluations.values()), ()))
        table.writerow(("step", *COLUMNS, *evaluated))
        for step, (*figures, seconds) in enumerate(self.state.history):
            # nine digits are all that float32 has
            row = [step, *(f"{figure:.9g}" for figure in figures), f"{seconds:.4f}"]
            # empty but in the steps after which there was an evaluation
            found = evaluations.get(step + 1, {})
            row += [f"{found[name]:.9g}" if found else "" for name in evaluated]
            table.writerow(row)
        write_file(self.history_file, text.getvalue().encode())


class StopOnSignal(keras.callbacks.Callback):
    """Lets SIGINT (Ctrl-C) and SIGTERM end a run between two steps; a second one ends it at once.

    A context manager: the signals are its own while it lasts.

    Attributes:
        signal: The signal that came, or None.
    """

    signal: signal.Signals | None = None

    def __enter__(self) -> StopOnSignal:
        self._handlers = {
            number: signal.signal(number, self._stop)
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is not signal.SIG_IGN  # as in the background of a script
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the run after this step."""
        if self.signal is not None:
            self.model.stop_training = True

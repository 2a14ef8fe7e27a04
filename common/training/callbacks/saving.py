"""Beginning a run, and saving its state."""

from __future__ import annotations

import keras

from common.runs.checkpoints import TrainingState
from common.runs.history import write_history
from common.runs.run import Run
from common.training.callbacks.base import StepCallback


class BeginRun(keras.callbacks.Callback):
    """Makes the folder the run's own after its first step, and not before.

    So neither a batch too large for the memory nor a loss that is NaN from the start destroys an
    earlier run.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._begun = False

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Begins the run."""
        if not self._begun:
            self.run.begin()
            self._begun = True


class SaveState(StepCallback):
    """Saves checkpoints, and the history as a table beside them.

    Args:
        state: The state of the run.
        run: The run, whose folder the files go to.
        every_steps: Steps from one checkpoint to the next.
    """

    def __init__(self, state: TrainingState, run: Run, every_steps: int) -> None:
        super().__init__(every_steps)
        self.state = state
        self.run = run
        self._saved = len(state.history)
        self._due = False

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Notes that a checkpoint is due.

        It is written before the next step, when all callbacks have done what belongs to this one.
        """
        self._due = True

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the state, if that is due."""
        if self._due:
            self.save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves the last state, also where the run is stopped."""
        self.save()

    def save(self) -> None:
        """Saves the state, unless it is saved already."""
        steps = len(self.state.history)
        if steps == self._saved:
            return
        # first, because a history without a checkpoint shows that one has been removed
        self.run.folder.checkpoints.save(self.state)
        self.write_history()
        self._saved, self._due = steps, False

    def write_history(self) -> None:
        """Writes the table."""
        write_history(self.run.folder.history, self.state.history, self.state.evaluations)

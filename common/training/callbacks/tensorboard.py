"""Events for TensorBoard.

All that an event file holds is in the run's state and folder, too. So a resumed run writes all of
it again in place of the earlier files, and no step is missing or doubled. `tf.summary` cannot do
that: it gives every event the present time, and cannot tell a TensorBoard that has read the
earlier files to forget them.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from common.errors import UserError, first_line
from common.runs.checkpoints import TrainingState
from common.runs.folder import EVENTS, RunFolder
from common.runs.history import columns
from common.training.callbacks.base import StepCallback

# The tags of the history's columns.
_TAGS = {
    "discriminator_loss": "loss/discriminator",
    "discriminator_acc": "accuracy/discriminator",
    "adversarial_loss": "loss/adversarial",
    "adversarial_acc": "accuracy/adversarial",
}


class TensorBoard(StepCallback):
    """Writes the event file of a run: metrics of each step, evaluations, grids, flags.

    Metrics of a step have the number that it has in the log and in history.csv. Grids and
    evaluations, which show the models after a number of steps, have that number.
    """

    reads_models = False

    def __init__(
        self, state: TrainingState, folder: RunFolder, flags: dict[str, Any], every_steps: int
    ) -> None:
        super().__init__(every_steps)
        self.state = state
        self.folder = folder
        self.flags = flags
        self._writer: Any = None
        self._written_steps = 0
        self._written_grids: set[int] = set()
        self._learning_rates = {
            "learning_rate/discriminator": _learning_rate(state.step.discriminator.optimizer),
            "learning_rate/adversarial": _learning_rate(state.step.adversarial.optimizer),
        }

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Writes the events since the last time."""
        self._write()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Writes the last events, also where the run is stopped."""
        if self.state.history:
            self._write()

    def _write(self) -> None:
        try:
            if self._writer is None:
                self._start_file()
            self._write_steps()
            self._write_grids()
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot write events for TensorBoard to {self.folder}: {first_line(error)}"
            ) from error

    def _start_file(self) -> None:
        """Starts a new file in place of those of earlier processes."""
        for file in self.folder.event_files():
            file.unlink()
        # a new name, because TensorBoard remembers how far it has read a file
        file = self.folder.path / f"{EVENTS}{time.time():.6f}.{socket.gethostname()}"
        # an event file is a TFRecord file of events
        self._writer = tf.io.TFRecordWriter(str(file))
        flags = {name: value for name, value in self.flags.items() if value is not None}
        flags |= {tag: float(rate(0)) for tag, rate in self._learning_rates.items()}
        now = time.time()
        self._add(0, now, file_version="brain.Event:2")
        # makes a TensorBoard that has read the earlier files forget their events
        self._add(0, now, session_log=SessionLog(status=SessionLog.START))
        self._add(0, now, summary=hparams_pb(flags))

    def _write_steps(self) -> None:
        """Writes the steps since the last time, and the evaluations among them."""
        new = self.state.history[self._written_steps :]
        if not new:
            return
        history = columns(new)
        steps = np.arange(self._written_steps, self._written_steps + len(new))
        seconds = np.asarray(history.seconds)
        times = time.time() - (seconds.sum() - np.cumsum(seconds))  # when each step ended
        values = {tag: np.asarray(getattr(history, name)) for name, tag in _TAGS.items()}
        values |= {
            tag: np.broadcast_to(np.asarray(rate(steps)), len(steps))
            for tag, rate in self._learning_rates.items()
        }
        values["speed/steps_per_second"] = 1 / seconds.clip(1e-9)
        for i, step in enumerate(steps.tolist()):
            self._add_scalars(step, times[i], {tag: x[i] for tag, x in values.items()})
            evaluation = self.state.evaluations.get(step + 1, {})
            scalars = {f"evaluation/{name}": metric for name, metric in evaluation.items()}
            self._add_scalars(step + 1, times[i], scalars)
        self._written_steps += len(new)

    def _write_grids(self) -> None:
        """Writes new grids, except those of steps that a resumed run has yet to take again."""
        for steps, file in self.folder.grids().items():
            if steps <= self._written_steps and steps not in self._written_grids:
                self._written_grids.add(steps)
                picture = Summary.Value(tag="samples", image=_image(file))
                self._add(steps, file.stat().st_mtime, summary=Summary(value=[picture]))

    def _add_scalars(self, step: int, wall_time: float, scalars: dict[str, float]) -> None:
        if scalars:
            values = [Summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
            self._add(step, wall_time, summary=Summary(value=values))

    def _add(self, step: int, wall_time: float, **content: Any) -> None:
        event = Event(step=step, wall_time=wall_time, **content)
        self._writer.write(event.SerializeToString())


def _image(file: Path) -> Summary.Image:
    """A PNG file for TensorBoard."""
    with Image.open(file) as picture:
        width, height = picture.size
    return Summary.Image(width=width, height=height, encoded_image_string=file.read_bytes())


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> Callable[[Any], Any]:
    """The learning rate as a function of the number of updates so far."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    return lambda steps: rate

"""Events for TensorBoard.

Everything in an event file is also in the run's state and folder. So a resumed run writes all of it
again, and no step is missing or doubled.
"""

from __future__ import annotations

import io
import socket
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from common.errors import UserError, first_line
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.runs.history import columns

_SECONDS_BETWEEN = 2.0
# The tags of the history's columns.
_TAGS = {
    "discriminator_loss": "loss/discriminator",
    "discriminator_acc": "accuracy/discriminator",
    "adversarial_loss": "loss/adversarial",
    "adversarial_acc": "accuracy/adversarial",
}


class TensorBoard(keras.callbacks.Callback):
    """Writes the event file of a run: metrics of each step, evaluations, grids, flags.

    Metrics of a step have the number that it has in the log and in history.csv. Grids and
    evaluations, which show the models after so many steps, have that number of steps.

    Keras's own callback of this name counts steps anew in each process.

    Args:
        state: The state of the run.
        folder: The run's folder, with the grids.
        hyper_parameters: The flags of the run: booleans, numbers and strings.
    """

    def __init__(
        self, state: TrainingState, folder: RunFolder, hyper_parameters: dict[str, Any]
    ) -> None:
        super().__init__()
        self.state = state
        self.folder = folder
        self.hyper_parameters = hyper_parameters
        self._writer: tf.io.TFRecordWriter | None = None
        self._written_steps = 0
        self._written_grids: set[int] = set()
        self._due = 0.0
        optimizers = (state.step.discriminator.optimizer, state.step.adversarial.optimizer)
        self._learning_rates = {
            f"learning_rate/{name}": _schedule(optimizer)
            for name, optimizer in zip(("discriminator", "adversarial"), optimizers, strict=True)
        }

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Writes events every two seconds; for the first time when the folder is claimed."""
        if time.monotonic() >= self._due:
            self._write()
            self._due = time.monotonic() + _SECONDS_BETWEEN

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes events, the new grid included."""
        self._write()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Writes the last events, also where the run is stopped."""
        self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        try:
            if self._writer is None:
                self._writer = self._new_file()
            self._write_steps(self._writer)
            self._write_grids(self._writer)
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot write events for TensorBoard to {self.folder}: {first_line(error)}"
            ) from error

    def _new_file(self) -> tf.io.TFRecordWriter:
        """Starts a new file in place of those of earlier processes."""
        for file in self.folder.event_files():
            file.unlink()
        # a new name, because TensorBoard remembers how far it has read a file
        file = self.folder.event_file(f"{time.time():.6f}.{socket.gethostname()}")
        # an event file is a TFRecord file of events
        writer = tf.io.TFRecordWriter(str(file))
        flags = {name: x for name, x in self.hyper_parameters.items() if x is not None}
        flags |= {tag: float(rate(0)) for tag, rate in self._learning_rates.items()}
        for event in (
            Event(file_version="brain.Event:2"),
            # makes a TensorBoard that has read the earlier files forget their events
            Event(step=0, session_log=SessionLog(status=SessionLog.START)),
            Event(summary=hparams_pb(flags)),
        ):
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        return writer

    def _write_steps(self, writer: tf.io.TFRecordWriter) -> None:
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
            scalars = {tag: of_steps[i] for tag, of_steps in values.items()}
            _write_scalars(writer, scalars, step, times[i])
            evaluation = self.state.evaluations.get(step + 1, {})
            scalars = {f"evaluation/{name}": metric for name, metric in evaluation.items()}
            _write_scalars(writer, scalars, step + 1, times[i])
        self._written_steps += len(new)

    def _write_grids(self, writer: tf.io.TFRecordWriter) -> None:
        """Writes new grids, except those of steps that a resumed run has yet to take again."""
        for steps, file in self.folder.grids().items():
            if steps <= self._written_steps and steps not in self._written_grids:
                self._written_grids.add(steps)
                try:
                    wall_time, summary = file.stat().st_mtime, _image(file)
                except Exception as error:  # whatever a damaged file can make Pillow raise
                    print(f"warning: {file} cannot be read: {first_line(error)}", file=sys.stderr)
                    continue
                event = Event(wall_time=wall_time, step=steps, summary=summary)
                writer.write(event.SerializeToString())


def _write_scalars(
    writer: tf.io.TFRecordWriter, scalars: dict[str, float], step: int, wall_time: float
) -> None:
    if scalars:
        values = [scalar_pb(tag, value).value[0] for tag, value in scalars.items()]
        event = Event(wall_time=wall_time, step=step, summary=Summary(value=values))
        writer.write(event.SerializeToString())


def _image(file: Path) -> Summary:
    """A PNG file as TensorBoard's image plugin expects it: width, height, and the file."""
    content = file.read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        size = [str(length).encode() for length in picture.size]
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[*size, content],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=3)]),
    )
    metadata = create_summary_metadata(display_name=None, description="")
    return Summary(value=[Summary.Value(tag="samples", tensor=tensor, metadata=metadata)])


def _schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """The learning rate as a function of the number of updates so far."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    return lambda steps: rate

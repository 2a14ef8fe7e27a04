"""What is TensorBoard told of a run?

All that it is told is in the run's state and folder too. So a run that goes on, after whatever has
happened, tells all of it anew, and no step is missing or there twice.
"""

from __future__ import annotations

import socket
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
from common.files import numbered_files
from common.runs.checkpoints import TrainingState
from common.runs.run import EVENT_FILES
from common.training.callbacks.core import StepCallback

_SECONDS_BETWEEN = 2.0
_TAGS = ("loss/discriminator", "accuracy/discriminator", "loss/adversarial", "accuracy/adversarial")


class TensorBoard(StepCallback):
    """Writes the event file of a run: figures of each step, evaluations, grids, flags.

    A step has the number that it has in the log and in history.csv; what shows the models after so
    many steps, grids and evaluations, has that number.

    Keras's own callback of this name counts steps anew in each process.

    Args:
        state: The state of the run.
        folder: The run's folder, with the grids.
        hyper_parameters: The flags of the run: booleans, numbers and strings.
    """

    def __init__(
        self, state: TrainingState, folder: Path, hyper_parameters: dict[str, Any]
    ) -> None:
        super().__init__()
        self.state = state
        self.folder = folder
        self.hyper_parameters = hyper_parameters
        self._writer: tf.io.TFRecordWriter | None = None
        self._told = 0
        self._told_grids: set[int] = set()
        self._due = 0.0
        optimizers = (state.step.discriminator.optimizer, state.step.adversarial.optimizer)
        self._learning_rates = {
            f"learning_rate/{name}": _schedule(optimizer)
            for name, optimizer in zip(("discriminator", "adversarial"), optimizers, strict=True)
        }

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Writes what there is to tell, if it is time to.

        The first time comes when `BeginRun` has made the folder the run's own.
        """
        if time.monotonic() >= self._due:
            self._tell()
            self._due = time.monotonic() + _SECONDS_BETWEEN

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes what there is to tell, the grid included."""
        self._tell()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Writes what there is to tell, wherever the run has ended."""
        self._tell()
        if self._writer is not None:
            self._writer.close()

    def _tell(self) -> None:
        try:
            if self._writer is None:
                self._writer = self._begun()
            self._write_steps(self._writer)
            self._write_grids(self._writer)
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot write events for TensorBoard to {self.folder}: {first_line(error)}"
            ) from error

    def _begun(self) -> tf.io.TFRecordWriter:
        """A new file in place of those of earlier processes, with what stands at its head."""
        for file in self.folder.glob(EVENT_FILES):
            file.unlink()
        # another name than theirs, for TensorBoard remembers how far it has read
        name = EVENT_FILES.replace("*", f"{time.time():.6f}.{socket.gethostname()}")
        # an event file is a TFRecord file of events
        writer = tf.io.TFRecordWriter(str(self.folder / name))
        flags = {name: value for name, value in self.hyper_parameters.items() if value is not None}
        flags |= {tag: float(rate(0)) for tag, rate in self._learning_rates.items()}
        for event in (
            Event(file_version="brain.Event:2"),
            # a TensorBoard that has read those files is to forget all that they said
            Event(step=0, session_log=SessionLog(status=SessionLog.START)),
            Event(summary=hparams_pb(flags)),
        ):
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        return writer

    def _write_steps(self, writer: tf.io.TFRecordWriter) -> None:
        """Writes the steps that have not been told, and the evaluations among them."""
        history = np.array(self.state.history[self._told :])
        if not len(history):
            return
        steps = np.arange(self._told, self._told + len(history))
        # so long ago did the steps end
        times = time.time() - (history[:, 4].sum() - np.cumsum(history[:, 4]))
        rates = {
            tag: np.broadcast_to(np.asarray(rate(steps)), len(steps))
            for tag, rate in self._learning_rates.items()
        }
        for i, step in enumerate(steps.tolist()):
            figures = dict(zip(_TAGS, history[i], strict=False))
            figures |= {tag: values[i] for tag, values in rates.items()}
            figures["speed/steps_per_second"] = 1 / max(history[i, 4], 1e-9)
            _write_scalars(writer, figures, step, times[i])
            evaluation = self.state.evaluations.get(step + 1, {})
            named = {f"evaluation/{name}": figure for name, figure in evaluation.items()}
            _write_scalars(writer, named, step + 1, times[i])
        self._told += len(history)

    def _write_grids(self, writer: tf.io.TFRecordWriter) -> None:
        """Writes the grids that have not been told; later ones are of steps to be taken again."""
        grids = {int(file.stem): file for file in numbered_files(self.folder, ".png")}
        for steps in sorted(grids.keys() - self._told_grids):
            if steps <= self._told:
                wall_time = grids[steps].stat().st_mtime
                event = Event(wall_time=wall_time, step=steps, summary=_image(grids[steps]))
                writer.write(event.SerializeToString())
                self._told_grids.add(steps)


def _write_scalars(
    writer: tf.io.TFRecordWriter, figures: dict[str, float], step: int, wall_time: float
) -> None:
    if figures:
        values = [scalar_pb(tag, figure).value[0] for tag, figure in figures.items()]
        event = Event(wall_time=wall_time, step=step, summary=Summary(value=values))
        writer.write(event.SerializeToString())


def _image(file: Path) -> Summary:
    """A PNG file as TensorBoard's image plugin wants it: width, height, and the file."""
    with Image.open(file) as picture:
        size = [str(length).encode() for length in picture.size]
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[*size, file.read_bytes()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=3)]),
    )
    metadata = create_summary_metadata(display_name=None, description="")
    return Summary(value=[Summary.Value(tag="samples", tensor=tensor, metadata=metadata)])


def _schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """The learning rate as a function of the updates so far."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    return lambda steps: rate

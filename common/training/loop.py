"""The training loop: step after step, with callbacks around them."""

import math
import time
from collections.abc import Callable, Iterable

import keras
import numpy as np

from common.errors import diverged
from common.gan.step import METRICS
from common.runs.history import History, StepRecord, from_array, means
from common.training.callbacks.base import StepCallback

# Seconds that one call of the step takes at most: signals are answered between two calls.
LONGEST_EXECUTION = 0.5


def run_steps(
    model: keras.Model,
    step: Callable[[int], np.ndarray],
    history: History,
    callbacks: Iterable[keras.callbacks.Callback],
    train_steps: int,
    save_interval: int,
    steps_per_execution: int = 1,
    agree_on: Callable[[int], int] = lambda count: count,
) -> None:
    """Takes step after step; callbacks do everything else.

    Callbacks are called as `keras.Model.fit` calls them, one save interval being one epoch, so that
    Keras's own and a reader's own work here, too. The last epoch is shorter where `save_interval`
    does not divide `train_steps`.

    Args:
        model: The adversarial model. The callbacks get it as `model` and may set its
            `stop_training`, which ends the run once they have been called for all steps that have
            been taken; an epoch that is not complete stays open.
        step: Takes as many steps as it is told to and returns their `METRICS`, shape (count, 4).
        history: The records of the steps already taken; those to come are appended.
        callbacks: Get the metrics of each step, and at the end of an epoch their means over it.
            They see the exact models at the end of an epoch, and a `StepCallback` wherever it acts.
        train_steps: The number of steps of the run, those already taken included.
        save_interval: The number of steps of an epoch.
        steps_per_execution: How many steps are taken at most before callbacks are called for them,
            one by one: fewer if one of them is to see the models, or in `LONGEST_EXECUTION`.
        agree_on: How many steps all workers take, given how many this one would take; 0 to stop.
    """
    callbacks = list(callbacks)
    readers = [x for x in callbacks if isinstance(x, StepCallback) and x.reads_models]
    epochs = -(-train_steps // save_interval)
    callback_list = keras.callbacks.CallbackList(
        callbacks, model=model, epochs=epochs, steps=save_interval, train_steps=train_steps
    )
    model.stop_training = False
    callback_list.on_train_begin()
    first = len(history)
    pending: History = []  # steps taken, for which callbacks have not been called
    in_time = 1  # steps in LONGEST_EXECUTION, going by the last call; 1 until there was one
    for number in range(first, train_steps):
        if not pending:
            until_epoch_ends = min(save_interval - number % save_interval, train_steps - number)
            most = min(in_time, steps_per_execution, until_epoch_ends)
            count = agree_on(0 if model.stop_training else _until_read(readers, number, most))
            if count == 0:
                break
        epoch, batch = divmod(number, save_interval)
        if batch == 0 or number == first:
            callback_list.on_epoch_begin(epoch)
        callback_list.on_train_batch_begin(batch)
        if not pending:
            pending = _timed(step, count)
            in_time = max(1, int(LONGEST_EXECUTION / pending[0].seconds))
        history.append(_checked(pending.pop(0), number))
        callback_list.on_train_batch_end(batch, _logs(history[-1]))
        if batch + 1 == save_interval or number + 1 == train_steps:
            callback_list.on_epoch_end(epoch, _logs(means(history[number - batch :])))
    callback_list.on_train_end()


def _until_read(readers: list[StepCallback], taken: int, most: int) -> int:
    """The number of steps, at most `most`, until a callback reads the models."""
    counts = (n for n in range(1, most) if any(x.acts_after(taken + n) for x in readers))
    return next(counts, most)


def _checked(record: StepRecord, number: int) -> StepRecord:
    """Returns the record of a step; before any callback writes, it raises if a metric is NaN."""
    for name, value in _logs(record).items():
        if not math.isfinite(value):
            raise diverged(f"{name} is {value} in step {number}")
    return record


def _logs(record: StepRecord) -> dict[str, float]:
    """The metrics of a record by their names."""
    return {name: getattr(record, name) for name in METRICS}


def _timed(step: Callable[[int], np.ndarray], count: int) -> History:
    """Takes steps; the seconds of each are the mean of all of them."""
    started = time.perf_counter()
    metrics = np.asarray(step(count))
    seconds = (time.perf_counter() - started) / count
    return from_array(np.column_stack([metrics, np.full(count, seconds)]))

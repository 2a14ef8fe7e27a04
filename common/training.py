"""What happens around the steps?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import numpy as np

from common.callbacks import LogLine, SampleGrid
from common.cli import Options
from common.files import check_writable
from common.plotting import resolve_show, show_picture
from common.saving import save_generator
from common.steps import AlternatingStep


def train(step: AlternatingStep, noise_input: list[np.ndarray], options: Options) -> None:
    """Trains a GAN and leaves its sample grids and its generator in `options.outdir`.

    Args:
        step: Takes one alternating step. The name of its adversarial model names the files.
        noise_input: Inputs of the generator for the grids, `[noise]` or `[noise, labels]`.
        options: How long to train, how often to draw, where to write, whether to show.

    Raises:
        UserError: Files cannot be written, or pictures not be shown.
    """
    name = step.adversarial.name
    saved_generator = options.outdir / f"{name}.h5"
    grids = SampleGrid(step.generator, noise_input, options.outdir / name)

    # hours of training must not end in a mistake that can be seen now
    show = resolve_show(options.show)
    check_writable(saved_generator)
    check_writable(grids.path(options.train_steps))

    run_steps(
        step.adversarial,
        step,
        [LogLine(), grids],
        train_steps=options.train_steps,
        save_interval=options.save_interval,
    )
    save_generator(step.generator, saved_generator)
    if show:
        show_picture(grids.path(options.train_steps))


def run_steps(
    model: keras.Model,
    step: Callable[[], dict[str, float]],
    callbacks: Iterable[keras.callbacks.Callback],
    train_steps: int,
    save_interval: int,
) -> None:
    """Takes step after step, and lets callbacks do all the rest.

    The callbacks are told what `keras.Model.fit` would tell them, one save interval being one
    epoch, so that Keras's own and a reader's own work here too. The last epoch is shorter where
    `save_interval` does not divide `train_steps`.

    Args:
        model: The adversarial model. The callbacks get it as `model`, and may set its
            `stop_training`, which ends the run after the epoch has been closed.
        step: Takes one step and returns its figures.
        callbacks: Get each step's figures after the step, and their means over the epoch at the
            end of an epoch.
        train_steps: How many steps to take.
        save_interval: How many of them make an epoch.
    """
    callback_list = keras.callbacks.CallbackList(
        list(callbacks),
        model=model,
        epochs=-(-train_steps // save_interval),
        steps=save_interval,
    )
    model.stop_training = False
    means: dict[str, float] = {}
    callback_list.on_train_begin()
    for epoch, first_step in enumerate(range(0, train_steps, save_interval)):
        callback_list.on_epoch_begin(epoch)
        sums: dict[str, float] = {}
        for batch in range(min(save_interval, train_steps - first_step)):
            callback_list.on_train_batch_begin(batch)
            logs = step()
            sums = {name: sums.get(name, 0.0) + figure for name, figure in logs.items()}
            callback_list.on_train_batch_end(batch, logs)
            if model.stop_training:
                break
        means = {name: total / (batch + 1) for name, total in sums.items()}
        callback_list.on_epoch_end(epoch, means)
        if model.stop_training:
            break
    callback_list.on_train_end(means)

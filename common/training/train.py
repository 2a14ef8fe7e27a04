"""What happens around the steps?"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np

from common.files import numbered_files
from common.gan.saving import save_generator
from common.gan.step import FIGURES, AlternatingStep
from common.pictures import resolve_show, show_picture
from common.runs.checkpoints import TrainingState, packed, unpacked
from common.runs.run import BEST, CURVES, Run
from common.training.callbacks.core import (
    BeginRun,
    SampleGrid,
    SaveState,
    StopOnDivergence,
    StopOnSignal,
)
from common.training.callbacks.health import INTERVAL as HEALTH_INTERVAL
from common.training.callbacks.health import Health
from common.training.callbacks.progress import progress
from common.training.figures import LossCurves, draw_evolution


def train(step: AlternatingStep, noise_input: list[np.ndarray], run: Run) -> None:
    """Trains a GAN, from the start or from the run's newest checkpoint.

    Args:
        step: Takes one alternating step.
        noise_input: Inputs of the generator for the grids, `[noise]` or `[noise, labels]`.
        run: How long to train, how often to draw and to save, where to, and whether to show.

    Raises:
        UserError: Files cannot be written, pictures cannot be shown, or training diverges.
        SystemExit: A signal has ended the run; its state is saved.
    """
    options, workers = run.options, run.workers
    show = workers.is_chief and resolve_show(options.show)
    state = TrainingState(step, noise_input, run.identity)
    if options.resume:
        if workers.is_chief:
            run.checkpoints.restore(state)
        state.restore(unpacked(workers.from_chief(packed(state.arrays()))))
        taken = len(state.history)
        more = "goes on after" if taken < options.train_steps else "has, as asked for, taken"
        print(f"{run.folder} {more} {taken} steps", flush=True)

    checkpoint_interval = options.checkpoint_interval or options.save_interval
    grids = SampleGrid(step.generator, noise_input, run.folder)
    saved = SaveState(state, run.checkpoints, run.folder / "history.csv", checkpoint_interval)
    if options.resume and workers.is_chief:
        saved.write_history()  # of the steps that count, where an older checkpoint was taken
    with ExitStack() as stack:
        stop = stack.enter_context(StopOnSignal())
        callbacks: list[keras.callbacks.Callback] = [StopOnDivergence()]
        if workers.is_chief:
            callbacks += [
                *stack.enter_context(progress(run.name, options, state.history)),
                BeginRun(run),
                *_evaluating(state, run),
                Health(step.generator, step.discriminator, noise_input, state.history),
                grids,
                *_telling_tensorboard(state, run),
                saved,
                LossCurves(run.name, state.history, run.folder / CURVES),
            ]
        run_steps(
            step.adversarial,
            step,
            state.history,
            [*callbacks, stop],
            train_steps=options.train_steps,
            save_interval=options.save_interval,
            intervals=[
                *(checkpoint_interval, options.evaluate_interval or checkpoint_interval),
                HEALTH_INTERVAL,
            ],
            together=step.together,
            any_worker=workers.any,
        )
        if workers.is_chief:
            save_generator(step.generator, run.generator_file)
            if numbered_files(run.folder, ".png"):  # none, where a run is stopped early
                draw_evolution(run.folder)
    run.close()
    if len(state.history) < options.train_steps:
        outdir = f" --outdir {options.outdir}" if options.outdir != Path() else ""
        where = f"checkpoint in {run.checkpoints.folder}, generator in {run.generator_file}; "
        print(
            f"stopped after {len(state.history)} steps; {where if workers.is_chief else ''}"
            f"go on with --resume{outdir}",
            file=sys.stderr,
        )
        # without a signal of its own: another worker has had one
        sys.exit(128 + (stop.signal or signal.SIGTERM))
    if show:
        show_picture(grids.path(len(state.history)))


def _evaluating(state: TrainingState, run: Run) -> list[keras.callbacks.Callback]:
    """What evaluates the generator on the way, if the user has asked for that."""
    options, generator = run.options, state.step.generator
    if not options.evaluate_interval:
        return []
    from common.evaluation.evaluate import Evaluate, judge_for

    # other workers do not wait for as long as a classifier takes to train
    may_train = options.strategy != "multiworker"
    judge = judge_for(generator, options.data, options.outdir, may_train)
    interval, best = options.evaluate_interval, run.folder / BEST
    return [Evaluate(generator, judge, state, interval, options.seed, best)]


def _telling_tensorboard(state: TrainingState, run: Run) -> list[keras.callbacks.Callback]:
    """What tells TensorBoard of the run, if the user has asked for that."""
    if not run.options.tensorboard:
        return []
    from common.training.callbacks.tensorboard import TensorBoard

    return [TensorBoard(state, run.folder, run.hyper_parameters)]


def run_steps(
    model: keras.Model,
    step: Callable[[int], np.ndarray],
    history: list[tuple[float, ...]],
    callbacks: Iterable[keras.callbacks.Callback],
    train_steps: int,
    save_interval: int,
    intervals: Iterable[int] = (),
    together: int = 1,
    any_worker: Callable[[bool], bool] = bool,
) -> None:
    """Takes step after step, and lets callbacks do all the rest.

    The callbacks are told what `keras.Model.fit` would tell them, one save interval being one
    epoch, so that Keras's own and a reader's own work here too. The last epoch is shorter where
    `save_interval` does not divide `train_steps`.

    Args:
        model: The adversarial model. The callbacks get it as `model`, and may set its
            `stop_training`, which ends the run after the step; its epoch is then left open, for
            the run that goes on to close.
        step: Takes as many steps as it is told to and returns their `FIGURES`, shape (count, 4).
        history: The `FIGURES` of the steps already taken, and the seconds that each took; those
            to come are appended.
        callbacks: Get each step's figures after the step, and their means over the epoch at the
            end of an epoch.
        train_steps: How many steps to take, those already taken included.
        save_interval: How many of them make an epoch.
        intervals: Callbacks find the models as so many steps, and their multiples, have left them,
            and at the end of each epoch.
        together: How many steps may be taken before the callbacks hear of them, one by one, where
            no epoch and none of the intervals ends before. The models are ahead of the figures by
            so many steps.
        any_worker: Whether this worker or another one that takes part in the steps is to stop;
            given whether this one is.
    """
    callback_list = keras.callbacks.CallbackList(
        list(callbacks),
        model=model,
        epochs=-(-train_steps // save_interval),
        steps=save_interval,
    )
    intervals = (save_interval, *intervals)
    model.stop_training = False
    callback_list.on_train_begin()
    first = len(history)
    ahead: list[tuple[float, ...]] = []
    for number in range(first, train_steps):
        if not ahead:
            model.stop_training = any_worker(model.stop_training)
            if model.stop_training:
                break
        epoch, batch = divmod(number, save_interval)
        if batch == 0 or number == first:
            callback_list.on_epoch_begin(epoch)
        callback_list.on_train_batch_begin(batch)
        if not ahead:
            untold = min(together, train_steps - number, *(n - number % n for n in intervals))
            ahead = _timed(step, untold)
        history.append(ahead.pop(0))
        figures = history[-1][: len(FIGURES)]
        callback_list.on_train_batch_end(batch, dict(zip(FIGURES, figures, strict=True)))
        if batch + 1 == save_interval or number + 1 == train_steps:
            means = np.mean(history[number - batch :], axis=0)[: len(FIGURES)].tolist()
            callback_list.on_epoch_end(epoch, dict(zip(FIGURES, means, strict=True)))
    callback_list.on_train_end()


def _timed(step: Callable[[int], np.ndarray], count: int) -> list[tuple[float, ...]]:
    """Takes steps; the `FIGURES` of each, and the seconds that it took."""
    started = time.perf_counter()
    rows = np.asarray(step(count)).tolist()
    seconds = (time.perf_counter() - started) / count
    return [(*figures, seconds) for figures in rows]

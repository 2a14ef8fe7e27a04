"""Training: the step, the callbacks around it, and how a run ends."""

import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack

import keras
import numpy as np

from common.cli import command
from common.data.dataset import load_dataset
from common.device import cpu_memory
from common.errors import UserError
from common.evaluation.evaluate import make_evaluator
from common.files import packed, unpacked
from common.gan.batches import LatentSampler, RealImages
from common.gan.models import count_activations, lowest_pixel, set_precision
from common.gan.step import AlternatingStep, Models
from common.images import resolve_show, show_picture
from common.options import Options
from common.runs.checkpoints import TrainingState
from common.runs.history import Evaluations, best_step
from common.runs.run import Run
from common.training.callbacks.base import printing
from common.training.callbacks.best import SAMPLES, KeepBest
from common.training.callbacks.health import GRACE, Health
from common.training.callbacks.output import SampleGrid, SaveProducts, SaveState
from common.training.callbacks.progress import LogLine, ProgressBar, is_terminal
from common.training.callbacks.stopping import StopOnSignal
from common.training.compiled import CompiledStep
from common.training.distribution import DistributedStep
from common.training.loop import run_steps


def train(
    models: Models,
    noise_input: list[np.ndarray],
    run: Run,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> None:
    """Trains a GAN, from the start or from the run's newest checkpoint (listing 4.2.4).

    A GAN whose generator takes labels gets those of the data set.

    Args:
        models: `(generator, discriminator, adversarial)`; the last two compiled.
        noise_input: Inputs of the generator for the sample grids, `[noise]` or `[noise, labels]`.
        run: What to train on, how long, and where its files go.
        callbacks: A program's own, called after those of every run. With the compiled engine they
            see the exact models at the end of a save interval, and a `StepCallback` wherever it
            acts; elsewhere the models may be some steps ahead of the metrics.

    Raises:
        SystemExit: A signal or a callback has ended the run early; its state is saved.
    """
    options, workers = run.options, run.workers
    with ExitStack() as stack:
        show = workers.is_chief and resolve_show(options.show)
        labels = None
        if LatentSampler.of(models[0]).num_labels:
            labels = run.data.labels
            models[0].class_names = run.data.names
        real = RealImages(run.data.images, labels, lowest_pixel(models[0]))
        step = make_step(models, real, run.rng, options)
        state = TrainingState(step, noise_input)
        if options.resume:
            _restore(state, run)
        of_the_chief = _chief_callbacks(state, run, stack) if workers.is_chief else []
        # Not earlier: before the first step there is nothing to save, and a signal may simply end
        # the program. It is the last callback, so that a step that a signal ends is complete.
        stop = stack.enter_context(StopOnSignal())
        run_steps(
            step.adversarial,
            step,
            state.history,
            [*of_the_chief, *callbacks, stop],
            train_steps=options.train_steps,
            save_interval=options.save_interval,
            steps_per_execution=step.steps_per_execution,
            agree_on=workers.agree_on,
        )
    if workers.is_chief:  # only now, when the bar is not drawn any more
        _print_generator(run, len(state.history), state.evaluations)
    if len(state.history) < options.train_steps:
        _exit_stopped(run, state, stop.signal)
    if show:
        show_picture(run.folder.grid(len(state.history)))


def make_step(
    models: Models, real: RealImages, rng: np.random.Generator, options: Options
) -> AlternatingStep:
    """Makes the alternating step, with the precision, engine, strategy and batch size given."""
    # what all layers put out, in float32, D's for real and fake images; measured was 0.9 of that
    of_an_image = 4 * (count_activations(models[0]) + 2 * count_activations(models[1]))
    memory = cpu_memory()
    if options.strategy == "none" and memory and options.batch_size * of_an_image > memory:
        raise UserError(
            f"argument --batch-size: {options.batch_size} given, with which a step needs about "
            f"{options.batch_size * of_an_image / 1e9:.0f} GB of memory, and this machine has "
            f"{memory / 1e9:.0f}: give at most {memory // of_an_image}"
        )
    for model in models[1:]:
        set_precision(model, options.precision)
    arguments = (models, real, options.batch_size, rng)
    if options.strategy != "none":
        return DistributedStep(*arguments, sync_batchnorm=options.sync_batchnorm)
    if options.engine == "compiled":
        return CompiledStep(*arguments, xla=options.xla)
    return AlternatingStep(*arguments)


def _restore(state: TrainingState, run: Run) -> None:
    """Restores the newest checkpoint, which all workers get from the chief."""
    newest = run.folder.checkpoints.newest() if run.workers.is_chief else {}
    arrays = unpacked(run.workers.from_chief(packed(newest)))
    if arrays:  # a run that was stopped before its first checkpoint starts again
        state.restore(arrays)
    taken = len(state.history)
    if taken < run.options.train_steps:
        print(f"{run.folder}: resumed after {taken} steps", flush=True)
    else:
        more = "to take more, add --train-steps and their number in all"
        print(f"{run.folder}: all {taken} steps have been taken already; {more}", flush=True)


def _chief_callbacks(
    state: TrainingState, run: Run, stack: ExitStack
) -> list[keras.callbacks.Callback]:
    """The callbacks that print and write, in the order in which they are called."""
    options, folder = run.options, run.folder
    keep_best = _keep_best(state, run)  # before the bar, which would stand still meanwhile
    progress: list[keras.callbacks.Callback] = []
    if is_terminal():
        bar = ProgressBar(run.name, options.train_steps, state.history)
        progress.append(stack.enter_context(bar))
    if not progress or "log_interval" in options.given:
        progress.append(LogLine(options.log_interval))
    board = []
    if options.tensorboard:
        from common.training.callbacks.tensorboard import TensorBoard  # slow, and few need it

        board.append(TensorBoard(state, folder, options.of_the_run(), options.log_interval))
    return [
        # Before everything that takes time.
        *progress,
        # Before everything that writes to the folder, which is the run's own from then on.
        SaveState(state, run, options.checkpoint_interval or options.save_interval),
        # Before those that read its metrics.
        *keep_best,
        Health(state, folder.best),
        # Before TensorBoard, which shows the grid.
        SampleGrid(state, folder, options.save_interval),
        *board,
        # Last, because figures can be drawn from the folder at any time.
        SaveProducts(state, folder),
    ]


def _keep_best(state: TrainingState, run: Run) -> list[KeepBest]:
    """The callback that evaluates the generator, unless --evaluate-interval is 0."""
    options = run.options
    if not options.evaluate_interval:
        return []
    if run.data.labels is None:
        raise UserError(
            f"argument --evaluate-interval: {options.data} has no labels, from which the "
            "classifier of an evaluation learns: add them, or give --evaluate-interval 0"
        )
    # other workers do not wait for as long as a classifier takes to train
    may_train = options.strategy != "multiworker"
    test = load_dataset(options.data, "test", options.image_size)
    evaluator = make_evaluator(state.step.generator, run.data, test, options.outdir, may_train)
    if evaluator.warning:
        print(f"warning: {evaluator.warning}", file=sys.stderr)
    return [KeepBest(state, evaluator, run.folder.best, options.evaluate_interval, options.seed)]


def _print_generator(run: Run, steps: int, evaluations: Evaluations) -> None:
    """Names the best generator, the metric that decided, and the command that draws with it."""
    folder, last, best = run.folder, run.options.train_steps, best_step(evaluations)
    file, which = folder.generator, "the last one"
    if best is None:
        if steps < last:
            return  # what stops a run says where its files are
        name, why = "generator", "without evaluations"
    else:
        distances = {steps: metrics["frechet_distance"] for steps, metrics in evaluations.items()}
        name = "best generator" if last in distances else "best generator so far"
        why = f"Frechet distance {distances[best]:.3g} of {SAMPLES:,} images"
        if best != last:
            file, which = folder.best, f"of step {best}"
            if last in distances:
                why += f"; that of {folder.generator}, the last one, is {distances[last]:.3g}"
    if steps < GRACE:
        why += f"; digits of MNIST can be read after about {GRACE:,} steps"
    draw = command(run.options.program, f"--generator={file}")
    with printing():
        print(f"{name}: {file}, {which} ({why}). Draw with it: {draw}", flush=True)


def _exit_stopped(run: Run, state: TrainingState, number: signal.Signals | None) -> None:
    """Ends the program before the run's last step, and says how to resume it."""
    files = f"checkpoint in {run.folder.checkpoints.folder}, generator in {run.folder.generator}; "
    again = command(run.options.program, *run.options.to_resume())
    with printing():
        print(
            f"stopped after {len(state.history)} steps; {files if run.workers.is_chief else ''}"
            f"resume with: {again}",
            file=sys.stderr,
        )
    by_callback = state.step.adversarial.stop_training and not number
    # if neither has ended it, a signal has come to another worker
    sys.exit(0 if by_callback else 128 + (number or signal.SIGTERM))

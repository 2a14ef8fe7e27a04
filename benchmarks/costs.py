"""What do start-up, checkpoints and pictures cost?

Run it with `python benchmarks/costs.py`. Sampling is timed beside a bare `import tensorflow`, in
turns; what a run saves and shows, as it is at the end of the chapter's 40,000 steps, when it is
most. Results are medians.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import variants
from common import device  # noqa: F401  # before Keras, which it sets up

# isort: split
import rich.console

from common.data.dataset import load_dataset
from common.evaluation.evaluate import Evaluator, make_evaluator
from common.gan.batches import generate
from common.gan.saving import save_generator
from common.images import image_grid, save_picture
from common.options import PRECISIONS, whole_number
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.runs.history import COLUMNS, StepRecord, write_history
from common.training.callbacks.best import KeepBest
from common.training.callbacks.health import INTERVAL, Health
from common.training.callbacks.progress import SECONDS_BETWEEN, ProgressBar
from common.training.callbacks.tensorboard import TensorBoard
from common.training.figures import LossCurves, draw_evolution
from common.training.start import EVALUATE_INTERVAL

TRAIN_STEPS, SAVE_INTERVAL = 40000, 500


def seconds(action: Callable[[], object]) -> float:
    """The time that something takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=whole_number(1, 1000), default=9)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    options = parser.parse_args()
    rounds = range(options.rounds)

    step = variants.project_step("compiled", options.precision, xla=False, small=False)
    step(variants.WARM_UP)
    step_time = statistics.median(seconds(step) for _ in rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "dcgan_mnist")
        noise_input = step.latent.draw(step.rng, 16)
        state = TrainingState(step, noise_input)
        state.history += [StepRecord(*[0.123456789] * len(COLUMNS))] * TRAIN_STEPS
        curves = LossCurves(folder.name, state.history, folder.losses)
        health = Health(state, folder.best)
        health.on_train_begin()

        def draw_grid(steps: int = TRAIN_STEPS) -> None:
            save_picture(image_grid(generate(step.generator, noise_input)), folder.grid(steps))

        def draw_curves() -> None:
            state.history.append(state.history[-1])  # because nothing is drawn twice
            curves.draw()

        def look() -> None:
            with redirect_stderr(io.StringIO()):  # because the generator has learnt nothing
                health.on_steps(TRAIN_STEPS, {})

        def new_evaluator() -> Evaluator:
            return make_evaluator(
                step.generator, load_dataset(), load_dataset(part="test"), folder.path
            )

        keep_best = KeepBest(
            *(state, new_evaluator(), folder.best, EVALUATE_INTERVAL),
            seed=0,
        )

        def evaluate() -> None:
            with redirect_stdout(io.StringIO()):
                keep_best.on_steps(TRAIN_STEPS, {})

        for steps in range(SAVE_INTERVAL, TRAIN_STEPS + 1, SAVE_INTERVAL):
            draw_grid(steps)
        # what, and how often in a run
        saves, run_time = TRAIN_STEPS // SAVE_INTERVAL, TRAIN_STEPS * step_time
        costs: dict[str, tuple[Callable[[], object], float]] = {
            "a checkpoint": (lambda: folder.checkpoints.save(state), saves),
            "history.csv, 40,000 lines": (
                lambda: write_history(folder.history, state.history, state.evaluations),
                saves,
            ),
            "the generator's file": (lambda: save_generator(step.generator, folder.generator), 1),
            "a sample grid": (draw_grid, saves),
            "losses.png": (draw_curves, saves),
            "evolution.png and evolution.gif, of 80 grids": (lambda: draw_evolution(folder), 1),
            "a look for signs of failure": (look, TRAIN_STEPS / INTERVAL),
            "what evaluations need": (new_evaluator, 1),
            "an evaluation on the way": (evaluate, TRAIN_STEPS / EVALUATE_INTERVAL),
            "all events of `--tensorboard`": (
                lambda: TensorBoard(state, folder, {}, TRAIN_STEPS).on_train_end(),
                1,
            ),
        }
        terminal = rich.console.Console(file=io.StringIO(), force_terminal=True, width=120)
        with ProgressBar(folder.name, TRAIN_STEPS, state.history, terminal) as bar:
            costs["the progress bar"] = (bar.draw, run_time / SECONDS_BETWEEN)
            rows = [
                f"| in {TRAIN_STEPS:,} steps of {1e3 * step_time:.0f} ms | ms | of the run |",
                "| --- | --- | --- |",
            ]
            for what, (action, times) in costs.items():
                action()
                cost = statistics.median(seconds(action) for _ in rounds)
                rows.append(f"| {what} | {1e3 * cost:.1f} | {times * cost / run_time:.3%} |")
        print("\n".join(rows), flush=True)

        bare = [sys.executable, "-c", "import tensorflow"]
        sample = [sys.executable, variants.ROOT / "dcgan_mnist.py", "--generator", folder.generator]
        sample += ["--outdir", name, "--no-show"]
        start_up: dict[str, list[float]] = {"`import tensorflow`": [], "sampling, all of it": []}
        for _ in rounds:
            for taken, command in zip(start_up.values(), (bare, sample), strict=True):
                taken.append(
                    seconds(partial(subprocess.run, command, check=True, capture_output=True))
                )
    print("\n| start-up | s |\n| --- | --- |")
    for what, taken in start_up.items():
        print(f"| {what} | {statistics.median(taken):.2f} |")


if __name__ == "__main__":
    main()

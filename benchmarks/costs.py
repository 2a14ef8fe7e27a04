"""What do start-up, checkpoints and pictures cost?

Run it with `python benchmarks/costs.py`. Sampling is timed beside a bare `import tensorflow`, in
turns; what a run saves and shows, as it is at the end of the chapter's 40,000 steps, when it is
most. A figure is the median.
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
from contextlib import redirect_stderr
from pathlib import Path

import rich.console

import variants
from common.cli import whole_number
from common.gan.saving import save_generator
from common.pictures import plot_images
from common.runs.checkpoints import COLUMNS, Checkpoints, TrainingState
from common.training.callbacks.core import SaveState
from common.training.callbacks.health import INTERVAL, Health
from common.training.callbacks.progress import SECONDS_BETWEEN, ProgressBar
from common.training.callbacks.tensorboard import TensorBoard
from common.training.figures import LossCurves, draw_evolution

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
    rounds = range(parser.parse_args().rounds)

    step = variants.project_step("compiled", "float32", xla=False, small=False)
    step(variants.WARM_UP)
    step_time = statistics.median(seconds(step) for _ in rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise_input = step.latent.draw(step.rng, 16)
        state = TrainingState(step, noise_input, {})
        state.history += [tuple([0.123456789] * len(COLUMNS))] * TRAIN_STEPS
        checkpoints = Checkpoints(folder / "checkpoints")
        saved = SaveState(state, checkpoints, folder / "history.csv", SAVE_INTERVAL)
        for steps in range(SAVE_INTERVAL, TRAIN_STEPS + 1, SAVE_INTERVAL):
            plot_images(step.generator, noise_input, folder / f"{steps:05d}.png")
        curves = LossCurves("dcgan_mnist", state.history, folder / "losses.png")
        health = Health(step.generator, step.discriminator, noise_input, state.history)
        health.on_train_begin()
        health.step = TRAIN_STEPS - 1

        def draw_curves() -> None:
            state.history.append(state.history[-1])  # for nothing is drawn twice
            curves.draw()

        def look() -> None:
            with redirect_stderr(io.StringIO()):  # for the generator has learnt nothing
                health.on_train_batch_end(0)

        # what, and how often in a run
        saves, run_time = TRAIN_STEPS // SAVE_INTERVAL, TRAIN_STEPS * step_time
        costs: dict[str, tuple[Callable[[], object], float]] = {
            "a checkpoint": (lambda: checkpoints.save(state), saves),
            "history.csv, 40,000 lines": (saved.write_history, saves),
            "the generator's file": (lambda: save_generator(step.generator, folder / "g.h5"), 1),
            "a sample grid": (
                lambda: plot_images(step.generator, noise_input, folder / "40000.png"),
                saves,
            ),
            "losses.png": (draw_curves, saves),
            "evolution.png and evolution.gif, of 80 grids": (lambda: draw_evolution(folder), 1),
            "a look for signs of failure": (
                look,
                TRAIN_STEPS / INTERVAL,
            ),
            "all events of `--tensorboard`": (
                lambda: TensorBoard(state, folder, {}).on_epoch_end(0),
                1,
            ),
        }
        terminal = rich.console.Console(file=io.StringIO(), force_terminal=True, width=120)
        with ProgressBar("dcgan_mnist", TRAIN_STEPS, state.history, terminal) as bar:
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
        sample = [sys.executable, variants.ROOT / "dcgan_mnist.py", "--generator", folder / "g.h5"]
        sample += ["--outdir", folder, "--no-show"]
        start_up: dict[str, list[float]] = {"`import tensorflow`": [], "sampling, all of it": []}
        for _ in rounds:
            for taken, command in zip(start_up.values(), (bare, sample), strict=True):
                taken.append(
                    seconds(
                        lambda command=command: subprocess.run(
                            command, check=True, capture_output=True
                        )
                    )
                )
    print("\n| start-up | s |\n| --- | --- |")
    for what, taken in start_up.items():
        print(f"| {what} | {statistics.median(taken):.2f} |")


if __name__ == "__main__":
    main()

"""What do start-up, checkpoints and pictures cost?

Run it with `python benchmarks/costs.py`. Sampling is timed beside a bare `import tensorflow`, in
turns; what a run saves, as it is at the end of the chapter's 40,000 steps. A figure is the median.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import variants
from common.callbacks import SaveState
from common.checkpoints import COLUMNS, Checkpoints, TrainingState
from common.cli import whole_number
from common.plotting import plot_images
from common.saving import save_generator

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
        costs: dict[str, Callable[[], object]] = {
            "a checkpoint": lambda: checkpoints.save(state),
            "history.csv, 40,000 lines": saved.write_history,
            "a sample grid": lambda: plot_images(step.generator, noise_input, folder / "a.png"),
            "the generator's file": lambda: save_generator(step.generator, folder / "g.h5"),
        }
        print(f"| once in {SAVE_INTERVAL} steps of {1e3 * step_time:.0f} ms | ms | of the run |")
        print("| --- | --- | --- |")
        for what, action in costs.items():
            action()
            cost = statistics.median(seconds(action) for _ in rounds)
            share = cost / (SAVE_INTERVAL * step_time)
            print(f"| {what} | {1e3 * cost:.0f} | {share:.3%} |", flush=True)

        bare = [sys.executable, "-c", "import tensorflow"]
        sample = [sys.executable, variants.ROOT / "dcgan_mnist.py", "--generator", folder / "g.h5"]
        sample += ["--outdir", folder, "--no-show"]
        times: dict[str, list[float]] = {"`import tensorflow`": [], "sampling, all of it": []}
        for _ in rounds:
            for taken, command in zip(times.values(), (bare, sample), strict=True):
                taken.append(
                    seconds(
                        lambda command=command: subprocess.run(
                            command, check=True, capture_output=True
                        )
                    )
                )
    print("\n| start-up | s |\n| --- | --- |")
    for what, taken in times.items():
        print(f"| {what} | {statistics.median(taken):.2f} |")


if __name__ == "__main__":
    main()

"""Trainings of the variants: one after the other, and in stages."""

from __future__ import annotations

import fcntl
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common.data.dataset import load_dataset
from common.errors import DIVERGED, UserError, diverged
from common.evaluation.evaluate import Evaluator, make_evaluator
from common.evaluation.metrics import prdc
from common.files import numbered_files, write_file, writing
from common.gan.batches import LatentSampler, generate
from common.gan.models import in_float32
from common.gan.step import Models
from common.images import save_picture
from common.runs.folder import RunFolder
from common.runs.run import Run
from common.training.callbacks.base import StepCallback
from common.training.train import train

# The steps after which a generator is evaluated, by as many images as `--evaluate` draws, from the
# same noise in all runs.
STAGES = (1000, 2500, 5000, 10_000)
SAMPLES, NOISE_SEED = 10_000, 0
# Of these images the first are shown, side by side with a pixel of white around each.
ROWS, COLUMNS = 2, 8


class EvaluateStages(StepCallback):
    """Evaluates the generator after the steps of `STAGES`, and after the last one.

    The metrics are a file in the run's folder, `stages/01000.json`, with a picture of the first
    images beside it.

    Args:
        generator: The generator.
        run: The run, on data whose labels are known.
    """

    def __init__(self, generator: keras.Model, run: Run) -> None:
        super().__init__(run.options.train_steps)
        self.generator = generator
        self.run = run
        rng = np.random.default_rng(NOISE_SEED)
        self.inputs = LatentSampler.of(generator).draw_in_turn(rng, SAMPLES)
        self.evaluator: Evaluator  # of the data set

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Looks at the test images.

        Raises:
            UserError: As `make_evaluator`.
        """
        run, options = self.run, self.run.options
        test = load_dataset(options.data, "test", options.image_size)
        self.evaluator = make_evaluator(self.generator, run.data, test, options.outdir)

    def acts_after(self, steps: int) -> bool:
        """After the steps of `STAGES`, and at the end."""
        return steps in STAGES or super().acts_after(steps)

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Evaluates the generator.

        Raises:
            UserError: It draws NaN, or the files cannot be written.
        """
        images = generate(in_float32(self.generator), self.inputs)
        if not np.isfinite(images).all():
            raise diverged(f"after {steps} steps the generator draws NaN")
        features, predicted = self.evaluator.classifier.predict(images)
        metrics = self.evaluator.metrics(features, predicted)
        metrics |= prdc(self.evaluator.features, features)
        file = stage_file(self.run.folder, steps)
        save_picture(_side_by_side(images[: ROWS * COLUMNS]), file.with_suffix(".png"))
        write_file(file, as_json(metrics))
        for later in stages_of(self.run.folder):
            if steps_of(later) > steps:  # of an earlier run in this folder
                later.unlink()
                later.with_suffix(".png").unlink(missing_ok=True)


def train_in_stages(models: Models, noise_input: list[np.ndarray], run: Run) -> None:
    """Trains as `train` does, and evaluates the generator after the steps of `STAGES`.

    Unless the run has no evaluations at all, as on data without a classifier.

    Raises:
        UserError: As `train`, or as `make_evaluator`.
    """
    has_labels = run.data.labels is not None  # without, `train` says what is missing
    callbacks = []
    if run.workers.is_chief and has_labels:
        if run.options.evaluate_interval:
            callbacks.append(EvaluateStages(models[0], run))
        else:
            print("nothing will be evaluated: for that, give --evaluate-interval", flush=True)
    train(models, noise_input, run, callbacks)


def train_all(
    program: Path, runs: Path, names: Sequence[str], seeds: Sequence[int], flags: dict[str, Any]
) -> None:
    """Trains variants with several seeds, one after the other, each in a process of its own.

    The same command, killed at any moment, goes on where it was: what is complete is left out, what
    has begun is resumed. A training that diverges is complete, for this is a result, too.

    Args:
        program: Trains a variant, whose name is its first argument.
        runs: The folder for a folder for each seed.
        names: The variants.
        seeds: The seeds; all variants are trained with the first one, then all with the next.
        flags: Those given to all trainings, by their names; `train_steps` among them.

    Raises:
        UserError: Some trainings have failed, or `runs` cannot be written.
    """
    failed = []
    with _sigterm_ends_both(), _locked(runs) as lock:
        for seed, name in itertools.product(seeds, names):
            folder = RunFolder(runs / f"seed-{seed}" / name)
            log = log_of(folder)
            resumes = folder.config.exists()
            if resumes and (
                folder.checkpoints.steps() >= flags["train_steps"] or _has_diverged(log)
            ):
                print(f"{name}, seed {seed}: complete", flush=True)
                continue
            print(f"{name}, seed {seed}: {log}", flush=True)
            command = [sys.executable, str(program), name, f"--seed={seed}"]
            command += [f"--outdir={log.parent}", *(["--resume"] if resumes else [])]
            command += [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
            with writing(log):
                opened = log.open("a" if resumes else "w")
            with opened as output:
                # it holds the lock, too, should it outlive this process
                ended = subprocess.run(command, stdout=output, stderr=output, pass_fds=[lock])
            if ended.returncode and not _has_diverged(log):
                failed.append(str(log))
    if failed:
        raise UserError(f"trainings have failed, see the end of {', '.join(failed)}")


@contextmanager
def _sigterm_ends_both() -> Iterator[None]:
    """SIGTERM ends this process and the running training, at the cost of steps not yet saved."""
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextmanager
def _locked(runs: Path) -> Iterator[int]:
    """Waits until no other process trains in a folder, and keeps others waiting."""
    file = runs / "lock"
    with writing(file):
        opened = file.open("w")
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is training in {runs}: waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def warnings_in(log: str) -> dict[str, int]:
    """The warnings in what a training has printed, and after how many steps each came first."""
    warnings = re.findall(r"^warning: after (\d+) steps (.+?): ", log, re.MULTILINE)
    # the error that ends a run, whichever check has found it
    ends = re.findall(rf"error: {DIVERGED}: .*?(?:after|step) (\d+)", log)
    first: dict[str, int] = {}
    for steps, kind in [*warnings, *((steps, DIVERGED) for steps in ends)]:
        first.setdefault(kind, int(steps))
    return first


def _has_diverged(log: Path) -> bool:
    return log.exists() and DIVERGED in warnings_in(log.read_text())


def log_of(folder: RunFolder) -> Path:
    """The file with what a training has printed."""
    return folder.path.parent / f"{folder.name}.log"


def stage_file(folder: RunFolder, steps: int) -> Path:
    """The file with the evaluation after a number of steps."""
    return folder.path / "stages" / f"{steps:05d}.json"


def stages_of(folder: RunFolder) -> list[Path]:
    """The files with all evaluations, in the order of steps."""
    return sorted(numbered_files(stage_file(folder, 0).parent, ".json"), key=steps_of)


def steps_of(stage: Path) -> int:
    """The steps after which the evaluation of a file was made."""
    return int(stage.stem)


def _side_by_side(images: np.ndarray) -> np.ndarray:
    """Images, floats of shape (count, size, size, 1) in [0, 1], as grey pixels one to one."""
    framed = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=1)
    side = framed.shape[1]
    rows = framed.reshape(ROWS, COLUMNS, side, side).swapaxes(1, 2)
    return np.rint(rows.reshape(ROWS * side, COLUMNS * side) * 255).astype(np.uint8)


def as_json(content: dict) -> bytes:
    """A JSON file's content, for people to read as well."""
    return (json.dumps(content, indent=2) + "\n").encode()

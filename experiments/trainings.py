"""Trainings of the variants: one after the other, in stages, and what comes of each of them."""

from __future__ import annotations

import fcntl
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common.errors import DIVERGED, UserError, first_line
from common.evaluation.evaluate import K
from common.evaluation.evaluator import Evaluator, evaluation_inputs, make_evaluator
from common.evaluation.neighbours import prdc
from common.files import numbered_files, write_file
from common.gan.saving import in_float32
from common.gan.step import Models
from common.pictures import save_picture
from common.runs.folder import RunFolder
from common.runs.history import History, columns, means, read_history
from common.runs.run import Run
from common.training.callbacks.base import StepCallback
from common.training.callbacks.best import generate_after
from common.training.train import train

# The steps after which a generator is evaluated, by as many images as `--evaluate` draws, from the
# same noise in all runs.
STAGES = (1000, 2500, 5000, 10_000)
SAMPLES, NOISE_SEED = 10_000, 0
# Of these images the first are shown, side by side with a pixel of white around each.
ROWS, COLUMNS = 2, 8
# The picture of a result is that of the last stage up to this one.
_LAST_SHOWN = 5000
# A result has the losses as means of so many steps, and those of a stage as the mean of the last.
STEPS_OF_MEAN, STEPS_OF_STAGE = 50, 500
# What a result has of a run's config.json.
_OF_THE_CONFIG = ("flags", "versions", "device", "git_commit", "earlier")


class EvaluateStages(StepCallback):
    """Evaluates the generator after the steps of `STAGES`, and after the last one.

    They are multiples of 500, at which callbacks see the exact state of the models. The metrics are
    a file in the run's folder, `stages/01000.json`, with a picture of the first images beside it.

    Args:
        generator: The generator.
        run: The run, on data whose labels are known.
    """

    def __init__(self, generator: keras.Model, run: Run) -> None:
        super().__init__()
        self.generator = generator
        self.run = run
        self.inputs = evaluation_inputs(generator, SAMPLES, NOISE_SEED)
        self.evaluator: Evaluator  # of the data set

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Looks at the test images.

        Raises:
            UserError: As `make_evaluator`.
        """
        assert self.run.y_train is not None
        train_part = (self.run.x_train, self.run.y_train)
        self.evaluator = make_evaluator(self.generator, self.run.options, train_part)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates the generator after this step, if it is its turn.

        Raises:
            UserError: It draws NaN, or the files cannot be written.
        """
        steps = self.step + 1
        if steps not in STAGES and steps != self.run.options.train_steps:
            return
        images = generate_after(steps, in_float32(self.generator), self.inputs)
        features, predicted = self.evaluator.classifier.predict(images)
        metrics = self.evaluator.metrics(features, predicted)
        metrics |= prdc(self.evaluator.features, features, K)._asdict()
        file = stage_file(self.run.folder, steps)
        save_picture(_side_by_side(images[: ROWS * COLUMNS]), file.with_suffix(".png"))
        write_file(file, _as_json(metrics))
        for later in _stages(self.run.folder):
            if _steps(later) > steps:  # of an earlier run in this folder
                later.unlink()
                later.with_suffix(".png").unlink(missing_ok=True)


def train_in_stages(models: Models, noise_input: list[np.ndarray], run: Run) -> None:
    """Trains as `train` does, and evaluates the generator after the steps of `STAGES`.

    Unless the run has no evaluations at all, as on data without a classifier.

    Raises:
        UserError: As `train`, or as `make_evaluator`.
    """
    has_labels = run.y_train is not None  # without, `train` says what is missing
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
        flags: Of all trainings, by their names; `train_steps` among them.

    Raises:
        UserError: Some trainings have failed.
    """
    # SIGTERM ends the running training as well, at the cost of the steps since its checkpoint
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    failed = []
    with _locked(runs) as lock:
        for seed, name in itertools.product(seeds, names):
            folder = RunFolder(runs / f"seed-{seed}" / name)
            log = log_of(folder)
            if folder.checkpoints.steps() >= flags["train_steps"] or _has_diverged(log):
                continue
            print(f"{name}, seed {seed}: {log}", flush=True)
            resumes = folder.config.exists()
            command = [sys.executable, str(program), name, f"--seed={seed}"]
            command += [f"--outdir={log.parent}", *(["--resume"] if resumes else [])]
            command += [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
            log.parent.mkdir(exist_ok=True)
            with log.open("a" if resumes else "w") as output:
                # it holds the lock, too, should it outlive this process
                ended = subprocess.run(command, stdout=output, stderr=output, pass_fds=[lock])
            if ended.returncode and not _has_diverged(log):
                failed.append(str(log))
    if failed:
        raise UserError(f"trainings have failed, see the end of {', '.join(failed)}")


@contextmanager
def _locked(runs: Path) -> Iterator[int]:
    """Waits until no other process trains in a folder, and keeps others waiting."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is training in {runs}: waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def collect(runs: Path, names: Sequence[str], results: Path) -> None:
    """Makes the results from the folders of runs: a small JSON file and a picture for each run.

    Args:
        runs: The folder that `train_all` has filled, or is filling.
        names: The variants.
        results: Where to: `bn-in-d/seed-0.json` and so on.

    Raises:
        UserError: No run has reached a stage, or a file cannot be read or written.
    """
    written = []
    for config in sorted(runs.glob("*/*/config.json")):
        folder = RunFolder(config.parent)
        if folder.name not in names:
            continue
        history = read_history(folder.history) if folder.history.exists() else []
        # a stage of more steps than that is one of an earlier run, which this one has replaced
        stages = [file for file in _stages(folder) if _steps(file) <= len(history)]
        try:
            result = _result(folder, history, stages)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder} is no complete run ({first_line(error)}): delete it, and train this "
                "variant again, with --all"
            ) from error
        file = results / folder.name / f"seed-{result['flags']['seed']}.json"
        if stages:
            picture = stage_file(folder, shown(map(_steps, stages))).with_suffix(".png")
            write_file(file.with_suffix(".png"), picture.read_bytes())
        if stages or DIVERGED in result["warnings"]:
            write_file(file, _as_json(result))
            written.append(file)
    if not written:
        raise UserError(f"{runs} holds no run of a variant that has reached a stage: train one")


def shown(stages: Iterable[int]) -> int:
    """Which stage the picture of a result shows, given the steps of all that it has reached."""
    stages = [*stages]
    return max([steps for steps in stages if steps <= _LAST_SHOWN] or stages)


def _result(folder: RunFolder, history: History, stages: list[Path]) -> dict[str, Any]:
    """What is kept of a run, as JSON can hold it."""
    config = json.loads(folder.config.read_text())
    evaluations = {_steps(file): json.loads(file.read_text()) for file in stages}
    table = columns(history)
    losses = {"discriminator": table.discriminator_loss, "adversarial": table.adversarial_loss}
    return {
        "variant": folder.name,
        **{name: config[name] for name in _OF_THE_CONFIG},
        "steps": len(history),
        "warnings": _warnings(log_of(folder).read_text()),
        "stages": {
            steps: metrics | _losses(history[max(0, steps - STEPS_OF_STAGE) : steps])
            for steps, metrics in evaluations.items()
        },
        "losses": {
            "steps_of_mean": STEPS_OF_MEAN,
            **{network: _thinned(np.asarray(values)) for network, values in losses.items()},
        },
    }


def _losses(history: History) -> dict[str, float]:
    """The mean losses, and by how much D's deviates from its mean: the standard deviation."""
    mean, of_steps = means(history), columns(history)
    return {
        "discriminator_loss": mean.discriminator_loss,
        "discriminator_loss_deviation": float(np.std(of_steps.discriminator_loss)),
        "adversarial_loss": mean.adversarial_loss,
    }


def _thinned(values: np.ndarray) -> list[float]:
    """Means of `STEPS_OF_MEAN` values each; those at the end that are fewer are left out."""
    whole = values[: len(values) // STEPS_OF_MEAN * STEPS_OF_MEAN]
    return [round(mean, 4) for mean in whole.reshape(-1, STEPS_OF_MEAN).mean(axis=1).tolist()]


def _warnings(log: str) -> dict[str, int]:
    """The warnings in the log of a run, and after how many steps each came first."""
    warnings = re.findall(r"^warning: after (\d+) steps (.+?): ", log, re.MULTILINE)
    # the error that ends a run, whichever check has found it
    ends = re.findall(rf"error: {DIVERGED}: .*?(?:after|step) (\d+)", log)
    first: dict[str, int] = {}
    for steps, kind in [*warnings, *((steps, DIVERGED) for steps in ends)]:
        first.setdefault(kind, int(steps))
    return first


def _has_diverged(log: Path) -> bool:
    return log.exists() and DIVERGED in _warnings(log.read_text())


def log_of(folder: RunFolder) -> Path:
    """The file with what a training has printed."""
    return folder.path.parent / f"{folder.name}.log"


def stage_file(folder: RunFolder, steps: int) -> Path:
    """The file with the evaluation after so many steps."""
    return folder.path / "stages" / f"{steps:05d}.json"


def _stages(folder: RunFolder) -> list[Path]:
    """All of them, in the order of steps."""
    return sorted(numbered_files(stage_file(folder, 0).parent, ".json"), key=_steps)


def _steps(stage: Path) -> int:
    return int(stage.stem)


def _side_by_side(images: np.ndarray) -> np.ndarray:
    """Images, floats of shape (count, size, size, 1) in [0, 1], as grey pixels one to one."""
    framed = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=1)
    side = framed.shape[1]
    rows = framed.reshape(ROWS, COLUMNS, side, side).swapaxes(1, 2)
    return np.rint(rows.reshape(ROWS * side, COLUMNS * side) * 255).astype(np.uint8)


def _as_json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
